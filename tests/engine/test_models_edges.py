"""Classes of edges: what is learnt from which edges, and that probabilities are what they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models.baselines import EndPriors
from ekiden_engine.models.edges_predictor import EdgeTables
from tests.engine.model_factories import Recorder, accuracy, edges_of, fit, make_graph, predict, with_labels

RATED = ("user", "rated", "movie")
QUICK: Any = {"num_hidden": "8", "num_epochs": "40", "lr": "0.02", "regularization_coef": "0.3"}


def make_tastes(
    users: int = 90, movies: int = 60, edges: int = 2400, classes: int = 3, *, several: bool = False, seed: int = 0
) -> EncodedGraph:
    """The class of an edge is what a user of his kind says of a movie of its kind: no end alone tells it.

    With `several` an edge has each class for itself. Nothing else is known of either. 70 % train, 10 % valid.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(3, size=users), rng.integers(3, size=movies)
    pairs = rng.choice(users * movies, size=edges, replace=False)
    source, dest = pairs // movies, pairs % movies
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], size=edges, p=[0.7, 0.1, 0.2])
    one = (kinds[0][source] + kinds[1][dest]) % 3 % classes
    nodes, links = {"user": users, "movie": movies}, {RATED: (source, dest)}
    if several:
        return make_graph(nodes, links, np.stack([one == 0, (one == 1) | (source % 2 == 0)], 1), split, classes=2)
    noisy = np.where(rng.random(edges) < 0.1, rng.integers(classes, size=edges), one)
    return make_graph(nodes, links, noisy, split, classes=classes)


def test_what_only_both_ends_together_tell_is_learnt_far_better_than_by_either_end() -> None:
    graph = make_tastes()
    train, test = edges_of(graph, Split.TRAIN), edges_of(graph, Split.TEST)
    priors = EndPriors.fit(*train, (90, 60), 3).predict(*test[:2])
    progress = Recorder()
    fitted = fit(graph, progress=progress, **QUICK)
    assert accuracy(predict(fitted, graph, Split.TEST), graph) > 0.8
    assert accuracy(priors, graph) < 0.55
    assert progress.metrics == {"accuracy"}
    assert fitted.curves[0].higher_is_better
    assert isinstance(fitted.predictor, EdgeTables)


def test_probabilities_add_up_to_one_and_are_right_as_often_as_they_say() -> None:
    graph = make_tastes(edges=4000)
    found, label = predict(fit(graph, seeds="2", **QUICK), graph, Split.TEST), edges_of(graph, Split.TEST)[2]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    sure = found.max(1)
    assert sure.mean() == pytest.approx((found.argmax(1) == label).mean(), abs=0.06)


def test_several_classes_an_edge_are_independent_of_each_other() -> None:
    graph = make_tastes(several=True)
    progress = Recorder()
    found = predict(fit(graph, progress=progress, **QUICK), graph, Split.TEST)
    wanted = edges_of(graph, Split.TEST)[2]
    assert found.sum(1).max() > 1.5
    assert ((found > 0.5) == wanted).mean(0).min() > 0.85
    assert progress.metrics == {"f1"}


def test_a_rare_class_is_found_more_often_when_classes_weigh_the_same() -> None:
    # GIVEN one class of twenty edges, that users of a kind give, and others seldom
    rng = np.random.default_rng(3)
    source, dest = rng.integers(60, size=3000), rng.integers(40, size=3000)
    rare = rng.random(3000) < np.where(source % 3 == 0, 0.14, 0.01)
    split = rng.choice([0, 1, 2], size=3000, p=[0.6, 0.2, 0.2])
    graph = make_graph({"user": 60, "movie": 40}, {RATED: (source, dest)}, rare, split, classes=2)
    # WHEN
    plain, fair = (fit(graph, use_class_weight=given, num_epochs="15") for given in ("false", "true"))
    # THEN
    found = [predict(f, graph, Split.TEST).argmax(1)[edges_of(graph, Split.TEST)[2] == 1].mean() for f in (plain, fair)]
    assert found[0] < 0.2
    assert found[1] > 0.5
    assert (plain.curves[0].metric, fair.curves[0].metric) == ("accuracy", "f1")


