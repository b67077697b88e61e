"""One simulation: the shipped handlers on fakes, in virtual time, with everything that may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ekiden.application.plans import Deployed
from ekiden.domain.model import TERMINAL_RUN, Run
from ekiden.ports import OutboxItem
from ekiden.runtime.container import Container
from ekiden.runtime.observability import logger, metrics
from tests.fakes import FakeEndpoints, FakeLogs, FakeObjects, SeededRandomness
from tests.fakes.events import lambda_context
from tests.fakes.faults import Faults
from tests.fakes.functions import FUNCTIONS, handler_of
from tests.fakes.io import rate_by_length
from tests.simulation.invariants import Invariants
from tests.simulation.kernel import Boundary, Invocation, Kernel, Settle, Verdict, VirtualClock
from tests.simulation.ledger import LaggingLedger, WatchedScores
from tests.simulation.platform import Jobs, Platform
from tests.simulation.story import Story
from tests.simulation.transports import BusPort, Buses, DeadLetterPort, Queue, ScoreQueuePort, Stream
from tests.simulation.weather import CrashAt, Sky, Weather
from tests.simulation.wiring import BUCKET, wiring

HORIZON = 16 * 3600.0
"""Seconds after which a simulation is stuck."""
STEADY_ENDPOINT = "steady"
"""An endpoint that is in service from the start, for score requests."""
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
    jobs: Jobs = field(default_factory=Jobs)
    crash_at: CrashAt | None = None


class Simulation:
    """A deployment of Ekiden. ``begin`` puts work in; ``run`` lets time pass until all is at rest."""

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
            name: Queue(queue, self.kernel, self.sky, self.invoke) for name, queue in self.wiring.queues.items()
        }
        self.buses = Buses(self.wiring.rules if options.deliver else (), self.queues, self.kernel, self.sky)
        self.bus = BusPort(self.buses, self.faults)
        self.stream = Stream(self.wiring.stream, self.kernel, self.sky, self.invoke)
        self.ledger = LaggingLedger(self.kernel, self.sky, self.faults)
        clock = VirtualClock(self.kernel)
        self.scores = WatchedScores(clock, self.faults)
        self.platform = Platform(self.kernel, self.sky, self.buses, self.faults, options.jobs)
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

    def invoke(self, function: str, event: dict[str, Any], settle: Settle) -> None:
        """Have Lambda start a function."""
        handler, context, parts = handler_of(function), _context(function), self.parts[function]
        self.kernel.invoke(
            function, self.wiring.timeouts[function], lambda: handler(event, context, parts=parts), settle
        )

    def run(self, until: float = HORIZON) -> None:
        """Let time pass until all work is done, then check what must hold at the end."""
        self._schedule()
        with quiet():
            self.kernel.run(until, lambda: len(self.invariants.violations) > ENOUGH)
            self._observe()
            self.kernel.bury()

    def overdue(self, since: float) -> set[str]:
        """Runs that should have been settled before ``since``: past their deadline, or over with a job running.

        A job that was told to stop has its time to do so.
        """
        stopping = {job.run_id for job in self.platform.alive.values() if self.platform.is_stopping(job.name)}
        alive = {job.run_id for job in self.platform.alive.values()}
        return {
            run.run_id
            for run in self.ledger.runs_now()
            if run.run_id not in stopping
            and (run.status not in TERMINAL_RUN or run.run_id in alive)
            and max(self._due(run), self.platform.last_end.get(run.run_id, 0.0)) < since
        }

    def _due(self, run: Run) -> float:
        """When the run should have been over, in the kernel's seconds."""
        moment = run.ended_at if run.status in TERMINAL_RUN and run.ended_at else run.deadline
        deadline = (moment - self.kernel.clock()).total_seconds() + self.kernel.now
        return min(deadline, self.cancelled.get(run.run_id, deadline))

    def _wire(self, clock: VirtualClock) -> None:
        self.cancelled: dict[str, float] = {}
        shared = {
            "clock": clock,
            "randomness": SeededRandomness(self.seed),
            "ledger": self.ledger,
            "score_ledger": self.scores,
            "jobs": self.platform,
            "logs": FakeLogs(self.faults),
            "objects": self.objects,
            "bus": self.bus,
            "score_queue": ScoreQueuePort(self.queues[self.wiring.score_queue], self.kernel, self.sky, self.faults),
            "endpoints": self.endpoints,
            "deployed": Deployed(BUCKET),
        }
        queue_of = {queue.wiring.function: queue for queue in self.queues.values()}
        self.parts = {
            name: Container(**shared, dead_letters=DeadLetterPort(queue_of.get(name), self.faults))
            for name in FUNCTIONS
        }

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
