"""The kinds of prediction, and which model makes which.

``ekiden validate``, ``POST /runs`` and the engine ask this table; the engine's own registry is held against it by a
test.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Task(StrEnum):
    """What is predicted, and of what."""

    NODE_CLASSIFICATION = "node_classification"
    NODE_REGRESSION = "node_regression"
    EDGE_CLASSIFICATION = "edge_classification"
    EDGE_REGRESSION = "edge_regression"
    LINK_PREDICTION = "link_prediction"


ALL_TASKS: Final = frozenset(Task)
LINKS_ONLY: Final = frozenset({Task.LINK_PREDICTION})
EDGE_REGRESSION_ONLY: Final = frozenset({Task.EDGE_REGRESSION})

MODEL_TASKS: Final[Mapping[str, frozenset[Task]]] = {
    "rgcn": ALL_TASKS,
    "mf": EDGE_REGRESSION_ONLY,
    "fm": EDGE_REGRESSION_ONLY,
    "transe": LINKS_ONLY,
    "distmult": LINKS_ONLY,
    "complex": LINKS_ONLY,
    "rotate": LINKS_ONLY,
    "custom": ALL_TASKS,
}
"""Name in a spec (``model.name``) to the tasks that the model can be trained for."""


def task_of(kind: str, *, on_node: bool) -> Task:
    """The task of a target whose ``type`` is ``kind`` (classification, regression or link_prediction)."""
    if kind == "link_prediction":
        return Task.LINK_PREDICTION
    return Task(f"{'node' if on_node else 'edge'}_{kind}")