def test_the_labels_and_the_existence_of_test_edges_change_nothing() -> None:
    # GIVEN a graph, the same with other labels on its test edges, and the same without those edges
    graph = make_tastes(edges=800)
    edges, labels = graph.edges[0], graph.edges[0].labels[0]
    assert labels.values is not None
    kept, other = labels.split != Split.TEST, labels.values.copy()
    other[~kept] = 0
    without = make_graph(
        {"user": 90, "movie": 60},
        {RATED: (edges.source[kept], edges.dest[kept])},
        labels.values[kept],
        labels.split[kept],
        classes=3,
    )
    # THEN the models are the same to the last bit
    first, *others = (_tables(fit(g, num_epochs="3")) for g in (graph, with_labels(graph, other), without))
    for tables in others:
        assert all(np.array_equal(first[name], tables[name]) for name in first)


def test_features_and_other_edges_tell_the_class_of_an_edge_between_nodes_without_any() -> None:
    # GIVEN movies whose class is their studio's, and users whose feature turns it round; the last 20 movies are cold
    rng = np.random.default_rng(0)
    studio, mood = np.arange(80) % 2, rng.integers(2, size=60)
    source, dest = rng.integers(60, size=2400), np.r_[rng.integers(60, size=2000), rng.integers(60, 80, size=400)]
    label = studio[dest] ^ mood[source]
    split = np.where(dest >= 60, 2, np.where(np.arange(2400) % 10 == 0, 1, 0))
    edges = {RATED: (source, dest), ("movie", "made_by", "studio"): (np.arange(80), studio)}
    nodes, features = {"user": 60, "movie": 80, "studio": 2}, {"user": np.eye(2)[mood]}
    graph = make_graph(nodes, edges, label, split, features, classes=2)
    # THEN
    assert accuracy(predict(fit(graph, **{**QUICK, "num_epochs": "60"}), graph, Split.TEST), graph) > 0.9


def test_unseen_ends_get_the_frequencies_of_the_classes() -> None:
    graph = make_tastes(edges=600)
    predictor: Any = fit(graph).predictor
    label = edges_of(graph, Split.TRAIN)[2]
    nobody = np.array([-1], np.int32)
    np.testing.assert_allclose(predictor.predict(nobody, nobody)[0], np.bincount(label) / len(label), rtol=1e-5)
    known = predictor.known(np.array([0, -1], np.int32), np.array([-1, 0], np.int32))
    assert [end.tolist() for end in known] == [[True, False], [False, True]]
    half = predictor.predict(np.array([0], np.int32), nobody)[0]
    assert half.sum() == pytest.approx(1, abs=1e-5)


def test_auto_chooses_the_regularisation_by_validation_loss() -> None:
    progress = Recorder()
    fitted = fit(make_tastes(edges=800), progress=progress, regularization_coef="auto", seeds="2", num_epochs="6")
    assert progress.notes[0].startswith("regularization strength 3: valid loss ")
    taken = float(fitted.hyperparameters["regularization-coef"])
    assert {curve.settings["regularization-coef"] for curve in fitted.curves if curve.kept} == {taken}
    assert sum(curve.kept for curve in fitted.curves) == 2


@pytest.mark.parametrize("label", [[0], [1, 1, 1], [0, 1, 2, 1]])
def test_a_handful_of_edges_or_one_class_alone_still_gives_a_model(label: list[int]) -> None:
    ends = list(range(len(label)))
    graph = make_graph({"user": 4, "movie": 4}, {RATED: (ends, ends)}, label, classes=3)
    found = predict(fit(graph), graph)
    assert np.isfinite(found).all()
    assert found.shape == (len(label), 3)


def test_no_labelled_training_edge_is_an_error_that_says_where_to_look() -> None:
    graph = make_graph({"user": 1, "movie": 1}, {RATED: ([0], [0])}, [1], [2], classes=2)
    with pytest.raises(BadData, match="split_rate") as caught:
        fit(graph)
    assert caught.value.code == "EMPTY_TRAINING_SET"


def test_the_same_seed_gives_the_same_model() -> None:
    graph = make_tastes(edges=600)
    first, second, other = (_tables(fit(graph, seed=seed)) for seed in ("7", "7", "8"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["source.vectors"], other["source.vectors"])


def _tables(fitted: Any) -> dict[str, Any]:
    return dict(fitted.predictor.tensors)
