"""What the use cases need from the world. Adapters implement these; tests and the simulator fake them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from ekiden.domain.model import KIND_OF_STAGE, Attempt, Failure, JobKind, JobRef, Run, RunStatus, Stage
from ekiden.domain.scores import PartCounts, ScoreRequest
from ekiden.domain.transitions import JobStatus, Transition


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """The current time, in UTC."""


class Randomness(Protocol):
    """The only source of chance."""

    def entropy(self, count: int) -> bytes:
        """``count`` unpredictable bytes."""

    def jitter(self) -> float:
        """A number drawn evenly from [0, 1)."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a run's history."""

    sequence: int
    at: datetime
    actor: str
    what: str


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """An event that waits in the ledger's stream to be published."""

    detail_type: str
    detail: str
    """The event's ``detail`` as JSON text."""


class Ledger(Protocol):
    """The only truth about runs. Decisions read it with strong consistency."""

    def create(self, transition: Transition, *, request_id: str, payload_hash: str, actor: str) -> str:
        """Store a new run once per ``request_id``; the run's id, of the earlier run if there was one.

        Raises:
            Conflict: the same ``request_id`` came with another payload.
        """

    def load(self, run_id: str) -> Run | None:
        """The run with its stages and attempts."""

    def commit(self, transition: Transition, *, actor: str) -> None:
        """Write one transition: state, history and outbox in a single conditional transaction.

        Raises:
            LostRace: the run is not in the state the decision was made on.
        """

    def find_attempts(self, ref: JobRef) -> list[tuple[str, Stage, int]]:
        """Live attempts that wait for ``ref``: run id, stage, attempt number. Several may wait for one endpoint.
        Eventually consistent."""

    def live(self, limit: int) -> list[LiveAttempt]:
        """Live attempts, those that are due to be looked at first. Eventually consistent."""

    def postpone(self, run_id: str, seen: Attempt, until: datetime) -> None:
        """Look at a live attempt again at ``until``, so that others get their turn; no transition, no history.
        Nothing happens if the attempt is over, or is to be looked at at another time than ``seen`` was: somebody has
        asked for a look meanwhile, a cancel for one."""

    def recent(self, status: RunStatus | None, limit: int) -> list[RunHeadline]:
        """The newest runs, newest first. Eventually consistent."""

    def history(self, run_id: str) -> list[HistoryEntry]:
        """What happened to a run, in order."""

    def note(self, run_id: str, *, key: str, actor: str, what: str, at: datetime) -> None:
        """Add a line to a run's history that moves nothing: after the latest transition, once per ``key``.

        Nothing happens if there is no such run. ``key`` holds letters, digits and hyphens.
        """


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt whose job may be running, as the index of live attempts has it."""

    run_id: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class RunHeadline:
    """A run in one line."""

    run_id: str
    name: str
    status: RunStatus
    stage: Stage | None
    created_at: datetime
    updated_at: datetime


class ScoreLedger(Protocol):
    """The truth about score requests."""

    def accept(self, request: ScoreRequest) -> ScoreRequest:
        """Store the request once per id, with its ``ScoresRequested`` event; the stored one if it was there.

        Raises:
            Conflict: the id exists with another payload.
        """

    def load(self, request_id: str) -> ScoreRequest | None:
        """The request, strongly consistent."""

    def record_split(self, before: ScoreRequest, *, offset: int, parts: int, rows: int, complete: bool) -> None:
        """Remember how far the pairs file has been split.

        Raises:
            LostRace: somebody else split on meanwhile.
        """

    def record_parts(self, request_id: str, parts: dict[int, PartCounts]) -> ScoreRequest:
        """Count parts done, each once however often it is reported; the request as it stands after."""

    def finish(self, request_id: str, failure: Failure | None = None) -> None:
        """Complete or fail a request that is not over yet, with its event; repeating it changes nothing."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a tuning job may choose for one hyper-parameter: from ``low`` to ``high`` (numbers as texts), or one of
    ``values``."""

    name: str
    kind: Literal["integer", "continuous", "categorical"]
    low: str = ""
    high: str = ""
    logarithmic: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search by several training jobs. ``metrics`` maps names to regular expressions that find them in the log."""

    ranges: tuple[Range, ...]
    objective: str
    maximize: bool
    metrics: dict[str, str]
    jobs: int
    parallel: int
    max_seconds: int
    """Of the whole search; a training job has ``Job.max_runtime_seconds``."""
    seed: int = 0
    """The same seed proposes the same hyper-parameters for the same results."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job to start: what every kind has in common.

    ``inputs`` maps a channel's name to an S3 prefix. With ``tuning``, ``hyperparameters`` are those that do not vary.
    ``spot``: on capacity that SageMaker may take away.
    """

    name: str
    stage: Stage
    run_id: str
    inputs: dict[str, str]
    instance_type: str
    max_runtime_seconds: int
    output: str
    environment: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None
    spot: bool = False

    @property
    def kind(self) -> JobKind:
        """What kind of job it is."""
        return JobKind.TUNING if self.tuning is not None else KIND_OF_STAGE[self.stage]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model to serve under an endpoint's name. ``name`` also names the model and its configuration."""

    name: str
    run_id: str
    endpoint: str
    model: str
    """S3 prefix of the uncompressed model."""
    instance_type: str
    instance_count: int


