"""Every order of up to five events. Nothing else is delivered: what the events leave open, only sweeps repair.

The run stands where most can go wrong: attempt 1 of a stage has failed, attempt 2 is an intent in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from ekiden.domain.model import TERMINAL_RUN, Run, Stage
from ekiden.domain.transitions import JobStatus
from tests.fakes.events import bus_event, http_event, sqs_event
from tests.fakes.world import FUNCTION_OF
from tests.simulation.platform import Fate, Jobs
from tests.simulation.simulation import Options, Simulation, quiet
from tests.simulation.weather import CALM
from tests.simulation.workload import Workload

LONGEST = 5
AGAIN = " again"
HELD = {(stage, attempt): Fate.HELD for stage in Stage for attempt in (1, 2, 3)}


@dataclass(slots=True)
class Scene:
    """A run whose events come one by one, by hand."""

    simulation: Simulation = field(
        default_factory=lambda: Simulation(CALM, options=Options(deliver=False, schedule=False, jobs=Jobs(fates=HELD)))
    )
    run_id: str = ""

    def handle(self, function: str, event: dict[str, Any]) -> Any:
        """Let a handler handle an event, to its end."""
        answers: list[Any] = []
        self.simulation.invoke(function, event, lambda invocation, answer, why: answers.append(answer))
        kernel = self.simulation.kernel
        kernel.run(kernel.now + 25.0, lambda: bool(answers))
        return answers[0]

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which nothing is delivered."""
        kernel = self.simulation.kernel
        reached = [False]
        kernel.after(seconds, lambda: reached.__setitem__(0, True))
        kernel.run(kernel.now + seconds, lambda: reached[0])

    @property
    def run(self) -> Run:
        """The run as it is."""
        run = self.simulation.ledger.run_now(self.run_id)
        assert run is not None
        return run

    def submit(self) -> None:
        """Submit the run."""
        spec = Workload(self.simulation).spec(0)
        self.handle("submit_run", http_event("POST /runs", {"spec": spec, "request_id": "request-0"}))
        (run,) = self.simulation.ledger.runs_now()
        self.run_id = run.run_id

    def ready(self, stage: Stage, attempt: int) -> None:
        """``StageReady`` arrives."""
        found = self.run.attempt(stage, attempt)
        meta = {
            "event_id": "hand",
            "run_id": self.run_id,
            "sequence": 0,
            "causation_id": "hand",
            "schema_version": 1,
            "occurred_at": self.simulation.kernel.clock().isoformat(),
        }
        data = {"stage": stage.value, "attempt": attempt, "job": found.job if found else "0" * 16}
        event = bus_event("ekiden.ledger", "StageReady", {"meta": meta, "data": data})
        self.handle(FUNCTION_OF[stage], sqs_event(event))

    def told(self, stage: Stage, attempt: int, status: str) -> None:
        """A job event arrives. It only wakes: what is true is the platform's business."""
        found = self.run.attempt(stage, attempt)
        name = found.ref.name if found else "0" * 16
        kind = {Stage.TRAIN: "Training Job", Stage.DEPLOY: "Endpoint"}.get(stage, "Processing Job")
        detail = {f"{kind.replace(' ', '')}Name": name, f"{kind.replace(' ', '')}Status": status}
        self.handle("record_job_state", sqs_event(bus_event("aws.sagemaker", f"SageMaker {kind} State Change", detail)))

    def end(self, stage: Stage, attempt: int, status: JobStatus, *, transient: bool = False) -> None:
        """The job comes to its end, if it has begun."""
        found = self.run.attempt(stage, attempt)
        if found and stage is Stage.DEPLOY and found.ref.name in self.simulation.platform:
            self.simulation.platform.settle(found.ref.name, failed=status is not JobStatus.SUCCEEDED)
        elif found and found.job in self.simulation.platform.alive:
            self.simulation.platform.finish(found.job, status, transient=transient)

    def operate(self, what: str) -> None:
        """An operator cancels or retries the run."""
        if what == "retry":
            self.simulation.invariants.revived.add(self.run_id)
        self.handle("change_run", http_event(f"POST /runs/{{run_id}}/{what}", {}, path={"run_id": self.run_id}))

    def sweep(self) -> None:
        """The reconciler sweeps, a minute later."""
        self.pass_time(60.0)
        self.handle("reconcile_jobs", {})

    def succeed(self, stage: Stage) -> None:
        """Bring a stage to its good end."""
        self.ready(stage, 1)
        self.end(stage, 1, JobStatus.SUCCEEDED)
        self.told(stage, 1, "Completed")

    def come_to_rest(self) -> None:
        """Sweep until the run is over; whatever job runs comes to a good end."""
        for _ in range(40):
            if self.run.status in TERMINAL_RUN and not self.simulation.platform.alive:
                return
            for stage in Stage:
                for attempt in (1, 2, 3):
                    self.end(stage, attempt, JobStatus.SUCCEEDED)
            self.sweep()


