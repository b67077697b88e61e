"""A small SVG plotter for the report: linear axes with round ticks, and colours that follow the page's light
or dark theme.

Charts are 440 units wide, so that their text stays readable on a phone. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 440.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 12.0, 44.0

Point = tuple[float, float]


def ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (`whole`: no fractions) between `low` and `high`, about so many."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    step = max(math.ceil(step), 1) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick's label."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Plot:
    """One chart. Data coordinates go in; `svg` gives the element."""

    def __init__(self, x: Point, y: Point, *, height: float = HEIGHT, left: float = LEFT) -> None:
        """`x`, `y`: lowest and highest value of either axis; widened if they are equal."""
        self._x, self._y = _widen(x), _widen(y)
        self._height, self._left = height, left
        self._parts: list[str] = []

    def px(self, x: float) -> float:
        """Horizontal position of data value `x`."""
        low, high = self._x
        return self._left + (x - low) / (high - low) * (WIDTH - self._left - RIGHT)

    def py(self, y: float) -> float:
        """Vertical position of data value `y`."""
        low, high = self._y
        return self._height - BOTTOM - (y - low) / (high - low) * (self._height - BOTTOM - TOP)

    def y_axis(self, label: str) -> None:
        """Grid lines and labels on the left."""
        for tick in ticks(*self._y):
            y = self.py(tick)
            self._parts.append(f'<path class="rule" d="M{self._left:.1f} {y:.1f}H{WIDTH - RIGHT:.1f}"/>')
            self._text(self._left - 7, y + 4, number(tick), "tick end")
        middle = (TOP + self._height - BOTTOM) / 2
        self._parts.append(
            f'<text class="label mid" transform="translate(13 {middle:.1f}) rotate(-90)">{escape(label)}</text>'
        )

    def x_axis(self, label: str, marks: Sequence[tuple[float, str]] | None = None, *, whole: bool = False) -> None:
        """Labels below: round (`whole`) numbers, or `marks` (position, text)."""
        base = self._height - BOTTOM
        self._parts.append(f'<path class="axis" d="M{self._left:.1f} {base:.1f}H{WIDTH - RIGHT:.1f}"/>')
        for at, text in marks if marks is not None else [(t, number(t)) for t in ticks(*self._x, 6, whole=whole)]:
            self._text(self.px(at), base + 16, text, "tick mid")
        self._text((self._left + WIDTH - RIGHT) / 2, self._height - 8, label, "label mid")

    def line(self, points: Sequence[Point], css: str) -> None:
        """A polyline."""
        if len(points) > 1:
            path = "L".join(f"{self.px(x):.1f} {self.py(y):.1f}" for x, y in points)
            self._parts.append(f'<path class="{css}" d="M{path}"/>')

    def level(self, y: float, css: str) -> None:
        """A horizontal line across the chart."""
        self._parts.append(f'<path class="{css}" d="M{self._left:.1f} {self.py(y):.1f}H{WIDTH - RIGHT:.1f}"/>')

    def area(self, points: Sequence[Point], css: str) -> None:
        """A closed shape."""
        path = "L".join(f"{self.px(x):.1f} {self.py(y):.1f}" for x, y in points)
        self._parts.append(f'<path class="{css}" d="M{path}Z"/>')

    def dot(self, x: float, y: float, css: str, title: str = "", radius: float = 4) -> None:
        """A dot with a tooltip."""
        inner = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<circle class="{css}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius:g}">{inner}</circle>'
        )

    def text(self, x: float, y: float, text: str, css: str, *, rise: float = 0, shift: float = 0) -> None:
        """Text at a data position, `rise` units above it and `shift` to the right."""
        self._text(self.px(x) + shift, self.py(y) - rise, text, css)

    def row_label(self, y: float, text: str) -> None:
        """Text left of the axis."""
        self._text(self._left - 8, self.py(y) + 4, text, "strong end")

    def bar(self, start: float, end: float, y: float, height: float, css: str, title: str) -> None:
        """A horizontal bar with its top at data value `y`, `height` in chart units, at least 2 wide."""
        x = self.px(start)
        width = max(self.px(end) - x, 2)
        self._parts.append(
            f'<rect class="{css}" x="{x:.1f}" y="{self.py(y):.1f}" width="{width:.1f}" height="{height:.1f}" rx="3">'
            f"<title>{escape(title)}</title></rect>"
        )

    def svg(self, description: str) -> str:
        """The element; `description` is for screen readers."""
        return (
            f'<svg viewBox="0 0 {WIDTH:.0f} {self._height:.0f}" role="img" aria-label="{escape(description)}">'
            + "".join(self._parts)
            + "</svg>"
        )

    def _text(self, x: float, y: float, text: str, css: str) -> None:
        self._parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')


def _widen(ends: Point) -> Point:
    low, high = ends
    pad = max(abs(low) * 0.01, 0.5)
    return (low, high) if high > low else (low - pad, high + pad)
