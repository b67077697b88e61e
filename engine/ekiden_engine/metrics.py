"""Figures of merit of predicted values: regression, one class out of k, several classes at once.

Every function takes plain arrays and returns JSON-ready figures; a figure that is not defined (no row, labels
all alike, a class without an example) is None, never NaN. Ranking figures are in `metrics_ranking`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Figures = dict[str, float | int | None]
"""Name of a figure to its value; always with `count`, the number of rows it is about."""

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]
DoubleArray = npt.NDArray[np.float64]

SMALLEST = 1e-7
"""Probabilities are held at least this far from 0 and 1 in the log loss: float32 rounds finer ones to 0 or 1."""
THRESHOLD = 0.5
"""Probability from which a class of a multi-label target counts as predicted (Neptune ML's default too)."""


def regression(actual: FloatArray, predicted: FloatArray) -> Figures:
    """RMSE, MAE in label units, and R² = 1 - sum of squared errors / sum of squared deviations; arrays [m]."""
    if not len(actual):
        return {"rmse": None, "mae": None, "r2": None, "count": 0}
    error = predicted.astype(np.float64) - actual
    spread = float(np.sum((actual.astype(np.float64) - actual.mean(dtype=np.float64)) ** 2))
    alike = float(actual.min()) == float(actual.max())  # then the spread is dust at best
    return {
        "rmse": math.sqrt(float(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": None if alike or not spread > 0 else 1 - float(np.sum(error**2)) / spread,
        "count": len(actual),
    }


def classification(actual: npt.NDArray[np.int32], probability: FloatArray) -> Figures:
    """Figures of one class out of k: `actual` int32 [m], `probability` float32 [m, k], rows summing to 1.

    The predicted class is the most probable one. Macro means are over the classes that occur among actual or
    predicted ones, as scikit-learn takes them; ROC AUC and average precision are one class against the rest,
    averaged over the classes that have an example and a counter-example.
    """
    count, k = len(actual), probability.shape[1]
    if not count:
        return dict.fromkeys(_CLASS_FIGURES, None) | {"count": 0}
    matrix = confusion(actual, probability.argmax(1), k)
    scores = class_scores(matrix)
    present = (matrix.sum(0) + matrix.sum(1)) > 0
    ranked = [areas(actual == c, probability[:, c]) for c in np.flatnonzero(matrix.sum(1))]
    truth = probability[np.arange(count), actual].astype(np.float64)
    accuracy = float(np.trace(matrix) / count)
    return {
        "accuracy": accuracy,
        "precision_macro": float(scores.precision[present].mean()),
        "recall_macro": float(scores.recall[present].mean()),
        "f1_macro": float(scores.f1[present].mean()),
        "precision_micro": accuracy,  # with one class per row, a false positive is another class's false negative
        "recall_micro": accuracy,
        "f1_micro": accuracy,
        "roc_auc": _mean([area for area, _ in ranked]),
        "average_precision": _mean([precision for _, precision in ranked]),
        "log_loss": float(-np.log(np.clip(truth, SMALLEST, 1.0)).mean()),
        "ece": reliability(probability.max(1), probability.argmax(1) == actual)[1],
        "count": count,
    }


def multi_label(actual: npt.NDArray[np.uint8], probability: FloatArray) -> Figures:
    """Figures of several classes at once: `actual` 0/1 uint8 [m, k], `probability` float32 [m, k], independent.

    A class counts as predicted from `THRESHOLD` on. `accuracy` is the share of rows with exactly the right set;
    micro figures pool all classes, macro ones average over the classes that occur among actual or predicted ones;
    `log_loss` is the mean over rows and classes.
    """
    count = len(actual)
    if not count:
        return dict.fromkeys(_CLASS_FIGURES, None) | {"count": 0}
    truth, said = actual.astype(np.bool_), probability >= THRESHOLD
    scores = multi_label_scores(truth, said)
    hit, claimed, wanted = (int(x.sum()) for x in (truth & said, said, truth))
    present = (truth | said).any(0)
    ranked = [areas(truth[:, c], probability[:, c]) for c in np.flatnonzero(truth.any(0))]
    held = np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return {
        "accuracy": float((truth == said).all(1).mean()),
        "precision_macro": float(scores.precision[present].mean()) if present.any() else None,
        "recall_macro": float(scores.recall[present].mean()) if present.any() else None,
        "f1_macro": float(scores.f1[present].mean()) if present.any() else None,
        "precision_micro": hit / claimed if claimed else 0.0,
        "recall_micro": hit / wanted if wanted else 0.0,
        "f1_micro": 2 * hit / (claimed + wanted) if claimed + wanted else None,
        "roc_auc": _mean([area for area, _ in ranked]),
        "average_precision": _mean([precision for _, precision in ranked]),
        "log_loss": float(-np.where(truth, np.log(held), np.log1p(-held)).mean()),
        "ece": reliability(probability.ravel(), truth.ravel())[1],
        "count": count,
    }


_CLASS_FIGURES = (
    "accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_micro", "recall_micro", "f1_micro",
    "roc_auc", "average_precision", "log_loss", "ece",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Precision, recall, F1 (0 where undefined) and `support` (rows that truly are of the class), each [k]."""

    precision: DoubleArray
    recall: DoubleArray
    f1: DoubleArray
    support: CountArray


def class_scores(matrix: CountArray) -> ClassScores:
    """Scores of each class from a confusion matrix [k, k], rows actual, columns predicted."""
    return _scores(np.diag(matrix), matrix.sum(0), matrix.sum(1))


def multi_label_scores(truth: BoolArray, said: BoolArray) -> ClassScores:
    """Scores of each class from truth and prediction, bool [m, k]."""
    return _scores((truth & said).sum(0), said.sum(0), truth.sum(0))


def _scores(hit: CountArray, claimed: CountArray, wanted: CountArray) -> ClassScores:
    precision = hit / np.maximum(claimed, 1)
    recall = hit / np.maximum(wanted, 1)
    return ClassScores(precision, recall, 2 * hit / np.maximum(claimed + wanted, 1), wanted.astype(np.int64))


def confusion(actual: npt.NDArray[np.int32], predicted: npt.NDArray[np.integer], k: int) -> CountArray:
    """How often class i (row) was predicted as class j (column), int64 [k, k]."""
    return np.bincount(actual.astype(np.int64) * k + predicted, minlength=k * k).reshape(k, k)


def roc_auc(positive: BoolArray, score: FloatArray) -> float | None:
    """Probability that a random positive scores above a random negative, ties half; arrays [m].

    Mann and Whitney 1947. None without both positives and negatives.
    """
    return areas(positive, score)[0]


def average_precision(positive: BoolArray, score: FloatArray) -> float | None:
    """Sum over thresholds of (recall gained) times precision; rows of equal score enter together.

    None without positives.
    """
    return areas(positive, score)[1]


def areas(positive: BoolArray, score: FloatArray) -> tuple[float | None, float | None]:
    """`roc_auc` and `average_precision`, from one sort."""
    hits, seen = _thresholds(positive, score)
    if not len(hits) or not hits[-1]:
        return None, None
    gained = np.diff(hits, prepend=0)
    precision = float((gained * hits / seen).sum() / hits[-1])
    misses = seen - hits
    if not misses[-1]:
        return None, precision
    lost = np.diff(misses, prepend=0)
    # Every positive of a group is above the negatives that come after it, and level with its own group's.
    above = gained * (misses[-1] - misses + 0.5 * lost)
    return float(above.sum() / (hits[-1] * misses[-1])), precision


def _thresholds(positive: BoolArray, score: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Per distinct score from the highest: positives at or above it, and rows at or above it.

    The order of a float's bits, read as an integer, is its order among floats of the same sign. With the label as the
    lowest bit below it, one sort of integers does what an argsort with two lookups does, in a tenth of the time. NaN
    counts as the lowest score.
    """
    bits = (np.where(np.isnan(score), -np.inf, score).astype(np.float32) + np.float32(0)).view(np.int32)
    keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64) * 2 + positive
    keys = np.sort(keys)[::-1]
    value = keys >> 1
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True)) if len(keys) else np.empty(0, np.int64)
    return np.cumsum(keys & 1)[last].astype(np.float64), (last + 1).astype(np.float64)


def precision_recall_curve(positive: BoolArray, score: FloatArray, points: int = 100) -> list[tuple[float, float]]:
    """(recall, precision) from the strictest threshold to the laxest, at most about `points` of them.

    Empty without positives.
    """
    hits, seen = _thresholds(positive, score)
    if not len(hits) or not hits[-1]:
        return []
    recall, precision = hits / hits[-1], hits / seen
    # Evenly spaced recalls, not thresholds: a curve of a million rows must not be all about its tail.
    chosen = np.unique(np.append(np.searchsorted(recall, np.linspace(0, 1, points), "left"), len(recall) - 1))
    return [(float(recall[i]), float(precision[i])) for i in chosen]


def reliability(probability: FloatArray, came_true: BoolArray, bins: int = 10) -> tuple[list[Figures], float | None]:
    """Predicted probability against observed frequency, in equal-width bins; and the expected calibration error.

    Each bin that has rows is {low, high, count, predicted, actual}. The error is the mean of |predicted - actual|
    over bins, weighted by their rows (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017).
    """
    if not len(probability):
        return [], None
    which = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    predicted = np.bincount(which, probability, bins)
    actual = np.bincount(which, came_true, bins)
    rows: list[Figures] = [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "count": int(count[b]),
            "predicted": float(predicted[b] / count[b]),
            "actual": float(actual[b] / count[b]),
        }
        for b in np.flatnonzero(count)
    ]
    return rows, float(np.abs(predicted - actual).sum() / len(probability))


