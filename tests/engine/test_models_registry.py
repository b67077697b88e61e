"""The engine's registry of models against the table of tasks that the Lambdas and the command line ask."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from ekiden.contracts.hyperparameters import HYPERPARAMETERS
from ekiden.contracts.tasks import MODEL_TASKS, Task
from ekiden_engine.models import PREDICTORS, TRAINERS, make_trainer, predictor_class

PAIRS = sorted((model, task) for model, tasks in TRAINERS.items() for task in tasks)


def test_the_engine_trains_exactly_what_the_contract_promises() -> None:
    assert {model: frozenset(tasks) for model, tasks in TRAINERS.items()} == dict(MODEL_TASKS)


def test_every_model_but_the_users_own_has_its_hyperparameters_in_the_table() -> None:
    assert set(HYPERPARAMETERS) == set(TRAINERS) - {"custom"}


@pytest.mark.parametrize(("model", "task"), [pair for pair in PAIRS if pair[0] != "custom"])
def test_every_trainer_can_be_made_without_any_hyperparameter(model: str, task: Task) -> None:
    assert callable(make_trainer(model, task, {}).fit)


@pytest.mark.parametrize("kind", sorted(PREDICTORS))
def test_a_predictor_is_registered_under_its_kind_and_has_the_common_parts(kind: str) -> None:
    found: Any = predictor_class(kind)
    assert found.kind == kind
    assert found.files
    for name in ("save", "load", "embeddings", "counts"):
        assert callable(getattr(found, name))


def test_every_entry_names_a_class_that_there_is() -> None:
    paths = {path for tasks in TRAINERS.values() for path in tasks.values()} | set(PREDICTORS.values())
    for path in paths:
        module, _, name = path.partition(":")
        assert isinstance(getattr(import_module(module), name), type), path
