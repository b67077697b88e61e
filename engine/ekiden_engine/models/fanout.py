"""Whether a model is trained on all neighbours of a node, or on samples of them because all do not fit into memory."""

from __future__ import annotations

from typing import Final

from ekiden_engine.memory import available_bytes
from ekiden_engine.models.base import Progress

DEFAULT_FANOUT: Final = 32
COMFORTABLE: Final = 0.7
"""Share of the memory there is that an estimate may take."""


def choose_fanout(given: int | None, needed: int, progress: Progress) -> int:
    """How many neighbours to sample of each node; 0: train on all, which is better, and faster, where memory allows.

    `given` is the hyperparameter; None leaves the choice to `needed`, an estimate of what training on all neighbours
    takes, in bytes.
    """
    if given is not None:
        return given
    available = available_bytes()
    if available is None or needed <= COMFORTABLE * available:
        return 0
    progress.note(
        f"training on all neighbours would take about {needed / 2**30:.1f} GiB of the {available / 2**30:.1f} GiB that "
        f"are left: {DEFAULT_FANOUT} neighbours of each node are sampled instead"
    )
    return DEFAULT_FANOUT
