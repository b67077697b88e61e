"""A seeded, discrete-event kernel: virtual time, and handlers that run as greenlets.

An invocation gives control back at *every* I/O boundary (before and after each call of a port), so that invocations
interleave there and nowhere else, as processes do that share nothing but services. What happens at a boundary is
drawn by the ``Weather``: the call takes its time, fails, its answer is lost, the worker pauses, or dies.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

from ekiden.errors import DependencyUnavailable
from tests.fakes.faults import Crash
from tests.fakes.time import NOW


class Fault(StrEnum):
    """What can go wrong at a boundary."""

    CRASH = "crash"
    ERROR = "error"
    PAUSE = "pause"


class Boundary:
    """One moment of an invocation: before or after a call of a port."""

    __slots__ = ("call", "invocation", "moment", "number")

    def __init__(self, invocation: Invocation, number: int, call: str, moment: str) -> None:
        self.invocation, self.number, self.call, self.moment = invocation, number, call, moment

    @property
    def point(self) -> tuple[str, str, str]:
        """Where in the code it is: function, call, moment."""
        return self.invocation.function, self.call, self.moment


Verdict = tuple[Fault | None, float]
"""What happens at a boundary, and the seconds that pass there."""


class Invocation:
    """One call of a handler by Lambda. ``settle`` is told once what the platform sees of it.

    ``faults`` counts what was done to it: an invocation without any must succeed.
    """

    __slots__ = (
        "boundaries",
        "ended",
        "faults",
        "function",
        "greenlet",
        "killed",
        "number",
        "settle",
        "settled",
        "started",
        "timeout",
    )

    def __init__(self, number: int, function: str, started: float, timeout: float, settle: Settle) -> None:
        self.number, self.function, self.started, self.timeout = number, function, started, timeout
        self.settle = settle
        self.settled = self.killed = self.ended = False
        self.faults = self.boundaries = 0
        self.greenlet: greenlet | None = None

    def __str__(self) -> str:
        return f"{self.function}#{self.number}"

    def over(self, answer: Any, why: str | None) -> None:
        """What the platform sees, the first time only: the answer, or why there is none."""
        if not self.settled:
            self.settled = True
            self.settle(self, answer, why)


Settle = Callable[[Invocation, Any, str | None], None]
Start = Callable[[str, dict[str, Any], Settle], None]
"""Starts a function with an event."""
Judge = Callable[[Boundary], Verdict]
Tell = Callable[[str, str], None]


def _silent(who: str, what: str) -> None:
    """Tells nobody."""


class Kernel:
    """Time, and what is to happen when. Seconds since the simulation began."""

    def __init__(
        self,
        judge: Judge,
        zombies: Callable[[], bool],
        tell: Tell | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        self.now = 0.0
        self.tell = tell or _silent
        self.tells = tell is not None
        self.counts = Counter[str]() if counts is None else counts
        self.on_pause: Callable[[float], None] = lambda seconds: None
        self.after_step: Callable[[], None] = lambda: None
        self._judge = judge
        self._zombies = zombies
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._running: dict[greenlet, Invocation] = {}
        self._hub = getcurrent()

    # Time

    def clock(self) -> datetime:
        """The current time as handlers see it."""
        return NOW + timedelta(seconds=self.now)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), act))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until ``done``, until nothing is left to happen, or until ``until`` seconds."""
        self._hub = getcurrent()
        heap = self._heap
        while heap and heap[0][0] <= until and not done():
            self.now, _, act = heapq.heappop(heap)
            act()
            self.after_step()

    def bury(self) -> None:
        """End every invocation that still waits, so that no greenlet is left."""
        self._heap.clear()
        for invocation in list(self._running.values()):
            self._kill(invocation)

    # Invocations

    def invoke(self, function: str, timeout: float, body: Callable[[], Any], settle: Settle) -> Invocation:
        """Start a handler now; it runs to its first boundary."""
        self.counts["invocations"] += 1
        invocation = Invocation(self.counts["invocations"], function, self.now, timeout, settle)

        def live() -> None:
            answer, why = None, None
            try:
                answer = body()
            except Crash as crash:
                why = str(crash) or "crashed"
            except Exception as error:  # noqa: BLE001  Lambda reports it as a function error
                why = f"{type(error).__name__}: {error}"
            invocation.ended = True
            del self._running[coroutine]
            if self.tells and not (invocation.killed and why):
                late = " (after its time-out: nobody listens)" if invocation.settled else ""
                self.tell(str(invocation), f"{'failed: ' + why if why else 'done'}{late}")
            invocation.over(answer, why)

        coroutine = greenlet(live)
        invocation.greenlet = coroutine
        self._running[coroutine] = invocation
        coroutine.switch()
        return invocation

    def boundary(self, call: str, moment: str) -> None:
        """The hook of the fakes: an invocation has come to a boundary."""
        coroutine = getcurrent()
        invocation = self._running.get(coroutine)
        if invocation is None:
            return  # the simulation itself looks something up
        if invocation.killed:
            raise Crash("dead")
        place = Boundary(invocation, invocation.boundaries, call, moment)
        invocation.boundaries += 1
        self.counts["boundaries"] += 1
        fault, seconds = self._judge(place)
        if fault is not None:
            invocation.faults += 1
            self.counts[fault] += 1
            if self.tells:
                self.tell(str(invocation), f"** {fault} {moment} {call}" + (f" {seconds:.0f} s" if seconds > 1 else ""))
            if fault is Fault.CRASH:
                invocation.killed = True
                raise Crash(f"crashed {moment} {call}")
        elif self.tells:
            self.tell(str(invocation), f"{moment} {call}")
        if fault is Fault.PAUSE:
            self.on_pause(seconds)
        self._limit(invocation, seconds)
        self.after(seconds, lambda: self._resume(invocation))
        self._hub.switch()
        if invocation.killed:
            raise Crash("timed out")
        if fault is Fault.ERROR:
            answer = "throttled" if moment == "before" else "answered nothing, though it took effect"
            raise DependencyUnavailable(f"{call} {answer}")

    def _limit(self, invocation: Invocation, seconds: float) -> None:
        """Have Lambda end the invocation if it outlasts its time-out: it is killed, or goes on as a zombie."""
        left = invocation.started + invocation.timeout - self.now
        if seconds <= left or invocation.settled:
            return
        invocation.faults += 1
        zombie = self._zombies()
        self.counts["zombie" if zombie else "time-out"] += 1

        def time_out() -> None:
            if invocation.ended:
                return
            self.tell(str(invocation), "timed out" + (" but lives on as a zombie" if zombie else ""))
            invocation.over(None, "timed out")
            if not zombie:
                self._kill(invocation)

        self.after(max(left, 0.0), time_out)

    def _resume(self, invocation: Invocation) -> None:
        if not invocation.ended and invocation.greenlet is not None:
            invocation.greenlet.switch()

    def _kill(self, invocation: Invocation) -> None:
        invocation.killed = True
        self._resume(invocation)


class VirtualClock:
    """Implements ``ports.Clock`` on a kernel's time."""

    def __init__(self, kernel: Kernel) -> None:
        self.now = kernel.clock
