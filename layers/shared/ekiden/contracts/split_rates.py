"""Shares of training, validation and test edges: Neptune-Export takes them only if they add up to exactly 1.0."""

from __future__ import annotations

import math

DEFAULT_SPLIT_RATE = (0.8, 0.1, 0.1)
"""Train, validation, test. Neptune ML's own default (0.9, 0.1, 0.0) leaves nothing to test on."""

DEFAULT_LINK_SPLIT_RATE = (0.9, 0.05, 0.05)
"""Links: as Neptune ML's user guide has it."""


def exact_sum(rates: tuple[float, float, float]) -> float:
    """Left-to-right IEEE sum, as Neptune-Export computes it: it must be exactly 1.0."""
    return rates[0] + rates[1] + rates[2]


def advice_on_sum(rates: tuple[float, float, float]) -> str:
    """What to write instead of ``rates``, whose exact sum is not 1."""
    total = exact_sum(rates)
    message = f"adds up to {total!r} in floating point, Neptune-Export wants exactly 1.0"
    if abs(total - 1.0) >= 1e-9:
        return f"{message}; change the rates"
    return f"{message}; write {_dusted(rates)}, which means the same, or rates nearby that do, such as {_nearby(rates)}"


def _dusted(rates: tuple[float, float, float]) -> list[float]:
    """``rates`` with the last digits of one of them changed, if possible of the largest, so that they add up.

    The third alone always can: 1 minus the sum of the others, which lies within a factor of two of 1 or is small.
    """
    steps = [direction * count for count in range(1, 9) for direction in (1, -1)]
    for index in sorted(range(3), key=lambda i: -rates[i]):
        for step in steps:
            trial = list(rates)
            for _ in range(abs(step)):
                trial[index] = math.nextafter(trial[index], math.copysign(2.0, step))
            if exact_sum((trial[0], trial[1], trial[2])) == 1.0:
                return trial
    return [rates[0], rates[1], 1.0 - (rates[0] + rates[1])]


def _nearby(rates: tuple[float, float, float]) -> list[float]:
    """The nearest rates of two decimals that add up exactly; a part that is empty stays so, no other becomes so."""

    def distance(trial: tuple[float, float, float]) -> float:
        return sum(abs(a - b) for a, b in zip(trial, rates, strict=True))

    trials: list[tuple[float, float, float]] = [
        (a / 100, b / 100, (100 - a - b) / 100) for a in range(1, 101) for b in range(101 - a)
    ]
    exact = [t for t in trials if exact_sum(t) == 1.0 and [x > 0 for x in t] == [x > 0 for x in rates]]
    nearest = min(exact, key=distance) if exact else DEFAULT_SPLIT_RATE
    return list(nearest)
