"""Node classification and node regression by `rgcn`: what it learns, from what, and how it decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Labels, Split
from ekiden_engine.models.nodes_fitting import Consistency
from ekiden_engine.models.nodes_problem import make_node_problem, property_groups
from tests.engine.nodes_factories import (
    LAYERS,
    LIGHT,
    PROPAGATION,
    Watcher,
    accuracy,
    all_answers,
    fit_nodes,
    labels_of,
    make_communities,
    make_node_graph,
    make_raters,
    make_shoppers,
)

KNOWS: Any = ("paper", "cites", "paper")


def test_few_labels_spread_along_citations() -> None:
    graph = make_communities()
    answers = all_answers(fit_nodes(graph, PROPAGATION), graph)
    assert accuracy(answers, graph) > 0.85
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("bare_items", [False, True])
def test_a_class_that_only_neighbours_show_is_found_with_and_without_features_of_theirs(bare_items: bool) -> None:
    graph = make_shoppers(bare_items=bare_items)
    assert accuracy(all_answers(fit_nodes(graph, LIGHT), graph), graph) > 0.9


def test_what_kind_of_neighbour_an_item_is_can_be_all_that_matters() -> None:
    # GIVEN users with as many items of either kind, liked or disliked
    graph, progress = make_raters(), Watcher()
    fit = fit_nodes(graph, LIGHT, progress=progress)
    # THEN relations need matrices of their own, and validation finds that out
    assert accuracy(all_answers(fit, graph), graph) > 0.95
    assert fit.hyperparameters["num-layer"] == "2"
    assert accuracy(all_answers(fit_nodes(graph, PROPAGATION), graph), graph) < 0.75


def test_more_classes_than_the_network_is_wide_are_told_apart() -> None:
    # GIVEN twelve classes, each a corner of its own, and vectors of four numbers
    rng = np.random.default_rng(6)
    topic = np.arange(360) % 12
    x = np.eye(12)[topic] * 3 + rng.normal(scale=0.3, size=(360, 12))
    graph = make_node_graph({"paper": x}, {KNOWS: (np.arange(348), np.arange(348) + 12)}, topic, classes=12)
    fit = fit_nodes(graph, {**PROPAGATION, **LIGHT}, num_hidden=4, num_layer=0, propagation_steps=2)
    assert accuracy(all_answers(fit, graph), graph) > 0.8


def test_bases_are_shared_between_relations_and_learn_as_well() -> None:
    graph = make_raters()
    assert accuracy(all_answers(fit_nodes(graph, LAYERS, num_bases=2), graph), graph) > 0.95


def test_several_classes_a_row_are_independent_of_each_other() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 3))
    source, dest = rng.integers(300, size=(2, 900))
    values = (x > 0).astype(np.uint8)
    graph = make_node_graph({"paper": x}, {KNOWS: (source, dest)}, values, classes=3)
    fit = fit_nodes(graph, LAYERS)
    answers, rows = all_answers(fit, graph), labels_of(graph).rows(Split.TEST)
    found, wanted = answers[rows] > 0.5, values[rows] > 0
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.85
    assert answers.sum(1).max() > 1.5  # no softmax
    assert {curve.metric for curve in fit.curves} == {"f1"}


def test_a_number_is_learnt_from_neighbours_and_stays_within_what_training_saw() -> None:
    # GIVEN users whose value is ten times the mean price of what they bought, plus 1000
    rng = np.random.default_rng(5)
    price = rng.normal(size=(50, 1))
    source, dest = np.repeat(np.arange(300), 4), rng.integers(50, size=1200)
    value = 1000 + 10 * price[dest, 0].reshape(300, 4).mean(1)
    graph = make_node_graph({"user": 300, "item": price}, {("user", "bought", "item"): (source, dest)}, value)
    # WHEN
    fit = fit_nodes(graph, LAYERS)
    # THEN
    answers, labels = all_answers(fit, graph), labels_of(graph)
    rows, train = labels.rows(Split.TEST), value[labels.rows(Split.TRAIN)]
    assert answers.shape == (300,)
    assert np.sqrt(np.mean((answers[rows] - value[rows]) ** 2)) < 0.4 * value[rows].std()
    assert train.min() - 1e-3 <= answers.min() <= answers.max() <= train.max() + 1e-3
    assert fit.curves[0].metric == "rmse"
    point = fit.curves[0].points[0]
    assert 0.5 * value.std() < min(point.train, point.valid) < max(point.train, point.valid) < 2 * value.std()


def test_features_of_edges_count() -> None:
    rng = np.random.default_rng(7)
    source, dest = np.repeat(np.arange(200), 3), rng.integers(40, size=600)
    amount = rng.normal(size=(600, 1))
    rich = (amount.reshape(200, 3).mean(1) > 0).astype(int)
    edge_type: Any = ("user", "bought", "item")
    edges = {edge_type: (source, dest)}
    graph = make_node_graph({"user": 200, "item": 40}, edges, rich, classes=2, edge_features={edge_type: amount})
    assert accuracy(all_answers(fit_nodes(graph, LAYERS), graph), graph) > 0.85


def test_the_unit_of_a_feature_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 1))
    values = (x[:, 0] > 0).astype(int)
    edges: Any = {KNOWS: rng.integers(200, size=(2, 100))}
    small = make_node_graph({"paper": x}, edges, values, classes=2)
    large = make_node_graph({"paper": x * 1e-9 + 3e-9}, edges, values, classes=2)
    assert accuracy(all_answers(fit_nodes(small, LAYERS), small), small) > 0.85
    assert accuracy(all_answers(fit_nodes(large, LAYERS), large), large) > 0.85


def test_columns_of_one_property_share_their_size_and_other_properties_do_not_shrink_them() -> None:
    names = ("text[0]", "text[1]", "text~a", "kind=x", "kind=y", "age", "born.year=1990", "born.month=2", "text[2]")
    assert property_groups(names) == (2, 1, 2, 1, 2, 1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3)) * [1, 10, 1000]
    graph = make_node_graph({"paper": x}, {}, np.arange(100.0))
    named = replace(graph, nodes=(replace(graph.nodes[0], feature_names=("text[0]", "text[1]", "age")),))
    size = make_node_problem(named, named.targets[0]).x[0].var(0)
    np.testing.assert_allclose([size[0] + size[1], size[2]], 1, rtol=1e-4)
    assert size[0] < 0.05 * size[1]


def test_a_graph_without_edges_is_answered_from_features_alone() -> None:
    x = np.random.default_rng(2).normal(size=(200, 2))
    graph = make_node_graph({"paper": x}, {}, (x[:, 0] > 0).astype(int), classes=2)
    fit = fit_nodes(graph)
    assert accuracy(all_answers(fit, graph), graph) > 0.85
    assert (fit.hyperparameters["num-layer"], fit.hyperparameters["propagation-steps"]) == ("0", "0")


def test_nodes_without_a_label_are_told_the_same_whatever_dropout_hides() -> None:
    graph = make_communities()
    problem = make_node_problem(graph, graph.targets[0])
    consistency = Consistency(problem, problem.train)
    said = torch.from_numpy(np.random.default_rng(0).normal(size=(240, 3)))
    # GIVEN the first epoch: nobody was told anything yet
    assert float(consistency(said, 1)) == 0
    consistency.learn(said)
    # THEN to say something else costs, less in early epochs; to say the same but surer costs nothing
    assert (
        float(consistency(said + 3 * torch.eye(240, 3), 40)) > float(consistency(said + 3 * torch.eye(240, 3), 2)) > 0
    )
    np.testing.assert_allclose(float(consistency(2 * said, 40)), 0, atol=1e-12)
    # AND what training nodes are told is left to their labels
    moved = said.clone()
    moved[problem.train] += 5 * torch.eye(3, dtype=said.dtype)[problem.train % 3]
    assert float(consistency(moved, 40)) == float(consistency(said, 40))


def test_class_weights_find_a_rare_class() -> None:
    # GIVEN one node in twenty of a class that overlaps with the other
    rng = np.random.default_rng(4)
    rare = (rng.random(1200) < 0.05).astype(int)
    x = rng.normal(size=(1200, 1)) + 1.5 * rare[:, None]
    graph = make_node_graph({"paper": x}, {}, rare, classes=2)
    rows = labels_of(graph).rows(Split.TEST)
    found = {}
    for weighted in (False, True):
        answers = all_answers(fit_nodes(graph, use_class_weight=weighted), graph)[rows]
        found[weighted] = (answers.argmax(1)[rare[rows] == 1] == 1).mean()
    # THEN without weights hardly any of it is named, with weights most
    assert found[False] < 0.3
    assert found[True] > 0.6


def test_test_labels_are_never_looked_at() -> None:
    graph = make_communities()
    spoilt = _with_values(graph, lambda labels: np.where(labels.split == Split.TEST, 0, labels.values))
    np.testing.assert_array_equal(
        all_answers(fit_nodes(graph, PROPAGATION, num_epochs=20), graph),
        all_answers(fit_nodes(spoilt, PROPAGATION, num_epochs=20), spoilt),
    )


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    graph = make_communities()
    first, again, other = (all_answers(fit_nodes(graph, PROPAGATION, num_epochs=10, seed=s), graph) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_without_validation_rows_each_member_sets_others_aside() -> None:
    graph = make_communities(labelled=0.5)
    moved = _with_split(graph, lambda split: np.where(split == Split.VALID, Split.NONE, split))
    fit = fit_nodes(moved, PROPAGATION, seeds=2)
    assert [curve.seed for curve in fit.curves] == [0, 1]
    assert accuracy(all_answers(fit, moved), moved) > 0.85


def test_lighter_regularisation_is_found_where_labels_are_many_and_columns_few() -> None:
    x = np.random.default_rng(2).normal(size=(300, 2))
    graph = make_node_graph({"paper": x}, {}, x[:, 0] * 3 + x[:, 1])
    fit = fit_nodes(graph)
    assert (fit.hyperparameters["dropout"], fit.hyperparameters["weight-decay"]) == ("0.1", "0.0005")
    assert [curve.kept for curve in fit.curves] == [False, True]


def test_candidates_are_tried_told_and_the_losers_marked() -> None:
    progress = Watcher()
    fit = fit_nodes(make_communities(), progress=progress, num_epochs=15, seeds=3, dropout=0.3, weight_decay=0.001)
    assert [step.split(" ")[0] for step in progress.steps] == ["trial"] * 5 + ["member"] * 2
    assert progress.steps[5:] == ["member 2/3", "member 3/3"]
    assert sum(curve.kept for curve in fit.curves) == 3
    kept = [curve.settings for curve in fit.curves if curve.kept]
    assert all(settings == kept[0] for settings in kept)
    shared = {name: f"{kept[0][name]:g}" for name in ("num-layer", "propagation-steps", "dropout", "weight-decay")}
    assert shared.items() <= dict(fit.hyperparameters).items()
    assert progress.notes[-1].endswith("that model is member 1/3")
    assert progress.metrics == {"accuracy"}


def test_explicit_settings_leave_nothing_to_try() -> None:
    progress = Watcher()
    asked = {**PROPAGATION, "num_layer": 3, "concat_node_embed": True}
    fit = fit_nodes(make_communities(), asked, progress=progress, num_epochs=4)
    assert len(fit.curves) == 1
    assert progress.notes == []
    wanted = {"num-layer": "3", "propagation-steps": "10", "concat-node-embed": "true", "lr": "0.02"}
    assert wanted.items() <= dict(fit.hyperparameters).items()


def test_a_request_to_stop_ends_after_the_epoch_with_a_model() -> None:
    graph, progress = make_communities(), Watcher(stop_after=3)
    fit = fit_nodes(graph, progress=progress, seeds=4)
    assert fit.stopped
    assert [len(curve.points) for curve in fit.curves] == [3]
    assert all_answers(fit, graph).shape == (240, 3)


def test_no_training_row_says_what_to_check() -> None:
    graph = _with_split(make_communities(), lambda split: np.where(split == Split.TRAIN, Split.NONE, split))
    with pytest.raises(BadData, match='no "paper" has a "topic" and belongs to the training split') as caught:
        fit_nodes(graph)
    assert caught.value.code == "EMPTY_TRAINING_SET"


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_cannot_be_learnt_from_is_no_model() -> None:
    graph = make_node_graph({"paper": np.full((60, 2), np.inf)}, {}, np.arange(60.0))
    with pytest.raises(BadData, match="no epoch gave a finite validation loss: lower lr") as caught:
        fit_nodes(graph, LAYERS)
    assert caught.value.code == "TRAINING_DIVERGED"
    assert "extreme values among the features" in caught.value.message


def _with_values(graph: EncodedGraph, change: Any) -> EncodedGraph:
    labels = labels_of(graph)
    first = replace(graph.nodes[0], labels=(replace(labels, values=change(labels).astype(np.int32)),))
    return replace(graph, nodes=(first, *graph.nodes[1:]))


def _with_split(graph: EncodedGraph, change: Any) -> EncodedGraph:
    labels = labels_of(graph)
    changed = Labels(labels.target, change(labels.split).astype(np.uint8), labels.values)
    return replace(graph, nodes=(replace(graph.nodes[0], labels=(changed,)), *graph.nodes[1:]))
