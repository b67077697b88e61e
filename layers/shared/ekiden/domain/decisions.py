"""What can happen to a run, and what may be made of it: the vocabulary of ``transitions`` and ``operations``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ekiden.domain.model import KIND_OF_STAGE, Failure, JobKind, Run, Stage

DEFAULT_TRIES = 3
KILLED = "CONTAINER_KILLED"
"""Code of a failure: something outside the container killed it. Nobody is told whether its host went or its memory ran
out, so it has one more try: what is killed twice in a row is too big for its machine."""


class JobStatus(StrEnum):
    """What *describe* says of a job, over all kinds of job."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's spec and deployment fix for all its attempts.

    ``stage_timeout`` and ``tries`` (attempts of a stage, the first included) hold for stages that
    ``stage_timeouts`` and ``stage_tries`` do not name. ``stage_kinds`` are kinds of job other than the usual.
    """

    bucket: str
    endpoint: str
    stage_timeout: timedelta
    tries: int = DEFAULT_TRIES
    stage_timeouts: Mapping[Stage, timedelta] = field(default_factory=dict)
    stage_tries: Mapping[Stage, int] = field(default_factory=dict)
    run_timeout: timedelta | None = None
    stage_kinds: Mapping[Stage, JobKind] = field(default_factory=dict)

    def kind_of(self, stage: Stage) -> JobKind:
        """What kind of job does the work of ``stage``."""
        return self.stage_kinds.get(stage, KIND_OF_STAGE[stage])

    def timeout_of(self, stage: Stage) -> timedelta:
        """How long an attempt of ``stage`` may take."""
        return self.stage_timeouts.get(stage, self.stage_timeout)

    def tries_of(self, stage: Stage) -> int:
        """How many attempts ``stage`` has."""
        return self.stage_tries.get(stage, self.tries)

    @property
    def whole(self) -> timedelta:
        """How long a run may take: as given, else as long as its stages may."""
        return self.run_timeout or sum((self.timeout_of(stage) for stage in Stage), timedelta())


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The platform accepted (or already had) the attempt's job."""

    stage: Stage
    attempt: int


@dataclass(frozen=True, slots=True)
class JobReported:
    """*Describe* answered for the attempt's job."""

    stage: Stage
    attempt: int
    status: JobStatus
    failure: Failure | None = None
    transient: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log_tail: tuple[str, ...] = ()
    output_hash: str | None = None
    best_job: str | None = None


@dataclass(frozen=True, slots=True)
class JobGone:
    """*Describe* knows no job of the attempt, long after anybody could still have created it."""

    stage: Stage
    attempt: int


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The platform refused to start the attempt's job, or its name belongs to another job."""

    stage: Stage
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The attempt's time, or the run's, is over."""

    stage: Stage
    attempt: int


Event = JobStarted | JobReported | JobGone | StartRefused | DeadlinePassed


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A fact to publish, written in the same transaction as the state it tells of."""

    detail_type: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """One move: the run before (``None`` at submission) and after, why, and what to tell the world."""

    before: Run | None
    after: Run
    reason: str
    events: tuple[OutboxEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class NoChange:
    """Nothing to do, and why."""

    reason: str


Decision = Transition | NoChange
