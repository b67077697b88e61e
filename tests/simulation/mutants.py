"""Ekiden with one remedy switched off: each must make the suite fail.

A mutant patches the shipped code in memory, for the length of one simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from ekiden.application import moving, observe, operate, plans, stages, submit_run
from ekiden.domain import naming, transitions
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef, Run, Stage
from ekiden.domain.transitions import Transition
from ekiden.errors import AlreadyDone
from ekiden.runtime.container import Container
from tests.fakes.faults import io
from tests.simulation.ledger import LaggingLedger
from tests.simulation.simulation import Options, Simulation

NEVER = timedelta(days=3650)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class Mutant:
    """A remedy that is missing, and what the suite must then see."""

    name: str
    what: str
    applied: Callable[[], AbstractContextManager[Any]] = _nothing
    options: Options = field(default_factory=Options)


def _no_fence() -> AbstractContextManager[Any]:
    """Any event about any attempt is believed, whichever attempt is the current one."""

    def believe(run: Run, event: transitions.Event) -> Attempt | transitions.NoChange:
        return run.attempt(event.stage, event.attempt) or transitions.NoChange("no such attempt")

    def look_anyway(
        self: observe.ObserveJob, run_id: str, stage: Stage, number: int, *, running: bool, actor: str
    ) -> None:
        run = self.ledger.load(run_id)
        attempt = run.attempt(stage, number) if run else None
        if run is None or attempt is None:
            raise AlreadyDone("no such attempt")
        self.record(run, attempt, actor=actor)

    both = ExitStack()
    both.enter_context(patch.object(transitions, "_live_attempt", believe))
    both.enter_context(patch.object(observe.ObserveJob, "_observe", look_anyway))
    return both


def _no_condition() -> AbstractContextManager[Any]:
    """Whoever writes last wins."""

    def commit(self: LaggingLedger, transition: Transition, *, actor: str) -> None:
        self._write(transition, actor)

    # The name of the boundary stays that of the real call.
    return patch.object(LaggingLedger, "commit", io(commit), create=True)


def _random_names() -> AbstractContextManager[Any]:
    """A job's name is drawn when the job is started, and written down afterwards."""
    _start = stages.StartStage._start
    drawn = count(1)

    class Renaming:
        def __init__(self, ledger: Any) -> None:
            self._ledger = ledger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

        def load(self, run_id: str) -> Run | None:
            run: Run | None = self._ledger.load(run_id)
            if run is None:
                return None
            for attempt in run.attempts:
                if attempt.status is AttemptStatus.STARTING:
                    run = run.with_attempt(_renamed(attempt, next(drawn)))
            return run

    def start(self: stages.StartStage, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        _start(replace(self, ledger=Renaming(self.ledger)), run_id, stage, number, actor=actor)

    both = ExitStack()
    both.enter_context(patch.object(stages.StartStage, "_start", start))
    # The fake platform tells our jobs from others' by their names.
    both.enter_context(patch("tests.fakes.jobs.naming", _NamesByPrefix))
    return both


def _renamed(attempt: Attempt, drawn: int) -> Attempt:
    name = f"{_prefix(attempt.job)}-{drawn:08x}"
    ref = attempt.ref if attempt.ref.kind is JobKind.ENDPOINT else JobRef(attempt.ref.kind, name)
    return replace(attempt, job=name, ref=ref)


def _prefix(job: str) -> str:
    """A job's name without what was drawn: hash, stage and attempt."""
    return "-".join(job.split("-")[:3])


class _Anything(str):
    """Equal to any name."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class _NamesByPrefix:
    @staticmethod
    def job_name(run_id: str, stage: Stage, attempt: int) -> str:
        return _Anything(naming.job_name(run_id, stage, attempt))


def _beside() -> AbstractContextManager[Any]:
    """Events are published after the write, by whoever wrote."""
    _wire = Simulation._wire

    def wire(self: Simulation, clock: Any) -> None:
        _wire(self, clock)
        for name, parts in self.parts.items():
            if name != "publish_ledger":
                self.parts[name] = _publishing(parts)

    return patch.object(Simulation, "_wire", wire)


def _publishing(parts: Container) -> Container:
    class Publishing:
        def __init__(self) -> None:
            self._ledger: Any = parts.ledger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

        def commit(self, transition: Transition, *, actor: str) -> None:
            start = len(self._ledger.outbox)
            self._ledger.commit(transition, actor=actor)
            self._publish(start, transition)

        def create(self, transition: Transition, **request: str) -> str:
            start = len(self._ledger.outbox)
            run_id: str = self._ledger.create(transition, **request)
            self._publish(start, transition)
            return run_id

        def _publish(self, start: int, transition: Transition) -> None:
            mine = f'"event_id": "RUN#{transition.after.run_id}/{transition.after.version}/'
            parts.bus.publish([item for item in self._ledger.outbox[start:] if mine in item.detail])

    return Container(**{**parts.__dict__, "ledger": Publishing()})


def _no_deadline() -> AbstractContextManager[Any]:
    """Stages and runs may take for ever."""
    _plan_for = plans.plan_for

    def plan_for(*args: Any) -> transitions.Plan:
        return replace(_plan_for(*args), stage_timeout=NEVER, stage_timeouts={}, run_timeout=None)

    all_ = ExitStack()
    for module in (moving, operate, submit_run):
        all_.enter_context(patch.object(module, "plan_for", plan_for))
    return all_


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant("fence", "events of older attempts are believed", _no_fence),
        Mutant("condition", "ledger writes are unconditional", _no_condition),
        Mutant("name", "job names are random", _random_names),
        Mutant("reconciler", "nothing sweeps", options=Options(schedule=False)),
        Mutant("outbox", "events are published beside the write", _beside, Options(outbox=False)),
        Mutant("deadline", "nothing has a deadline", _no_deadline),
    )
}
