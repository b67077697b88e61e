"""Evaluation of a property of nodes or of edges: regression, classification, several classes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from ekiden_engine import metrics
from ekiden_engine.evaluation_baselines import edges_of, fit_baselines, labels_of
from ekiden_engine.evaluation_held_out import (
    NODE_STATUSES,
    STATUSES,
    End,
    Headline,
    HeldOutValues,
    TargetEvaluation,
    finite,
    graph_counts,
    held_out_split,
    rows_by_split,
    status_codes,
    status_counts,
    strongest,
)
from ekiden_engine.evaluation_tables import precision_recall_curves, value_details, value_examples
from ekiden_engine.graph import EncodedGraph, Labels, Split, Target
from ekiden_engine.metrics import Figures, FloatArray
from ekiden_engine.models.base import EdgePredictor, NodePredictor, Predictor

TRAIN_SAMPLE = 100_000
"""Training rows that are evaluated at most: they only tell how closely the model follows them."""
ROWS_AT_ONCE = 65_536
EVEN = 0.9
"""Evenness of the training classes (entropy as a share of its maximum; Pielou 1966) below which macro F1 is the
headline: 1 for equal shares, 0.88 for 70 : 30, 0.47 for 90 : 10."""

RowArray = npt.NDArray[np.int64]
Predict = Callable[[RowArray], FloatArray]


def evaluate_values(graph: EncodedGraph, target: Target, predictor: Predictor) -> TargetEvaluation:
    """Predict the labelled rows of `target` as the endpoint would, and the baselines' figures on the held-out ones."""
    labels = graph.labels(target)
    values = labels_of(target, labels)
    rows = rows_by_split(labels)
    held = held_out_split(rows)
    subject: _Rows = (
        _EdgeRows(graph, target, cast(EdgePredictor, predictor))
        if target.node is None
        else _NodeRows(graph, target.node, cast(NodePredictor, predictor))
    )
    width = () if target.is_regression else (len(target.classes),)
    evaluated = {name: _sample(which) if name == "train" else which for name, which in rows.items()}
    predicted = {name: finite(_in_parts(which, subject.predict, width), target) for name, which in evaluated.items()}
    which = evaluated[held]
    fitted = fit_baselines(graph, target)
    held_out = HeldOutValues(
        split=held,
        rows=which,
        ends=subject.ends(which),
        actual=values[which],
        predicted=predicted[held],
        baselines={name: baseline(which) for name, baseline in fitted.predictions.items()},
        status=subject.status(which),
        statuses=subject.statuses,
    )
    splits = {name: value_figures(target, values[evaluated[name]], predicted[name]) for name in evaluated}
    baselines = {name: value_figures(target, held_out.actual, p) for name, p in held_out.baselines.items()}
    name, higher = headline_metric(target, labels)
    metric = Headline(name, splits[held][name], higher)
    return TargetEvaluation(
        target=target,
        held_out=held_out,
        metric=metric,
        splits=splits,
        baselines=baselines,
        left_out=fitted.left_out,
        counts={
            **graph_counts(graph),
            "target": labels.counts(),
            "statuses": status_counts(held_out.status, subject.statuses),
        },
        details=value_details(target, held_out, strongest(metric, baselines)),
        examples=value_examples(graph, target, held_out),
        precision_recall=precision_recall_curves(target, held_out),
    )


def value_figures(target: Target, actual: npt.NDArray[Any], predicted: FloatArray) -> Figures:
    """The figures of the target's task."""
    if target.is_regression:
        return metrics.regression(actual, predicted)
    if target.multi_label:
        return metrics.multi_label(actual, predicted)
    return metrics.classification(actual, predicted)


