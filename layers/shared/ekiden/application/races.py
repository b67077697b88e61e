"""Lost races: another worker moved the run between our read and our write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ekiden.errors import LostRace

TRIES = 3


def until_decided(act: Callable[[], None]) -> None:
    """Run ``act``, which reads afresh and decides, again when it lost a race.

    A job that starts and ends at once is written by two functions at the same moment: leaving the loser to its
    queue would cost the run a visibility timeout.

    Raises:
        LostRace: it was lost every time; the queue brings the message again.
    """
    for _ in range(TRIES - 1):
        with suppress(LostRace):
            return act()
    return act()
