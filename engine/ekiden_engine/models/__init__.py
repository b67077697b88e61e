"""The models by name and task. A new model is a file with a `Trainer`, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.models.base import Predictor, Trainer

TRAINERS: Final[Mapping[str, Mapping[Task, str]]] = {
    "rgcn": {
        Task.EDGE_CLASSIFICATION: "ekiden_engine.models.rgcn:Rgcn",
        Task.EDGE_REGRESSION: "ekiden_engine.models.rgcn:Rgcn",
        Task.NODE_CLASSIFICATION: "ekiden_engine.models.nodes:NodeRgcn",
        Task.NODE_REGRESSION: "ekiden_engine.models.nodes:NodeRgcn",
        Task.LINK_PREDICTION: "ekiden_engine.models.links_rgcn:LinkRgcn",
    },
    "transe": {Task.LINK_PREDICTION: "ekiden_engine.models.kge:TransE"},
    "distmult": {Task.LINK_PREDICTION: "ekiden_engine.models.kge:DistMult"},
    "complex": {Task.LINK_PREDICTION: "ekiden_engine.models.kge:ComplEx"},
    "rotate": {Task.LINK_PREDICTION: "ekiden_engine.models.kge:RotatE"},
    "mf": {Task.EDGE_REGRESSION: "ekiden_engine.models.mf:MatrixFactorization"},
    "fm": {Task.EDGE_REGRESSION: "ekiden_engine.models.fm:FactorizationMachine"},
    "custom": dict.fromkeys(Task, "ekiden_engine.custom:CustomModel"),
}
"""Name in a spec (`model.name`) and task to the trainer. Imported on demand: each may bring its own libraries."""

PREDICTORS: Final[Mapping[str, str]] = {
    "links": "ekiden_engine.models.links_predictor:LinkVectors",
    "kge": "ekiden_engine.models.kge_predictor:KgePredictor",
    "edges": "ekiden_engine.models.edges_predictor:EdgeTables",
    "dot": "ekiden_engine.models.dot:DotPredictor",
    "fm": "ekiden_engine.models.fm_predictor:FmPredictor",
    "nodes": "ekiden_engine.models.nodes_predictor:NodeTablePredictor",
    "custom-edge": "ekiden_engine.custom_predictors:CustomEdgePredictor",
    "custom-link": "ekiden_engine.custom_predictors:CustomLinkPredictor",
    "custom-node": "ekiden_engine.custom_predictors:CustomNodePredictor",
}
"""`Predictor.kind`, as recorded in a model's config.json, to the class that reads it."""


def make_trainer(name: str, task: Task, hyperparameters: Mapping[str, str]) -> Trainer:
    """The trainer of model `name` for `task`. Raises `BadData` UNKNOWN_MODEL, UNSUPPORTED_TARGET or
    BAD_HYPERPARAMETERS."""
    if name not in TRAINERS:
        known = ", ".join(sorted(TRAINERS))
        raise BadData("UNKNOWN_MODEL", f"model.name: {quoted(name)} is unknown; known are {known}")
    if task not in TRAINERS[name]:
        able = ", ".join(sorted(model for model, tasks in TRAINERS.items() if task in tasks))
        raise BadData("UNSUPPORTED_TARGET", f"model.name: {quoted(name)} cannot do {task}; use one of {able}")
    return cast(Trainer, _resolve(TRAINERS[name][task])(hyperparameters))


def predictor_class(kind: str) -> type[Predictor]:
    """The class that loads models of `kind`. Raises `BadData` UNKNOWN_MODEL."""
    if kind not in PREDICTORS:
        known = ", ".join(sorted(PREDICTORS))
        raise BadData("UNKNOWN_MODEL", f"config.json predictor: {quoted(kind)} is unknown; known are {known}")
    return cast(type[Predictor], _resolve(PREDICTORS[kind]))


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
