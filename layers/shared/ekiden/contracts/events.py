"""Events on the ``ekiden`` bus and commands on queues.

Facts and ``StageReady`` leave the ledger through its stream (the outbox): nothing is published beside a ledger
write. Changes within a version only add fields; consumers ignore what they do not know.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from ekiden.contracts.base import RequestId, Strict, Tolerant
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


class StageReadyData(Tolerant):
    """A stage's intent is in the ledger: its job can be started."""

    stage: Stage
    attempt: Annotated[int, Field(ge=1)]
    job: str


class StageReady(Tolerant):
    """``detail`` of a ``StageReady`` event."""

    meta: Meta
    data: StageReadyData


class ScoresRequestedData(Tolerant):
    """A score request was accepted: its pairs can be split into messages."""

    request_id: RequestId


class ScoresRequested(Tolerant):
    """``detail`` of a ``ScoresRequested`` event."""

    meta: Meta
    data: ScoresRequestedData


class PairsRange(Strict):
    """A part of a pairs file: bytes ``start`` (inclusive) to ``end`` (exclusive), whole lines only."""

    bucket: str
    key: str
    version_id: str | None = None
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(gt=0)]


class ScorePairs(Strict):
    """Command on the score queue: score one part of a request and write its results once."""

    command: Literal["ScorePairs"] = "ScorePairs"
    schema_version: Literal[1] = 1
    request_id: RequestId
    endpoint: str
    part: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=1)]
    pairs: PairsRange


class S3Bucket(Tolerant):
    """The bucket of an ``Object Created`` event."""

    name: str


class S3Object(Tolerant):
    """The object of an ``Object Created`` event. Its key is not URL-encoded."""

    model_config = Tolerant.model_config | {"populate_by_name": True}

    key: str
    size: int
    etag: str | None = None
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
    "SCHEMA_VERSION",
    "SOURCE",
    "DetailType",
    "Envelope",
    "Meta",
    "ObjectCreated",
    "PairsRange",
    "ScorePairs",
    "ScoresRequested",
    "ScoresRequestedData",
    "StageReady",
    "StageReadyData",
]