def deciles(actual: FloatArray, predicted: FloatArray, parts: int = 10) -> list[Figures]:
    """Mean prediction against mean actual value in tenths of the rows, from the lowest predictions to the highest.

    Each is {count, predicted, actual}; fewer than `parts` rows give one each. Equal predictions stay together.
    """
    if not len(actual):
        return []
    order = np.argsort(predicted, kind="stable")
    ordered = predicted[order]
    wanted = np.linspace(0, len(order), min(parts, len(order)) + 1).astype(np.int64)[1:-1]
    edges = np.unique(np.concatenate(([0], np.searchsorted(ordered, ordered[wanted], "left"), [len(order)])))
    return [
        {
            "count": int(end - start),
            "predicted": float(ordered[start:end].mean(dtype=np.float64)),
            "actual": float(actual[order[start:end]].mean(dtype=np.float64)),
        }
        for start, end in pairwise(edges)
    ]


def degree_bucket(degree: CountArray) -> CountArray:
    """Bucket of a degree: 0, 1, then widths that double (2-3, 4-7, …); int64 [m]."""
    return np.where(degree > 0, np.floor(np.log2(np.maximum(degree, 1))) + 1, 0).astype(np.int64)


def bucket_name(bucket: int) -> str:
    """`0`, `1`, `2-3`, … `512-1023`, `1k-2k`, in which k is 1,024."""
    if bucket <= 1:
        return str(bucket)
    low, high = 2 ** (bucket - 1), 2**bucket
    return f"{low}-{high - 1}" if high <= 1024 else f"{low // 1024}k-{high // 1024}k"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
