"""Tables of an evaluation of values: calibration, figures by degree and by class, examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ekiden_engine import metrics
from ekiden_engine.evaluation_held_out import Example, Examples, HeldOutValues, extremes
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.metrics import DoubleArray, FloatArray
from ekiden_engine.models.base import IndexArray

MAX_CONFUSION = 20
"""Classes up to which evaluation.json has a confusion matrix."""
MAX_CLASSES = 50
"""Classes, the most frequent ones, that are listed."""
MAX_POOLED = 5_000_000
"""Probabilities that the pooled precision-recall curve is drawn from at most."""


def losses(target: Target, held: HeldOutValues, predicted: FloatArray) -> DoubleArray:
    """How wrong each row is, float64 [m]: |error|, or 1 - probability of the truth (mean over classes)."""
    if target.is_regression:
        found: DoubleArray = np.abs(predicted.astype(np.float64) - held.actual)
    elif target.multi_label:
        found = np.abs(predicted.astype(np.float64) - held.actual).mean(1)
    else:
        found = 1 - predicted[np.arange(len(predicted)), held.actual].astype(np.float64)
    return found


def _quality(target: Target, held: HeldOutValues, predicted: FloatArray) -> DoubleArray:
    """What is averaged by degree: squared errors, or 1 where the class (all classes) is right."""
    if target.is_regression:
        found: DoubleArray = (predicted.astype(np.float64) - held.actual) ** 2
    elif target.multi_label:
        found = ((predicted >= metrics.THRESHOLD) == held.actual.astype(np.bool_)).all(1).astype(np.float64)
    else:
        found = (predicted.argmax(1) == held.actual).astype(np.float64)
    return found


def value_details(target: Target, held: HeldOutValues, strongest_name: str | None) -> dict[str, Any]:
    """`calibration`, `by_degree` (beside the baseline `strongest_name`), and for classes `classes`, `confusion`."""
    series = {"model": _quality(target, held, held.predicted)}
    if strongest_name is not None:
        series[strongest_name] = _quality(target, held, held.baselines[strongest_name])
    found: dict[str, Any] = {
        "by_degree": [
            {
                "end": end.label,
                "role": end.role,
                "metric": "rmse" if target.is_regression else "accuracy",
                "buckets": by_degree(end.degree, series, root=target.is_regression),
            }
            for end in held.ends
        ]
    }
    if target.is_regression:
        return {"calibration": metrics.deciles(held.actual, held.predicted), **found}
    if target.multi_label:
        truth = held.actual.astype(np.bool_)
        bins = metrics.reliability(held.predicted.ravel(), truth.ravel())[0]
        scores = metrics.multi_label_scores(truth, held.predicted >= metrics.THRESHOLD)
        return {"calibration": bins, **found, "classes": _class_table(target, held, scores)}
    said = held.predicted.argmax(1)
    bins = metrics.reliability(held.predicted.max(1), said == held.actual)[0] if len(said) else []
    matrix = metrics.confusion(held.actual, said, len(target.classes))
    found = {"calibration": bins, **found, "classes": _class_table(target, held, metrics.class_scores(matrix))}
    if len(target.classes) <= MAX_CONFUSION:
        found["confusion"] = matrix.tolist()
    return found


def by_degree(degree: metrics.CountArray, series: Mapping[str, DoubleArray], *, root: bool) -> list[dict[str, Any]]:
    """Mean (`root`: its square root) of each of `series` [m] per bucket of `degree` [m]: {degree, count, names…}."""
    bucket = metrics.degree_bucket(degree)
    count = np.bincount(bucket)
    means = {name: np.bincount(bucket, values) / np.maximum(count, 1) for name, values in series.items()}
    return [
        {
            "degree": metrics.bucket_name(int(b)),
            "count": int(count[b]),
            **{name: float(mean[b] ** 0.5 if root else mean[b]) for name, mean in means.items()},
        }
        for b in np.flatnonzero(count)
    ]


def _class_table(target: Target, held: HeldOutValues, scores: metrics.ClassScores) -> list[dict[str, Any]]:
    """Per class, the most frequent first: {class, count, precision, recall, f1, roc_auc, average_precision}."""
    rows = []
    for c in np.argsort(-scores.support, kind="stable")[:MAX_CLASSES]:
        truth = held.actual[:, c].astype(np.bool_) if target.multi_label else held.actual == c
        area, precision = metrics.areas(truth, held.predicted[:, c])
        rows.append(
            {
                "class": target.classes[c],
                "count": int(scores.support[c]),
                "precision": float(scores.precision[c]),
                "recall": float(scores.recall[c]),
                "f1": float(scores.f1[c]),
                "roc_auc": area,
                "average_precision": precision,
            }
        )
    return rows


def precision_recall_curves(
    target: Target, held: HeldOutValues
) -> tuple[tuple[str, float, list[tuple[float, float]]], ...]:
    """Curves of the most frequent class and of the rarest that occurs; three at most, the third all classes pooled."""
    if target.is_regression or not len(held.actual):
        return ()
    k = len(target.classes)
    some = slice(None) if held.predicted.size <= MAX_POOLED else slice(0, MAX_POOLED // k)
    probability = held.predicted[some]
    truth = (
        held.actual[some].astype(np.bool_) if target.multi_label else held.actual[some, None] == np.arange(k)[None, :]
    )
    support = truth.sum(0)
    order = [c for c in np.argsort(-support, kind="stable") if support[c]]
    if not order:
        return ()
    drawn = [("all classes", truth.ravel(), probability.ravel())]
    drawn += [(target.classes[c], truth[:, c], probability[:, c]) for c in dict.fromkeys((order[0], order[-1]))]
    return tuple(
        (name, metrics.average_precision(true, score) or 0.0, metrics.precision_recall_curve(true, score))
        for name, true, score in drawn
    )


def value_examples(graph: EncodedGraph, target: Target, held: HeldOutValues) -> Examples:
    """The rows with the smallest and the largest losses; of classes only right ones are among the former, for the
    smallest losses of a poor model are those of wrong answers, too."""
    loss = losses(target, held, held.predicted)
    best, worst = extremes(loss)
    if target.is_classification:
        right = np.setdiff1d(np.flatnonzero(_quality(target, held, held.predicted) == 1), worst)
        best = right[np.argsort(loss[right], kind="stable")][: len(best)]
    ids = [graph.node(end.label).ids for end in held.ends]

    def row(i: int) -> Example:
        keys = tuple(names[int(end.nodes[i])].as_py() for names, end in zip(ids, held.ends, strict=True))
        return Example(keys, _in_words(target, held.actual[i]), _prediction_in_words(target, held.predicted[i]))

    distinct = len({end.label for end in held.ends}) == len(held.ends)
    return Examples(
        tuple(end.label if distinct else end.role for end in held.ends),
        tuple(row(int(i)) for i in best),
        tuple(row(int(i)) for i in worst),
    )


def _in_words(target: Target, value: Any) -> str:
    if target.is_regression:
        return f"{float(value):.4g}"
    if target.multi_label:
        return ", ".join(target.classes[c] for c in np.flatnonzero(value)) or "none"
    return target.classes[int(value)]


def _prediction_in_words(target: Target, predicted: IndexArray | FloatArray) -> str:
    if target.is_regression:
        return f"{float(predicted):.4g}"
    if target.multi_label:
        said = np.flatnonzero(predicted >= metrics.THRESHOLD)
        return ", ".join(f"{target.classes[c]} {predicted[c]:.0%}" for c in said) or "none"
    best = int(np.argmax(predicted))
    return f"{target.classes[best]} {predicted[best]:.0%}"
