"""From an event to the ledger: decide what it makes of a run, and write that."""

from __future__ import annotations

from typing import Protocol

from ekiden.application.plans import Deployed, plan_for, spec_of
from ekiden.domain.decisions import Event, NoChange, Transition
from ekiden.domain.model import Run
from ekiden.domain.transitions import decide
from ekiden.errors import AlreadyDone
from ekiden.ports import Clock, Ledger, Randomness


class Mover(Protocol):
    """A use case that moves runs."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""

    @property
    def clock(self) -> Clock:
        """Time."""

    @property
    def randomness(self) -> Randomness:
        """Chance."""

    @property
    def deployed(self) -> Deployed:
        """Names the deployment fixes."""


def move(by: Mover, run: Run, event: Event, *, actor: str) -> None:
    """Record what ``event`` makes of ``run``.

    Raises:
        AlreadyDone: nothing changed.
        LostRace: somebody else moved the run meanwhile.
    """
    decision = decide(
        run, event, plan=plan_for(spec_of(run), by.deployed), now=by.clock.now(), jitter=by.randomness.jitter()
    )
    match decision:
        case Transition():
            by.ledger.commit(decision, actor=actor)
        case NoChange(reason=reason):
            raise AlreadyDone(reason)
