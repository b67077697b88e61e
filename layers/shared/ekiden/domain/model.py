"""What the ledger knows of a run: immutable values, and the groups their statuses fall into."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class Stage(StrEnum):
    """The legs of the relay, in order."""

    EXPORT = "export"
    PROCESS = "process"
    TRAIN = "train"
    DEPLOY = "deploy"

    @property
    def next(self) -> Stage | None:
        """The stage that takes over when this one succeeded; ``None`` after the last."""
        order = list(Stage)
        position = order.index(self) + 1
        return order[position] if position < len(order) else None


class RunStatus(StrEnum):
    """Status of a whole run."""

    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class StageStatus(StrEnum):
    """Status of a stage. ``STARTING`` is an intent in the ledger; the job may or may not exist yet."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


class AttemptStatus(StrEnum):
    """Status of one try of a stage."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


WORKING_RUN = frozenset({RunStatus.RUNNING})
"""Jobs may be started for it."""

STOPPING_RUN = frozenset({RunStatus.CANCELLING})
"""The intent to cancel is in the ledger; its job is being stopped, and nothing new is started."""

TERMINAL_RUN = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
"""Only an operator's retry moves such a run again."""

RETRYABLE_RUN = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
"""An operator may let it go on at the stage where it ended."""

WAITING_STAGE = frozenset({StageStatus.PENDING})
"""Its turn has not come."""

ACTIVE_STAGE = frozenset({StageStatus.STARTING, StageStatus.RUNNING})
"""It has a live attempt: events, the reconciler and deadlines concern it."""

TERMINAL_STAGE = frozenset({StageStatus.SUCCEEDED, StageStatus.FAILED, StageStatus.CANCELLED, StageStatus.TIMED_OUT})
"""Late and repeated events about it change nothing."""

ACTIVE_ATTEMPT = frozenset({AttemptStatus.STARTING, AttemptStatus.RUNNING})
"""A job of this attempt may be running and costing money."""


class JobKind(StrEnum):
    """What kind of SageMaker resource does the work of an attempt."""

    PROCESSING = "processing"
    TRAINING = "training"
    TUNING = "tuning"
    ENDPOINT = "endpoint"


KIND_OF_STAGE = {
    Stage.EXPORT: JobKind.PROCESSING,
    Stage.PROCESS: JobKind.PROCESSING,
    Stage.TRAIN: JobKind.TRAINING,
    Stage.DEPLOY: JobKind.ENDPOINT,
}
"""Kinds by default: a run that searches for hyper-parameters trains with a tuning job (``Plan.kind_of``)."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """How the platform names what an attempt started: ``name`` of a job, or of the endpoint."""

    kind: JobKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a stable code, and a message for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a stage. ``job`` is its deterministic name; ``ref`` is where its status is read.

    ``tries_left``: attempts that may still follow by themselves if this one fails for a passing reason.
    ``stopping_since``: its job was told to stop then, and nobody has verified yet that it has.
    ``output_hash``: SHA-256 of the manifest it left, by which a later retry knows that nothing was changed.
    ``best_job``: of a tuning job, the training job whose model it chose.
    """

    stage: Stage
    number: int
    job: str
    ref: JobRef
    status: AttemptStatus
    created_at: datetime
    deadline: datetime
    output: str
    """S3 prefix the attempt writes below, or the endpoint's name for deploy."""
    next_check_at: datetime
    """When the reconciler looks at this attempt if no event came."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None
    tries_left: int = 2
    stopping_since: datetime | None = None
    output_hash: str | None = None
    best_job: str | None = None

    @property
    def is_live(self) -> bool:
        """A job of this attempt may be running: events and the reconciler watch it."""
        return self.status in ACTIVE_ATTEMPT or self.stopping_since is not None


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage and its latest attempt's number; 0 before the first."""

    stage: Stage
    status: StageStatus
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that decisions about a run need.

    ``version`` rises by one with each transition and numbers its history and outbox items.
    """

    run_id: str
    name: str
    status: RunStatus
    version: int
    created_at: datetime
    updated_at: datetime
    deadline: datetime
    spec: str
    """The validated spec as canonical JSON."""
    stages: tuple[StageState, ...]
    attempts: tuple[Attempt, ...] = ()
    ended_at: datetime | None = None
    failed_stage: Stage | None = None
    failure: Failure | None = None
    log_tail: tuple[str, ...] = ()

    def stage(self, stage: Stage) -> StageState:
        """The state of ``stage``."""
        return next(state for state in self.stages if state.stage is stage)

    def attempt(self, stage: Stage, number: int | None = None) -> Attempt | None:
        """An attempt of ``stage`` by number, the latest if none is given; ``None`` if there is no such one."""
        wanted = self.stage(stage).attempt if number is None else number
        return next((a for a in self.attempts if a.stage is stage and a.number == wanted), None)

    @property
    def current_stage(self) -> Stage | None:
        """The stage with a live attempt, if any."""
        return next((state.stage for state in self.stages if state.status in ACTIVE_STAGE), None)

    @property
    def live_attempt(self) -> Attempt | None:
        """The attempt whose job may be running; there is never more than one."""
        return next((attempt for attempt in self.attempts if attempt.is_live), None)

    def output_of(self, stage: Stage) -> str:
        """Where the latest attempt of ``stage`` wrote its output.

        Raises:
            LookupError: it has not succeeded.
        """
        attempt = self.attempt(stage)
        if attempt is None or attempt.status is not AttemptStatus.SUCCEEDED:
            raise LookupError(f"stage {stage} of {self.run_id} has no successful attempt")
        return attempt.output

    def with_stage(self, state: StageState) -> Run:
        """This run with one stage replaced."""
        return replace(self, stages=tuple(state if s.stage is state.stage else s for s in self.stages))

    def with_attempt(self, attempt: Attempt) -> Run:
        """This run with one attempt replaced or added."""
        others = tuple(a for a in self.attempts if (a.stage, a.number) != (attempt.stage, attempt.number))
        return replace(self, attempts=(*others, attempt))
