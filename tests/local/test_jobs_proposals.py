"""What tuning jobs propose: within the ranges, by their scaling, the same for the same seed."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from ekiden_local.jobs.errors import ApiError
from ekiden_local.jobs.proposals import Result, parameters, propose
from ekiden_local.jobs.tuning import metrics_of


def config(strategy: str = "Random", **ranges: Any) -> dict[str, Any]:
    objective = {"Type": "Minimize", "MetricName": "loss"}
    return {"Strategy": strategy, "HyperParameterTuningJobObjective": objective, "ParameterRanges": ranges}


def interval(low: float, high: float, scaling: str = "Linear") -> dict[str, str]:
    return {"Name": "x", "MinValue": str(low), "MaxValue": str(high), "ScalingType": scaling}


def drawn(given: dict[str, Any], count: int = 60) -> list[float]:
    return [float(propose(given, parameters(given), [], number, "job")["x"]) for number in range(count)]


@pytest.mark.parametrize(
    ("kind", "low", "high", "scaling", "middle"),
    [
        ("Continuous", 0.0, 1.0, "Linear", (0.3, 0.7)),
        ("Continuous", 0.0001, 1.0, "Logarithmic", (0.001, 0.1)),
        ("Continuous", 0.0001, 1.0, "Auto", (0.001, 0.1)),
        ("Continuous", 0.0, 0.9999, "ReverseLogarithmic", (0.9, 0.999)),
        ("Integer", 1, 9, "Auto", (3, 7)),
        ("Integer", 1, 10000, "Logarithmic", (20, 500)),
    ],
)
def test_values_lie_in_the_range_and_where_its_scaling_puts_them(
    kind: str, low: float, high: float, scaling: str, middle: tuple[float, float]
) -> None:
    ranges: dict[str, Any] = {f"{kind}ParameterRanges": [interval(low, high, scaling)]}
    values = drawn(config(**ranges))
    assert all(low <= value <= high for value in values)
    assert middle[0] <= statistics.median(values) <= middle[1]
    assert kind != "Integer" or all(value.is_integer() for value in values)


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_same_seed_and_results_give_the_same_proposal(strategy: str) -> None:
    given = config(strategy, ContinuousParameterRanges=[interval(0, 1)]) | {"RandomSeed": 3}
    results = [Result({"x": str(n / 10)}, float(n)) for n in range(9)]
    found = parameters(given)
    assert propose(given, found, results, 9, "a") == propose(given, found, results, 9, "b")
    assert propose(given, found, results, 9, "a") != propose(given, found, results, 10, "a")


def test_a_value_from_outside_the_range_does_not_upset_the_search() -> None:
    given = config("Bayesian", ContinuousParameterRanges=[interval(0, 0.9999, "ReverseLogarithmic")])
    results = [Result({"x": "0.9999"}, 1.0), Result({"x": "0.0"}, 2.0), Result({"x": "0.5"}, None)]
    assert 0 <= float(propose(given, parameters(given), results, 3, "a")["x"]) <= 0.9999


@pytest.mark.parametrize(
    "given",
    [
        interval(0, 1, "Logarithmic"),
        interval(0, 1, "ReverseLogarithmic"),
        interval(2, 1),
        {**interval(0, 1), "MaxValue": "many"},
        {**interval(0, 1), "MaxValue": "inf"},
    ],
)
def test_ranges_that_hold_nothing_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ApiError, match="hyperparameter x"):
        parameters(config(ContinuousParameterRanges=[given]))


def test_the_last_value_in_a_log_counts_and_what_is_no_number_does_not(tmp_path: Any) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"loss=3\nloss=1.5 mrr=0.25\nloss=nothing\n\xff\xfe\nacc=.\n")
    definitions = [{"Name": n, "Regex": f"{n}=([0-9.a-z]+)"} for n in ("loss", "mrr", "acc", "f1")]
    assert metrics_of(definitions, log) == {"loss": 1.5, "mrr": 0.25}
    assert metrics_of(definitions, tmp_path / "absent") == {}
