"""Faults at every boundary: each call of a fake tells its ``Faults`` before and after it took effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from ekiden.errors import DependencyUnavailable

P = ParamSpec("P")
R = TypeVar("R")


class Crash(BaseException):
    """The worker dies here: nothing may catch this but the test."""


class Faults:
    """What goes wrong, and a count of what was called.

    ``throttled`` makes every call fail before it has an effect. ``before`` and ``after`` hold an exception per call
    name (``FakeJobs.start``), raised once: *after* is a lost reply, or a crash after the effect. ``hook`` sees every
    boundary and may raise, which is how a simulator gets in.
    """

    def __init__(self) -> None:
        self.throttled = False
        self.before: dict[str, BaseException] = {}
        self.after: dict[str, BaseException] = {}
        self.calls: Counter[str] = Counter()
        self.hook: Callable[[str, str], None] = lambda call, moment: None

    def enter(self, call: str) -> None:
        """The call has no effect yet."""
        self.calls[call] += 1
        self.hook(call, "before")
        if self.throttled:
            raise DependencyUnavailable(f"{call} is throttled")
        if call in self.before:
            raise self.before.pop(call)

    def leave(self, call: str) -> None:
        """The call has had its effect."""
        self.hook(call, "after")
        if call in self.after:
            raise self.after.pop(call)


class Faulty(Protocol):
    """A fake with faults."""

    faults: Faults


S = TypeVar("S", bound=Faulty)


def io(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A port's method as a boundary at which things go wrong."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        name = f"{type(self).__name__}.{method.__name__}"
        self.faults.enter(name)
        result = method(self, *args, **kwargs)
        self.faults.leave(name)
        return result

    return call