Move = Callable[[Scene], None]


def second_attempt() -> Scene:
    """Attempt 1 of train has failed for a passing reason, attempt 2 is about to start."""
    scene = Scene()
    scene.submit()
    scene.succeed(Stage.EXPORT)
    scene.succeed(Stage.PROCESS)
    scene.ready(Stage.TRAIN, 1)
    scene.end(Stage.TRAIN, 1, JobStatus.FAILED, transient=True)
    scene.told(Stage.TRAIN, 1, "Failed")
    return scene


def _ends_well(scene: Scene) -> None:
    scene.end(Stage.TRAIN, 2, JobStatus.SUCCEEDED)
    scene.told(Stage.TRAIN, 2, "Completed")


EVENTS: dict[str, Move] = {
    "StageReady": lambda scene: scene.ready(Stage.TRAIN, 2),
    "StageReady again": lambda scene: scene.ready(Stage.TRAIN, 2),
    "StageReady of attempt 1": lambda scene: scene.ready(Stage.TRAIN, 1),
    "the job's InProgress": lambda scene: scene.told(Stage.TRAIN, 2, "InProgress"),
    "the job ends, Completed": _ends_well,
    "Completed": lambda scene: scene.told(Stage.TRAIN, 2, "Completed"),
    "Failed of attempt 1": lambda scene: scene.told(Stage.TRAIN, 1, "Failed"),
    "a sweep": Scene.sweep,
}
OPERATIONS: dict[str, Move] = {
    "StageReady": EVENTS["StageReady"],
    "the job's InProgress": EVENTS["the job's InProgress"],
    "the job ends, Completed": _ends_well,
    "cancel": lambda scene: scene.operate("cancel"),
    "cancel again": lambda scene: scene.operate("cancel"),
    "retry": lambda scene: scene.operate("retry"),
    "a sweep": Scene.sweep,
}
MOVES = EVENTS | OPERATIONS
Order = tuple[str, ...]


def orders() -> Iterator[Order]:
    """Every order of up to five events, and of up to four among which operators interfere."""
    for moves, longest in ((EVENTS, LONGEST), (OPERATIONS, LONGEST - 1)):
        for length in range(1, longest + 1):
            for order in permutations(moves, length):
                if _is_first_of_its_kind(order) and (moves is EVENTS or set(order) - set(EVENTS)):
                    yield order


def _is_first_of_its_kind(order: Order) -> bool:
    """Whether what repeats comes after what it repeats: the other way round is the same order."""
    return all(move.removesuffix(AGAIN) in order[:i] for i, move in enumerate(order) if move.endswith(AGAIN))


def play_orders(chosen: Sequence[Order]) -> list[tuple[Order, list[str]]]:
    """Orders that break an invariant, with the violations."""
    broken = []
    with quiet():
        for order in chosen:
            scene = second_attempt()
            for move in order:
                MOVES[move](scene)
            scene.come_to_rest()
            watch = scene.simulation.invariants
            watch.at_the_end()
            scene.simulation.kernel.bury()
            if watch.violations:
                broken.append((order, watch.violations))
    return broken
