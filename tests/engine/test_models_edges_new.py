"""Ends of edges that training never saw, and the file that an edge model is kept in."""

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
from ekiden_engine.models.base import InductiveEdges, InductiveVectors, NewEdge, NewNode
from ekiden_engine.models.edges_inductive import fit_own
from ekiden_engine.models.edges_predictor import STRUCTURE_FILE, TENSOR_FILE, EdgeTables
from tests.engine.model_factories import edges_of, fit, make_graph, rmse

RATED = ("user", "rated", "movie")
OF = ("movie", "of", "genre")
TRUSTS = ("person", "trusts", "person")
USERS, MOVIES, NEW = 120, 50, 20
OPTIONS: Any = {"num_hidden": "8", "num_epochs": "30", "lr": "0.02", "regularization_coef": "1", "seeds": "2"}
Told = tuple[EncodedGraph, dict[int, list[tuple[int, float]]], list[tuple[int, int, float]]]


def make_ratings(*, classes: int = 0, several: bool = False, features: bool = False, seed: int = 0) -> Told:
    """A graph of taste times kind, and `NEW` more users: the twelve ratings told of each, and all others asked for.

    Labels are numbers around 3, or with `classes` 0/1 by their sign; with `several` the second class is the opposite.
    With `features` movies have their kind, and genres by its sign.
    """
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(USERS + NEW, 2)), rng.normal(size=(MOVIES, 2))
    bias = rng.normal(scale=0.4, size=USERS + NEW)
    truth = 3 + bias[:, None] + taste @ kind.T + rng.normal(scale=0.3, size=(USERS + NEW, MOVIES))
    values: Any = (truth > 3).astype(np.int32) if classes else truth
    source, dest = np.nonzero(rng.random((USERS, MOVIES)) < 0.4)
    label = values[source, dest]
    split = rng.choice([0, 1], size=len(source), p=[0.9, 0.1])
    edges: dict[Any, Any] = {RATED: (source, dest)}
    nodes = {"user": USERS, "movie": MOVIES}
    if features:
        nodes["genre"] = 2
        edges[OF] = (np.arange(MOVIES), (kind[:, 0] > 0).astype(int))
    graph = make_graph(
        nodes,
        edges,
        np.stack([label, 1 - label], 1) if several else label,
        split,
        {"movie": kind} if features else None,
        classes=classes,
    )
    told, asked = {}, []
    for user in range(USERS, USERS + NEW):
        order = rng.permutation(MOVIES)
        told[user] = [(int(m), float(values[user, m])) for m in order[:12]]
        asked += [(user, int(m), float(values[user, m])) for m in order[12:]]
    return graph, told, asked


def as_new(told: list[tuple[int, float]], count: int = 12) -> NewNode:
    return NewNode(None, tuple(NewEdge(RATED, True, movie, label) for movie, label in told[:count]))


def answers(predictor: Any, data: Told, count: int) -> Any:
    """Predictions for all that is asked, given `count` ratings of each new user."""
    users = {user: as_new(told, count) for user, told in data[1].items()}
    return predictor.predict_new([users[user] for user, _, _ in data[2]], [movie for _, movie, _ in data[2]])


def test_a_new_user_is_answered_the_better_the_more_ratings_the_request_tells() -> None:
    # GIVEN a model of other users
    data = make_ratings()
    predictor: Any = fit(data[0], **OPTIONS).predictor
    assert issubclass(EdgeTables, InductiveEdges)
    wanted = np.array([label for _, _, label in data[2]])
    # WHEN new users are asked about with 0, 4 and 12 ratings
    errors = [float(np.sqrt(np.mean((answers(predictor, data, n) - wanted) ** 2))) for n in (0, 4, 12)]
    # THEN each helps, and twelve bring them near the users that training knew
    assert errors[2] < 0.85 * errors[1] < 0.85 * 0.9 * errors[0]
    known = predictor.predict(*edges_of(data[0], Split.VALID)[:2])
    assert errors[2] < 2.2 * rmse(known, data[0], Split.VALID)


