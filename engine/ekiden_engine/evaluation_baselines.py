"""The honest baselines of each task: what a table of means, a class frequency or a plain linear model gives.

They are fitted on the training rows, as the model is; what they need to choose, they choose on validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, Split, Target
from ekiden_engine.metrics import FloatArray
from ekiden_engine.models.baselines import BiasBaseline, EndPriors, class_frequencies

GLOBAL_MEAN, USER_ITEM_BIAS, MAJORITY, END_PRIORS = "global_mean", "user_item_bias", "majority", "end_priors"

_SAME = {"mean": GLOBAL_MEAN, "majority_class": MAJORITY}
"""What goes by the same name for nodes as for edges."""

RowArray = npt.NDArray[np.int64]
Predict = Callable[[RowArray], FloatArray]


@dataclass(frozen=True, slots=True)
class FittedBaselines:
    """Per baseline, predictions for any rows of the target's node or edge type; and why others are missing."""

    predictions: Mapping[str, Predict]
    left_out: Mapping[str, str] = field(default_factory=dict)


def labels_of(target: Target, labels: Labels) -> npt.NDArray[Any]:
    """The values of a target that has some (links have none)."""
    if labels.values is None:
        raise ValueError(f"target {target.name} has no labels")
    return labels.values


def edges_of(graph: EncodedGraph, target: Target) -> EdgeSet:
    """The edges of a target of one edge type."""
    if target.edge is None:
        raise ValueError(f"target {target.name} is not about one edge type")
    return graph.edge(target.edge)


def fit_baselines(graph: EncodedGraph, target: Target) -> FittedBaselines:
    """The baselines of a node or edge property."""
    labels = graph.labels(target)
    train = labels.rows(Split.TRAIN)
    values = labels_of(target, labels)[train]
    if target.node is not None and len(train):
        return _of_nodes(graph, target)
    found: dict[str, Predict] = {}
    if target.is_regression:
        mean = float(values.mean(dtype=np.float64)) if len(values) else 0.0
        found[GLOBAL_MEAN] = lambda rows: np.full(len(rows), mean, np.float32)
    else:
        share = class_frequencies(values, len(target.classes)).astype(np.float32)
        found[MAJORITY] = lambda rows: np.broadcast_to(share, (len(rows), len(share))).copy()
    if target.edge is not None and len(train):
        found |= _of_ends(graph, target, train, values)
    return FittedBaselines(found)


def _of_nodes(graph: EncodedGraph, target: Target) -> FittedBaselines:
    """Mean or class frequencies, label propagation, a linear model of the features."""
    from ekiden_engine.models.nodes_baselines import node_baselines

    tables = {_SAME.get(name, name): table for name, table in node_baselines(graph, target).items()}
    linear = "ridge_regression" if target.is_regression else "logistic_regression"
    why = {"label_propagation": "the graph has no edges at these nodes", linear: "the nodes have no features"}
    return FittedBaselines(
        {name: table.__getitem__ for name, table in tables.items()},
        {name: reason for name, reason in why.items() if name not in tables},
    )


def _of_ends(graph: EncodedGraph, target: Target, train: RowArray, values: npt.NDArray[Any]) -> dict[str, Predict]:
    edges = edges_of(graph, target)
    source, dest = edges.source[train], edges.dest[train]
    counts = (len(graph.node(edges.source_label)), len(graph.node(edges.dest_label)))
    if target.is_regression:
        bias = BiasBaseline.fit(source, dest, values.astype(np.float32, copy=False), counts)
        return {USER_ITEM_BIAS: lambda rows: bias.predict(edges.source[rows], edges.dest[rows])}
    priors = EndPriors.fit(source, dest, values.astype(np.int32, copy=False), counts, len(target.classes))
    return {END_PRIORS: lambda rows: priors.predict(edges.source[rows], edges.dest[rows])}