@dataclass(frozen=True, slots=True)
class JobReport:
    """What *describe* says of a job."""

    status: JobStatus
    failure: Failure | None = None
    transient: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    created_at: datetime | None = None
    """When the endpoint came to be. While an attempt is being stopped: only if that attempt made it."""
    best_job: str | None = None
    """Of a tuning job that succeeded: the training job with the best model."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training job of a tuning job: what it was given besides the fixed, and the objective it came to."""

    job: str
    status: str
    hyperparameters: dict[str, str]
    value: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Jobs(Protocol):
    """The platform that runs jobs and serves models."""

    def start(self, job: Job) -> None:
        """Create the job, or adopt the one that already has its name and the same content.

        Raises:
            StageRejected: the platform refuses it, or another job has the name.
            DependencyUnavailable: throttled or out of order; try again.
        """

    def deploy(self, deployment: Deployment) -> None:
        """Create or update the endpoint so that it goes to serve the deployment's model; repeatable.

        Raises:
            StageRejected: the platform refuses it.
            NotReadyYet: another update of the endpoint is in progress.
            DependencyUnavailable: throttled or out of order; try again.
        """

    def describe(self, attempt: Attempt) -> JobReport | None:
        """What became of the attempt's job; ``None`` if the platform does not know it, or knows another by its name.

        An endpoint has succeeded when it is in service *with the attempt's own configuration*.
        """

    def stop(self, ref: JobRef) -> None:
        """Tell a running job to stop, delete an endpoint; what is over, unknown or in between is left alone."""

    def ended_since(self, moment: datetime) -> frozenset[JobRef]:
        """Jobs of any kind that have ended (endpoints: settled) and changed since ``moment``; a few list calls.

        Raises:
            DependencyUnavailable: throttled or out of order; try again.
        """

    def trials(self, tuning_job: str) -> list[Trial]:
        """The training jobs of a tuning job in the order of their creation, 500 at most.

        Raises:
            DependencyUnavailable: throttled or out of order; try again.
        """

    def endpoint_in_service(self, name: str) -> bool | None:
        """Whether the endpoint answers; ``None`` if there is no such endpoint."""


@dataclass(frozen=True, slots=True)
class JobLogLine:
    """One line of a job's log."""

    at: datetime
    message: str


