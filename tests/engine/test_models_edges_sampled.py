"""Training on samples of neighbours: what the samples are, and that the model is that of the full batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models import sampler
from ekiden_engine.models.edges_memory import full_batch_bytes
from ekiden_engine.models.edges_objectives import NumberObjective
from ekiden_engine.models.edges_problem import EdgeProblem, make_edge_problem
from ekiden_engine.models.edges_sampled import fit_sampled
from ekiden_engine.models.edges_sampled_data import NumberEdges
from ekiden_engine.models.fitting import Member, Recipe, fit_member
from ekiden_engine.models.sampler import Adjacency
from tests.engine.factories import make_encoded_graph
from tests.engine.model_factories import edges_of, fit, make_graph, predict, rmse, with_labels

RECIPE = Recipe(width=8, epochs=12, lr=0.01, dropout=0.0, batch_size=256, regularization=1.0, patience=12)


def make_lists(folder: Path, edges: int = 3_000, nodes: int = 40) -> tuple[Adjacency, Any, Any]:
    """Lists of neighbours, of which the first nodes have long ones and the last node none."""
    random = np.random.default_rng(0)
    rows = np.minimum(random.geometric(0.15, edges) - 1, nodes - 2).astype(np.int32)
    columns = random.integers(0, 500, edges).astype(np.int32)
    return Adjacency(rows, columns, nodes, folder, "lists"), rows, columns


def sampled(problem: EdgeProblem, fanout: int = 8, stop: bool = False, **changes: Any) -> Member:
    given = {**{name: getattr(RECIPE, name) for name in Recipe.__slots__}, **changes}
    return fit_sampled(problem, Recipe(**given), fanout, 0, lambda metric, point: None, lambda: stop)


def learnable() -> EncodedGraph:
    return make_encoded_graph(users=150, movies=120, edges=6000)


def test_short_lists_are_taken_whole_and_long_ones_sampled(tmp_path: Path) -> None:
    # GIVEN lists of all lengths
    lists, rows, columns = make_lists(tmp_path)
    nodes = np.array([0, 1, 12, 25, 39])
    # WHEN at most ten of each are asked for
    sample = lists.sample(nodes, 10, np.random.default_rng(1))
    # THEN every one is an edge of its node; who has no more has each once; the shares make up for the rest
    assert (rows[sample.edges] == nodes[sample.owners]).all()
    assert (columns[sample.edges] == sample.columns).all()
    for i, node in enumerate(nodes):
        degree = int((rows == node).sum())
        taken = sample.edges[sample.pointers[i] : sample.pointers[i + 1]]
        assert len(taken) == min(degree, 10)
        assert degree > 10 or sorted(taken.tolist()) == np.flatnonzero(rows == node).tolist()
        assert sample.share[i] * len(taken) == pytest.approx(degree, rel=1e-6)


def test_samples_stand_for_all_neighbours_in_the_mean(tmp_path: Path) -> None:
    lists, rows, columns = make_lists(tmp_path)
    random = np.random.default_rng(2)
    sums = []
    for _ in range(400):
        sample = lists.sample(np.array([0]), 10, random)
        sums.append(float(sample.columns.sum() * sample.share[0]))
    whole = float(columns[rows == 0].sum())
    assert np.mean(sums) == pytest.approx(whole, abs=float(4 * np.std(sums) / 20))
    assert np.std(sums) > 0


def test_lists_written_chunk_by_chunk_are_the_same_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "CHUNK", 700)
    lists, rows, columns = make_lists(tmp_path)
    seen = []
    for block, sample in lists.blocks():
        nodes = np.arange(block.start, block.stop)
        assert (rows[sample.edges] == nodes[sample.owners]).all()
        assert (columns[sample.edges] == sample.columns).all()
        seen.append(sample.edges)
    assert len(seen) > 2
    assert sorted(np.concatenate(seen).tolist()) == list(range(len(rows)))
    assert {path.name for path in tmp_path.iterdir()} == {"lists-columns", "lists-edges"}


def test_biases_and_what_they_leave_are_those_of_all_edges_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "CHUNK", 1_000)
    problem = make_edge_problem(graph := learnable(), graph.targets[0])
    edges = NumberEdges(problem, problem.train, tmp_path)
    label = problem.label[problem.train]
    unit = edges.wanted(slice(None)).numpy()
    assert edges.decoder.mean == pytest.approx(label.mean(), abs=1e-5)
    assert edges.decoder.scale == pytest.approx(label.std(), abs=1e-5)
    assert np.allclose(unit, (label - label.mean()) / label.std(), atol=1e-4)
    left = unit - edges.starts[0][edges.ends[0], 0] - edges.starts[1][edges.ends[1], 0]
    assert np.allclose(edges.residual, left, atol=1e-5)
    assert edges.residual.std() < 0.8 * unit.std()


def test_it_comes_close_to_the_full_batch() -> None:
    # GIVEN a graph that can be learnt
    problem = make_edge_problem(graph := learnable(), graph.targets[0])
    full = Recipe(width=8, epochs=40, lr=0.005, dropout=0.0, batch_size=300, regularization=1.0, patience=40)
    torch.set_num_threads(1)
    whole = fit_member(problem, NumberObjective, full, 0, lambda metric, point: None, lambda: False)
    # WHEN trained on samples of a quarter of the neighbours
    member = sampled(problem, epochs=40, patience=40)
    # THEN
    assert member.curve.best_valid < 1.05 * whole.curve.best_valid
    assert member.trained.source.encoded.shape == whole.trained.source.encoded.shape
    assert [m[:2] for m in member.trained.dest.messages] == [m[:2] for m in whole.trained.dest.messages]
    assert member.trained.source.usual.shape == whole.trained.source.usual.shape


def test_labels_that_nothing_explains_are_not_learnt_from_themselves() -> None:
    # GIVEN labels drawn by lot: an encoder that saw the label asked for would fit them
    graph = learnable()
    random = np.random.default_rng(5)
    label = random.normal(size=len(edges_of(graph)[2])).astype(np.float32)
    problem = make_edge_problem(graph := with_labels(graph, label), graph.targets[0])
    member = sampled(problem, epochs=3, lr=0.002)
    first = member.curve.points[0]
    assert first.train > 0.9
    assert first.valid > 0.95


def test_the_same_seed_gives_the_same_member_and_no_file_is_left(tmp_path: Path) -> None:
    problem = make_edge_problem(graph := make_encoded_graph(), graph.targets[0])
    members = [
        fit_sampled(problem, RECIPE, 4, seed, lambda metric, point: None, lambda: True, tmp_path) for seed in (7, 7, 8)
    ]
    first, second, other = (m.trained.source.encoded for m in members)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len(members[0].curve.points) == 1  # asked to stop
    assert not list(tmp_path.iterdir())


def test_dropout_is_another_training_that_still_learns() -> None:
    problem = make_edge_problem(graph := learnable(), graph.targets[0])
    plain, some = (sampled(problem, dropout=dropout) for dropout in (0.0, 0.3))
    assert not torch.equal(plain.trained.source.encoded, some.trained.source.encoded)
    assert some.curve.best_valid < 0.8 * float(problem.label[problem.valid].std())


def test_other_relations_features_and_nodes_of_one_type_are_sampled_too() -> None:
    # GIVEN people who rate people, with cities that have features
    random = np.random.default_rng(6)
    people, cities, edges = 60, 5, 900
    source, dest = random.integers(0, people, edges), random.integers(0, people, edges)
    city = random.integers(0, cities, people)
    taste = random.normal(size=cities)
    label = taste[city[source]] * taste[city[dest]] + 0.1 * random.normal(size=edges)
    split = np.where(random.random(edges) < 0.2, Split.VALID, Split.TRAIN)
    graph = make_graph(
        {"person": people, "city": cities},
        {("person", "likes", "person"): (source, dest), ("person", "lives-in", "city"): (np.arange(people), city)},
        label,
        split,
        {"city": np.eye(cities, dtype=np.float32), "person": np.ones((people, 1), np.float32)},
    )
    problem = make_edge_problem(graph, graph.targets[0])
    # WHEN
    member = sampled(problem, epochs=30, lr=0.02, patience=30)
    # THEN it learns, and keeps every relation, as all neighbours would
    assert member.curve.best_valid < 0.5 * float(np.std(label))
    keys = [(key, labelled) for key, labelled, _ in member.trained.source.messages]
    likes, lives = ("person", "likes", "person"), ("person", "lives-in", "city")
    assert keys == [((likes, o), labelled) for labelled in (False, True) for o in (True, False)] + [
        ((lives, True), False)
    ]


def test_a_learning_rate_that_explodes_is_reported() -> None:
    problem = make_edge_problem(graph := make_encoded_graph(), graph.targets[0])
    with pytest.raises(BadData) as caught:
        sampled(problem, lr=1e30)
    assert caught.value.code == "TRAINING_DIVERGED"


def test_the_estimate_of_memory_counts_edges_classes_relations_and_members() -> None:
    # GIVEN the same edges as numbers, as two classes and as ten, and between nodes of one type
    ends = np.arange(4_000) % 50, np.arange(4_000) % 40
    label = np.arange(4_000) % 2

    def needed(dest: str = "b", classes: int = 0, members: int = 1, relational: bool = True) -> int:
        graph = make_graph({"a": 50, "b": 50}, {("a", "r", dest): ends}, label, classes=classes)
        return full_batch_bytes(make_edge_problem(graph, graph.targets[0], relational=relational), 32, members)

    # THEN matrices of edges are counted: numbers have two each way, the second one weighted by labels
    plain, number = needed(relational=False), needed()
    assert number - plain > 4 * 36 * 4_000
    assert needed(dest="a") - number > 4 * 36 * 4_000
    assert needed(classes=2) < needed(classes=10)
    # THEN members that are kept take a copy each of 2 x 50 vectors and their messages
    assert needed(members=3) - number == 2 * (100 + 200) * 33 * 4


def test_matrix_factorisation_can_be_trained_by_batches_too() -> None:
    graph = learnable()
    fitted = fit(graph, "mf", fanout="4", num_epochs="30", lr="0.01")
    assert fitted.hyperparameters["fanout"] == "4"
    assert rmse(predict(fitted, graph, Split.TEST), graph) < 0.9 * float(edges_of(graph, Split.TEST)[2].std())


def test_the_trainer_samples_when_told_to_and_says_so() -> None:
    # GIVEN a fanout, and the same training without
    graph = make_encoded_graph()
    fitted = fit(graph, fanout="4", num_epochs="2")
    assert (fitted.hyperparameters["fanout"], fitted.device) == ("4", "cpu")
    assert fit(graph, num_epochs="1").hyperparameters["fanout"] == "0"
    # THEN predictions are of the same form, and not the same
    said, other = predict(fitted, graph), predict(fit(graph, num_epochs="2"), graph)
    assert said.shape == other.shape
    assert not np.array_equal(said, other)
