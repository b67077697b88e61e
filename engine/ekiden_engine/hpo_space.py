"""The hyperparameters of a configuration as Optuna's distributions, and its values as texts and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ekiden.contracts.hpo import AUTO, HpoParam

if TYPE_CHECKING:
    import optuna


def distribution(param: HpoParam) -> optuna.distributions.BaseDistribution:
    """What the sampler draws from; powers of two are drawn by their exponent."""
    import optuna

    if param.choices:
        if param.strategy == "power2":
            return optuna.distributions.IntDistribution(0, len(param.choices) - 1)  # their order tells something
        return optuna.distributions.CategoricalDistribution(param.choices)
    low, high = param.bounds or (0.0, 0.0)
    log = param.strategy == "log"
    if param.kind is int:
        step = 1 if log or param.step is None else max(1, round(param.step))
        return optuna.distributions.IntDistribution(int(low), int(high), log=log, step=step)
    return optuna.distributions.FloatDistribution(low, high, log=log, step=None if log else param.step)


def holds(param: HpoParam, text: str) -> bool:
    """Whether a search could choose this value."""
    if param.choices:
        return text in param.choices
    if text == AUTO or param.bounds is None:
        return False
    value, step = float(text), param.step if param.strategy == "linear" else None
    low, high = param.bounds
    on_grid = step is None or abs((value - low) / step - round((value - low) / step)) < 1e-9
    return low <= value <= high and on_grid


def coded(param: HpoParam, text: str) -> Any:
    """A value's text as its distribution has it."""
    if param.choices:
        return param.choices.index(text) if param.strategy == "power2" else text
    return int(float(text)) if param.kind is int else float(text)


def decoded(param: HpoParam, value: Any) -> str:
    """What the distribution drew, as text."""
    if param.choices:
        return param.choices[value] if param.strategy == "power2" else str(value)
    return param.text(value)