def test_the_vector_of_a_new_user_is_the_one_that_its_answers_are_made_of() -> None:
    data = make_ratings()
    predictor: Any = fit(data[0], **OPTIONS).predictor
    assert issubclass(EdgeTables, InductiveVectors)
    users = [as_new(told) for told in data[1].values()]
    # WHEN
    vectors = predictor.embed_new("user", [*users, NewNode(None)])
    # THEN answers differ between movies as products of the vectors do
    movies = np.arange(MOVIES)
    raw = vectors[0] @ predictor.embeddings("movie").T + predictor.tensors["dest.bias"][:-1, 0]
    said = predictor.predict_new([users[0]] * MOVIES, movies.tolist())
    free = (said > said.min()) & (said < said.max())  # numbers are held within those of training
    assert np.ptp((said - raw)[free]) < 1e-4
    assert vectors.shape == (NEW + 1, predictor.embeddings("user").shape[1])
    assert not vectors[-1].any()
    assert predictor.embed_new("genre", users) is None


@pytest.mark.parametrize("several", [False, True])
def test_the_class_of_a_new_users_edges_follows_from_those_that_the_request_tells(several: bool) -> None:
    data = make_ratings(classes=2, several=several)
    predictor: Any = fit(data[0], **OPTIONS).predictor
    if several:  # an edge for every class that it has: here one or the other
        data = (data[0], {u: [(m, 1 - label) for m, label in told] for u, told in data[1].items()}, data[2])
    wanted = np.array([label for _, _, label in data[2]])
    share = [float(((answers(predictor, data, n)[:, 0 if several else 1] > 0.5) == wanted).mean()) for n in (0, 4, 12)]
    assert share[0] + 0.05 < share[1] < share[2]
    assert share[2] > 0.75


def test_a_known_user_told_again_as_if_new_gets_nearly_the_same_answers() -> None:
    graph, _, _ = make_ratings()
    predictor: Any = fit(graph, **OPTIONS).predictor
    source, dest, label = edges_of(graph, Split.TRAIN)
    movies = np.arange(MOVIES, dtype=np.int32)
    likeness, distance = [], []
    for user in range(20):
        told = [(int(m), float(y)) for m, y in zip(dest[source == user], label[source == user], strict=True)]
        new = predictor.predict_new([as_new(told, 99)] * MOVIES, movies.tolist())
        known = predictor.predict(np.full(MOVIES, user, np.int32), movies)
        likeness.append(np.corrcoef(new, known)[0, 1])
        distance.append(np.abs(new - known).mean())
    assert np.mean(likeness) > 0.93
    assert np.mean(distance) < 0.3 * label.std()


def test_a_new_movie_is_answered_from_its_features_and_its_genre() -> None:
    # GIVEN a movie that is told with the features and the genre of one that training knew
    graph, _, _ = make_ratings(features=True)
    predictor: Any = fit(graph, **OPTIONS).predictor
    users = np.arange(USERS)
    agreement: dict[str, list[float]] = {}
    for movie in range(12):
        known = predictor.predict(users.astype(np.int32), np.full(USERS, movie, np.int32))
        genre = NewEdge(OF, True, int(graph.edges[1].dest[movie]))
        given = {"features": NewNode(graph.nodes[1].features[movie]), "genre": NewNode(None, (genre,))}
        for name, node in given.items():
            found = predictor.predict_new(users.tolist(), [node] * USERS)
            agreement.setdefault(name, []).append(np.corrcoef(found, known)[0, 1])
    # THEN users differ in it as they do in that one
    assert np.median(agreement["features"]) > 0.7
    assert np.median(agreement["genre"]) > 0.3


def test_neighbours_without_labels_tell_something_and_labels_more() -> None:
    data = make_ratings()
    predictor: Any = fit(data[0], **OPTIONS).predictor
    nobody = predictor.predict_new([NewNode(None)], [0])
    plain = predictor.predict_new([NewNode(None, tuple(NewEdge(RATED, True, m) for m in range(6)))], [0])
    loved = predictor.predict_new([NewNode(None, tuple(NewEdge(RATED, True, m, 6.0) for m in range(6)))], [0])
    assert plain != nobody
    assert loved > plain