class JobLogs(Protocol):
    """What jobs wrote."""

    def tail(self, kind: JobKind, job: str, limit: int) -> list[JobLogLine]:
        """The last lines of a job's log, oldest first; empty if it wrote none."""

    def read(self, kind: JobKind, job: str, limit: int, token: str | None) -> tuple[list[JobLogLine], str | None]:
        """Lines from the start or from ``token`` on, oldest first, and the token to go on with."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's identity and size in bytes."""

    bucket: str
    key: str
    etag: str
    size: int


class Objects(Protocol):
    """Objects in S3."""

    def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """A small object whole; ``None`` if it is not there.

        Raises:
            ContractViolation: it is larger than ``limit`` bytes.
        """

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """What is known of an object; ``None`` if it is not there."""

    def read_range(self, bucket: str, key: str, etag: str, start: int, end: int) -> bytes:
        """Bytes ``start`` (inclusive) to ``end`` (exclusive), at most, of the object with that ETag.

        Raises:
            NotFound: it is gone.
            ContractViolation: another one has taken its place.
        """

    def chunks(self, bucket: str, key: str, etag: str, start: int) -> Iterator[bytes]:
        """The object with that ETag from ``start`` on, in pieces of bounded size.

        Raises:
            NotFound: it is gone.
            ContractViolation: another one has taken its place.
        """

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> StoredObject:
        """Write an object, replacing an earlier one."""

    def create(self, bucket: str, key: str, body: bytes, content_type: str) -> bool:
        """Write an object unless one is there; whether it was written."""


class Messages(Protocol):
    """A queue to put messages into."""

    def send(self, bodies: Sequence[str]) -> None:
        """Send every message (at least once each).

        Raises:
            DependencyUnavailable: not all were taken; sending all again is harmless.
        """


class WorkQueue(Protocol):
    """The queue a function is fed from."""

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Hand received messages out again in so many seconds from now.

        Raises:
            DependencyUnavailable: not all were changed; those come again when the queue says.
        """


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A message taken out of a dead-letter queue. It is there again in a while unless it is deleted."""

    message_id: str
    """The same however often it is taken."""
    receipt: str
    """What this taking goes by."""
    parked_at: datetime
    """When it was sent there; one that SQS itself moved there keeps the time at which its queue got it."""
    body: str


class DeadLetterQueue(Protocol):
    """A dead-letter queue, and messages taken out of it."""

    def waiting(self) -> int:
        """About how many messages can be taken now."""

    def take(self, *, seconds: int, wait: int) -> list[ParkedMessage]:
        """Up to ten messages, hidden from everybody for ``seconds``; ``wait`` so many seconds for the first."""

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide taken messages for so many seconds from now; 0 gives them back at once."""

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete taken messages.

        Raises:
            DependencyUnavailable: some are left; they come again.
        """


@dataclass(frozen=True, slots=True)
class StreamSpan:
    """A stretch of the ledger's stream, both ends included."""

    stream: str
    """The stream's ARN."""
    shard: str
    first: str
    """Sequence number."""
    last: str


class LedgerStream(Protocol):
    """The ledger's stream, which keeps what was written for 24 hours."""

    def outbox(self, span: StreamSpan) -> list[OutboxItem]:
        """The events that were written in a stretch of it.

        Raises:
            NotFound: the stretch, or its beginning, is not kept any more.
            DependencyUnavailable: throttled or out of order; try again.
        """


class EventBus(Protocol):
    """The ``ekiden`` bus."""

    def publish(self, items: Sequence[OutboxItem]) -> None:
        """Publish every item (at least once each).

        Raises:
            DependencyUnavailable: not all were taken; publishing all again is harmless.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint's answer to one invocation."""

    body: bytes
    content_type: str


class Endpoints(Protocol):
    """Deployed models."""

    def invoke(self, endpoint: str, body: bytes, content_type: str, accept: str) -> Answer:
        """Call the model once.

        Raises:
            NotFound: there is no such endpoint.
            ContractViolation: the model refuses the request (4xx): repeating it cannot help.
            DependencyUnavailable: throttled, starting up, or the model failed (5xx).
        """
