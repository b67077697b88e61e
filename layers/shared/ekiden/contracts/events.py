"""Events on the ``ekiden`` bus and commands on queues.

Facts and ``StageReady`` leave the ledger through its stream (the outbox): nothing is published beside a ledger
write. Changes within a version only add fields; consumers ignore what they do not know.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from ekiden.contracts.base import RequestId, Tolerant
from ekiden.domain.model import Stage

SOURCE = "ekiden.ledger"
SCHEMA_VERSION = 1


class DetailType(StrEnum):
    """What an event says happened (``StageReady`` is the one adjective)."""

    RUN_SUBMITTED = "RunSubmitted"
    STAGE_READY = "StageReady"
    STAGE_SUCCEEDED = "StageSucceeded"
    RUN_SUCCEEDED = "RunSucceeded"
    RUN_FAILED = "RunFailed"
    RUN_CANCELLED = "RunCancelled"
    SCORES_REQUESTED = "ScoresRequested"
    SCORES_COMPLETED = "ScoresCompleted"
    SCORES_FAILED = "ScoresFailed"


class Meta(Tolerant):
    """Where an event comes from. ``event_id`` is for tracing: nothing is de-duplicated by it."""

    event_id: str
    run_id: str | None
    """The run, or null for an event about a score request."""
    sequence: int
    """Position in the run's (or score request's) own history; rises, without promise of delivery order."""
    causation_id: str
    schema_version: int
    occurred_at: datetime


class RunSubmittedData(Tolerant):
    """A run is in the ledger."""

    name: str


class RunSubmitted(Tolerant):
    """``detail`` of a ``RunSubmitted`` event."""

    meta: Meta
    data: RunSubmittedData


class StageReadyData(Tolerant):
    """A stage's intent is in the ledger: its job can be started."""

    stage: Stage
    attempt: Annotated[int, Field(ge=1)]
    job: str


class StageReady(Tolerant):
    """``detail`` of a ``StageReady`` event."""

    meta: Meta
    data: StageReadyData


class StageSucceededData(Tolerant):
    """A stage's output is complete."""

    stage: Stage
    attempt: Annotated[int, Field(ge=1)]
    job: str


class StageSucceeded(Tolerant):
    """``detail`` of a ``StageSucceeded`` event."""

    meta: Meta
    data: StageSucceededData


class RunSucceededData(Tolerant):
    """The run's model answers behind its endpoint."""

    endpoint: str


class RunSucceeded(Tolerant):
    """``detail`` of a ``RunSucceeded`` event."""

    meta: Meta
    data: RunSucceededData


class RunCancelledData(Tolerant):
    """An operator cancelled the run, and its job was seen to have stopped."""

    stage: Stage


class RunCancelled(Tolerant):
    """``detail`` of a ``RunCancelled`` event."""

    meta: Meta
    data: RunCancelledData


class RunFailedData(Tolerant):
    """The run ended at a stage, for a reason."""

    stage: Stage
    code: str
    message: str


class RunFailed(Tolerant):
    """``detail`` of a ``RunFailed`` event."""

    meta: Meta
    data: RunFailedData


class ScoresRequestedData(Tolerant):
    """A score request was accepted: its pairs can be split into messages."""

    request_id: RequestId


class ScoresRequested(Tolerant):
    """``detail`` of a ``ScoresRequested`` event."""

    meta: Meta
    data: ScoresRequestedData


class ScoresCompletedData(Tolerant):
    """Every part of the request has its results."""

    request_id: RequestId


class ScoresCompleted(Tolerant):
    """``detail`` of a ``ScoresCompleted`` event."""

    meta: Meta
    data: ScoresCompletedData


class ScoresFailedData(Tolerant):
    """The request ended without all its results, for a reason."""

    request_id: RequestId
    code: str
    message: str


class ScoresFailed(Tolerant):
    """``detail`` of a ``ScoresFailed`` event."""

    meta: Meta
    data: ScoresFailedData


EVENTS: dict[DetailType, type[BaseModel]] = {
    DetailType.RUN_SUBMITTED: RunSubmitted,
    DetailType.STAGE_READY: StageReady,
    DetailType.STAGE_SUCCEEDED: StageSucceeded,
    DetailType.RUN_SUCCEEDED: RunSucceeded,
    DetailType.RUN_FAILED: RunFailed,
    DetailType.RUN_CANCELLED: RunCancelled,
    DetailType.SCORES_REQUESTED: ScoresRequested,
    DetailType.SCORES_COMPLETED: ScoresCompleted,
    DetailType.SCORES_FAILED: ScoresFailed,
}
"""The model of every event's ``detail``."""


class PairsRange(Tolerant):
    """A part of a pairs file: bytes ``start`` (inclusive) to ``end`` (exclusive), whole lines only."""

    bucket: str
    key: str
    etag: str
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        # S3 ignores a range that ends before it starts, and sends the whole object.
        if not self.start < self.end:
            raise ValueError("start must lie before end")
        return self


class ScorePairs(Tolerant):
    """Command on the score queue: score one part of a request and write its results once."""

    command: Literal["ScorePairs"] = "ScorePairs"
    schema_version: Literal[1] = 1
    request_id: RequestId
    endpoint: str
    part: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=1)]
    pairs: PairsRange


class ParkedError(Tolerant):
    """Why a message can never succeed."""

    code: str
    message: str
    faults: list[tuple[str, str]] = []
    """Path in the message and what is wrong there."""


class DeadLetter(Tolerant):
    """A parked message: what was received, and why trying again cannot help."""

    error: ParkedError
    message_id: str
    attributes: dict[str, str]
    """SQS's own: how often it was received, when it was sent."""
    body: str
    """The message as it came; send it to the queue again when the reason is gone."""


class S3Bucket(Tolerant):
    """The bucket of an ``Object Created`` event."""

    name: str


class S3Object(Tolerant):
    """The object of an ``Object Created`` event. Its key is not URL-encoded."""

    model_config = Tolerant.model_config | {"populate_by_name": True}

    key: str
    size: int
    etag: str
    version_id: Annotated[str | None, Field(alias="version-id")] = None


class ObjectCreated(Tolerant):
    """``detail`` of S3's ``Object Created`` event."""

    bucket: S3Bucket
    object: S3Object


class Envelope(Tolerant):
    """EventBridge's envelope as it arrives in a queue message."""

    model_config = Tolerant.model_config | {"populate_by_name": True}

    id: str = ""
    source: str
    detail_type: Annotated[str, Field(alias="detail-type")]
    detail: dict[str, Any]


__all__ = [
    "EVENTS",
    "SCHEMA_VERSION",
    "SOURCE",
    "DeadLetter",
    "DetailType",
    "Envelope",
    "Meta",
    "ObjectCreated",
    "PairsRange",
    "ParkedError",
    "RunCancelled",
    "RunCancelledData",
    "RunFailed",
    "RunFailedData",
    "RunSubmitted",
    "RunSubmittedData",
    "RunSucceeded",
    "RunSucceededData",
    "ScorePairs",
    "ScoresCompleted",
    "ScoresCompletedData",
    "ScoresFailed",
    "ScoresFailedData",
    "ScoresRequested",
    "ScoresRequestedData",
    "StageReady",
    "StageReadyData",
    "StageSucceeded",
    "StageSucceededData",
]
