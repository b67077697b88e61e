"""`model-hpo-configuration.json`: the hyperparameters that training may take or tune, as Neptune ML writes
them.

Format: "Structure of the model-HPO-configuration.json file" in the Amazon Neptune user guide. Real exports
spell the name in lower case. The spec's own hyperparameters become defaults; those that Neptune ML has no
tier for are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ekiden_engine.graph import HPO_FILE

Value = bool | int | float | str

_TIERS: Final[dict[str, list[dict[str, Any]]]] = {
    "1-tier-param": [
        {"param": "num-hidden", "type": "int", "range": [16, 128], "inc_strategy": "power2", "default": 32},
        {
            "param": "num-epochs",
            "type": "int",
            "range": [10, 100],
            "inc_strategy": "linear",
            "inc_val": 10,
            "edge_strategy": "perM",
            "default": 60,
        },
        {"param": "lr", "type": "float", "range": [0.0005, 0.02], "inc_strategy": "log", "default": 0.002},
    ],
    "2-tier-param": [
        {"param": "dropout", "type": "float", "range": [0.0, 0.5], "inc_strategy": "linear", "default": 0.0},
        {
            "param": "regularization-coef",
            "type": "float",
            "range": [0.3, 10.0],
            "inc_strategy": "log",
            "default": 1.0,
        },
    ],
    "3-tier-param": [
        {
            "param": "batch-size",
            "type": "int",
            "range": [1024, 65536],
            "inc_strategy": "power2",
            "default": 8192,
        },
    ],
    "fixed-param": [
        {"param": "enable-early-stop", "type": "bool", "default": True},
        {"param": "window-for-early-stop", "type": "int", "default": 6},
        {"param": "seed", "type": "int", "default": 0},
        {"param": "seeds", "type": "int", "default": 6},
    ],
}


def hpo_document(model: str, hyperparameters: Mapping[str, Value]) -> dict[str, Any]:
    """The configuration for edge regression with `model`; ranges widen to hold a default that the spec
    sets."""
    given = dict(hyperparameters)
    tiers: dict[str, list[dict[str, Any]]] = {}
    for tier, params in _TIERS.items():
        tiers[tier] = [_with_default(param, given.pop(param["param"], None)) for param in params]
    for name, value in given.items():
        tiers["fixed-param"].append({"param": name, "type": _type_name(value), "default": value})
    return {
        "models": [
            {
                "model": model,
                "task_type": "edge_regression",
                "eval_metric": {"metric": "mse"},
                "eval_frequency": {"type": "evaluate_every_epoch", "value": 1},
                **tiers,
            }
        ]
    }


def write_hpo(folder: Path, model: str, hyperparameters: Mapping[str, Value]) -> None:
    """Write the configuration into `folder`."""
    document = hpo_document(model, hyperparameters)
    (folder / HPO_FILE).write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _with_default(param: Mapping[str, Any], value: Value | None) -> dict[str, Any]:
    chosen = dict(param)
    if value is None:
        return chosen
    chosen["default"] = value
    if "range" in param and isinstance(value, int | float):
        low, high = param["range"]
        chosen["range"] = [min(low, value), max(high, value)]
    return chosen


def _type_name(value: Value) -> str:
    return {bool: "bool", int: "int", float: "float"}.get(type(value), "str")
