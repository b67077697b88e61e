"""What a search compares models by: one figure on validation rows, never on test rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from ekiden.contracts.hpo_metric import CURVE_METRIC, LOWER_IS_BETTER, OBJECTIVE_LINE, EvalMetric, default_metric
from ekiden.contracts.tasks import Task
from ekiden_engine import metrics
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.base import EdgePredictor, Fit, LinkPredictor, NodePredictor

_FIGURES: Final = {"acc": "accuracy", "F1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"}
"""Neptune ML's name to ours; it does not say how it averages over classes, we give every class the same weight."""
MODELS_OWN: Final = EvalMetric()
"""The metric that the task has by default."""
_RANKED_AT_A_TIME = 512
"""Queries that are scored against all candidates at once."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The figure `name`, in force for one fit."""

    name: str
    value: float
    higher_is_better: bool

    def line(self) -> str:
        """How it stands in the log, where a SageMaker tuning job finds it."""
        return OBJECTIVE_LINE.format(value=self.value, metric=self.name)


def metric_for(metric: EvalMetric, target: Target) -> EvalMetric:
    """The metric in force: as the configuration says; for a target of another kind, and without one, the default."""
    if metric.is_scripts_own or metric.name in _possible(target):
        return metric
    name = default_metric(target.task, multi_label=target.multi_label)
    return EvalMetric(name, 1, name not in LOWER_IS_BETTER)


def objective_of(fit: Fit, graph: EncodedGraph, target: Target, metric: EvalMetric = MODELS_OWN) -> Objective:
    """The figure of a fit on the target's validation rows; without such rows, and for links, that of its curves.

    A script's own metric is what it printed last. Raises `BadData` NO_OBJECTIVE if there is nothing to go by.
    """
    chosen = metric_for(metric, target)
    if chosen.is_scripts_own:
        return _of_curves(fit, chosen)
    if target.task is Task.LINK_PREDICTION:
        if fit.curves:
            return _of_curves(fit, chosen)
        return Objective(chosen.name, _reciprocal_rank(cast(LinkPredictor, fit.predictor), graph, target), True)
    rows = graph.labels(target).rows(Split.VALID)
    value = _figure(fit, graph, target, chosen, rows) if len(rows) else None
    if value is None:
        return _of_curves(fit, chosen)
    return Objective(chosen.name, value, chosen.higher_is_better)


def _possible(target: Target) -> frozenset[str]:
    if target.task is Task.LINK_PREDICTION:
        return frozenset({"mrr"})
    if target.is_regression:
        return frozenset({"mse", "rmse", "mae"})
    return frozenset({"acc", "acc_topk", "F1", "precision", "recall", "roc_auc"})


def _of_curves(fit: Fit, metric: EvalMetric) -> Objective:
    """The mean of the kept members, in the curve's own metric."""
    kept = [curve for curve in fit.curves if curve.kept and curve.points]
    values = [curve.best_valid for curve in kept]
    if not values or not all(map(math.isfinite, values)):
        wanted = metric.name or "a metric"
        raise BadData(
            "NO_OBJECTIVE",
            f"no value of {wanted[:100]} to compare models by: give the target validation rows (split_rate), or let a "
            "script print what metric_definitions describe",
        )
    curve = kept[0]
    name = metric.name if CURVE_METRIC.get(metric.name, metric.name) == curve.metric else curve.metric
    mean = float(np.mean(values))
    squared = name == "mse" and curve.metric == "rmse"
    return Objective(name, mean**2 if squared else mean, curve.higher_is_better)


def _figure(
    fit: Fit, graph: EncodedGraph, target: Target, metric: EvalMetric, rows: npt.NDArray[np.int64]
) -> float | None:
    values = graph.labels(target).values
    if values is None:
        return None
    predicted = _predicted(fit, graph, target, rows)
    actual = values[rows]
    if target.is_regression:
        figures = metrics.regression(actual, predicted)
        rmse = figures["rmse"]
        figures["mse"] = None if rmse is None else rmse**2
        return _finite(figures[metric.name])
    if metric.name == "acc_topk" and not target.multi_label:
        return _top_k(actual, predicted, metric.topk)
    figures = (metrics.multi_label if target.multi_label else metrics.classification)(actual, predicted)
    return _finite(figures[_FIGURES.get(metric.name, "accuracy" if metric.name == "acc_topk" else metric.name)])


def _predicted(fit: Fit, graph: EncodedGraph, target: Target, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    if target.edge is None:
        return cast(NodePredictor, fit.predictor).predict(rows.astype(np.int32))
    edges = graph.edge(target.edge)
    return cast(EdgePredictor, fit.predictor).predict(edges.source[rows], edges.dest[rows])


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _top_k(actual: npt.NDArray[np.int32], probability: npt.NDArray[np.float32], k: int) -> float:
    """Share of rows whose class is among the k most probable ones."""
    own = probability[np.arange(len(actual)), actual]
    above = (probability > own[:, None]).sum(1)
    return float((above < k).mean())


def _reciprocal_rank(predictor: LinkPredictor, graph: EncodedGraph, target: Target) -> float:
    """Mean reciprocal rank of the true destination of validation links among all candidates; ties count half."""
    found: list[npt.NDArray[np.float64]] = []
    for position, edge_type in enumerate(predictor.edge_types):
        edges, labels = next((e, own) for e, own in graph.link_labels(target) if e.edge_type == edge_type)
        rows = labels.rows(Split.VALID)
        items = predictor.items(position, "tail") if len(rows) else None
        for start in range(0, len(rows), _RANKED_AT_A_TIME):
            part = rows[start : start + _RANKED_AT_A_TIME]
            scores = predictor.queries(position, "tail", edges.source[part]) @ cast(npt.NDArray[np.float32], items).T
            own = scores[np.arange(len(part)), edges.dest[part]][:, None]
            rank = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
            found.append(1 / rank)
    if not found:
        raise BadData("NO_OBJECTIVE", f"{target.name} has no validation links to compare models by; give split_rate")
    return float(np.concatenate(found).mean())
