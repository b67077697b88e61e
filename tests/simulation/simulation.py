"""One simulation: the shipped handlers on fakes, in virtual time, with everything that may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from ekiden.application.observe import START_GRACE
from ekiden.application.plans import Deployed
from ekiden.application.redrive import ToQueue, WayBack
from ekiden.contracts.hpo import HPO_FILE
from ekiden.domain import naming
from ekiden.domain.model import TERMINAL_RUN, Run, RunStatus, Stage
from ekiden.ports import Job, OutboxItem
from ekiden.runtime.container import Container
from ekiden.runtime.observability import logger, metrics
from tests.fakes import FakeEndpoints, FakeLogs, FakeObjects, SeededRandomness
from tests.fakes.events import lambda_context
from tests.fakes.faults import Faults
from tests.fakes.functions import FUNCTIONS, handler_of
from tests.fakes.io import rate_by_length
from tests.fakes.jobs import best_of
from tests.fakes.time import NOW
from tests.simulation.invariants import Invariants
from tests.simulation.kernel import Boundary, Invocation, Kernel, Settle, Verdict, VirtualClock
from tests.simulation.ledger import LaggingLedger, WatchedScores
from tests.simulation.platform import Creation, Jobs, Platform
from tests.simulation.queues import DeadLetterPort, ParkedPort, Queue, QueuePort, WorkQueuePort
from tests.simulation.story import Story
from tests.simulation.transports import Buses, BusPort, Stream
from tests.simulation.weather import CrashAt, Sky, Weather
from tests.simulation.wiring import BUCKET, wiring

HORIZON = 16 * 3600.0
"""Seconds after which a simulation is stuck."""
STEADY_ENDPOINT = "steady"
"""An endpoint that is in service from the start, for score requests."""
TO_TUNE = (
    b'{"models": [{"model": "rgcn", "task_type": "edge_regression", "1-tier-param": [{"param": "dropout", "type": '
    b'"float", "default": 0.1, "range": [0, 0.5]}], "2-tier-param": [], "3-tier-param": [], "fixed-param": []}]}'
)
"""What data processing leaves for those runs that search with a tuning job."""
QUIET_SWEEPS = 3
ENOUGH = 20
"""Violations after which a simulation ends: what follows only follows from them."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a simulation does without, or does differently; the mutants set these."""

    schedule: bool = True
    outbox: bool = True
    deliver: bool = True
    """Whether the stream and the buses carry anything."""
    dead_letters: int = 0
    """Copies of each queue's first message that are given up at once, so that there is something to redrive."""
    jobs: Jobs = field(default_factory=Jobs)
    platform: type[Platform] = Platform
    crash_at: CrashAt | None = None


