"""The report's figures of an evaluation: calibration, figures by degree, confusion, precision and recall, hits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ekiden_engine.evaluation_words import baseline_name, figure_name
from ekiden_engine.metrics import DoubleArray
from ekiden_engine.report_svg import WIDTH, Plot

FEW = 30
"""A figure over fewer rows than this is drawn hollow: it says little."""
NOT_SERIES = frozenset({"degree", "count"})
SERIES = ("a", "b", "base")
"""Colours, in the order in which series are drawn: the model's first."""
MAX_NAME = 14
"""Characters of a class name beside the confusion matrix."""


def degree_chart(table: Mapping[str, Any], model: str) -> str:
    """A figure by number of training edges (`by_degree` of evaluation.json), the model's and a baseline's."""
    buckets: Sequence[Mapping[str, Any]] = table["buckets"]
    if not buckets:
        return ""
    metric = figure_name(table["metric"])
    names = [name for name in buckets[0] if name not in NOT_SERIES]
    highest = max(float(bucket[name]) for bucket in buckets for name in names)
    top = highest * 1.08 or 1.0
    plot = Plot((-0.5, len(buckets) - 0.5), (0, top if table["metric"] == "rmse" else min(top, 1.04)))
    plot.y_axis(metric)
    step = max(1, -(-len(buckets) // 6))
    marks = [(float(i), str(bucket["degree"])) for i, bucket in enumerate(buckets) if i % step == 0]
    edges = "edges" if table["role"] == "node" else "training edges"
    plot.x_axis(f"{edges} of the {table['end']}", marks)
    for css, name in reversed(list(zip(("a", "base"), names, strict=False))):
        plot.line([(i, float(bucket[name])) for i, bucket in enumerate(buckets)], f"line {css}")
        for i, bucket in enumerate(buckets):
            few = bucket["count"] < FEW
            shown = model if name == "model" else baseline_name(name)
            title = f"{shown}: {metric} {bucket[name]:.4f} on {bucket['count']:,} rows ({bucket['degree']} {edges})"
            dot = f"fill-card ring-{css}" if few else f"fill-{css}"
            plot.dot(i, float(bucket[name]), dot, title, radius=3 if few else 4)
    return plot.svg(f"{metric} by number of {edges} of the {table['end']}")


def calibration_chart(bins: Sequence[Mapping[str, Any]], *, probability: bool) -> str:
    """Mean prediction against mean outcome per bin; on the diagonal a prediction means what it says."""
    if not bins:
        return ""
    points = [(float(b["predicted"]), float(b["actual"])) for b in bins]
    if probability:
        low, high = 0.0, 1.0
    else:
        both = [v for point in points for v in point]
        pad = (max(both) - min(both)) * 0.06 or max(abs(both[0]) * 0.04, 0.5)
        low, high = min(both) - pad, max(both) + pad
    plot = Plot((low, high), (low, high))
    plot.y_axis("share that is so" if probability else "mean actual value")
    plot.x_axis("predicted probability" if probability else "mean prediction")
    plot.line([(low, low), (high, high)], "line b dashed")
    plot.line(points, "line a")
    for (x, y), found in zip(points, bins, strict=True):
        few = found["count"] < FEW
        title = f"predicted {x:.3g}, actual {y:.3g}, {found['count']:,} of them"
        plot.dot(x, y, "fill-card ring-a" if few else "fill-a", title, radius=3 if few else 4)
    return plot.svg("Calibration: mean prediction against mean outcome")


def precision_recall_chart(curves: Sequence[tuple[str, float, list[tuple[float, float]]]]) -> str:
    """Precision against recall, a line per class."""
    drawn = [(css, curve) for css, (_, _, curve) in zip(SERIES, curves, strict=False) if curve]
    if not drawn:
        return ""
    plot = Plot((0, 1), (0, 1.04))
    plot.y_axis("precision")
    plot.x_axis("recall")
    for css, curve in reversed(drawn):
        plot.line(curve, f"line {css}")
    return plot.svg("Precision against recall")


def hits_chart(ranks: Mapping[str, DoubleArray], model: str) -> str:
    """Share of truths within the first k of the list, k on a logarithmic axis; `ranks` of the model first."""
    longest = max((float(r.max()) for r in ranks.values() if len(r)), default=1.0)
    if longest <= 1 and not any(len(r) for r in ranks.values()):
        return ""
    decades = max(math.ceil(math.log10(longest)), 1)
    lengths = np.unique(np.round(np.logspace(0, decades, 12 * decades + 1)))
    plot = Plot((0, decades), (0, 1.04))
    plot.y_axis("share found")
    plot.x_axis("length of the list", [(float(d), f"{10**d:,}") for d in range(decades + 1)])
    series = list(zip(SERIES, ranks.items(), strict=False))
    for css, (name, found) in reversed(series):
        ordered = np.sort(found)
        share = np.searchsorted(ordered, lengths, "right") / max(len(ordered), 1)
        plot.line([(math.log10(k), float(y)) for k, y in zip(lengths, share, strict=True)], f"line {css}")
        for k in (1, 10, 100):
            if k <= 10**decades:
                at = float(np.searchsorted(ordered, k, "right") / max(len(ordered), 1))
                shown = model if name == "model" else baseline_name(name)
                plot.dot(math.log10(k), at, f"fill-{css}", f"{shown}: {at:.1%} within the first {k}", radius=3)
    return plot.svg("Share of held-out links found, by length of the list")


def confusion_chart(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Actual classes as rows, predicted ones as columns; the shade is the share of the row."""
    k = len(matrix)
    if not k or not any(map(any, matrix)):
        return ""
    longest = max(len(_cut(name)) for name in classes)
    left, top = 30.0 + 7.4 * longest, 12.0
    cell = (WIDTH - left - 6) / k
    height = min(cell, 34.0)
    bottom = top + height * k
    size = min(height * 0.5, 12.5)
    parts = []
    for i, (row, name) in enumerate(zip(matrix, classes, strict=True)):
        total = sum(row)
        y = top + i * height
        named = f'class="strong end" style="font-size:{min(height * 0.8, 13):.1f}px"'
        parts.append(f'<text {named} x="{left - 7:.1f}" y="{y + height / 2 + 4:.1f}">{_short(name)}</text>')
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            css = "fill-a" if i == j else "fill-b"
            title = f"{name} predicted as {classes[j]}: {count:,} of {total:,}"
            parts.append(
                f'<rect class="{css} cell" x="{left + j * cell:.1f}" y="{y:.1f}" width="{cell:.1f}" '
                f'height="{height:.1f}" fill-opacity="{share:.3f}"><title>{escape(title)}</title></rect>'
            )
            if count and cell > 0.62 * size * len(f"{count:,}"):
                tone = "on-fill" if share > 0.55 else "strong"
                parts.append(
                    f'<text class="{tone} mid" style="font-size:{size:.1f}px" x="{left + (j + 0.5) * cell:.1f}" '
                    f'y="{y + height / 2 + size * 0.36:.1f}">{count:,}</text>'
                )
    slant = cell < 60
    for j, name in enumerate(classes):
        x, y = left + (j + 0.5) * cell, bottom + 16
        turned = f'class="end" transform="translate({x + 4:.1f} {y - 4:.1f}) rotate(-50)"'
        level = f'class="mid" x="{x:.1f}" y="{y:.1f}"'
        parts.append(f"<text {turned if slant else level}>{_short(name)}</text>")
    under = bottom + (10 + 5.8 * longest if slant else 24)
    parts.append(f'<text class="label mid" x="{(left + WIDTH) / 2:.1f}" y="{under + 14:.1f}">predicted</text>')
    middle = (top + bottom) / 2
    parts.append(f'<text class="label mid" transform="translate(10 {middle:.1f}) rotate(-90)">actual</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {under + 22:.0f}" role="img" aria-label="Confusion matrix">'
        + "".join(parts)
        + "</svg>"
    )


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _short(name: str) -> str:
    return escape(_cut(name))
