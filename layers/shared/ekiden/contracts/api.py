"""Requests and answers of the HTTP API. ``docs/openapi.json`` is generated from these models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, model_validator

from ekiden.contracts.base import RequestId, Strict, Tolerant
from ekiden.domain.model import AttemptStatus, RunStatus, Stage, StageStatus
from ekiden.domain.scores import ScoreStatus

MAX_BODY_BYTES = 64 * 1024
MAX_INLINE_PAIRS = 1000

NodeId = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Pairs travel as lines of text: a control character would break one in two."""


Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Why an operator does something; kept in the run's history."""


class SubmitRun(Strict):
    """``POST /runs``: the spec as plain data; the same ``request_id`` never starts a second run."""

    spec: dict[str, Any]
    request_id: RequestId | None = None


class RunAccepted(Tolerant):
    """Answer to ``POST /runs``."""

    run_id: str
    status: RunStatus


class RunSummary(Tolerant):
    """One line of ``GET /runs``."""

    run_id: str
    name: str
    status: RunStatus
    stage: Stage | None
    created_at: datetime
    updated_at: datetime


class RunList(Tolerant):
    """Answer to ``GET /runs``, newest first."""

    runs: list[RunSummary]


class AttemptError(Tolerant):
    """Why an attempt failed."""

    code: str
    message: str


class AttemptView(Tolerant):
    """One try of a stage."""

    number: int
    job: str
    status: AttemptStatus
    started_at: datetime | None
    ended_at: datetime | None
    output: str | None
    error: AttemptError | None = None


class StageView(Tolerant):
    """One stage of a run."""

    name: Stage
    status: StageStatus
    attempts: list[AttemptView]


class RunError(Tolerant):
    """Why a run failed: the stage, a stable code, what to do, and the end of the job's log."""

    stage: Stage
    code: str
    message: str
    log_tail: list[str] = []


class RunView(Tolerant):
    """Answer to ``GET /runs/{run_id}``."""

    run_id: str
    name: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    spec: dict[str, Any]
    stages: list[StageView]
    endpoint: str | None
    evaluation: dict[str, Any] | None
    artifacts: dict[str, str]
    error: RunError | None


class CancelRun(Strict):
    """``POST /runs/{run_id}/cancel``."""

    reason: Reason = ""


class RetryRun(Strict):
    """``POST /runs/{run_id}/retry``: from the stage where the run ended, or from an earlier one."""

    model_config = Strict.model_config | {"populate_by_name": True}

    stage: Annotated[Stage | None, Field(alias="from")] = None
    reason: Reason = ""


class RunChanged(Tolerant):
    """Answer to a cancel or retry. ``CANCELLING`` becomes ``CANCELLED`` once the job was seen to have stopped."""

    run_id: str
    status: RunStatus
    stage: Stage | None = None
    """Where a retried run goes on."""


class HistoryLine(Tolerant):
    """One move of a run: when, who and what. ``actor`` is the caller's ARN, an event's id, or the reconciler."""

    sequence: int
    at: datetime
    actor: str
    what: str


class RunHistory(Tolerant):
    """Answer to ``GET /runs/{run_id}/history``, oldest first."""

    run_id: str
    history: list[HistoryLine]


class RedriveMessages(Strict):
    """``POST /redrive``: send parked messages to their queues again; without ``queue`` those of all queues."""

    queue: Annotated[str | None, Field(min_length=1, max_length=80)] = None
    reason: Reason = ""
    before: AwareDatetime | None = None
    """Only what was parked before: an earlier answer's ``before`` goes on where that call had to stop."""


class QueueRedriven(Tolerant):
    """What became of one queue's parked messages."""

    queue: str
    redriven: int
    kept: int
    """They are no messages of ours, or what they stand for is gone: they stay where they are."""
    later: int
    """Parked since the redrive began, such as those that were redriven and failed again: left alone."""
    remaining: int
    """About how many the call had no time for: call again, with the answer's ``before``."""
    reasons: list[str] = []
    """Why messages were kept; a few of them."""


class RedriveReport(Tolerant):
    """Answer to ``POST /redrive``."""

    queues: list[QueueRedriven]
    before: datetime
    """When the redrive began."""


class LogLine(Tolerant):
    """One line a job wrote."""

    timestamp: datetime
    stage: Stage
    attempt: int
    message: str


class LogPage(Tolerant):
    """Answer to ``GET /runs/{run_id}/logs``."""

    lines: list[LogLine]
    next_token: str | None


class RequestScores(Strict):
    """``POST /scores``: pairs inline, or a CSV file (header ``source,target``) in the data bucket."""

    endpoint: Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]
    pairs: Annotated[list[tuple[NodeId, NodeId]] | None, Field(min_length=1, max_length=MAX_INLINE_PAIRS)] = None
    pairs_uri: Annotated[str | None, Field(max_length=2048)] = None
    request_id: RequestId | None = None

    @model_validator(mode="after")
    def _has_one_source_of_pairs(self) -> Self:
        if (self.pairs is None) == (self.pairs_uri is None):
            raise ValueError("give either pairs (inline) or pairs_uri (a CSV file in S3)")
        return self


class ScoresAccepted(Tolerant):
    """Answer to ``POST /scores``."""

    request_id: str
    status: ScoreStatus


class MessageCounts(Tolerant):
    """Messages a request was split into, and how many are done."""

    total: int
    done: int


class PairCounts(Tolerant):
    """Pairs of a request by outcome; ``fallback`` pairs have a node the model never saw."""

    total: int
    scored: int
    fallback: int
    invalid: int


class ScoresView(Tolerant):
    """Answer to ``GET /scores/{request_id}``."""

    request_id: str
    status: ScoreStatus
    endpoint: str
    messages: MessageCounts
    pairs: PairCounts
    results: str
    created_at: datetime
    updated_at: datetime
    error: AttemptError | None


class ApiFault(Tolerant):
    """One fault of a request body, with its path."""

    path: str
    message: str


class ApiError(Tolerant):
    """What went wrong, and what to do."""

    code: str
    message: str
    faults: list[ApiFault] = []


class ErrorBody(Tolerant):
    """Body of every 4xx and 5xx answer."""

    error: ApiError
