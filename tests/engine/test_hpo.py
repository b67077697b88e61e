"""`model-hpo-configuration.json`: what is written, what is read, and what is refused with which path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ekiden.contracts.base import DocumentError
from ekiden.contracts.hpo import HPO_NAMES, load_hpo, parse_hpo
from ekiden.contracts.hyperparameters import HYPERPARAMETERS
from ekiden.contracts.tasks import MODEL_TASKS, Task
from ekiden_engine.errors import BadData
from ekiden_engine.hpo import fitting_models, hpo_document, read_hpo, write_hpo
from tests.engine.search_factories import make_configuration, make_param, make_space


def faults_of(document: Any) -> dict[str, str]:
    """Path to message of what is wrong."""
    with pytest.raises(DocumentError) as caught:
        parse_hpo(document)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_neptune_mls_own_sample_with_numbers_as_texts_is_read() -> None:
    # GIVEN parameters in the forms that the user guide and real files have
    space = make_space(
        [
            {"param": "num-hidden", "type": "int", "default": "64", "range": ["16", 128], "inc_strategy": "power2"},
            make_param("lr", default="0.01", range=[0.001, 0.01], inc_strategy="log"),
            {
                "param": "num-epochs",
                "type": "int",
                "default": 3,
                "range": [3, 30],
                "inc_strategy": "linear",
                "inc_val": 1,
                "node_strategy": "perM",
            },
        ],
        [
            make_param("dropout", range=[0.0, 0.5], default=0.3),
            {"param": "layer-norm", "type": "bool", "default": True},
        ],
        [
            {"param": "fanout", "type": "int", "options": [[10, 30], [15, 30], [15, 30]], "default": [10, 15, 15]},
            {"param": "num-bases", "type": "int", "range": [0, 8], "inc_val": 2, "default": 0},
        ],
        [{"param": "low-mem", "type": "bool", "default": "true"}, {"param": "l2norm", "type": "float", "default": 0}],
        metric="acc",
        eval_frequency={"type": "evaluate_every_epoch", "value": "3"},
    )
    assert space.frequency == ("evaluate_every_epoch", 3.0)
    hidden, lr, epochs = space.tiers[0]
    assert (hidden.default, hidden.choices) == ("64", ("16", "32", "64", "128"))
    assert (lr.bounds, lr.strategy, lr.default) == ((0.001, 0.01), "log", "0.01")
    assert (epochs.scale, epochs.step) == ("node:perM", 1.0)
    assert space.tiers[2][0].options == ("[10,30]", "[15,30]")
    assert space.untuned(2)["fanout"] == "[10,15,15]"
    assert space.untuned(2)["low-mem"] == "true"


@pytest.mark.parametrize(
    ("jobs", "names"),
    [
        (2, {"a"}),
        (9, {"a"}),
        (10, {"a", "b"}),
        (50, {"a", "b"}),
        (51, {"a", "b", "c"}),
    ],
)
def test_the_number_of_jobs_decides_which_tiers_are_searched(jobs: int, names: set[str]) -> None:
    space = make_space([make_param("a")], [make_param("b")], [make_param("c")], [make_param("d")])
    assert {param.name for param in space.tuned(jobs)} == names
    assert set(space.untuned(jobs)) == {"a", "b", "c", "d"} - names


def test_exactly_one_model_and_all_four_lists_are_required() -> None:
    assert faults_of({"models": []}) == {"models": "must hold exactly one model; found 0"}
    assert "models" in faults_of([])
    document = make_configuration([make_param()])
    del document["models"][0]["3-tier-param"]
    assert faults_of(document) == {
        "models[0].3-tier-param": "must be a list of hyper-parameters, [] for none; found nothing"
    }
    assert "exactly one" in faults_of({"models": document["models"] * 2})["models"]


@pytest.mark.parametrize(
    ("param", "path", "words"),
    [
        (make_param(range=[0.1, "much"]), ".range[1]", "must be a number; found 'much'"),
        (make_param(range=[2, 1]), ".range", "min 2 is above max 1"),
        (make_param(range=[0, 1], inc_strategy="log"), ".range[0]", "above 0 for inc_strategy log"),
        (make_param(inc_strategy="cubic"), ".inc_strategy", "none of linear, log, power2"),
        (make_param(inc_val=0), ".inc_val", "above 0"),
        (make_param(node_strategy="perK"), ".node_strategy", "none of perM"),
        (make_param(type="number"), ".type", "none of bool, int, float, str"),
        (make_param(type="int", default=1.5, range=[1, 2]), ".default", "whole number"),
        (make_param(options=[0.1]), "", "either range or options"),
        ({"param": "x", "type": "float", "default": 1}, "", "give range"),
        ({"param": "x", "type": "float", "options": [0.5, 0.6]}, ".default", "required"),
        ({"param": "", "type": "str", "default": "a", "options": ["a"]}, ".param", "name of a hyper-parameter"),
        ("lr", "", "must be a mapping"),
    ],
)
def test_a_fault_is_named_with_its_path(param: Any, path: str, words: str) -> None:
    faults = faults_of(make_configuration([make_param("fine")], [param]))
    assert words in faults[f"models[0].2-tier-param[0]{path}"]


def test_a_hyperparameter_stands_in_one_place_only() -> None:
    faults = faults_of(make_configuration([make_param("lr")], [], [make_param("lr")]))
    assert faults == {"models[0].3-tier-param[0].param": "'lr' stands in models[0].1-tier-param[0] already"}


def test_a_scripts_own_objective_needs_a_definition_with_a_group() -> None:
    own = {
        "tuning_objective": {"MetricName": "validation:mrr", "Type": "Maximize"},
        "metric_definitions": [{"Name": "validation:mrr", "Regex": "mrr=([0-9.]+)"}],
    }
    metric = make_space([make_param()], eval_metric=own).metric
    assert (metric.name, metric.higher_is_better, metric.is_scripts_own) == ("validation:mrr", True, True)
    own["metric_definitions"] = [{"Name": "other", "Regex": "mrr=[0-9.]+"}]
    faults = faults_of(make_configuration([make_param()], eval_metric=own))
    assert "one group" in faults["models[0].eval_metric.metric_definitions[0].Regex"]
    faults = faults_of(make_configuration([make_param()], eval_metric={"metric": "bleu"}))
    assert "'bleu' is none of" in faults["models[0].eval_metric.metric"]


@pytest.mark.parametrize("name", HPO_NAMES)
def test_both_spellings_of_the_file_name_are_read(tmp_path: Path, name: str) -> None:
    assert read_hpo(tmp_path) is None
    (tmp_path / name).write_text(json.dumps(make_configuration([make_param(range=[0.1, 1])])))
    found = read_hpo(tmp_path)
    assert found is not None
    assert found.source == name


def test_a_file_that_cannot_be_used_ends_the_job_as_bad_data(tmp_path: Path) -> None:
    (tmp_path / HPO_NAMES[1]).write_text("{")
    with pytest.raises(BadData, match=r"model-HPO-configuration\.json: .*not JSON") as caught:
        read_hpo(tmp_path)
    assert caught.value.code == "BAD_HPO_CONFIGURATION"
    with pytest.raises(DocumentError, match="more than"):
        load_hpo(b" " * ((1 << 20) + 1))


def test_what_a_model_does_not_have_is_a_fault_of_the_file_told_with_all_others(tmp_path: Path) -> None:
    # GIVEN names, values and kinds that rgcn does not have, beside a fault of form
    tiers: list[list[dict[str, Any]]] = [
        [make_param("num-hiden"), make_param("lr", range=[0.0, 2], default="0.1")],
        [make_param("num-layer", range=[1, 3.5], default="many"), make_param("dropout", range=[0, "most"])],
        [{"param": "loss", "type": "str", "options": ["bpr", "hinge"], "default": "bpr"}],
        [{"param": "fanout", "type": "int", "default": [10, 15]}],
    ]
    (tmp_path / HPO_NAMES[0]).write_text(json.dumps(make_configuration(*tiers)))
    # WHEN it is read
    with pytest.raises(BadData) as caught:
        read_hpo(tmp_path)
    # THEN each is named with its path in the file
    assert caught.value.code == "BAD_HPO_CONFIGURATION"
    said = caught.value.message
    assert "models[0].1-tier-param[0].param: rgcn has no such hyperparameter; did you mean num-hidden?" in said
    for path in (
        "1-tier-param[1].range[0]: must be a number from 1e-06 to 1",
        "1-tier-param[1].range[1]: must be",
        "2-tier-param[0].type: num-layer takes whole numbers: write int",
        "2-tier-param[0].range[1]: must be a whole number",
        "2-tier-param[0].default: must be a number; found 'many'",
        "2-tier-param[1].range[1]: must be a number; found 'most'",
        "3-tier-param[0].options[1]: must be one of cross-entropy, bpr, contrastive, not 'hinge'",
        "fixed-param[0].default: must be a whole number from 0 to 100000, or auto, not '[10, 15]'",
    ):
        assert f"models[0].{path}" in said
    assert "more" not in said
    assert said.count("models[0].") == 9


def test_a_custom_models_names_are_its_own() -> None:
    document = make_configuration([make_param("depth")], model="custom")
    assert load_hpo(json.dumps(document)).tiers[0][0].name == "depth"


@pytest.mark.parametrize("model", sorted(HYPERPARAMETERS))
def test_the_configuration_that_is_written_for_a_model_is_read_back_and_its_defaults_are_accepted(model: str) -> None:
    task = sorted(MODEL_TASKS[model])[0]
    space = load_hpo(json.dumps(hpo_document(model, {}, task)))
    table = HYPERPARAMETERS[model]
    assert space.tuned(2) or not table, f"tier 1 of {model} has nothing to search"
    assert {p.name for group in (*space.tiers, space.fixed) for p in group} == set(table)
    for param in (p for group in (*space.tiers, space.fixed) for p in group):
        assert table[param.name].parse(param.default) == table[param.name].default
        for end in param.bounds or ():
            table[param.name].parse(param.text(end))
        for choice in param.choices:
            table[param.name].parse(choice)


def test_a_search_varies_nothing_that_the_task_takes_no_notice_of() -> None:
    def varied(task: Task) -> set[str]:
        return {param.name for param in parse_hpo(hpo_document("rgcn", {}, task)).tuned(99)}

    nodes, edges, links = (varied(t) for t in (Task.NODE_CLASSIFICATION, Task.EDGE_REGRESSION, Task.LINK_PREDICTION))
    assert {"num-layer", "weight-decay", "use-class-weight"} <= nodes - edges - links
    assert {"num-negs", "loss"} <= links - nodes - edges
    assert "regularization-coef" in edges - nodes - links
    assert {"num-hidden", "lr"} <= nodes & edges & links


def test_what_the_spec_sets_is_a_default_and_fixed_once_a_search_is_asked_for() -> None:
    widened = parse_hpo(hpo_document("rgcn", {"num-hidden": 256}))
    hidden = next(p for p in widened.tiers[0] if p.name == "num-hidden")
    assert (hidden.default, hidden.bounds) == ("256", (16, 256))
    pinned = parse_hpo(hpo_document("rgcn", {"num-hidden": 256}, pinned=True))
    assert "num-hidden" not in {p.name for p in pinned.tuned(99)}
    assert pinned.untuned(99)["num-hidden"] == "256"


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (Task.NODE_CLASSIFICATION, {}, ("node_class", "acc")),
        (Task.NODE_CLASSIFICATION, {"imbalanced": True}, ("node_class", "F1")),
        (Task.EDGE_CLASSIFICATION, {"multi_label": True}, ("edge_class", "roc_auc")),
        (Task.NODE_REGRESSION, {}, ("node_regression", "mse")),
        (Task.LINK_PREDICTION, {}, ("link_prediction", "mrr")),
    ],
)
def test_the_metric_follows_the_task_as_in_neptune_ml(task: Task, options: Any, words: tuple[str, str]) -> None:
    (model,) = hpo_document("rgcn", {}, task, **options)["models"]
    assert (model["task_type"], model["eval_metric"]["metric"]) == words


def test_there_is_a_template_though_only_one_model_fits(tmp_path: Path) -> None:
    write_hpo(tmp_path, "custom", {"depth": 3}, [Task.NODE_REGRESSION])
    assert [path.name for path in (tmp_path / "hpo-configuration-templates").iterdir()] == ["rgcn.json"]


def test_templates_lie_beside_the_file_for_every_model_that_fits(tmp_path: Path) -> None:
    write_hpo(tmp_path, "rgcn", {"lr": 0.01}, [Task.EDGE_REGRESSION])
    names = {path.stem for path in (tmp_path / "hpo-configuration-templates").iterdir()}
    assert names == set(fitting_models([Task.EDGE_REGRESSION])) >= {"rgcn", "mf"}
    chosen = json.loads((tmp_path / HPO_NAMES[0]).read_text())
    assert json.loads((tmp_path / "hpo-configuration-templates/rgcn.json").read_text()) == chosen
