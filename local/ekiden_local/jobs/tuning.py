"""Tuning jobs as requests: what is refused, what a training job of it is asked for, and what its log says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from .errors import validation
from .proposals import combinations, parameters
from .records import TuningRecord
from .training import Training

OBJECTIVE_KEY = "_tuning_objective_metric"
"""The hyperparameter by which SageMaker tells a training job what it is tuned for."""
_STRATEGIES = ("Bayesian", "Random", "Grid")
_READ = 8 * 1024 * 1024  # bytes of a log's end in which a metric is looked for


def check(request: dict[str, Any]) -> None:
    """Refuse what this service cannot do, and training jobs that it would refuse. Raises ApiError."""
    for name in ("TrainingJobDefinitions", "WarmStartConfig", "Autotune"):
        if request.get(name):
            raise validation(f"{name} is not provided by the local job service: give one TrainingJobDefinition")
    definition, config = request.get("TrainingJobDefinition"), request["HyperParameterTuningJobConfig"]
    if definition is None:
        raise validation("TrainingJobDefinition is required")
    if config["Strategy"] not in _STRATEGIES:
        raise validation(f"The local job service has the strategies {', '.join(_STRATEGIES)}, not {config['Strategy']}")
    objective = config.get("HyperParameterTuningJobObjective")
    if objective is None:
        raise validation("HyperParameterTuningJobObjective is required")
    regexes = {item["Name"]: item["Regex"] for item in _definitions(request)}
    if objective["MetricName"] not in regexes:
        raise validation(f"Objective metric {objective['MetricName'][:64]} has no entry in metricDefinitions")
    for name, regex in regexes.items():
        _compiled(name, regex)
    found = parameters(config)
    static = definition.get("StaticHyperParameters", {})
    if twice := sorted(static.keys() & {parameter.name for parameter in found}):
        raise validation(f"Hyperparameters {', '.join(twice)[:200]} are both static and in a range")
    limits = config["ResourceLimits"]
    most = limits.get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        if most not in (None, combinations(found)):
            raise validation(f"MaxNumberOfTrainingJobs must be {combinations(found)}, the number of combinations")
    elif most is None:
        raise validation("ResourceLimits.MaxNumberOfTrainingJobs is required")
    elif limits["MaxParallelTrainingJobs"] > most:
        raise validation("MaxParallelTrainingJobs must not be above MaxNumberOfTrainingJobs")
    Training().check(child_request(request, "name", {}))


def child_request(request: dict[str, Any], name: str, hyperparameters: dict[str, str]) -> dict[str, Any]:
    """CreateTrainingJob for one training job of a tuning job; the tuning job's tags go to all of them."""
    definition = request["TrainingJobDefinition"]
    objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    own = {"StaticHyperParameters", "DefinitionName", "TuningObjective", "HyperParameterRanges"}
    static = {**definition.get("StaticHyperParameters", {}), OBJECTIVE_KEY: objective["MetricName"]}
    return {
        **{key: value for key, value in definition.items() if key not in own},
        "TrainingJobName": name,
        "HyperParameters": {**static, **hyperparameters},
        "Tags": request.get("Tags", []),
    }


def child_name(record: TuningRecord, number: int) -> str:
    """The name of training job `number` (from 1): as SageMaker's, but the same whenever it is asked for."""
    digest = hashlib.sha256(f"{record.arn}/{record.created_at}/{number}".encode()).hexdigest()[:8]
    return f"{record.name}-{number:03d}-{digest}"


def most_jobs(request: dict[str, Any]) -> int:
    """How many training jobs the tuning job has."""
    config = request["HyperParameterTuningJobConfig"]
    if config["Strategy"] == "Grid":
        return combinations(parameters(config))
    return int(config["ResourceLimits"]["MaxNumberOfTrainingJobs"])


def objective_of(request: dict[str, Any]) -> tuple[str, bool]:
    """The objective's name, and whether more is better."""
    objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    return objective["MetricName"], objective["Type"] == "Maximize"


def metrics_of(definitions: list[dict[str, str]], log: Path) -> dict[str, float]:
    """The last value of each metric in a training job's log, line by line as SageMaker looks for them."""
    regexes = [(item["Name"], re.compile(item["Regex"])) for item in definitions]
    found: dict[str, float] = {}
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return {}
    for name, regex in regexes:
        for line in reversed(lines):
            match = regex.search(line)
            value = _number(match[1]) if match else None
            if value is not None:
                found[name] = value
                break
    return found


def _definitions(request: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = request["TrainingJobDefinition"]["AlgorithmSpecification"].get(
        "MetricDefinitions", []
    )
    return found


def _compiled(name: str, regex: str) -> None:
    try:
        groups = re.compile(regex).groups
    except re.error as error:
        raise validation(f"The Regex of metric {name[:64]} is no regular expression: {error}") from error
    if not groups:
        raise validation(f"The Regex of metric {name[:64]} needs a group around the number")


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
