"""`model-hpo-configuration.json`: the hyperparameters that training may take or tune, as Neptune ML writes
them.

Format: "Structure of the model-HPO-configuration.json file" in the Amazon Neptune user guide. Real exports
spell the name in lower case. The spec's own hyperparameters become defaults, for the rest the
engine's are; those that Neptune ML has no tier for are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ekiden.contracts.hyperparameters import HYPERPARAMETERS, Hyperparameter, as_text
from ekiden_engine.graph import HPO_FILE

Value = bool | int | float | str

_TIERS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "1-tier-param": {
        "num-hidden": {"range": [16, 128], "inc_strategy": "power2"},
        "num-epochs": {"range": [10, 100], "inc_strategy": "linear", "inc_val": 10, "edge_strategy": "perM"},
        "lr": {"range": [0.0005, 0.02], "inc_strategy": "log"},
    },
    "2-tier-param": {
        "dropout": {"range": [0.0, 0.5], "inc_strategy": "linear"},
        "regularization-coef": {"range": [0.3, 10.0], "inc_strategy": "log", "default": 1.0},
    },
    "3-tier-param": {"batch-size": {"range": [1024, 65536], "inc_strategy": "power2", "default": 8192}},
    "fixed-param": {"enable-early-stop": {}, "window-for-early-stop": {}, "seed": {}, "seeds": {}},
}
"""What tuning may do with each hyperparameter; a default of its own only where the engine's is `auto`."""


def hpo_document(model: str, hyperparameters: Mapping[str, Value]) -> dict[str, Any]:
    """The configuration for edge regression with `model`; ranges widen to hold a default that the spec
    sets."""
    table = HYPERPARAMETERS[model]
    tiers = {
        tier: [_param(table[name], options, hyperparameters.get(name)) for name, options in params.items()]
        for tier, params in _TIERS.items()
    }
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


def _param(entry: Hyperparameter, options: Mapping[str, Any], given: Value | None) -> dict[str, Any]:
    chosen = {"param": entry.name, "type": entry.kind.__name__, "default": entry.default, **options}
    value = None if given is None else entry.parse(as_text(given))
    if value is None:
        return chosen
    chosen["default"] = value
    if "range" in options:
        low, high = options["range"]
        chosen["range"] = [min(low, value), max(high, value)]
    return chosen
