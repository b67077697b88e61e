"""A saved node model: what it says of known nodes, of nodes it never saw, and of files that are not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models import predictor_class
from ekiden_engine.models.base import Fit, InductiveNodes, InductiveVectors, NewEdge, NewNode
from ekiden_engine.models.nodes_predictor import STRUCTURE_FILE, TENSOR_FILE, NodeTablePredictor
from tests.engine.nodes_factories import (
    BOUGHT,
    LAYERS,
    PROPAGATION,
    all_answers,
    fit_nodes,
    labels_of,
    make_communities,
    make_node_graph,
    make_shoppers,
)

CITES = ("paper", "cites", "paper")


def predictor_of(fit: Fit) -> NodeTablePredictor:
    assert isinstance(fit.predictor, NodeTablePredictor)
    return fit.predictor


def as_new(graph: EncodedGraph, node: int) -> NewNode:
    """A node of the target's type as a request would describe it, were it new."""
    label = graph.nodes[0].label
    found = []
    for edges in graph.edges:
        if edges.source_label == label:
            found += [NewEdge(edges.edge_type, True, int(n)) for n in edges.dest[edges.source == node]]
        if edges.dest_label == label:
            found += [NewEdge(edges.edge_type, False, int(n)) for n in edges.source[edges.dest == node]]
    return NewNode(graph.nodes[0].features[node], tuple(found))


def test_a_saved_model_says_the_same(tmp_path: Path) -> None:
    for settings in (PROPAGATION, LAYERS):
        graph = make_communities()
        fit = fit_nodes(graph, settings, num_epochs=10, seeds=2)
        fit.predictor.save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(NodeTablePredictor.files)
        again = predictor_class(fit.predictor.kind).load(tmp_path)
        assert isinstance(again, NodeTablePredictor)
        np.testing.assert_array_equal(again.predict(np.arange(240, dtype=np.int32)), all_answers(fit, graph))
        new = [as_new(graph, node) for node in range(5)]
        np.testing.assert_array_equal(again.predict_new(new), predictor_of(fit).predict_new(new))
        assert again.counts() == {"paper": 240}


def test_serving_needs_no_torch(tmp_path: Path) -> None:
    fit_nodes(make_communities(), PROPAGATION, num_epochs=2).predictor.save(tmp_path)
    program = (
        "import sys, pathlib, numpy as np\n"
        "from ekiden_engine.models import predictor_class\n"
        "model = predictor_class('nodes').load(pathlib.Path(sys.argv[1]))\n"
        "print(model.predict(np.array([0, -1], np.int32)).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["(2,", "3)", "False"]


@pytest.mark.parametrize("settings", [PROPAGATION, {**LAYERS, "propagation_steps": 10, "num_layer": 1}])
def test_a_node_told_again_as_if_it_were_new_gets_nearly_the_same_answer(settings: Any) -> None:
    graph = make_communities()
    fit = fit_nodes(graph, settings, seeds=2)
    known = all_answers(fit, graph)
    new = predictor_of(fit).predict_new([as_new(graph, node) for node in range(240)])
    assert isinstance(fit.predictor, InductiveNodes)
    assert (known.argmax(1) == new.argmax(1)).mean() > 0.97
    assert np.abs(known - new).mean() < 0.03


def test_layers_alone_answer_for_a_node_told_again_to_the_last_digits() -> None:
    # GIVEN layers alone, whose neighbours' states are stored as they were
    graph = make_communities()
    fit = fit_nodes(graph, LAYERS, seeds=2)
    new = predictor_of(fit).predict_new([as_new(graph, node) for node in range(240)])
    # But for those that are told their own label: a new node has none. States are kept in half precision.
    others = labels_of(graph).split != Split.TRAIN
    np.testing.assert_allclose(new[others], all_answers(fit, graph)[others], atol=0.01)


@pytest.mark.parametrize("settings", [PROPAGATION, LAYERS])
def test_the_vector_of_a_node_told_again_as_if_it_were_new_is_nearly_its_own(settings: Any) -> None:
    graph = make_communities()
    predictor: Any = fit_nodes(graph, settings).predictor
    assert issubclass(type(predictor), InductiveVectors)
    own, new = predictor.embeddings("paper"), predictor.embed_new("paper", [as_new(graph, n) for n in range(240)])
    cosine = np.vecdot(own, new) / np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(new, axis=1), 1e-9)
    assert np.median(cosine) > 0.98
    assert not predictor.embed_new("paper", [NewNode(None)]).any()
    assert predictor.embed_new("author", [NewNode(None)]) is None


@pytest.mark.parametrize("bare_items", [False, True])
def test_a_node_that_training_never_saw_is_answered_from_its_neighbours(bare_items: bool) -> None:
    # GIVEN a model of users of whom only their purchases are known
    graph = make_shoppers(bare_items=bare_items)
    fit = fit_nodes(graph, LAYERS)
    kinds = _kinds(graph)
    # WHEN two new users come who bought items of one kind only
    new = [
        NewNode(None, tuple(NewEdge(BOUGHT, True, int(i)) for i in np.flatnonzero(kinds == kind)[:6]))
        for kind in (0, 1)
    ]
    # THEN each gets that kind
    assert predictor_of(fit).predict_new(new).argmax(1).tolist() == [0, 1]


def test_a_new_node_is_answered_from_its_features_when_it_has_no_neighbours() -> None:
    x = np.random.default_rng(2).normal(size=(200, 2))
    graph = make_node_graph({"paper": x}, {CITES: ([0, 1], [1, 2])}, 10 * x[:, 0] - 3)
    fit = fit_nodes(graph, LAYERS, seeds=2)
    new = [NewNode(np.array([v, 0], np.float32)) for v in (-1.0, 1.0)]
    np.testing.assert_allclose(predictor_of(fit).predict_new(new), [-13, 7], atol=4)


