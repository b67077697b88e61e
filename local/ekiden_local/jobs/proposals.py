"""Which hyperparameters a tuning job's next training job gets: by chance, by Optuna, or one combination after another.

Nothing is kept between two proposals: each follows from the request, the results so far and the number of the training
job, so a restarted service proposes what the one before it would have.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import validation

_KINDS = {"IntegerParameterRanges": "integer", "ContinuousParameterRanges": "continuous"}
_STARTUP = 4  # training jobs by chance before Optuna has something to go by
_WIDE = 100.0  # ScalingType Auto: a range over two orders of magnitude is searched by its logarithm


@dataclass(frozen=True, slots=True)
class Result:
    """What a training job was given, and the value it came to (None: none, or not yet)."""

    hyperparameters: Mapping[str, str]
    value: float | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One range of the request."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    scaling: str = "Linear"
    values: tuple[str, ...] = ()


def parameters(config: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The ranges of a HyperParameterTuningJobConfig. Raises ApiError for ranges that hold nothing."""
    ranges = config.get("ParameterRanges", {})
    if ranges.get("AutoParameters"):
        raise validation("AutoParameters are not provided by the local job service: give ranges")
    found = [
        Parameter(item["Name"], "categorical", values=tuple(dict.fromkeys(item["Values"])))
        for item in ranges.get("CategoricalParameterRanges", [])
    ]
    for key, kind in _KINDS.items():
        found += [_interval(item, kind) for item in ranges.get(key, [])]
    names = [parameter.name for parameter in found]
    if not names:
        raise validation("At least one hyperparameter range must be given in hyperParameterTuningJobConfig")
    if len(set(names)) < len(names):
        raise validation("Hyperparameter names in parameterRanges must be unique")
    if config["Strategy"] == "Grid" and any(parameter.kind != "categorical" for parameter in found):
        raise validation("Grid search takes categorical hyperparameter ranges only")
    return tuple(found)


def combinations(found: Sequence[Parameter]) -> int:
    """How many training jobs a grid search has."""
    return math.prod(len(parameter.values) for parameter in found)


def propose(
    config: Mapping[str, Any], found: Sequence[Parameter], results: Sequence[Result], number: int, name: str
) -> dict[str, str]:
    """Hyperparameters of training job `number` (from 0) of tuning job `name`."""
    if config["Strategy"] == "Grid":
        grid = itertools.product(*(parameter.values for parameter in found))
        chosen = next(itertools.islice(grid, number, None))
        return {parameter.name: value for parameter, value in zip(found, chosen, strict=True)}
    import optuna  # here, because the service starts in a tenth of the time without it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = config.get("RandomSeed", int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
    seed = (seed + number) % 2**32
    bayesian = config["Strategy"] == "Bayesian"
    sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        if bayesian
        else optuna.samplers.RandomSampler(seed=seed)
    )
    more_is_better = config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
    study = optuna.create_study(direction="maximize" if more_is_better else "minimize", sampler=sampler)
    distributions = {parameter.name: _distribution(parameter) for parameter in found}
    for result in results if bayesian else ():
        if result.value is None:
            continue
        params = {parameter.name: _coded(parameter, result.hyperparameters[parameter.name]) for parameter in found}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=result.value))
    trial = study.ask(distributions)
    return {parameter.name: _text(parameter, trial.params[parameter.name]) for parameter in found}


def _interval(item: Mapping[str, Any], kind: str) -> Parameter:
    name, scaling = item["Name"], item.get("ScalingType", "Auto")
    try:
        low, high = float(item["MinValue"]), float(item["MaxValue"])
    except ValueError:
        raise validation(
            f"The range of hyperparameter {name[:64]} must have numbers as MinValue and MaxValue"
        ) from None
    whole = kind == "continuous" or (low.is_integer() and high.is_integer())
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and whole):
        raise validation(f"The range of hyperparameter {name[:64]} must be {kind} with MinValue <= MaxValue")
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= _WIDE else "Linear"
    if scaling == "Logarithmic" and low <= 0:
        raise validation(f"Logarithmic scaling of hyperparameter {name[:64]} needs a MinValue above 0")
    if scaling == "ReverseLogarithmic" and (kind == "integer" or not 0 <= low <= high < 1):
        raise validation(f"Reverse logarithmic scaling of hyperparameter {name[:64]} needs a range within [0, 1)")
    return Parameter(name, kind, low, high, scaling)


def _distribution(parameter: Parameter) -> Any:
    import optuna

    if parameter.kind == "categorical":
        return optuna.distributions.CategoricalDistribution(parameter.values)
    log = parameter.scaling == "Logarithmic"
    if parameter.kind == "integer":
        return optuna.distributions.IntDistribution(int(parameter.low), int(parameter.high), log=log)
    if parameter.scaling == "ReverseLogarithmic":
        return optuna.distributions.FloatDistribution(1 - parameter.high, 1 - parameter.low, log=True)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=log)


def _coded(parameter: Parameter, text: str) -> Any:
    if parameter.kind == "categorical":
        return text
    if parameter.kind == "integer":
        return int(text)
    distribution = _distribution(parameter)
    value = 1 - float(text) if parameter.scaling == "ReverseLogarithmic" else float(text)
    return min(max(value, distribution.low), distribution.high)


def _text(parameter: Parameter, value: Any) -> str:
    if parameter.scaling == "ReverseLogarithmic":
        value = 1 - value
    return str(value) if parameter.kind != "continuous" else repr(float(value))
