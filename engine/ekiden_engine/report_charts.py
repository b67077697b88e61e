"""The report's charts: learning curve, predictions per actual value, timeline of the stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ekiden_engine.evaluation_words import figure_name
from ekiden_engine.models.base import Curve, FloatArray
from ekiden_engine.report_svg import BOTTOM, TOP, Plot, number, ticks
from ekiden_engine.report_timeline import StageSpan

MAX_VIOLINS = 10
KDE_POINTS = 64
ERRORS = frozenset({"rmse", "mae"})
"""Metrics for which a curve's training values are in the same units as the validation values."""
MIN_VIOLIN = 5
"""Fewer predictions than this are drawn as dots: a density of three points is fiction."""


def learning_curve(curves: Sequence[Curve], level: float | None = None) -> str:
    """The validation metric per epoch of the kept members, a dot where each was best; `level`: a baseline's value.

    Training errors are drawn in the same units; a training loss, in units of its own, is drawn to its own scale.
    """
    kept = [c for c in curves if c.kept and c.points]
    if not kept:
        return ""
    errors = all(c.metric in ERRORS for c in kept)
    values = [v for c in kept for p in c.points for v in ((p.train, p.valid) if errors else (p.valid,))]
    values = [v for v in (*values, *([] if level is None else [level])) if math.isfinite(v)] or [0.0]
    pad = (max(values) - min(values)) * 0.06 or 0.01
    last = max(c.points[-1].epoch for c in kept)
    low, high = max(min(values) - pad, 0.0), max(values) + pad  # neither an error nor a score is ever below 0
    plot = Plot((1, max(last, 2)), (low, high))
    name = figure_name(kept[0].metric)
    plot.y_axis(name)
    plot.x_axis("epoch", whole=True)
    if level is not None:
        plot.level(level, "line base dashed")
    for curve in kept:
        plot.line(_finite([(p.epoch, p.train) for p in curve.points], None if errors else (low, high)), "line b thin")
    for curve in kept:
        plot.line(_finite([(p.epoch, p.valid) for p in curve.points]), "line a")
        title = f"seed {curve.seed}: best at epoch {curve.best_epoch}, valid {name} {curve.best_valid:.4f}"
        if math.isfinite(curve.best_valid):
            plot.dot(curve.points[curve.best_epoch - 1].epoch, curve.best_valid, "fill-a ring", title)
    return plot.svg(f"Learning curve: training and validation {name} per epoch")


def _finite(points: list[tuple[float, float]], scale: tuple[float, float] | None = None) -> list[tuple[float, float]]:
    """The points that can be drawn; `scale`: stretched so that they fill the range."""
    drawn = [(x, y) for x, y in points if math.isfinite(y)]
    if scale is None or not drawn:
        return drawn
    low, high = min(y for _, y in drawn), max(y for _, y in drawn)
    span = (high - low) or 1.0
    return [(x, scale[0] + (0.04 + 0.92 * (y - low) / span) * (scale[1] - scale[0])) for x, y in drawn]


def violins(actual: FloatArray, predicted: FloatArray) -> str:
    """The distribution of predictions for every rating; a tick marks where a perfect model would put all of
    it."""
    groups = _groups(actual, predicted)
    if not groups:
        return ""
    low = float(min(actual.min(), predicted.min()))
    high = float(max(actual.max(), predicted.max()))
    pad = (high - low) * 0.04 or max(abs(high) * 0.04, 0.5)
    plot = Plot((-0.6, len(groups) - 0.4), (low - pad, high + pad))
    plot.y_axis("predicted")
    plot.x_axis("actual", [(i, label) for i, (label, _, _) in enumerate(groups)])
    for i, (label, centre, values) in enumerate(groups):
        median = float(np.median(values))
        if len(values) >= MIN_VIOLIN and float(values.std()) > 0:
            at, width = _density(values)
            right = [(i + 0.42 * w, y) for y, w in zip(at, width, strict=True)]
            plot.area([*right, *((2 * i - x, y) for x, y in reversed(right))], "violin")
        else:
            for value in values[:MIN_VIOLIN]:
                plot.dot(i, float(value), "fill-a", radius=2)
        plot.line([(i - 0.42, centre), (i + 0.42, centre)], "line b")
        title = f"actual {label}: median prediction {median:.3g}, {len(values):,} rows"
        plot.dot(i, median, "fill-card ring-a", title, radius=3.5)
    return plot.svg("Distribution of predictions for each actual value")


def timeline(spans: Sequence[StageSpan]) -> str:
    """The stages as bars from the start of the first to now."""
    if not spans:
        return ""
    start = min(s.started_at for s in spans)
    total = max((s.ended_at - start).total_seconds() for s in spans)
    row, count = 34.0, len(spans)
    plot = Plot((0, max(total, 0.001) * 1.12), (0, count), height=TOP + BOTTOM + row * count, left=70)
    plot.x_axis("seconds since the first stage began")
    for i, span in enumerate(spans):
        begin, top = (span.started_at - start).total_seconds(), count - i
        bad = span.status.upper() in {"FAILED", "CANCELLED", "TIMED_OUT"}
        lasted = span_duration(span)
        title = f"{span.name}: {span.status.lower()}, {lasted}"
        plot.bar(begin, begin + span.seconds, top - 0.15, row * 0.6, "fill-bad" if bad else "fill-a", title)
        plot.row_label(top - 0.45, span.name)
        plot.text(begin + span.seconds, top - 0.45, lasted, "note", rise=-4, shift=6)
    return plot.svg("Timeline of the stages")


def span_duration(span: StageSpan) -> str:
    """How long a stage ran, no finer than it was measured: the stages before come in whole seconds."""
    measured = span.started_at.microsecond or span.ended_at.microsecond
    if measured or span.seconds >= 10:
        return duration(span.seconds)
    return f"{span.seconds:.0f} s" if span.seconds else "under 1 s"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _groups(actual: FloatArray, predicted: FloatArray) -> list[tuple[str, float, FloatArray]]:
    """Label, value and predictions of each group of edges with (nearly) the same actual value."""
    if not len(actual):
        return []
    levels = np.unique(actual)
    if len(levels) <= MAX_VIOLINS:
        return [(number(float(v)), float(v), predicted[actual == v]) for v in levels]
    low, high = float(levels[0]), float(levels[-1])
    rounds = [ticks(low, high, about) for about in range(4, 2 * MAX_VIOLINS)]
    centres = np.array(max((r for r in rounds if len(r) <= MAX_VIOLINS), key=len))
    index = np.digitize(actual, (centres[:-1] + centres[1:]) / 2)
    return [(number(float(c)), float(c), predicted[index == i]) for i, c in enumerate(centres) if (index == i).any()]


def _density(values: FloatArray) -> tuple[list[float], list[float]]:
    """Gaussian kernel density (Silverman's rule), scaled so that its peak is 1."""
    if len(values) > 4000:  # the shape does not change beyond that
        values = np.sort(values)[np.linspace(0, len(values) - 1, 4000).astype(np.int64)]
    spread = float(values.std())
    quartiles = np.percentile(values, [25, 75])
    narrow = min(spread, float(quartiles[1] - quartiles[0]) / 1.34) or spread
    bandwidth = 0.9 * narrow * len(values) ** -0.2
    at = np.linspace(float(values.min()), float(values.max()), KDE_POINTS)
    density = np.exp(-0.5 * ((at[:, None] - values[None, :]) / bandwidth) ** 2).sum(1)
    return at.tolist(), (density / density.max()).tolist()