def headline_metric(target: Target, labels: Labels) -> tuple[str, bool]:
    """Name of the headline figure, and whether higher is better.

    As Neptune ML chooses its default: accuracy; F1 where the classes are unevenly frequent in training (`EVEN`); ROC
    AUC where a row may have several. For regression RMSE.
    """
    if target.is_regression:
        return "rmse", False
    if target.multi_label:
        return "roc_auc", True
    count = np.bincount(labels_of(target, labels)[labels.rows(Split.TRAIN)], minlength=2)
    share = count[count > 0] / max(int(count.sum()), 1)
    if len(share) < 2:
        return "accuracy", True
    evenness = float(-(share * np.log(share)).sum() / np.log(len(share)))
    return ("accuracy" if evenness >= EVEN else "f1_macro"), True


class _Rows(Protocol):
    """Rows [m] of the target's node or edge type, as a predictor sees them."""

    statuses: ClassVar[tuple[str, ...]]

    def ends(self, rows: RowArray) -> tuple[End, ...]:
        """Their nodes, with degrees."""

    def predict(self, rows: RowArray) -> FloatArray:
        """What the model says."""

    def status(self, rows: RowArray) -> npt.NDArray[np.uint8]:
        """How it was scored, index into `statuses`."""


class _NodeRows:
    statuses: ClassVar[tuple[str, ...]] = NODE_STATUSES

    def __init__(self, graph: EncodedGraph, label: str, predictor: NodePredictor) -> None:
        self._label, self._predictor = label, predictor
        self._degree = node_degree(graph, label)

    def ends(self, rows: RowArray) -> tuple[End, ...]:
        return (End("node", self._label, rows.astype(np.int32), self._degree[rows]),)

    def predict(self, rows: RowArray) -> FloatArray:
        return self._predictor.predict(rows.astype(np.int32))

    def status(self, rows: RowArray) -> npt.NDArray[np.uint8]:
        return (~self._predictor.known(rows.astype(np.int32))).view(np.uint8)


class _EdgeRows:
    statuses: ClassVar[tuple[str, ...]] = STATUSES

    def __init__(self, graph: EncodedGraph, target: Target, predictor: EdgePredictor) -> None:
        self._edges, self._predictor = edges_of(graph, target), predictor
        edges, train = self._edges, graph.labels(target).rows(Split.TRAIN)
        self._degrees = (
            np.bincount(edges.source[train], minlength=len(graph.node(edges.source_label))),
            np.bincount(edges.dest[train], minlength=len(graph.node(edges.dest_label))),
        )

    def ends(self, rows: RowArray) -> tuple[End, ...]:
        source, dest = self._edges.source[rows], self._edges.dest[rows]
        return (
            End("source", self._edges.source_label, source, self._degrees[0][source]),
            End("target", self._edges.dest_label, dest, self._degrees[1][dest]),
        )

    def predict(self, rows: RowArray) -> FloatArray:
        return self._predictor.predict(self._edges.source[rows], self._edges.dest[rows])

    def status(self, rows: RowArray) -> npt.NDArray[np.uint8]:
        return status_codes(*self._predictor.known(self._edges.source[rows], self._edges.dest[rows]))


def node_degree(graph: EncodedGraph, label: str) -> npt.NDArray[np.int64]:
    """Edges of any type at each node of type `label`, in both directions; int64 [n]."""
    count = len(graph.node(label))
    degree = np.zeros(count, np.int64)
    for edges in graph.edges:
        for end, nodes in ((edges.source_label, edges.source), (edges.dest_label, edges.dest)):
            if end == label:
                degree += np.bincount(nodes, minlength=count)
    return degree


def _in_parts(rows: RowArray, predict: Predict, width: tuple[int, ...]) -> FloatArray:
    """Predictions in parts that fit a cache; probabilities as float32 [m, k]."""
    parts = [predict(rows[i : i + ROWS_AT_ONCE]) for i in range(0, len(rows), ROWS_AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, *width), np.float32)


def _sample(rows: RowArray) -> RowArray:
    if len(rows) <= TRAIN_SAMPLE:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, TRAIN_SAMPLE, replace=False))
