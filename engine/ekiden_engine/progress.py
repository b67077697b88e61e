"""Progress of long reads and writes: how much is done, how fast, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ekiden_engine.log import log

EVERY_SECONDS: Final = 10.0
"""Between two lines; what takes less logs none."""


class RowProgress:
    """Logs `reading edges: 2,500,000 rows, 41 %, 410,000 rows/s, 9 s left` from time to time.

    The share done is counted in `total` units of work, bytes of files or rows; rows/s is the mean so far.
    """

    def __init__(self, doing: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`doing`: the words before the figures."""
        self._doing = doing
        self._total = max(total, 1)
        self._clock = clock
        self._started = self._told = clock()
        self._rows = self._units = 0

    def work(self, units: int) -> None:
        """So much of the total is behind us."""
        self._units += units

    def rows(self, count: int) -> None:
        """More rows are done; a line is logged if the last one was `EVERY_SECONDS` ago."""
        self._rows += count
        now = self._clock()
        if now - self._told >= EVERY_SECONDS:
            self._told = now
            log(self.line(now))

    def line(self, now: float) -> str:
        """What is logged at time `now`."""
        seconds = max(now - self._started, 1e-9)
        share = min(self._units / self._total, 1.0)
        left = f", {seconds * (1 - share) / share:.0f} s left" if share else ""
        return f"{self._doing}: {self._rows:,} rows, {share:.0%}, {self._rows / seconds:,.0f} rows/s{left}"
