"""Model `fm`: what it learns, what it must not see, and what it answers for nodes that come later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ekiden.contracts.hyperparameters import FM_WARM_UP
from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.models import fm_kernels, make_trainer, predictor_class
from ekiden_engine.models.base import CurvePoint, Fit, InductiveEdges, NewEdge, NewNode, Step
from ekiden_engine.models.baselines import BiasBaseline
from ekiden_engine.models.fm import FactorizationMachine
from ekiden_engine.models.fm_gibbs import WARM_UP
from ekiden_engine.models.fm_kernels import compile_kernels
from ekiden_engine.models.fm_predictor import FmPredictor

RATED = ("user", "rated", "movie")
USERS, MOVIES, COLD = 80, 60, 8
QUICK: Mapping[str, str] = {"num-hidden": "7", "num-epochs": "40"}


class Recorder:
    """A `Progress` that notes what it is told, and asks to stop after `stop_after` iterations."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.points: list[CurvePoint] = []
        self.notes: list[str] = []
        self._stop_after = stop_after

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        self.points.append(point)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.points) >= self._stop_after


def make_graph(
    *,
    noise: float = 0.3,
    valid: bool = True,
    features: bool = True,
    genres: bool = False,
    test_shift: float = 0.0,
    without_test: bool = False,
    seed: int = 0,
) -> EncodedGraph:
    """Ratings 3 + bias + taste x character, of rank 2; a movie's character is half its features. User 0 and movie 0
    have no edge at all; movie 1 has no training edge."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((MOVIES, 2)).astype(np.float32)
    x[0] = 0
    taste, character = rng.standard_normal((USERS, 2)), x + 0.5 * rng.standard_normal((MOVIES, 2))
    s, t = np.nonzero(rng.random((USERS, MOVIES)) < 0.4)
    kept = (s > 0) & (t > 0)
    s, t = s[kept], t[kept]
    truth = 3 + rng.standard_normal(USERS)[s] * 0.3 + 0.6 * np.vecdot(taste[s], character[t])
    label = (truth + noise * rng.standard_normal(len(s))).astype(np.float32)
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], len(s), p=[0.7, 0.1, 0.2]).astype(np.uint8)
    split[t <= COLD] = Split.TEST
    if not valid:
        split[split == Split.VALID] = Split.TRAIN
    label[split == Split.TEST] += np.float32(test_shift)
    if without_test:
        s, t, label, split = (a[split != Split.TEST] for a in (s, t, label, split))
    edges = [EdgeSet(*RATED, s.astype(np.int32), t.astype(np.int32), labels=(Labels(0, split, label),))]
    if genres:
        of = (x[:, 0] > 0).astype(np.int32)
        edges.append(EdgeSet("movie", "of", "genre", np.arange(1, MOVIES, dtype=np.int32), of[1:]))
    return EncodedGraph(
        nodes=(
            NodeSet("user", make_ids("u", USERS), np.zeros((USERS, 0), np.float32), ()),
            NodeSet(
                "movie",
                make_ids("m", MOVIES),
                x if features else np.zeros((MOVIES, 0), np.float32),
                ("a", "b") if features else (),
            ),
            NodeSet("genre", make_ids("g", 2), np.zeros((2, 0), np.float32), ()),
        ),
        edges=tuple(edges),
        targets=(
            Target(
                task=Task.EDGE_REGRESSION,
                edge=RATED,
                property="rating",
                label_min=float(label.min()),
                label_max=float(label.max()),
            ),
        ),
    )


def make_ids(letter: str, count: int) -> pa.StringArray:
    return pa.array([f"{letter}{i}" for i in range(count)], pa.string())


def train(graph: EncodedGraph, progress: Recorder | None = None, **changes: str) -> Fit:
    given = {**QUICK, **{name.replace("_", "-"): value for name, value in changes.items()}}
    trainer = make_trainer("fm", Task.EDGE_REGRESSION, given)
    return trainer.fit(graph, graph.targets[0], progress or Recorder())


def part(graph: EncodedGraph, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    edges, labels = graph.edges[0], graph.edges[0].labels[0]
    rows = labels.rows(split)
    assert labels.values is not None
    return edges.source[rows], edges.dest[rows], labels.values[rows]


def predicted(fit: Fit, graph: EncodedGraph, split: Split = Split.TEST) -> np.ndarray:
    predictor = fit.predictor
    assert isinstance(predictor, FmPredictor)
    return predictor.predict(*part(graph, split)[:2])


def rmse(found: np.ndarray, label: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - label) ** 2)))


def test_it_predicts_far_better_than_biases_on_ratings_of_low_rank() -> None:
    graph = make_graph()
    s, t, label = part(graph, Split.TRAIN)
    test_s, test_t, test_label = part(graph, Split.TEST)
    biases = BiasBaseline.fit(s, t, label, (USERS, MOVIES)).predict(test_s, test_t)
    found, warm = predicted(train(graph), graph), test_t > COLD
    assert rmse(found, test_label) < 0.6 * rmse(biases, test_label)
    assert rmse(found[warm], test_label[warm]) < 0.42  # the noise alone is 0.3


def test_features_tell_about_movies_without_training_edge() -> None:
    # GIVEN movies that have features and only test edges
    graph = make_graph()
    _, t, label = part(graph, Split.TEST)
    cold = t <= COLD
    found = predicted(train(graph), graph)[cold]
    blind = predicted(train(make_graph(features=False)), graph)[cold]
    assert cold.sum() > 100
    assert rmse(found, label[cold]) < 0.8 * rmse(blind, label[cold])


def test_edges_of_other_types_tell_about_nodes() -> None:
    fit = train(make_graph(features=False, genres=True))
    assert isinstance(fit.predictor, FmPredictor)
    # movie 1 is known by its genre only; movie 0 has none
    assert fit.predictor.known(np.array([1, 1], np.int32), np.array([1, 0], np.int32))[1].tolist() == [True, False]


def test_the_same_seed_gives_the_same_model_with_one_thread_and_two(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    first = train(graph)
    monkeypatch.setattr("ekiden_engine.models.fm.threads_available", lambda: 2)
    second, other = train(graph), train(graph, seed="1")
    assert (first.threads, second.threads) == (1, 2)
    np.testing.assert_array_equal(predicted(first, graph), predicted(second, graph))
    assert np.abs(predicted(first, graph) - predicted(other, graph)).max() > 1e-3


def test_neither_test_labels_nor_test_edges_change_the_model() -> None:
    graph = make_graph()
    as_it_is = predicted(train(graph), graph)
    np.testing.assert_array_equal(as_it_is, predicted(train(make_graph(test_shift=100)), graph))
    np.testing.assert_array_equal(as_it_is, predicted(train(make_graph(without_test=True)), graph))


def test_a_stop_request_keeps_the_draws_so_far() -> None:
    graph = make_graph()
    stopped = train(graph, Recorder(stop_after=25), num_epochs="1000")
    assert stopped.stopped
    assert len(stopped.curves[0].points) == 25
    assert rmse(predicted(stopped, graph), part(graph, Split.TEST)[2]) < 0.65  # biases: 1.04


def test_a_stop_request_during_the_warm_up_still_leaves_a_model() -> None:
    graph = make_graph()
    stopped = train(graph, Recorder(stop_after=2), num_epochs="1000")
    assert stopped.stopped
    assert np.isfinite(predicted(stopped, graph)).all()


def test_the_learning_curve_shows_validation_edges_and_ends_near_the_predictions() -> None:
    graph, recorder = make_graph(), Recorder()
    fit = train(graph, recorder)
    (curve,) = fit.curves
    assert [p.epoch for p in curve.points] == list(range(1, 41))
    assert list(curve.points) == recorder.points
    assert (curve.metric, curve.higher_is_better, curve.best_epoch, curve.kept) == ("rmse", False, 40, True)
    assert curve.best_valid == pytest.approx(
        rmse(predicted(fit, graph, Split.VALID), part(graph, Split.VALID)[2]), rel=0.02
    )
    assert not recorder.notes
    assert not fit.stopped


def test_without_validation_edges_the_curve_shows_training_edges_and_says_so() -> None:
    recorder = Recorder()
    fit = train(make_graph(valid=False), recorder)
    assert all(p.train == p.valid for p in fit.curves[0].points)
    assert "no validation edges" in recorder.notes[0]


def test_a_pair_of_unseen_nodes_gets_the_mean_and_all_stay_in_the_range_of_training() -> None:
    graph = make_graph()
    predictor = train(graph).predictor
    assert isinstance(predictor, FmPredictor)
    label = part(graph, Split.TRAIN)[2]
    unseen = predictor.predict(np.array([-1, 0], np.int32), np.array([-1, 0], np.int32))
    np.testing.assert_allclose(unseen, label.mean(), rtol=1e-6)
    everything = predictor.predict(*(a.ravel().astype(np.int32) for a in np.mgrid[0:USERS, 0:MOVIES]))
    assert everything.min() >= label.min()
    assert everything.max() <= label.max()
    known = predictor.known(np.array([0, 1], np.int32), np.array([0, 1], np.int32))
    assert [k.tolist() for k in known] == [[False, True], [False, True]]


def test_a_saved_model_answers_the_same(tmp_path: Path) -> None:
    graph = make_graph(genres=True)
    fit = train(graph)
    fit.predictor.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(FmPredictor.files)
    loaded = predictor_class("fm").load(tmp_path)
    assert isinstance(loaded, FmPredictor)
    np.testing.assert_array_equal(predicted(replace(fit, predictor=loaded), graph), predicted(fit, graph))
    new = [NewNode(np.array([1, -1], np.float32), (NewEdge(RATED, False, 3, 4.0),))]
    assert isinstance(fit.predictor, FmPredictor)
    np.testing.assert_array_equal(loaded.predict_new([4], new), fit.predictor.predict_new([4], new))
    assert loaded.counts() == {"user": USERS, "movie": MOVIES}


@pytest.mark.parametrize("name", ["coefficients.safetensors", "coefficients.json"])
def test_a_damaged_file_is_a_corrupt_artifact(tmp_path: Path, name: str) -> None:
    train(make_graph(), num_epochs="2").predictor.save(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(BadData) as error:
        FmPredictor.load(tmp_path)
    assert error.value.code == "CORRUPT_ARTIFACT"


def test_a_new_user_is_answered_from_the_movies_he_rated() -> None:
    # GIVEN a user of the graph, described as if he were new
    graph = make_graph()
    predictor = train(graph).predictor
    assert isinstance(predictor, FmPredictor)
    assert isinstance(predictor, InductiveEdges)
    s, t, label = part(graph, Split.TRAIN)
    movies = np.arange(COLD + 1, MOVIES)
    agreement, closer = [], 0
    for user in range(1, 21):
        rows = np.flatnonzero(s == user)
        rated = NewNode(None, tuple(NewEdge(RATED, True, int(t[r]), float(label[r])) for r in rows))

        # WHEN he is asked about with his ratings, and without any
        as_new = predictor.predict_new([rated] * len(movies), movies.tolist())
        as_nobody = predictor.predict_new([NewNode(None)] * len(movies), movies.tolist())

        # THEN the answer is near that for the user training knew
        as_known = predictor.predict(np.full(len(movies), user, np.int32), movies.astype(np.int32))
        agreement.append(abs(as_new.mean() - as_known.mean()))
        closer += rmse(as_new, as_known) < rmse(as_nobody, as_known)
    assert np.mean(agreement) < 0.2
    assert closer >= 14


def test_a_new_movie_with_the_features_of_a_cold_one_gets_its_answer() -> None:
    graph = make_graph(valid=False)
    predictor = train(graph).predictor
    assert isinstance(predictor, FmPredictor)
    twin = NewNode(graph.node("movie").features[1])
    users = np.arange(1, USERS)
    np.testing.assert_allclose(
        predictor.predict_new(users.tolist(), [twin] * len(users)),
        predictor.predict(users.astype(np.int32), np.ones(len(users), np.int32)),
        atol=0.08,
    )


def test_the_vector_of_a_new_movie_with_the_features_of_a_cold_one_is_its_own() -> None:
    graph = make_graph(valid=False)
    predictor: Any = train(graph).predictor
    found = predictor.embed_new("movie", [NewNode(graph.node("movie").features[1]), NewNode(None)])
    np.testing.assert_allclose(found[0], predictor.embeddings("movie")[1], atol=0.02)
    assert not found[1].any()
    assert predictor.embed_new("studio", [NewNode(None)]) is None


def test_known_nodes_get_the_same_answer_from_both_ways() -> None:
    graph = make_graph()
    predictor = train(graph).predictor
    assert isinstance(predictor, FmPredictor)
    s, t = np.array([3, -1, -1, 5], np.int32), np.array([4, 4, -1, 0], np.int32)
    np.testing.assert_allclose(predictor.predict_new(s.tolist(), t.tolist()), predictor.predict(s, t), rtol=1e-5)


@pytest.mark.parametrize(
    "node",
    [
        NewNode(np.zeros(3, np.float32)),
        NewNode(None, (NewEdge(RATED, False, USERS),)),
        NewNode(None, (NewEdge(RATED, False, -1),)),
    ],
)
def test_a_new_node_that_does_not_fit_is_refused(node: NewNode) -> None:
    predictor = train(make_graph(), num_epochs="2").predictor
    assert isinstance(predictor, FmPredictor)
    with pytest.raises(BadData) as error:
        predictor.predict_new([1], [node])
    assert error.value.code == "BAD_NEW_NODE"


def test_embeddings_are_the_vectors_of_the_nodes_as_narrow_as_asked_for() -> None:
    predictor = train(make_graph(), mean_rank="5").predictor
    found = [predictor.embeddings(label) for label in ("user", "movie", "genre")]
    assert [None if f is None else f.shape for f in found] == [(USERS, 5), (MOVIES, 5), None]


def test_equal_labels_give_that_label() -> None:
    graph = make_graph()
    values = graph.edges[0].labels[0].values
    assert values is not None
    values[:] = 4
    np.testing.assert_allclose(predicted(train(graph), graph), 4)


def test_no_training_edge_is_an_error() -> None:
    graph = make_graph()
    graph.edges[0].labels[0].split[:] = Split.TEST
    with pytest.raises(BadData) as error:
        train(graph)
    assert error.value.code == "EMPTY_TRAINING_SET"


def test_hyperparameters_in_force_are_reported_and_bad_ones_refused() -> None:
    fit = train(make_graph(), num_epochs="3", regularization_coef="2.5")
    assert fit.hyperparameters == {
        "num-hidden": "7",
        "num-epochs": "3",
        "burn-in": "0",
        "regularization-coef": "2.5",
        "mean-rank": "64",
        "seed": "0",
    }
    with pytest.raises(BadData, match="burn-in"):
        make_trainer("fm", Task.EDGE_REGRESSION, {"burn-in": "-1"})


@pytest.mark.parametrize(
    "given", [{"num-epochs": "5", "burn-in": "300"}, {"burn-in": "290"}, {"num-epochs": "10", "burn-in": "0"}]
)
def test_a_burn_in_that_leaves_no_draw_is_refused(given: Mapping[str, str]) -> None:
    with pytest.raises(BadData, match=r"model\.hyperparameters\.burn-in: \d+ after the warm-up of 10") as error:
        make_trainer("fm", Task.EDGE_REGRESSION, given)
    assert error.value.code == "BAD_HYPERPARAMETERS"


@pytest.mark.parametrize(("epochs", "burn_in"), [("1", "0"), ("12", "1"), ("15", "4"), ("16", "5"), ("300", "5")])
def test_the_burn_in_leaves_a_draw_whatever_num_epochs_is_given_alone(epochs: str, burn_in: str) -> None:
    trainer = make_trainer("fm", Task.EDGE_REGRESSION, {"num-epochs": epochs})
    assert isinstance(trainer, FactorizationMachine)
    assert str(trainer.settings.burn_in) == burn_in


def test_a_chain_that_ends_in_its_warm_up_says_so() -> None:
    assert WARM_UP == FM_WARM_UP, "the check of hyperparameters counts with the warm-up of the sampler"
    recorder, graph = Recorder(), make_graph()
    make_trainer("fm", Task.EDGE_REGRESSION, {"num-epochs": "4"}).fit(graph, graph.targets[0], recorder)
    assert any("ends within the warm-up of 10 iterations" in note for note in recorder.notes)


def make_small(
    source: list[int], dest: list[int], label: list[float], edge: tuple[str, str, str] = RATED
) -> EncodedGraph:
    """A graph of three nodes per type, without features; every edge is for training."""
    labels = Labels(0, np.zeros(len(label), np.uint8), np.array(label, np.float32))
    names = dict.fromkeys((edge[0], edge[2]))
    return EncodedGraph(
        nodes=tuple(NodeSet(name, make_ids(name, 3), np.zeros((3, 0), np.float32), ()) for name in names),
        edges=(EdgeSet(*edge, np.array(source, np.int32), np.array(dest, np.int32), labels=(labels,)),),
        targets=(
            Target(task=Task.EDGE_REGRESSION, edge=edge, property="x", label_min=min(label), label_max=max(label)),
        ),
    )


@pytest.mark.parametrize(
    ("source", "dest", "label"),
    [([0], [2], [4.0]), ([0, 0, 0], [1, 1, 1], [1.0, 2.0, 6.0]), ([0, 1, 2], [0, 0, 0], [1e6, -1e6, 0.0])],
    ids=["one edge", "one pair three times", "one destination, labels in millions"],
)
def test_very_little_data_still_gives_a_model(source: list[int], dest: list[int], label: list[float]) -> None:
    graph = make_small(source, dest, label)
    found = predicted(train(graph), graph, Split.TRAIN)
    assert np.isfinite(found).all()
    assert (found >= min(label)).all()
    assert (found <= max(label)).all()


def test_edges_from_a_node_type_to_itself_have_two_ends_that_differ() -> None:
    graph = make_small([0, 1, 2, 0], [1, 2, 0, 2], [1.0, 2.0, 3.0, 4.0], ("user", "trusts", "user"))
    predictor = train(graph).predictor
    assert isinstance(predictor, FmPredictor)
    there, back = np.array([0], np.int32), np.array([2], np.int32)
    assert predictor.predict(there, back) != predictor.predict(back, there)
    assert predictor.counts() == {"user": 3}


def test_the_kernels_compile_ahead_of_any_training() -> None:
    def versions() -> list[int]:
        kernels: list[Any] = [fm_kernels.sample_nodes, fm_kernels.sample_coefficients]
        return [len(kernel.signatures) for kernel in kernels]

    compile_kernels()
    before = versions()
    train(make_graph(), num_epochs="2")
    # THEN training needs no other version of them than `compile_kernels` made
    assert versions() == before


def test_serving_loads_neither_the_compiler_nor_torch() -> None:
    code = (
        "import sys, ekiden_engine.models.fm_predictor; "
        "print([name for name in ('numba', 'torch', 'scipy', 'threadpoolctl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
