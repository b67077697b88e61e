"""What the ledger knows of a score request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ekiden.domain.model import Failure


class ScoreStatus(StrEnum):
    """Status of a score request."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


TERMINAL_SCORE = frozenset({ScoreStatus.COMPLETED, ScoreStatus.FAILED})
"""Nothing changes such a request any more."""


@dataclass(frozen=True, slots=True)
class PairsFile:
    """A CSV file of pairs in S3, pinned by its ETag: a file that was replaced is refused, not mixed in."""

    bucket: str
    key: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class PartCounts:
    """Outcomes of the pairs of one part."""

    scored: int = 0
    fallback: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A score request. ``split_offset`` and ``parts`` tell how far its file has been split into messages;
    ``parts_done`` and the pair counts how far the workers are."""

    request_id: str
    endpoint: str
    pairs: PairsFile
    status: ScoreStatus
    created_at: datetime
    updated_at: datetime
    results: str
    payload_hash: str
    split_offset: int = 0
    split_complete: bool = False
    parts: int = 0
    rows: int = 0
    parts_done: int = 0
    scored: int = 0
    fallback: int = 0
    invalid: int = 0
    failure: Failure | None = None

    @property
    def is_complete(self) -> bool:
        """Every part of the whole file has its results."""
        return self.split_complete and self.parts_done >= self.parts
