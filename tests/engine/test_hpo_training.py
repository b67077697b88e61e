"""From a spec to a training or a search, with the engine's own models."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.hpo import HPO_FILE
from ekiden.contracts.hpo_metric import OBJECTIVE_REGEX
from ekiden.contracts.spec import PipelineSpec, parse_spec
from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Labels, Target
from ekiden_engine.hpo_training import plan_training, write_configuration
from tests.engine.search_factories import RATED, make_configuration, make_param, make_ratings
from tests.engine.test_hpo_search import Listener

QUICK = {"num-epochs": "3", "num-hidden": "4", "seeds": "1", "regularization-coef": "1"}


def make_spec(**model: Any) -> PipelineSpec:
    target = {"edge": list(RATED), "property": "rating", "type": "regression"}
    document = {"version": 1, "name": "own", "graph": {"source": "s3://bucket/g/"}, "targets": [target]}
    return parse_spec({**document, "model": {"name": "mf", **model}})


def put(folder: Path, *tiers: list[dict[str, Any]], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / HPO_FILE).write_text(json.dumps(make_configuration(*tiers, **{"model": "mf", **changes})))
    return folder


def test_without_a_search_one_model_is_trained_and_the_configuration_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / HPO_FILE).write_text("{")
    for spec in (make_spec(), make_spec(search={"jobs": 1})):
        training = plan_training(spec, QUICK, tmp_path)
        fit = training.fit(graph := make_ratings(), graph.targets[0], Listener())
        assert fit.trials == ()
        assert (training.model, fit.hyperparameters["num-hidden"]) == ("mf", "4")


def test_a_search_in_process_trains_the_model_that_the_configuration_names(tmp_path: Path) -> None:
    graph, spec = make_ratings(), make_spec(name="rgcn", search={"jobs": 3})
    lr = make_param("lr", default=0.01, range=[0.001, 0.1], inc_strategy="log")
    training = plan_training(spec, QUICK, put(tmp_path, [lr], metric="mse"))
    fit = training.fit(graph, graph.targets[0], Listener())
    assert training.model == "mf"
    assert len(fit.trials) == 3
    assert all(set(t["hyperparameters"]) == {"lr"} and t["metric"] == "mse" for t in fit.trials)  # type: ignore[call-overload]
    # AND the same seed finds the same
    again = training.fit(graph, graph.targets[0], Listener())
    assert [t["value"] for t in again.trials] == [t["value"] for t in fit.trials]


def test_a_training_job_of_a_tuning_job_trains_once_with_what_it_was_given_and_says_how_good_it_is(
    tmp_path: Path,
) -> None:
    graph, spec = make_ratings(), make_spec(search={"jobs": 30, "where": "tuning-job"})
    processed = put(tmp_path, [make_param(range=[0.1, 1])])
    training = plan_training(spec, {**QUICK, "_tuning_objective_metric": "objective"}, processed)
    fit = training.fit(graph, graph.targets[0], Listener())
    assert fit.trials == ()
    line = training.objective_line(fit, graph, graph.targets[0])
    assert line is not None
    found = re.search(OBJECTIVE_REGEX, line)
    assert found is not None
    assert float(found[1]) == pytest.approx(fit.curves[0].best_valid, rel=1e-3)


def test_a_search_without_its_configuration_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="run the stage process again"):
        plan_training(make_spec(search={"jobs": 5}), {}, tmp_path)


def test_a_configuration_whose_model_cannot_do_the_targets_is_at_fault_itself(tmp_path: Path) -> None:
    spec = make_spec(search={"jobs": 5})
    for model, said in (
        ("transe", "transe cannot do edge_regression; use one of rgcn, "),
        ("gat", "'gat' is none of "),
    ):
        (tmp_path / HPO_FILE).write_text(json.dumps(make_configuration(model=model)))
        with pytest.raises(BadData, match=re.escape(f"models[0].model: {said}")) as caught:
            plan_training(spec, {}, tmp_path)
        assert caught.value.code == "BAD_HPO_CONFIGURATION"


def written(folder: Path, spec: PipelineSpec, graph: EncodedGraph, source: Path | None = None) -> dict[str, Any]:
    write_configuration(folder, spec, graph, source)
    (model,) = json.loads((folder / HPO_FILE).read_text())["models"]
    return dict(model)


def test_what_is_written_can_be_searched_at_once(tmp_path: Path) -> None:
    graph, spec = make_ratings(), make_spec(search={"jobs": 2}, hyperparameters={"num-hidden": 4})
    model = written(tmp_path, spec, graph)
    assert (model["model"], model["task_type"]) == ("mf", "edge_regression")
    # what the spec sets is fixed
    assert "num-hidden" in {p["param"] for p in model["fixed-param"]}
    fit = plan_training(spec, {"seeds": "1", "num-hidden": "4"}, tmp_path).fit(graph, graph.targets[0], Listener())
    assert len(fit.trials) == 2


def test_lopsided_classes_are_judged_by_f1(tmp_path: Path) -> None:
    target = Target(task=Task.NODE_CLASSIFICATION, node="user", property="kind", classes=("a", "b"))
    graph = make_ratings(20, 8, 60, target)
    assert written(tmp_path, make_spec(name="rgcn"), graph)["eval_metric"] == {"metric": "acc"}
    users = graph.node("user")
    lopsided = np.zeros(20, np.int32)
    lopsided[0] = 1
    labels = (Labels(0, users.labels[0].split, lopsided),)
    graph = replace(graph, nodes=(replace(users, labels=labels), *graph.nodes[1:]))
    assert written(tmp_path, make_spec(name="rgcn"), graph)["eval_metric"] == {"metric": "F1"}


def test_a_custom_models_own_configuration_is_taken_as_it_is_and_checked(tmp_path: Path) -> None:
    source = put(tmp_path / "source", [make_param("depth")], model="custom")
    spec = make_spec(name="custom", source="s3://bucket/scripts/")
    assert written(tmp_path, spec, make_ratings(), source)["1-tier-param"][0]["param"] == "depth"
    (source / HPO_FILE).write_text('{"models": []}')
    with pytest.raises(BadData, match="exactly one model"):
        write_configuration(tmp_path, spec, make_ratings(), source)


def test_a_search_of_a_custom_model_needs_its_configuration_before_any_training_is_paid_for(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    spec = make_spec(name="custom", source="s3://bucket/scripts/", search={"jobs": 4})
    with pytest.raises(BadData, match=f"model.source has no {HPO_FILE}") as caught:
        write_configuration(tmp_path, spec, make_ratings(), source)
    assert caught.value.code == "NO_HPO_CONFIGURATION"
    once = make_spec(name="custom", source="s3://bucket/scripts/", search={"jobs": 1})
    assert written(tmp_path, once, make_ratings(), source)["model"] == "custom"
