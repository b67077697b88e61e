"""What a search improves: ``eval_metric`` of model-hpo-configuration.json, and how it is read from a job's log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ekiden.contracts.base import Fault, kind_of, shorten
from ekiden.contracts.tasks import Task

OBJECTIVE: Final = "objective"
"""The metric's name in a tuning job."""
OBJECTIVE_LINE: Final = "objective {value:.8g} ({metric}, validation)"
"""The line that ends the engine's log of a training job."""
OBJECTIVE_REGEX: Final = r"objective (-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?) \("
"""Finds the value in it, as a ``MetricDefinition`` of SageMaker."""

LOWER_IS_BETTER: Final = frozenset({"mse", "rmse", "mae", "loss"})
CURVE_METRIC: Final[Mapping[str, str]] = {"acc": "accuracy", "F1": "f1", "mse": "rmse"}
"""Neptune ML's name of a metric to the engine's, where another orders models in the same way."""
METRICS: Final[Mapping[str, frozenset[str]]] = {
    "classification": frozenset({"acc", "acc_topk", "F1", "precision", "recall", "roc_auc"}),
    "regression": frozenset({"mse", "rmse", "mae"}),
    "link_prediction": frozenset({"mrr"}),
}
"""What may be improved, by kind of task: Neptune ML's names, and two more for numbers."""
MAX_DEFINITIONS, MAX_NAME, MAX_REGEX = 40, 255, 500
"""SageMaker's limits of ``MetricDefinitions``."""


@dataclass(frozen=True, slots=True)
class EvalMetric:
    """``name`` is empty where the model's own metric decides. A custom script's metrics are found by ``regexes``
    (name to expression with one group); ``name`` is then one of them."""

    name: str = ""
    topk: int = 1
    higher_is_better: bool = True
    regexes: tuple[tuple[str, str], ...] = ()

    @property
    def is_scripts_own(self) -> bool:
        """Whether the value is read from a script's log."""
        return bool(self.regexes)


def default_metric(task: Task, *, multi_label: bool = False, imbalanced: bool = False) -> str:
    """Neptune ML's choice: accuracy; F1 if classes are imbalanced, ROC AUC if a row has several; mse; mrr."""
    if task is Task.LINK_PREDICTION:
        return "mrr"
    if task in (Task.NODE_REGRESSION, Task.EDGE_REGRESSION):
        return "mse"
    return "roc_auc" if multi_label else "F1" if imbalanced else "acc"


def read_metric(value: Any, path: str, faults: list[Fault]) -> EvalMetric:
    """``eval_metric`` of a configuration; its faults go to ``faults``."""
    if value is None:
        return EvalMetric()
    if not isinstance(value, dict):
        faults.append(Fault(path, f"must be a mapping such as {{metric: acc}}; found {kind_of(value)}"))
        return EvalMetric()
    if "tuning_objective" in value or "metric_definitions" in value:
        return _scripts_own(value, path, faults)
    name = value.get("metric")
    known = sorted(frozenset().union(*METRICS.values()))
    if name not in known:
        faults.append(Fault(f"{path}.metric", f"{shorten(name)} is none of {', '.join(known)}"))
    topk = value.get("topk", 1)
    topk = int(topk) if isinstance(topk, str) and topk.isdecimal() and len(topk) < 6 else topk
    if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
        faults.append(Fault(f"{path}.topk", f"must be a whole number from 1; found {shorten(topk)}"))
        topk = 1
    return EvalMetric(str(name), topk, name not in LOWER_IS_BETTER)


def _scripts_own(value: Mapping[str, Any], path: str, faults: list[Fault]) -> EvalMetric:
    definitions = value.get("metric_definitions")
    regexes: list[tuple[str, str]] = []
    if not isinstance(definitions, list) or not 0 < len(definitions) <= MAX_DEFINITIONS:
        faults.append(Fault(f"{path}.metric_definitions", f"must be a list of 1 to {MAX_DEFINITIONS} {{Name, Regex}}"))
        definitions = []
    for index, entry in enumerate(definitions):
        where = f"{path}.metric_definitions[{index}]"
        name, regex = (entry.get("Name"), entry.get("Regex")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            faults.append(Fault(f"{where}.Name", f"must be a text of at most {MAX_NAME} characters"))
        elif not isinstance(regex, str) or not 0 < len(regex) <= MAX_REGEX or not _has_a_group(regex):
            limit = f"of at most {MAX_REGEX} characters with one group around the number"
            faults.append(Fault(f"{where}.Regex", f"must be a regular expression {limit}"))
        else:
            regexes.append((name, regex))
    objective = value.get("tuning_objective")
    name, kind = (objective.get("MetricName"), objective.get("Type")) if isinstance(objective, dict) else (None, None)
    if kind not in {"Maximize", "Minimize"}:
        faults.append(Fault(f"{path}.tuning_objective.Type", f"{shorten(kind)} is none of Maximize, Minimize"))
    if regexes and name not in {known for known, _ in regexes}:
        names = ", ".join(shorten(known) for known, _ in regexes[:5])
        message = f"{shorten(name)} is no Name of metric_definitions ({names})"
        faults.append(Fault(f"{path}.tuning_objective.MetricName", message))
    return EvalMetric(str(name), 1, kind != "Minimize", tuple(regexes))


def _has_a_group(regex: str) -> bool:
    try:
        return re.compile(regex).groups >= 1
    except (re.error, RecursionError, OverflowError):
        return False
