"""Ekiden with one remedy switched off: each must make the suite fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.simulation.simulation import Options


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class Mutant:
    """A remedy that is missing."""

    name: str
    what: str
    applied: Callable[[], AbstractContextManager[None]] = _nothing
    options: Options | None = None


MUTANTS = {
    mutant.name: mutant
    for mutant in (Mutant("reconciler", "nothing sweeps", options=Options(schedule=False)),)
}
