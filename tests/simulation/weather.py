"""How bad the world is: the rates of faults, and the draws from them.

``MILD`` and ``HARSH`` are the parameters under which the design's sketch was measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.kernel import Boundary, Fault, Verdict

LATEST = 3600.0
"""Seconds by which an event may be late."""
LONGEST_PAUSE = 120.0
"""Seconds a worker may stand still."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Rates of what goes wrong.

    ``crash`` and ``error`` per I/O boundary, ``pause`` per invocation, ``drop`` per job event (SageMaker's delivery is
    best effort), ``duplicate`` (same id), ``multiple`` (different ids, job events) and ``late`` per event,
    ``failure`` and ``hang`` per job.
    """

    name: str
    drop: float = 0.0
    duplicate: float = 0.0
    multiple: float = 0.0
    late: float = 0.0
    crash: float = 0.0
    error: float = 0.0
    pause: float = 0.0
    failure: float = 0.0
    hang: float = 0.0
    index_lag: float = 1.0
    """Seconds by which the ledger's indexes may lag behind."""


CALM = Weather("calm", index_lag=0.0)
MILD = Weather(
    "mild",
    drop=0.001,
    duplicate=0.01,
    multiple=0.05,
    late=0.01,
    crash=0.001,
    error=0.002,
    pause=0.001,
    failure=0.02,
    hang=0.002,
    index_lag=1.0,
)
HARSH = Weather(
    "harsh",
    drop=0.05,
    duplicate=0.20,
    multiple=0.20,
    late=0.10,
    crash=0.05,
    error=0.02,
    pause=0.05,
    failure=0.10,
    hang=0.02,
    index_lag=10.0,
)
WEATHERS = {weather.name: weather for weather in (CALM, MILD, HARSH)}


class Dice:
    """A stream of draws."""

    def __init__(self, seed: str) -> None:
        self.draw = random.Random(seed).random

    def chance(self, rate: float) -> bool:
        """Whether something that happens at ``rate`` happens."""
        return rate > 0 and self.draw() < rate

    def between(self, low: float, high: float) -> float:
        """A number, usually of seconds."""
        return low + (high - low) * self.draw()


class Sky:
    """The draws of one simulation. Each matter has dice of its own: a new draw in one leaves the others as they are."""

    def __init__(self, weather: Weather, seed: int) -> None:
        self.weather = weather
        self.counts: Counter[str] = Counter()
        self.users, self.jobs, self.events, self.workers, self.indexes = (
            Dice(f"{weather.name}/{seed}/{matter}") for matter in ("users", "jobs", "events", "workers", "indexes")
        )
        self._pauses: dict[int, int] = {}

    def judge(self, boundary: Boundary) -> Verdict:
        """What happens at a boundary."""
        weather, dice = self.weather, self.workers
        if boundary.number == 0 and dice.chance(weather.pause):
            self._pauses[boundary.invocation.number] = int(dice.between(0, 12))
        if self._pauses.get(boundary.invocation.number) == boundary.number:
            return Fault.PAUSE, dice.draw() * LONGEST_PAUSE
        drawn = dice.draw()
        if drawn < weather.crash:
            return Fault.CRASH, 0.0
        latency = 0.002 + 0.02 * drawn
        return (Fault.ERROR if drawn < weather.crash + weather.error else None), latency

    def zombie(self) -> bool:
        """Whether an invocation that timed out goes on all the same."""
        return self.workers.chance(0.5)

    def delays(self, usual: float) -> list[float]:
        """Delays in seconds of the deliveries of one event with the same id: usually one of about ``usual``."""
        copies = 2 if self.events.chance(self.weather.duplicate) else 1
        self.counts["duplicate"] += copies - 1
        return [self._delay(usual) for _ in range(copies)]

    def _delay(self, usual: float) -> float:
        if self.events.chance(self.weather.late):
            self.counts["late"] += 1
            return self.events.draw() * LATEST
        return usual * self.events.between(0.5, 1.5)


@dataclass(frozen=True, slots=True)
class CrashAt:
    """A verdict for chosen boundaries: the worker dies there. Elsewhere nothing goes wrong.

    ``chosen`` is asked at every boundary with its running number over the whole simulation.
    """

    chosen: Callable[[int, Boundary], bool]

    def judge_from(self, sky: Sky) -> Callable[[Boundary], Verdict]:
        """A judge that counts boundaries."""
        seen = 0

        def judge(boundary: Boundary) -> Verdict:
            nonlocal seen
            number, seen = seen, seen + 1
            if self.chosen(number, boundary):
                return Fault.CRASH, 0.0
            return sky.judge(boundary)

        return judge
