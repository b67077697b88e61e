"""`model-hpo-configuration.json`: what data processing writes about a model's hyperparameters, and what training reads.

Format: `ekiden.contracts.hpo`. Tiers are Neptune ML's where its user guide gives them, in ranges that suit our models.
Hyperparameters that the spec sets become defaults, and are fixed if the spec asks for a search: what a user decided is
not decided again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ekiden.contracts.base import DocumentError, Fault
from ekiden.contracts.hpo import AUTO, FIXED, HPO_FILE, HPO_NAMES, TEMPLATES, TIERS, HpoModel, load_hpo
from ekiden.contracts.hpo_metric import default_metric
from ekiden.contracts.hyperparameters import HYPERPARAMETERS, Hyperparameter, as_text
from ekiden.contracts.tasks import MODEL_TASKS, Task
from ekiden_engine.errors import BadData

Value = bool | int | float | str
Options = Mapping[str, Any]

TASK_TYPES: Final[Mapping[Task, str]] = {
    Task.NODE_CLASSIFICATION: "node_class",
    Task.NODE_REGRESSION: "node_regression",
    Task.EDGE_CLASSIFICATION: "edge_class",
    Task.EDGE_REGRESSION: "edge_regression",
    Task.LINK_PREDICTION: "link_prediction",
}
"""Neptune ML's words."""

_TIERS: Final[Mapping[str, Mapping[str, Options]]] = {
    TIERS[0]: {
        "num-hidden": {"range": [16, 128], "inc_strategy": "power2"},
        "num-epochs": {"range": [10, 100], "inc_strategy": "linear", "inc_val": 10},
        "lr": {"range": [0.0005, 0.02], "inc_strategy": "log"},
    },
    TIERS[1]: {
        "dropout": {"range": [0.0, 0.5], "inc_strategy": "linear"},
        "regularization-coef": {"range": [0.3, 10.0], "inc_strategy": "log"},
        "weight-decay": {"range": [1e-6, 0.01], "inc_strategy": "log"},
        "num-negs": {"range": [16, 512], "inc_strategy": "power2"},
        "use-class-weight": {},
    },
    TIERS[2]: {
        "batch-size": {"range": [1024, 65536], "inc_strategy": "power2"},
        "num-layer": {"range": [1, 3], "inc_strategy": "linear", "inc_val": 1},
        "num-bases": {"range": [0, 8], "inc_strategy": "linear", "inc_val": 2},
        "propagation-steps": {"range": [0, 20], "inc_strategy": "linear", "inc_val": 5},
        "gamma": {"range": [3.0, 24.0], "inc_strategy": "linear"},
        "loss": {},
    },
}
"""What a search may do with each hyperparameter that a model has; all others are fixed."""

_EMBEDDINGS: Final[Mapping[str, Options]] = {
    "num-hidden": {"range": [64, 512]},
    "num-epochs": {},
    "lr": {"range": [0.01, 0.5]},
    "regularization-coef": {"range": [1e-4, 0.3]},
    "batch-size": {"range": [128, 4096]},
    "num-negs": {"range": [256, 8192]},
}
_OF_MODEL: Final[Mapping[str, Mapping[str, Options]]] = {
    **dict.fromkeys(("transe", "distmult", "complex", "rotate"), _EMBEDDINGS),
    "fm": {
        "num-hidden": {"range": [8, 32], "inc_strategy": "linear", "inc_val": 1},
        "num-epochs": {"range": [100, 500], "inc_val": 100},
        "regularization-coef": {"range": [0.1, 10.0]},
    },
}
"""Where a model's ranges differ: knowledge-graph embeddings are wider and learn in larger steps, a Gibbs sampler needs
many of them."""

_OF_NODES: Final[Mapping[str, Options]] = {
    "num-epochs": {"range": [50, 400], "inc_val": 50},
    "lr": {"range": [0.001, 0.05]},
    "dropout": {"range": [0.0, 0.8]},
    "regularization-coef": {},
}
"""Where ranges differ for properties of nodes: full batches take more and larger steps."""
_OF_LINKS: Final[Mapping[str, Options]] = {"lr": {"range": [0.001, 0.05]}, "regularization-coef": {}}
"""Likewise for links."""
_NODES: Final = frozenset({Task.NODE_CLASSIFICATION, Task.NODE_REGRESSION})
_LINKS: Final = frozenset({Task.LINK_PREDICTION})
_ONLY_FOR: Final = {
    **dict.fromkeys(("num-layer", "num-bases", "propagation-steps", "weight-decay"), _NODES),
    **dict.fromkeys(("num-negs", "loss", "gamma"), _LINKS),
    "use-class-weight": frozenset({Task.NODE_CLASSIFICATION, Task.EDGE_CLASSIFICATION}),
    "batch-size": frozenset(Task) - _NODES,
}
"""Hyperparameters that only some tasks take notice of: elsewhere a search would vary nothing by them."""
_SMALLEST: Final = 1e-8
"""Where a range by logarithm would begin at 0."""
_SHOWN: Final = 20
"""Faults of a file that its error names."""