def test_of_whom_nothing_is_known_the_frequencies_are_said_and_it_is_marked() -> None:
    # GIVEN shoppers, the last of whom bought nothing and has no label
    graph = make_shoppers()
    split = labels_of(graph).split.copy()
    last = len(split) - 1
    split[last] = Split.NONE
    bought = graph.edges[0].source != last
    lonely = make_node_graph(
        {"user": len(split), "item": graph.nodes[1].features},
        {BOUGHT: (graph.edges[0].source[bought], graph.edges[0].dest[bought])},
        np.asarray(labels_of(graph).values),
        split,
        classes=2,
    )
    predictor = predictor_of(fit_nodes(lonely, LAYERS, num_epochs=5))
    values = np.asarray(labels_of(lonely).values)[split == Split.TRAIN]
    prior = np.bincount(values, minlength=2) / len(values)
    nodes = np.array([0, last, -1], np.int32)
    assert predictor.known(nodes).tolist() == [True, False, False]
    np.testing.assert_allclose(predictor.predict(nodes)[1:], [prior, prior], rtol=1e-5)
    np.testing.assert_allclose(predictor.predict_new([NewNode(None), NewNode(np.empty(0, np.float32))])[0], prior)
    assert predictor.predict_new([]).shape == (0, 2)


def test_unknown_neighbours_and_relations_do_not_count_and_wrong_ones_are_refused() -> None:
    predictor = predictor_of(fit_nodes(make_shoppers(), LAYERS, num_epochs=5))
    bought, nothing = NewEdge(BOUGHT, True, 3), NewEdge(BOUGHT, True, -1)
    strange = NewEdge(("user", "stole", "item"), True, 3)
    one, same = predictor.predict_new([NewNode(None, (bought,)), NewNode(None, (bought, nothing, strange))])
    np.testing.assert_array_equal(one, same)
    with pytest.raises(ValueError, match="a neighbour has index 60 of 60"):
        predictor.predict_new([NewNode(None, (NewEdge(BOUGHT, True, 60),))])
    with pytest.raises(ValueError, match="1 columns of features, not 0"):
        predictor.predict_new([NewNode(np.ones(1, np.float32))])


def test_the_last_hidden_layer_puts_nodes_of_one_class_together() -> None:
    graph = make_communities()
    predictor = predictor_of(fit_nodes(graph, PROPAGATION))
    vectors, topics = predictor.embeddings("paper"), np.asarray(labels_of(graph).values)
    assert vectors is not None
    assert vectors.shape == (240, 16)
    assert vectors.dtype == np.float32
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    near = unit @ unit.T - 2 * np.eye(240)
    assert (topics[near.argmax(1)] == topics).mean() > 0.8
    assert predictor.embeddings("author") is None
    both = predictor_of(fit_nodes(make_shoppers(), LAYERS, num_epochs=2))
    assert {label: v.shape for label in ("user", "item") if (v := both.embeddings(label)) is not None} == {
        "user": (200, 16),
        "item": (60, 16),
    }


def test_probabilities_mean_what_they_say() -> None:
    # GIVEN labels that features foretell only in part
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2000, 1))
    values = (rng.random(2000) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(int)
    graph = make_node_graph({"paper": x}, {}, values, classes=2)
    # WHEN
    answers = all_answers(fit_nodes(graph, PROPAGATION, propagation_steps=0), graph)
    # THEN of those with about 70 % about 70 % are right
    rows = labels_of(graph).rows(Split.TEST)
    sure = answers[rows].max(1)
    right = answers[rows].argmax(1) == values[rows]
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 1.0)):
        part = (sure >= low) & (sure < high)
        assert abs(right[part].mean() - sure[part].mean()) < 0.12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / TENSOR_FILE).unlink(), TENSOR_FILE),
        (lambda f: (f / TENSOR_FILE).write_bytes(b"\x00" * 40), TENSOR_FILE),
        (lambda f: (f / STRUCTURE_FILE).write_text("{}"), STRUCTURE_FILE),
        (lambda f: _edit(f, target=7), "the position of a node type lies beyond"),
        (lambda f: _edit(f, steps=-1), STRUCTURE_FILE),
        (lambda f: _edit(f, layers=2), "layer.0.shift is missing"),
        (lambda f: _cut(f, "answers"), r"answers is float32\(239, 3\), not float32\(240, 3\)"),
        (lambda f: _cut(f, "project"), "not float32"),
        (lambda f: _cut(f, "said.0"), "said.0 is"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    fit_nodes(make_communities(), PROPAGATION, num_epochs=2).predictor.save(tmp_path)
    change(tmp_path)
    with pytest.raises(BadData, match=says) as caught:
        NodeTablePredictor.load(tmp_path)
    assert caught.value.code == "CORRUPT_ARTIFACT"


def _kinds(graph: EncodedGraph) -> Any:
    """The kind of each item, by the class of most of those who bought it."""
    taste = np.asarray(labels_of(graph).values)
    edges = graph.edges[0]
    count = np.bincount(edges.dest, minlength=60)
    return (np.bincount(edges.dest, taste[edges.source], 60) / np.maximum(count, 1) > 0.5).astype(int)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / STRUCTURE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _cut(folder: Path, name: str) -> None:
    tensors = load_file(folder / TENSOR_FILE)
    tensors[name] = np.ascontiguousarray(tensors[name][:-1])
    save_file(tensors, folder / TENSOR_FILE)