class Simulation:
    """A deployment of Ekiden in virtual time: a ``Workload`` puts work in, ``run`` lets time pass until all rests."""

    def __init__(
        self, weather: Weather, seed: int = 0, *, options: Options | None = None, story: Story | None = None
    ) -> None:
        options = options or Options()
        self.weather, self.seed, self.options = weather, seed, options
        self.sky = Sky(weather, seed)
        self.trail: list[Boundary] | None = None
        judge = options.crash_at.judge_from(self.sky) if options.crash_at else self.sky.judge
        self._judge_boundary = judge
        self.kernel = Kernel(self._judge, self.sky.zombie, story.tell if story else None, self.sky.counts)
        if story:
            story.kernel = self.kernel
        self.faults = Faults()
        self.faults.hook = self.kernel.boundary
        self.wiring = wiring()
        self.queues = {
            name: Queue(queue, self.kernel, self.sky, self.invoke, options.dead_letters)
            for name, queue in self.wiring.queues.items()
        }
        self.buses = Buses(self.wiring.rules if options.deliver else (), self.queues, self.kernel, self.sky)
        self.bus = BusPort(self.buses, self.faults)
        self.stream = Stream(self.wiring.stream, self.kernel, self.sky, self.invoke)
        self.ledger = LaggingLedger(self.kernel, self.sky, self.faults)
        clock = VirtualClock(self.kernel)
        self.scores = WatchedScores(clock, self.faults)
        self.platform = options.platform(self.kernel, self.sky, self.buses, self.faults, options.jobs)
        self.platform.serve(STEADY_ENDPOINT)
        self.objects = FakeObjects(self.faults)
        self.endpoints = FakeEndpoints(self.faults)
        self.endpoints.models[STEADY_ENDPOINT] = rate_by_length
        self.invariants = Invariants(self.ledger, self.platform)
        self.work_left: Callable[[], bool] = lambda: False
        self._wire(clock)
        self._seen = self._told = self._scores_told = self._quiet = 0
        self._ticking = False
        self.kernel.after_step = self._observe
        self.platform.on_creation = self.invariants.created
        self.platform.on_deletion = self.invariants.deleted
        self.platform.on_success = self._leave_output

    def invoke(self, function: str, event: dict[str, Any], settle: Settle) -> None:
        """Have Lambda start a function."""
        handler, context, parts = handler_of(function), _context(function), self.parts[function]
        self.kernel.invoke(
            function, self.wiring.timeouts[function], lambda: handler(event, context, parts=parts), settle
        )

    def run(self, until: float = HORIZON) -> None:
        """Let time pass until everything has come to rest, or so much is wrong that the rest only follows from it."""
        self._schedule()
        with quiet():
            self.kernel.run(until, lambda: len(self.invariants.violations) > ENOUGH)
            self._observe()
            self.kernel.bury()

    def overdue(self, since: float) -> set[str]:
        """Runs that should have been settled before ``since``: past their time, or over with a job running.

        A job that was told to stop, and an endpoint that is being updated, have their time to come to an end.
        """
        jobs: dict[str, list[Creation]] = {}
        for job in self.platform.alive.values():
            jobs.setdefault(job.run_id, []).append(job)
        return {run.run_id for run in self.ledger.runs_now() if self._is_overdue(run, jobs.get(run.run_id, []), since)}

    def _is_overdue(self, run: Run, jobs: list[Creation], since: float) -> bool:
        live = run.live_attempt
        updating = live is not None and live.ref.name in self.platform.updating
        stop_asked = live.stopping_since if live and live.stopping_since else run.ended_at
        if run.status is not RunStatus.RUNNING and stop_asked is not None:
            asked = self._seconds(stop_asked)
            if any(max(asked, job.at) < since for job in jobs if not self.platform.is_stopping(job.name)):
                return True
        if run.status in TERMINAL_RUN or updating or any(self.platform.is_stopping(job.name) for job in jobs):
            return False
        # A worker that read the ledger before the cancel may still start the job: that long it is waited for.
        cancelling = run.status is RunStatus.CANCELLING and stop_asked is not None
        due = stop_asked + START_GRACE if cancelling and stop_asked else run.deadline
        return max(self._seconds(due), self.platform.last_end.get(run.run_id, 0.0)) < since

    def _seconds(self, moment: datetime) -> float:
        return (moment - NOW).total_seconds()

    def _wire(self, clock: VirtualClock) -> None:
        shared = {
            "clock": clock,
            "randomness": SeededRandomness(self.seed),
            "ledger": self.ledger,
            "score_ledger": self.scores,
            "jobs": self.platform,
            "logs": FakeLogs(self.faults),
            "objects": self.objects,
            "bus": self.bus,
            "score_queue": QueuePort(self.queues[self.wiring.score_queue], self.kernel, self.sky, self.faults),
            "endpoints": self.endpoints,
            "deployed": Deployed(BUCKET),
        }
        ways_back = tuple(
            WayBack(
                name,
                ParkedPort(queue, self.kernel, self.faults),
                ToQueue(QueuePort(queue, self.kernel, self.sky, self.faults)),
            )
            for name, queue in self.queues.items()
        )
        self.parts = {name: Container(**shared, **self._own(name), ways_back=ways_back) for name in FUNCTIONS}

    def _own(self, function: str) -> dict[str, Any]:
        """A function's own queue, and where it parks messages."""
        for queue in self.queues.values():
            if queue.wiring.function == function:
                work = WorkQueuePort(queue, self.kernel, self.faults)
                return {"work_queue": work, "dead_letters": DeadLetterPort(queue, self.faults)}
        return {"work_queue": None, "dead_letters": DeadLetterPort(None, self.faults)}

    def _leave_output(self, job: Job) -> None:
        """What a job leaves: the manifest by which a retry knows that nothing was changed, and what may be tuned."""
        trained = job.name if job.tuning is None else best_of(job.name)
        folder = naming.model_prefix(job.output, trained) if job.stage is Stage.TRAIN else job.output
        key = folder.removeprefix(f"s3://{BUCKET}/").rstrip("/")
        self.objects.put(BUCKET, f"{key}/manifest.json", job.name.encode(), "application/json")
        if job.stage is Stage.PROCESS:
            self.objects.put(BUCKET, f"{key}/{HPO_FILE}", TO_TUNE, "application/json")

    def _judge(self, boundary: Boundary) -> Verdict:
        if self.trail is not None:
            self.trail.append(boundary)
        return self._judge_boundary(boundary)

    def _schedule(self) -> None:
        """Have the next sweep come. With nothing to do the schedule rests, until something is written again."""
        if self.options.schedule and not self._ticking:
            self._ticking = True
            self.kernel.after(self.wiring.sweep_every, self._tick)

    def _tick(self) -> None:
        began = self.kernel.now

        def swept(invocation: Invocation, answer: Any, why: str | None) -> None:
            if not invocation.faults:
                self.invariants.swept(began, self.overdue(began))

        self.invoke("reconcile_jobs", {}, swept)
        self._quiet = 0 if self._busy() else self._quiet + 1
        self._ticking = False
        if self._quiet < QUIET_SWEEPS:
            self._schedule()

    def _busy(self) -> bool:
        return (
            self.work_left()
            or bool(self.platform.alive)
            or any(run.status not in TERMINAL_RUN for run in self.ledger.runs_now())
        )

    def _observe(self) -> None:
        """After every step: what was written is checked, and goes to indexes and stream."""
        transitions = self.ledger.transitions
        while self._seen < len(transitions):
            transition = transitions[self._seen]
            self._seen += 1
            self.kernel.tell("ledger", f"{transition.after.run_id} v{transition.after.version}: {transition.reason}")
            self.invariants.written(transition)
            self.ledger.moved(transition.after.run_id)
            self._quiet = 0
            self._schedule()
        self._told = self._carry(self.ledger.outbox, self._told)
        self._scores_told = self._carry(self.scores.outbox, self._scores_told)

    def _carry(self, outbox: list[OutboxItem], start: int) -> int:
        for item in outbox[start:]:
            if self.options.deliver and (self.options.outbox or outbox is self.scores.outbox):
                self.stream.append(item)
        return len(outbox)


@cache
def _context(function: str) -> Any:
    return lambda_context(function)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged or measured: ten thousand runs have much to say."""
    level, measured = logger.log_level, {name: getattr(metrics, name) for name in ("add_metric", "flush_metrics")}
    logger.setLevel("CRITICAL")
    for name in measured:
        setattr(metrics, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, method in measured.items():
            setattr(metrics, name, method)
