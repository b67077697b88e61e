"""A crash before and after every I/O boundary of every handler: singly, and in every pair that can happen.

The boundaries are found by instrumentation: a scenario runs once in calm weather and its trail is recorded; then it
runs once per boundary with a crash there, and that trail tells which boundaries a second crash can hit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from ekiden.domain.model import Stage
from tests.simulation.kernel import Boundary
from tests.simulation.platform import Fate, Jobs
from tests.simulation.runner import parallel, verdict
from tests.simulation.simulation import Options, Simulation
from tests.simulation.story import Story
from tests.simulation.weather import CALM, CrashAt
from tests.simulation.workload import UNDISTURBED, Plan, Workload

QUICK = Jobs(shortest=20.0, longest=40.0)
CHUNK = 50
TIMES = 2
Point = tuple[str, str, str, int]
"""Where in the code a boundary is: function, call, moment, and whether its invocation comes there for the first time
or once more, which tells the rounds of a loop from what comes before it."""


def one_run(
    *,
    uploads: float = 0.0,
    scores: float = 0.0,
    looks: float = 0.0,
    cancel: float = 0.0,
    retry: float = 0.0,
    redrive: float = 0.0,
) -> Plan:
    """One run; ``cancel``, ``retry`` and ``redrive`` are seconds after which somebody asks for that."""
    return replace(
        UNDISTURBED,
        uploads=uploads,
        scores=scores,
        looks=looks,
        cancel_after=(cancel, cancel),
        retry_after=(retry, retry),
        redrive_after=(redrive, redrive + 30.0),
        stage_hours=0.1,
        cancels=float(cancel > 0),
        retries=float(retry > 0),
        redrives=float(redrive > 0),
    )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A small world whose every boundary is tried."""

    name: str
    plan: Plan = field(default_factory=one_run)
    fates: Mapping[tuple[Stage, int], Fate] = field(default_factory=dict)
    dead_letters: int = 0
    """Copies of the first message of every queue that lie in its dead-letter queue from the start."""

    def options(self, crashes: frozenset[int]) -> Options:
        """The scenario's world, with crashes at these boundaries."""
        jobs = Jobs(QUICK.shortest, QUICK.longest, self.fates)
        return Options(jobs=jobs, dead_letters=self.dead_letters, crash_at=CrashAt(partial(_chosen, crashes)))


def _chosen(crashes: frozenset[int], number: int, boundary: Boundary) -> bool:
    return number in crashes


SEARCH = replace(one_run(), tuning=1)
"""One run, which trains with a tuning job."""

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("all goes well", one_run(scores=1.0, looks=1.0)),
        Scenario("a spec is uploaded", one_run(uploads=1.0)),
        Scenario("a job gives up and is retried", fates={(Stage.PROCESS, 1): Fate.GIVES_UP}),
        Scenario("a tuning job searches, and gives up once", SEARCH, {(Stage.TRAIN, 1): Fate.GIVES_UP}),
        Scenario("a search is cancelled", replace(SEARCH, cancels=1.0, cancel_after=(70.0, 70.0))),
        Scenario("a job fails", fates={(Stage.TRAIN, 1): Fate.FAILS}),
        Scenario("a job hangs", fates={(Stage.TRAIN, 1): Fate.HANGS}),
        Scenario("an endpoint's update fails", fates={(Stage.DEPLOY, 1): Fate.FAILS}),
        Scenario("two runs share an endpoint", replace(one_run(), runs=2, endpoints=1)),
        Scenario("a run is cancelled before its first job", one_run(cancel=0.25)),
        Scenario("a run is cancelled while a job runs", one_run(cancel=10.0)),
        Scenario("a run is cancelled while its endpoint is made", one_run(cancel=105.0)),
        Scenario("a cancelled run goes on", one_run(cancel=50.0, retry=150.0)),
        Scenario("dead letters are redriven", one_run(redrive=70.0), dead_letters=2),
        Scenario("a failed run goes on", one_run(retry=120.0), {(Stage.TRAIN, 1): Fate.FAILS}),
    )
}


@dataclass(slots=True)
class Trial:
    """What became of a scenario with crashes: violations, and where a further crash could have struck."""

    scenario: str
    crashes: tuple[int, ...]
    violations: list[str]
    points: dict[Point, int]
    """Every place passed after the last crash, with the number of the first boundary there."""
    boundaries: int


def play(scenario: Scenario, *crashes: int, story: Story | None = None) -> Trial:
    """Run a scenario with crashes at these boundaries."""
    simulation = Simulation(CALM, options=scenario.options(frozenset(crashes)), story=story)
    simulation.trail = []
    workload = Workload(simulation, scenario.plan)
    workload.begin()
    simulation.run()
    violations = verdict(simulation, workload)
    points: dict[Point, int] = {}
    passed: Counter[tuple[int, str, str]] = Counter()
    for number, boundary in enumerate(simulation.trail):
        here = (boundary.invocation.number, boundary.call, boundary.moment)
        passed[here] += 1
        if not crashes or number > crashes[-1]:
            times = min(passed[here], TIMES)
            points.setdefault((boundary.invocation.function, boundary.call, boundary.moment, times), number)
    return Trial(scenario.name, crashes, violations, points, len(simulation.trail))


Crashes = tuple[str, tuple[int, ...]]
"""A scenario, and the boundaries at which workers die."""


def try_out(crashes: Sequence[Crashes]) -> list[Trial]:
    """Trials of these, for a worker process."""
    return [play(SCENARIOS[name], *numbers) for name, numbers in crashes]


def single_crashes() -> Iterator[Crashes]:
    """A crash at every boundary that the scenarios pass."""
    for name, scenario in SCENARIOS.items():
        for number in range(play(scenario).boundaries):
            yield name, (number,)


def pairs_of_crashes() -> Iterator[Crashes]:
    """A crash at every place in the code and a second one at every place that is then come to.

    Each pair of places in the first scenario in which it can happen.
    """
    seen: set[tuple[Point, Point]] = set()
    for name, scenario in SCENARIOS.items():
        for first_place, first in play(scenario).points.items():
            for second_place, second in play(scenario, first).points.items():
                if (first_place, second_place) not in seen:
                    seen.add((first_place, second_place))
                    yield name, (first, second)


def trials(crashes: Iterable[Crashes]) -> Iterator[Trial]:
    """What becomes of each."""
    for some in parallel(try_out, _chunks(crashes)):
        yield from some


def _chunks(crashes: Iterable[Crashes]) -> Iterator[list[Crashes]]:
    left = iter(crashes)
    while chunk := list(islice(left, CHUNK)):
        yield chunk
