"""The models by name. A new model is a file with an `EdgeTrainer`, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from ekiden_engine.errors import BadData, quoted
from ekiden_engine.models.base import EdgePredictor, EdgeTrainer

TRAINERS: Final = {
    "rgcn": "ekiden_engine.models.rgcn:Rgcn",
    "mf": "ekiden_engine.models.mf:MatrixFactorization",
}
"""Name in a spec (`model.name`) to the trainer. Imported on demand: each may bring its own libraries."""

PREDICTORS: Final = {
    "dot": "ekiden_engine.models.dot:DotPredictor",
}
"""`EdgePredictor.kind`, as recorded in a model's config.json, to the class that reads it."""


def make_trainer(name: str, hyperparameters: Mapping[str, str]) -> EdgeTrainer:
    """The trainer `name`. Raises `BadData` UNKNOWN_MODEL or BAD_HYPERPARAMETERS."""
    if name not in TRAINERS:
        raise BadData(
            "UNKNOWN_MODEL", f"model.name: {quoted(name)} is unknown; known are {', '.join(sorted(TRAINERS))}"
        )
    return cast(EdgeTrainer, _resolve(TRAINERS[name])(hyperparameters))


def predictor_class(kind: str) -> type[EdgePredictor]:
    """The class that loads models of `kind`. Raises `BadData` UNKNOWN_MODEL."""
    if kind not in PREDICTORS:
        known = ", ".join(sorted(PREDICTORS))
        raise BadData("UNKNOWN_MODEL", f"config.json predictor: {quoted(kind)} is unknown; known are {known}")
    return cast(type[EdgePredictor], _resolve(PREDICTORS[kind]))


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
