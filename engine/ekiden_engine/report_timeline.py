"""The stages of a run as spans of time: what ran before the training job, from its environment, and the job
itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

TIMELINE_VARIABLE = "EKIDEN_TIMELINE"
MAX_SPANS = 40


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One stage: name, status, and when it ran (aware datetimes, `ended_at` not before `started_at`)."""

    name: str
    status: str
    started_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended_at - self.started_at).total_seconds()


def read_timeline(text: str) -> list[StageSpan]:
    """Parse `EKIDEN_TIMELINE`: a JSON list of {name, status, started_at, ended_at}, ISO-8601.

    A report must not fail a training: what cannot be read, or has not begun and ended, is left out.
    """
    try:
        entries = json.loads(text) if text else []
    except ValueError:
        return []
    if not isinstance(entries, list):
        return []
    spans = (_span(entry) for entry in entries[:MAX_SPANS])
    return sorted((s for s in spans if s is not None), key=lambda s: s.started_at)


def _span(entry: Any) -> StageSpan | None:
    if not isinstance(entry, dict):
        return None
    start, end = _time(entry.get("started_at")), _time(entry.get("ended_at"))
    if start is None or end is None or end < start:
        return None
    return StageSpan(str(entry.get("name", "?"))[:40], str(entry.get("status", ""))[:20], start, end)


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
