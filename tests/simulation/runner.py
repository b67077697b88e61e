"""Runs simulations by seed and gathers what came of them: one by one, or many on all cores."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from typing import TypeVar

from ekiden.domain.scores import TERMINAL_SCORE
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.simulation import Options, Simulation
from tests.simulation.story import Story
from tests.simulation.weather import WEATHERS, Weather
from tests.simulation.workload import Plan, Workload

T = TypeVar("T")
R = TypeVar("R")

PLAN = Plan()
WORKERS = 2
CHUNK = 20
"""Seeds that a worker process takes at a time."""


@dataclass(slots=True)
class Outcome:
    """What became of one seed."""

    weather: str
    seed: int
    runs: int
    violations: list[str]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def broken_runs(self) -> int:
        """How many of the runs broke an invariant (one at least, if anything did)."""
        return min(self.runs, len({violation.partition(": ")[0] for violation in self.violations}))

    @property
    def name(self) -> str:
        """As it is written in ``regressions.txt``."""
        return f"{self.weather}/{self.seed}"


@dataclass(slots=True)
class Tally:
    """What became of many seeds."""

    runs: int = 0
    broken_runs: int = 0
    seeds: int = 0
    failing: list[Outcome] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.runs += outcome.runs
        self.broken_runs += outcome.broken_runs
        self.seeds += 1
        self.counts += outcome.counts
        if outcome.violations:
            self.failing.append(outcome)


def simulate(
    weather: Weather,
    seed: int,
    *,
    plan: Plan = PLAN,
    options: Options | None = None,
    story: Story | None = None,
    mutant: Mutant | None = None,
) -> Outcome:
    """One simulation, with or without a remedy switched off."""
    options = mutant.options if mutant else options
    remedy_off: AbstractContextManager[object] = mutant.applied() if mutant else nullcontext()
    with remedy_off:
        simulation = Simulation(weather, seed, options=options, story=story)
        workload = Workload(simulation, plan)
        workload.begin()
        simulation.run()
        violations = verdict(simulation, workload)
    return Outcome(weather.name, seed, plan.runs, violations, _counts(simulation, workload))


def verdict(simulation: Simulation, workload: Workload) -> list[str]:
    """What was wrong on the way, and what is wrong when everything has come to rest."""
    simulation.invariants.at_the_end()
    return [
        *simulation.invariants.violations,
        *_nothing_lost(simulation, workload),
        *_everything_published(simulation),
        *_dead_letters_explained(simulation),
        *_scores_ended(simulation),
        *(f"the API refused a client: {refusal}" for refusal in workload.refusals),
    ]


def _nothing_lost(simulation: Simulation, workload: Workload) -> Iterator[str]:
    made = Counter(run.name for run in simulation.ledger.runs_now())
    parked = " ".join(letter.body for queue in simulation.queues.values() for letter in queue.dead)
    for name, times in made.items():
        if times > 1:
            yield f"{name}: one request made {times} runs"
    for name, run_id in workload.accepted.items():
        if simulation.ledger.run_now(run_id) is None:
            yield f"{run_id}: was accepted and is in no ledger"
        if name not in made:
            yield f"{name}: was accepted and never became a run"
    for name in workload.uploaded:
        if name not in made and f"specs/{name}.yaml" not in parked:
            yield f"{name}: was uploaded and never became a run"


def _everything_published(simulation: Simulation) -> Iterator[str]:
    given_up = {item.detail for item in simulation.stream.dead}
    for item in simulation.ledger.outbox + simulation.scores.outbox:
        event_id = json.loads(item.detail)["meta"]["event_id"]
        if event_id not in simulation.bus.published and item.detail not in given_up:
            yield f"{event_id}: {item.detail_type} was never published"


def _dead_letters_explained(simulation: Simulation) -> Iterator[str]:
    for queue in simulation.queues.values():
        for letter in queue.unexplained:
            yield f"{letter.queue}: an unexplained dead letter: {letter.why[:300]}: {letter.body[:200]}"


def _scores_ended(simulation: Simulation) -> Iterator[str]:
    parked = {letter.queue for queue in simulation.queues.values() for letter in queue.dead}
    for request in simulation.scores.requests_now():
        if request.status not in TERMINAL_SCORE and not parked & {"Scores", "ScoreRequests"}:
            yield f"{request.request_id}: scoring never ended: {request.status}"


def _counts(simulation: Simulation, workload: Workload) -> Counter[str]:
    counts = Counter(run.status.value for run in simulation.ledger.runs_now()) + simulation.sky.counts
    counts["cancelled while live"] = workload.cancels["CANCELLING"] + workload.cancels["CANCELLED"]
    counts["creations"] = len(simulation.platform.creations)
    counts["transitions"] = len(simulation.ledger.transitions)
    return counts


# Many


@dataclass(frozen=True, slots=True)
class Task:
    """Seeds for one worker."""

    weather: str
    seeds: range
    mutant: str | None = None
    plan: Plan = PLAN


def work(task: Task) -> list[Outcome]:
    """Simulate a task's seeds."""
    mutant = MUTANTS[task.mutant] if task.mutant else None
    return [simulate(WEATHERS[task.weather], seed, plan=task.plan, mutant=mutant) for seed in task.seeds]


def tasks(weather: str, runs: int, first: int = 0, mutant: str | None = None, plan: Plan = PLAN) -> Iterator[Task]:
    """Tasks for at least ``runs`` runs, from seed ``first`` on."""
    last = first + -(-runs // plan.runs)
    for start in range(first, last, CHUNK):
        yield Task(weather, range(start, min(start + CHUNK, last)), mutant, plan)


_POOL: list[Pool] = []


def parallel(do: Callable[[T], R], todo: Iterable[T]) -> Iterator[R]:
    """What ``do`` makes of each item, on several cores, in no order. The worker processes stay for the next time."""
    if not _POOL:
        _POOL.append(multiprocessing.get_context("spawn").Pool(WORKERS))
    yield from _POOL[0].imap_unordered(do, todo)


def dismiss() -> None:
    """End the worker processes."""
    while _POOL:
        pool = _POOL.pop()
        pool.close()
        pool.join()


def simulate_all(
    todo: Iterable[Task], *, progress: Callable[[dict[str, Tally]], None] | None = None
) -> dict[str, Tally]:
    """Tallies by weather. ``progress`` is told of each after every chunk."""
    tallies: dict[str, Tally] = {}
    for outcomes in parallel(work, todo):
        for outcome in outcomes:
            tallies.setdefault(outcome.weather, Tally()).add(outcome)
        if progress:
            progress(tallies)
    return tallies


def retell(outcome: Outcome, *, mutant: Mutant | None = None, calls: bool = False) -> str:
    """A failing seed again, as a story, with the command that repeats it."""
    story = Story()
    again = simulate(WEATHERS[outcome.weather], outcome.seed, story=story, mutant=mutant)
    off = f" MUTANT={mutant.name}" if mutant else ""
    return "\n".join(
        [
            story.text(calls=calls),
            "",
            f"{outcome.name}: {len(again.violations)} violations",
            *(f"  {violation}" for violation in again.violations[:20]),
            f"repeat it with: make simulate SEED={outcome.name}{off}",
        ]
    )