def test_the_direction_of_an_edge_counts_where_both_ends_are_of_one_type() -> None:
    # GIVEN trust between persons, high towards even ones
    rng = np.random.default_rng(1)
    source, dest = rng.integers(0, 40, 800), rng.integers(0, 40, 800)
    label = np.where(dest % 2 == 0, 1.0, -1.0) + rng.normal(scale=0.1, size=800)
    graph = make_graph({"person": 40}, {TRUSTS: (source, dest)}, label, rng.choice([0, 1], size=800, p=[0.9, 0.1]))
    predictor: Any = fit(graph, num_epochs="20").predictor
    # WHEN a new person is trusted by some, and another trusts them
    people = range(0, 12)
    trusted = NewNode(None, tuple(NewEdge(TRUSTS, False, p, 1.0) for p in people))
    trusting = NewNode(None, tuple(NewEdge(TRUSTS, True, p, 1.0) for p in people))
    # THEN it is the former that a third is said to trust
    found = predictor.predict_new([30, 30], [trusted, trusting])
    assert found[0] > found[1] + 0.3


def test_known_nodes_and_unseen_ones_get_the_same_from_both_ways() -> None:
    for classes in (0, 2):
        graph, _, _ = make_ratings(classes=classes)
        predictor: Any = fit(graph).predictor
        s, t = np.array([3, -1, -1, 5], np.int32), np.array([4, 4, -1, 0], np.int32)
        expected = predictor.predict(s, t)
        np.testing.assert_allclose(predictor.predict_new(s.tolist(), t.tolist()), expected, rtol=1e-5)
        silent = [3, NewNode(None), NewNode(None), 5]
        np.testing.assert_allclose(predictor.predict_new(silent, [4, 4, NewNode(None), 0]), expected, rtol=1e-5)
        assert predictor.predict_new([], []).shape == expected[:0].shape


def test_neighbours_that_training_did_not_have_do_not_count() -> None:
    graph, _, _ = make_ratings()
    predictor: Any = fit(graph).predictor
    rated = NewEdge(RATED, True, 1, 4.0)
    strange = (NewEdge(("user", "likes", "movie"), True, 2), NewEdge(RATED, True, -1, 1.0), NewEdge(RATED, False, 3))
    one, same = predictor.predict_new([NewNode(None, (rated,)), NewNode(None, (rated, *strange))], [0, 0])
    assert one == same


@pytest.mark.parametrize(
    ("classes", "node", "says"),
    [
        (0, NewNode(np.zeros(3, np.float32)), "3 features, training had 2"),
        (0, NewNode(None, (NewEdge(RATED, False, USERS),)), "index 120 of 120"),
        (0, NewNode(None, (NewEdge(RATED, False, USERS, 3.0),)), "index 120 of 120"),
        (0, NewNode(None, (NewEdge(RATED, False, 1, float("nan")),)), "finite number"),
        (2, NewNode(None, (NewEdge(RATED, False, 1, 2.0),)), "one of 2 classes"),
        (2, NewNode(None, (NewEdge(RATED, False, 1, 0.5),)), "one of 2 classes"),
    ],
)
def test_a_new_node_that_does_not_fit_is_refused(classes: int, node: NewNode, says: str) -> None:
    graph, _, _ = make_ratings(classes=classes, features=True)
    predictor: Any = fit(graph, num_epochs="1").predictor
    with pytest.raises(BadData, match=says) as caught:
        predictor.predict_new([0], [node])
    assert caught.value.code == "BAD_NEW_NODE"


