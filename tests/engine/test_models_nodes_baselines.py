"""What a node model has to beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ekiden_engine.graph import EncodedGraph, Labels, Split
from ekiden_engine.models.nodes_baselines import node_baselines
from tests.engine.nodes_factories import accuracy, labels_of, make_communities, make_node_graph, make_shoppers

CITES = ("paper", "cites", "paper")


def test_the_frequencies_of_the_classes_are_those_of_training() -> None:
    graph = make_communities()
    labels = labels_of(graph)
    found = node_baselines(graph, graph.targets[0])
    assert set(found) == {"majority_class", "label_propagation", "logistic_regression"}
    wanted = np.bincount(np.asarray(labels.values)[labels.rows(Split.TRAIN)], minlength=3) / len(
        labels.rows(Split.TRAIN)
    )
    np.testing.assert_allclose(found["majority_class"], np.tile(wanted, (240, 1)), rtol=1e-5)
    for answers in found.values():
        assert answers.shape == (240, 3)
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


def test_label_propagation_and_features_alone_each_beat_the_majority() -> None:
    graph = make_communities()
    found = {name: accuracy(a, graph) for name, a in node_baselines(graph, graph.targets[0]).items()}
    assert found["label_propagation"] > found["majority_class"] + 0.1
    assert found["logistic_regression"] > found["majority_class"] + 0.1


def test_labels_reach_nodes_of_the_same_type_through_another_type() -> None:
    graph = make_shoppers(bare_items=True)
    found = node_baselines(graph, graph.targets[0])
    assert set(found) == {"majority_class", "label_propagation"}
    assert accuracy(found["label_propagation"], graph) > 0.8


def test_a_node_that_no_label_reaches_has_the_mean() -> None:
    split = np.array([0, 0, 1, 2, 2], np.uint8)
    values = np.array([1.0, 3.0, 1.0, 2.0, 2.0])
    graph = make_node_graph({"paper": 5}, {CITES: ([0, 1], [2, 3])}, values, split)
    found = node_baselines(graph, graph.targets[0])
    assert set(found) == {"mean", "label_propagation"}
    np.testing.assert_allclose(found["mean"], 2, rtol=1e-6)
    np.testing.assert_allclose(found["label_propagation"], [1, 3, 1, 3, 2], rtol=1e-4)


def test_ridge_regression_finds_a_plane_and_stays_in_range() -> None:
    x = np.random.default_rng(2).normal(size=(200, 2)) * [1, 1000]
    values = 5 + 2 * x[:, 0] - 0.001 * x[:, 1]
    graph = make_node_graph({"paper": x}, {}, values)
    found = node_baselines(graph, graph.targets[0])
    assert set(found) == {"mean", "ridge_regression"}
    rows, train = labels_of(graph).rows(Split.TEST), values[labels_of(graph).rows(Split.TRAIN)]
    held = np.clip(values[rows], train.min(), train.max())
    np.testing.assert_allclose(found["ridge_regression"][rows], held, atol=0.1)


def test_several_classes_a_row_each_have_their_own_line() -> None:
    x = np.random.default_rng(3).normal(size=(300, 2))
    values = (x > 0).astype(np.uint8)
    graph = make_node_graph({"paper": x}, {CITES: ([0], [1])}, values, classes=2)
    found = node_baselines(graph, graph.targets[0])["logistic_regression"]
    rows = labels_of(graph).rows(Split.TEST)
    assert ((found[rows] > 0.5) == (values[rows] > 0)).mean() > 0.95


@pytest.mark.parametrize("part", [Split.TEST])
def test_labels_that_are_held_out_change_nothing(part: Split) -> None:
    graph = make_communities()
    labels = labels_of(graph)
    spoilt = Labels(0, labels.split, np.where(labels.split == part, 0, np.asarray(labels.values)).astype(np.int32))
    other = EncodedGraph((replace(graph.nodes[0], labels=(spoilt,)),), graph.edges, graph.targets)
    honest, same = node_baselines(graph, graph.targets[0]), node_baselines(other, graph.targets[0])
    for name, answers in honest.items():
        np.testing.assert_array_equal(answers, same[name])
