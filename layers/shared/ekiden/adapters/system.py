"""The machine's own clock and randomness."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime


class SystemClock:
    """Implements ``ports.Clock``."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(UTC)


class SystemRandomness:
    """Implements ``ports.Randomness``."""

    def entropy(self, count: int) -> bytes:
        """``count`` unpredictable bytes."""
        return os.urandom(count)

    def jitter(self) -> float:
        """A number drawn evenly from [0, 1)."""
        return random.random()  # noqa: S311  spreads retries, guards nothing
