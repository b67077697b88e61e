"""Hyperparameters as strings become checked settings."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ekiden.contracts.hyperparameters import HYPERPARAMETERS
from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData
from ekiden_engine.hpo import hpo_document
from ekiden_engine.models import make_trainer, predictor_class
from ekiden_engine.models.links_rgcn import LinkSettings
from ekiden_engine.models.nodes_search import NodeSettings
from ekiden_engine.models.rgcn import RgcnSettings
from ekiden_engine.models.settings import as_hyperparameters, read_settings
from tests.engine.factories import make_encoded_graph
from tests.engine.model_factories import Recorder


def test_strings_become_typed_settings_and_the_rest_keeps_its_default() -> None:
    found = read_settings(
        RgcnSettings,
        "rgcn",
        {"num-hidden": "64", "lr": "1e-3", "enable-early-stop": "False", "regularization-coef": "2", "seeds": "3.0"},
    )
    assert (found.width, found.lr, found.early_stop, found.regularization, found.seeds) == (64, 0.001, False, 2.0, 3)
    assert found.epochs == RgcnSettings().epochs


def test_a_quoted_value_and_the_keys_that_the_sagemaker_sdk_adds_are_taken_in_stride() -> None:
    found = read_settings(RgcnSettings, "rgcn", {"num-hidden": '"16"', "sagemaker_program": "train.py"})
    assert found == RgcnSettings(width=16)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "num-hiden",
            "32",
            "model.hyperparameters.num-hiden: rgcn has no such hyperparameter; did you mean num-hidden?",
        ),
        ("num-hidden", "many", "num-hidden: must be a whole number from 1 to 1024, or auto, not 'many'"),
        ("num-hidden", "0", "num-hidden: must be a whole number from 1 to 1024"),
        ("num-epochs", "1.5", "num-epochs: must be a whole number"),
        ("lr", "nan", "lr: must be a number from 1e-06 to 1"),
        ("dropout", "1", "dropout: must be a number from 0 to 0.9"),
        ("seed", "-1", "seed: must be a whole number from 0 to 2147483647"),
        ("enable-early-stop", "maybe", "enable-early-stop: must be true or false"),
        ("regularization-coef", "strong", "regularization-coef: must be a number from 0 to 10000, or auto"),
        ("seeds", "auto", "seeds: must be a whole number from 1 to 64, not"),
        ("lr", "x" * 5000, "lr: must be a number"),
    ],
)
def test_a_hyperparameter_that_cannot_be_is_named_with_what_could(name: str, value: str, says: str) -> None:
    with pytest.raises(BadData) as caught:
        make_trainer("rgcn", Task.EDGE_REGRESSION, {name: value})
    assert caught.value.code == "BAD_HYPERPARAMETERS"
    assert says in caught.value.message
    assert len(caught.value.message) < 400


def test_settings_survive_the_way_to_strings_and_back() -> None:
    settings = RgcnSettings(width=48, lr=0.0035, regularization=3.0, seed=2_000_000_011, early_stop=False)
    assert read_settings(RgcnSettings, "rgcn", as_hyperparameters(settings)) == settings
    assert as_hyperparameters(RgcnSettings())["batch-size"] == "auto"


def test_an_unknown_model_and_an_unknown_predictor_are_named_with_those_there_are() -> None:
    with pytest.raises(BadData, match='"gat" is unknown; known are complex, custom, '):
        make_trainer("gat", Task.EDGE_REGRESSION, {})
    with pytest.raises(BadData, match='"tree" is unknown; known are custom-edge, '):
        predictor_class("tree")


def test_all_wrong_hyperparameters_are_named_at_once() -> None:
    with pytest.raises(BadData) as caught:
        make_trainer("mf", Task.EDGE_REGRESSION, {"lr": "fast", "seeds": "0"})
    assert "lr: must be" in caught.value.message
    assert "seeds: must be" in caught.value.message


def test_a_model_that_cannot_do_a_task_is_refused_with_those_that_can() -> None:
    with pytest.raises(BadData, match='"fm" cannot do link_prediction; use one of complex, custom, ') as caught:
        make_trainer("fm", Task.LINK_PREDICTION, {})
    assert caught.value.code == "UNSUPPORTED_TARGET"


def test_the_defaults_of_the_settings_are_those_of_the_table_and_between_them_all_are_used() -> None:
    table, used = HYPERPARAMETERS["rgcn"], set()
    for settings in (RgcnSettings(), NodeSettings(), LinkSettings()):
        for f in fields(settings):
            entry = f.metadata["hyperparameter"]
            assert getattr(settings, f.name) == table[entry.name].default
            used.add(entry.name)
    assert used == set(table)
    first_tier = hpo_document("rgcn", {})["models"][0]["1-tier-param"]
    assert [(p["param"], p["default"]) for p in first_tier] == [
        ("num-hidden", "auto"),
        ("num-epochs", "auto"),
        ("lr", "auto"),
    ]


def test_what_auto_stands_for_in_a_regression_of_edges_is_in_force_and_told() -> None:
    fitted = make_trainer("rgcn", Task.EDGE_REGRESSION, {"num-epochs": "1", "seeds": "1", "regularization-coef": "1"})
    graph = make_encoded_graph()
    told = fitted.fit(graph, graph.targets[0], Recorder()).hyperparameters
    assert {"num-hidden": "32", "lr": "0.002", "dropout": "0", "window-for-early-stop": "6"}.items() <= told.items()
    assert "auto" not in {value for name, value in told.items() if name != "batch-size"}


@pytest.mark.parametrize("model", ["transe", "distmult", "complex", "rotate"])
def test_a_search_of_an_embedding_draws_many_negatives(model: str) -> None:
    tiers = hpo_document(model, {}, Task.LINK_PREDICTION)["models"][0]
    (found,) = [p for tier in tiers.values() if isinstance(tier, list) for p in tier if p["param"] == "num-negs"]
    assert found["range"] == [256, 8192]


def test_a_search_varies_class_weights_where_classes_are_predicted() -> None:
    for task in (Task.NODE_CLASSIFICATION, Task.EDGE_CLASSIFICATION, Task.EDGE_REGRESSION):
        varied = [p["param"] for p in hpo_document("rgcn", {}, task)["models"][0]["2-tier-param"]]
        assert ("use-class-weight" in varied) == (task is not Task.EDGE_REGRESSION)
