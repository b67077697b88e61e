"""Time and chance that tests decide."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class FakeClock:
    """Implements ``ports.Clock``; stands still until it is told to move."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        """The current time."""
        return self._now

    def advance(self, **delta: float) -> datetime:
        """Let time pass: ``advance(minutes=2)``."""
        self._now += timedelta(**delta)
        return self._now


class SeededRandomness:
    """Implements ``ports.Randomness``, the same way each time."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def entropy(self, count: int) -> bytes:
        """``count`` bytes."""
        return self._random.randbytes(count)

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()