def hpo_document(
    model: str,
    hyperparameters: Mapping[str, Value],
    task: Task = Task.EDGE_REGRESSION,
    *,
    multi_label: bool = False,
    imbalanced: bool = False,
    pinned: bool = False,
) -> dict[str, Any]:
    """The configuration of `model` for `task`; ranges widen to hold a default that the spec sets.

    `pinned`: what the spec sets goes into `fixed-param` instead. A custom model without a configuration of its own has
    all its hyperparameters there.
    """
    table = HYPERPARAMETERS.get(model, {})
    tiers: dict[str, list[dict[str, Any]]] = {name: [] for name in (*TIERS, FIXED)}
    for entry in table.values():
        given = hyperparameters.get(entry.name)
        tier, options = _place(model, task, entry)
        if pinned and given is not None:
            tier, options = FIXED, {}
        tiers[tier].append(_param(entry, options, given))
    for name, value in hyperparameters.items():
        if name not in table:
            tiers[FIXED].append({"param": name, "type": type(value).__name__, "default": value})
    return {
        "models": [
            {
                "model": model,
                "task_type": TASK_TYPES[task],
                "eval_metric": {"metric": default_metric(task, multi_label=multi_label, imbalanced=imbalanced)},
                "eval_frequency": {"type": "evaluate_every_epoch", "value": 1},
                **tiers,
            }
        ]
    }


def write_hpo(
    folder: Path,
    model: str,
    hyperparameters: Mapping[str, Value],
    tasks: Sequence[Task] = (Task.EDGE_REGRESSION,),
    *,
    multi_label: bool = False,
    imbalanced: bool = False,
    pinned: bool = False,
) -> None:
    """Write the configuration into `folder`, and a template for every model of ours that can do all `tasks`. The first
    task decides the metric."""
    form = {"multi_label": multi_label, "imbalanced": imbalanced}
    chosen = hpo_document(model, hyperparameters, tasks[0], **form, pinned=pinned)
    _write(folder / HPO_FILE, chosen)
    (folder / TEMPLATES).mkdir(exist_ok=True)
    for name in fitting_models(tasks):
        document = chosen if name == model else hpo_document(name, {}, tasks[0], **form)
        _write(folder / TEMPLATES / f"{name}.json", document)


def fitting_models(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Models with hyperparameters of their own that can do every one of `tasks`, by name."""
    return tuple(sorted(name for name in HYPERPARAMETERS if set(tasks) <= MODEL_TASKS.get(name, frozenset())))


def read_hpo(folder: Path) -> HpoModel | None:
    """The configuration in `folder`, under either of its names; None if there is none.

    Raises `BadData` BAD_HPO_CONFIGURATION, with the path of every fault in the document.
    """
    for name in HPO_NAMES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            return load_hpo(path.read_bytes(), name)
        except DocumentError as error:
            raise bad_configuration(name, error.faults) from error
    return None


def bad_configuration(name: str, faults: Sequence[Fault]) -> BadData:
    """The error for a file that cannot be used; it names the faults with their paths."""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return BadData("BAD_HPO_CONFIGURATION", f"{name}: {'; '.join(map(str, faults[:_SHOWN]))}{more}")


def _place(model: str, task: Task, entry: Hyperparameter) -> tuple[str, Options]:
    """The tier that a hyperparameter is in, and what may be done with it there."""
    tier = next((name for name, params in _TIERS.items() if entry.name in params), FIXED)
    if tier == FIXED or task not in _ONLY_FOR.get(entry.name, frozenset(Task)):
        return FIXED, {}
    own: Options = _OF_MODEL.get(model, {}).get(entry.name, {"range": None})
    if model not in _OF_MODEL and task in _NODES | _LINKS:
        own = (_OF_NODES if task in _NODES else _OF_LINKS).get(entry.name, own)
    if not own:
        return FIXED, {}
    options = {**_TIERS[tier][entry.name], **{name: value for name, value in own.items() if value is not None}}
    if entry.kind is bool:
        return tier, {}
    if entry.kind is str:
        return tier, {"options": list(entry.choices)}
    low, high = (min(max(end, entry.minimum), entry.maximum) for end in options["range"])
    if options["inc_strategy"] != "linear":
        low = max(low, _SMALLEST)
    options["range"] = [int(end) if entry.kind is int else end for end in (low, high)]
    return (tier, options) if low < high else (FIXED, {})


def _param(entry: Hyperparameter, options: Options, given: Value | None) -> dict[str, Any]:
    value = entry.default if given is None else entry.parse(as_text(given))
    chosen = {"param": entry.name, "type": entry.kind.__name__, "default": AUTO if value is None else value, **options}
    if "range" in options and isinstance(value, int | float):
        low, high = options["range"]
        if value > 0 or options["inc_strategy"] == "linear":
            chosen["range"] = [min(low, value), max(high, value)]
    return chosen


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