def test_the_correction_for_numbers_is_a_ridge_regression_with_few_edges_and_with_many() -> None:
    rng = np.random.default_rng(0)
    for edges in (3, 40):
        q, missing = rng.normal(size=(edges, 6)), rng.normal(size=edges)
        found = fit_own("number", q[:, None], np.zeros((edges, 1)), missing[:, None], 2.0, 0.5)
        x = np.column_stack([q, np.ones(edges)])
        expected = np.linalg.solve(x.T @ x + np.diag([2.0] * 6 + [0.5]), x.T @ missing)
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("kind", ["classes", "labels"])
@pytest.mark.parametrize("edges", [1, 40])
def test_the_correction_for_classes_is_where_the_loss_is_flat(kind: Any, edges: int) -> None:
    rng = np.random.default_rng(0)
    factors, raw = rng.normal(size=(edges, 3, 5)), rng.normal(size=(edges, 3))
    wanted = np.eye(3)[rng.integers(3, size=edges)]
    penalty = np.array([10.0] * 5 + [2.5] * 3)
    found = fit_own(kind, factors, raw, wanted, 10.0, 2.5)

    def gradient(at: Any) -> Any:
        said = raw + factors @ at[:5] + at[5:]
        shares = 1 / (1 + np.exp(-said)) if kind == "labels" else np.exp(said) / np.exp(said).sum(1, keepdims=True)
        missed = shares - wanted
        return np.concatenate([np.einsum("mcd,mc->d", factors, missed), missed.sum(0)]) + penalty * at

    assert np.abs(gradient(found)).max() < 1e-3 * np.abs(gradient(np.zeros(8))).max()


@pytest.mark.parametrize("classes", [0, 2])
def test_a_saved_model_answers_the_same(tmp_path: Path, classes: int) -> None:
    data = make_ratings(classes=classes, features=True)
    predictor: Any = fit(data[0], num_epochs="2", seeds="2").predictor
    predictor.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(EdgeTables.files)
    again: Any = predictor_class("edges").load(tmp_path)
    pairs = edges_of(data[0])[:2]
    np.testing.assert_array_equal(again.predict(*pairs), predictor.predict(*pairs))
    np.testing.assert_array_equal(answers(again, data, 3), answers(predictor, data, 3))
    assert again.counts() == {"user": USERS, "movie": MOVIES}
    assert again.embeddings("movie").shape == (MOVIES, 8)
    assert again.embeddings("genre") is None


def test_serving_needs_no_torch(tmp_path: Path) -> None:
    fit(make_ratings()[0], num_epochs="1").predictor.save(tmp_path)
    program = (
        "import sys, pathlib, numpy as np\n"
        "from ekiden_engine.models import predictor_class\n"
        "from ekiden_engine.models.base import NewEdge, NewNode\n"
        "model = predictor_class('edges').load(pathlib.Path(sys.argv[1]))\n"
        "new = NewNode(None, (NewEdge(('user', 'rated', 'movie'), True, 3, 4.0),))\n"
        "print(model.predict_new([new, 0], [1, 1]).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["(2,)", "False"]


def test_a_file_that_is_none_or_contradicts_itself_is_refused(tmp_path: Path) -> None:
    def caught() -> str:
        with pytest.raises(BadData) as error:
            EdgeTables.load(tmp_path)
        assert error.value.code == "CORRUPT_ARTIFACT"
        return error.value.message

    assert STRUCTURE_FILE in caught()
    fit(make_ratings()[0], num_epochs="1").predictor.save(tmp_path)
    tensors = load_file(tmp_path / TENSOR_FILE)
    wrong = {
        "source.bias": tensors["source.bias"][:1].copy(),
        "dest.vectors": tensors["dest.vectors"][:, :1].copy(),
        "source.messages.0": tensors["source.messages.0"].astype(np.float32),
    }
    for name, tensor in wrong.items():
        save_file({**tensors, name: tensor}, tmp_path / TENSOR_FILE)
        assert name in caught()
    save_file({name: t for name, t in tensors.items() if name != "prior"}, tmp_path / TENSOR_FILE)
    assert "prior is missing" in caught()
    (tmp_path / TENSOR_FILE).write_bytes(b"not safetensors at all")
    assert TENSOR_FILE in caught()
    document = json.loads((tmp_path / STRUCTURE_FILE).read_text())
    (tmp_path / STRUCTURE_FILE).write_text(json.dumps({**document, "kept": 0}))
    assert STRUCTURE_FILE in caught()
