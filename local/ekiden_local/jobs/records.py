"""What the service remembers about each resource: immutable values that `Table` replaces one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self


class Kind(StrEnum):
    """A kind of resource; the value is its folder below the service's home."""

    TRAINING = "jobs/training"
    PROCESSING = "jobs/processing"
    TUNING = "jobs/tuning"
    MODEL = "models"
    CONFIG = "endpoint-configs"
    ENDPOINT = "endpoints"


class JobStatus(StrEnum):
    """TrainingJobStatus and ProcessingJobStatus of the API."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED})


class Phase(StrEnum):
    """How far a job has come; after a restart it goes on from here."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    FINISHING = "finishing"
    DONE = "done"


class StopCause(StrEnum):
    """Why a job's process was told to end."""

    USER = "user"
    MAX_RUNTIME = "max-runtime"


class EndpointStatus(StrEnum):
    """EndpointStatus of the API, as far as this service has them."""

    CREATING = "Creating"
    UPDATING = "Updating"
    IN_SERVICE = "InService"
    DELETING = "Deleting"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A resource: `request` is the create call as validated, times are epoch seconds.

    `revision` grows with every change and orders the events that changes cause.
    """

    name: str
    arn: str
    request: dict[str, Any]
    created_at: float
    modified_at: float
    tags: dict[str, str] = field(default_factory=dict)
    revision: int = 0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read back a record; unknown members, written by a later version, are dropped."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: member for name, member in value.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(Record):
    """A training or processing job. `transitions` are SecondaryStatusTransitions with epoch seconds.

    `tuning_arn` is that of the tuning job it belongs to, `metrics` are the last values that its log had.
    """

    status: str = JobStatus.IN_PROGRESS
    phase: str = Phase.QUEUED
    secondary: str = "Starting"
    transitions: list[dict[str, Any]] = field(default_factory=list)
    started_at: float | None = None
    ended_at: float | None = None
    failure_reason: str | None = None
    exit_message: str | None = None
    stop_cause: str | None = None
    stop_at: float | None = None
    log_stream: str = ""
    tuning_arn: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to this job any more."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRecord(Record):
    """A tuning job. `children` are its training jobs in order: ``{"name", "hyperparameters"}``, written before they
    are created."""

    status: str = JobStatus.IN_PROGRESS
    children: list[dict[str, Any]] = field(default_factory=list)
    stop_cause: str | None = None
    ended_at: float | None = None
    failure_reason: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to this tuning job any more."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRecord(Record):
    """An endpoint. Generation n is its n-th deployment and lives in folder ``g<n>``.

    `generation` serves (0: none yet); `target` is being brought up (0: none). `deployments` holds, by generation,
    everything needed to start it again, since models and configurations may be deleted while it serves.
    """

    status: str = EndpointStatus.CREATING
    generation: int = 0
    target: int = 0
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure_reason: str | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """The deployment that describes the endpoint: what serves, or the first one while it is being created."""
        return self.deployments[str(self.generation or self.target)]


def step(record: JobRecord, at: float, secondary: str, message: str, **changes: Any) -> JobRecord:
    """The job with a new secondary status: the transition before is closed at `at` (epoch seconds)."""
    before = [*record.transitions]
    if before and "EndTime" not in before[-1]:
        before[-1] = {**before[-1], "EndTime": at}
    entry: dict[str, Any] = {"Status": secondary, "StartTime": at, "StatusMessage": message}
    if "status" in changes and changes["status"] in TERMINAL:
        entry["EndTime"] = at
    return replace(record, secondary=secondary, transitions=[*before, entry], **changes)
