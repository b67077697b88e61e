"""What the models learn, from which edges, and that they never look at test labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Labels, Split
from ekiden_engine.models.baselines import BiasBaseline
from ekiden_engine.models.edges_predictor import EdgeTables
from tests.engine.factories import EDGE, make_encoded_graph
from tests.engine.model_factories import Recorder, edges_of, fit, make_graph, predict, rmse, with_labels

RATED = ("user", "rated", "movie")


def with_constant(graph: EncodedGraph, split: Split, value: float) -> EncodedGraph:
    """The graph with the labels of a split replaced."""
    labels = graph.edges[0].labels[0]
    assert labels.values is not None
    values = labels.values.copy()
    values[labels.rows(split)] = value
    return with_labels(graph, values)


def test_it_beats_both_baselines_on_a_graph_that_can_be_learnt() -> None:
    # GIVEN ratings made of biases and taste times kind, where taste and kind are features
    graph = make_encoded_graph(users=150, movies=120, edges=6000)
    source, dest, label = edges_of(graph, Split.TRAIN)
    biases = BiasBaseline.fit(source, dest, label, (150, 120))

    # WHEN
    fitted = fit(graph, num_hidden="8", num_epochs="40", seeds="2", regularization_coef="auto")

    # THEN
    error = rmse(predict(fitted, graph, Split.TEST), graph)
    bias_error = rmse(biases.predict(*edges_of(graph, Split.TEST)[:2]), graph)
    assert error < 0.85 * bias_error < rmse(label.mean(), graph)


@pytest.mark.parametrize("model", ["rgcn", "mf"])
def test_the_same_seed_gives_the_same_predictions_and_another_seed_others(model: str) -> None:
    graph = make_encoded_graph()
    first, second = (predict(fit(graph, model, seed="7"), graph) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, predict(fit(graph, model, seed="8"), graph))


@pytest.mark.parametrize("carved", [False, True])
def test_test_labels_change_nothing(carved: bool) -> None:
    # GIVEN two graphs that differ in the labels of the test edges only
    graph = make_encoded_graph()
    if carved:  # no validation edges: each member sets some training edges aside
        labels = graph.edges[0].labels[0]
        graph = with_labels(graph, labels.values, np.where(labels.split == Split.VALID, Split.TRAIN, labels.split))

    # THEN the models are the same
    other = with_constant(graph, Split.TEST, 99.0)
    assert np.array_equal(predict(fit(graph), graph), predict(fit(other), other))


def test_edges_without_label_are_no_training_edges() -> None:
    graph = make_graph(
        {"user": 2, "movie": 2}, {RATED: ([0, 0, 1, 1], [0, 1, 0, 1])}, [1.0, 2.0, 3.0, np.nan], [0, 0, 0, 255]
    )
    assert np.isfinite(predict(fit(graph), graph)).all()


def test_predictions_stay_within_the_range_of_the_training_labels() -> None:
    graph = make_encoded_graph(label_scale=100.0)
    known = edges_of(graph, Split.TRAIN)[2]
    found = predict(fit(graph, lr="0.3"), graph)
    assert known.min() <= found.min() <= found.max() <= known.max()


def test_labels_of_any_scale_are_learnt_equally_well() -> None:
    small, large = make_encoded_graph(label_scale=1e-3), make_encoded_graph(label_scale=1e6)
    errors = [rmse(predict(fit(g, num_epochs="10"), g, Split.TEST), g) / s for g, s in ((small, 1e-3), (large, 1e6))]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)


def test_other_edge_types_tell_about_nodes_that_have_few_ratings() -> None:
    # GIVEN movies whose rating is that of their studio, known by an edge type of its own and by nothing else,
    # and for the last 20 movies no rating at all
    rng = np.random.default_rng(0)
    studio = np.arange(80) % 2
    source, dest = rng.integers(0, 60, 1500), rng.integers(0, 60, 1500)
    held_source, held_dest = rng.integers(0, 60, 200), rng.integers(60, 80, 200)
    s, d = np.concatenate([source, held_source]), np.concatenate([dest, held_dest])
    label = np.where(studio[d] == 1, 4.5, 1.5) + rng.normal(scale=0.2, size=len(d))
    split = np.where(np.arange(len(d)) < 1500, np.where(np.arange(len(d)) % 10 == 9, 1, 0), 2)
    extra = {("movie", "made_by", "studio"): (list(range(80)), studio.tolist())}
    nodes = {"user": 60, "movie": 80, "studio": 2}
    alone = make_graph(nodes, {RATED: (s.tolist(), d.tolist())}, label.tolist(), split.tolist())
    joined = make_graph(nodes, {RATED: (s.tolist(), d.tolist()), **extra}, label.tolist(), split.tolist())

    # WHEN both are learnt
    options: dict[str, Any] = {"num_epochs": "60", "num_hidden": "8", "lr": "0.02", "regularization_coef": "0.3"}
    errors = [rmse(predict(fit(g, **options), g, Split.TEST), g) for g in (alone, joined)]

    # THEN the edges to studios pay
    assert errors[1] < 0.6 * errors[0]


def test_features_tell_about_a_node_that_has_no_rating() -> None:
    # GIVEN a graph in which movie 0 has neither ratings nor neighbours, but the kind that movie 1 has
    graph = make_encoded_graph(users=60, movies=30, edges=1500)
    edges, kinds = graph.edges[0], graph.nodes[1].features.copy()
    kinds[:2] = 2.0
    keep, labels = edges.dest != 0, edges.labels[0]
    assert labels.values is not None
    kept = Labels(0, labels.split[keep], labels.values[keep])
    graph = replace(
        graph,
        nodes=(graph.nodes[0], replace(graph.nodes[1], features=kinds)),
        edges=(replace(edges, source=edges.source[keep], dest=edges.dest[keep], labels=(kept,)),),
    )

    # WHEN
    predictor: Any = fit(graph, num_epochs="30").predictor

    # THEN it is scored, and users differ in what they get for it
    users, cold = np.arange(60, dtype=np.int32), np.zeros(60, np.int32)
    assert predictor.known(users, cold)[1].all()
    assert np.corrcoef(predictor.predict(users, cold), predictor.predict(users, cold + 1))[0, 1] > 0.5


def test_an_edge_type_may_join_nodes_of_one_type_and_nodes_may_have_no_features() -> None:
    # GIVEN trust between persons: high towards even ones
    rng = np.random.default_rng(1)
    s, d = rng.integers(0, 40, 800), rng.integers(0, 40, 800)
    label = np.where(d % 2 == 0, 1.0, -1.0) + rng.normal(scale=0.1, size=800)
    split = rng.choice([0, 1, 2], p=[0.8, 0.1, 0.1], size=800)
    follows = {("person", "follows", "person"): (s.tolist(), d.tolist())}
    graph = make_graph(
        {"person": 40},
        {("person", "trusts", "person"): (s.tolist(), d.tolist()), **follows},
        label.tolist(),
        split.tolist(),
    )

    # THEN the direction is kept apart: a person trusts otherwise than it is trusted
    assert rmse(predict(fit(graph, num_epochs="20"), graph, Split.TEST), graph) < 0.4


@pytest.mark.parametrize("labels", [[3.0], [2.0, 2.0, 2.0], [1.0, 5.0]])
def test_a_handful_of_edges_or_labels_all_alike_still_give_a_model(labels: list[float]) -> None:
    ends = list(range(len(labels)))
    graph = make_graph({"user": 3, "movie": 3}, {RATED: (ends, ends)}, labels)
    found = predict(fit(graph), graph)
    assert ((found >= min(labels)) & (found <= max(labels))).all()


def test_no_training_edge_is_an_error_that_says_where_to_look() -> None:
    graph = make_graph({"user": 1, "movie": 1}, {RATED: ([0], [0])}, [3.0], [2])
    with pytest.raises(BadData, match="split_rate") as caught:
        fit(graph)
    assert caught.value.code == "EMPTY_TRAINING_SET"


def test_the_epoch_that_is_best_on_validation_edges_is_kept_and_patience_ends_the_training() -> None:
    fitted = fit(make_encoded_graph(), num_epochs="200", lr="0.05", window_for_early_stop="3")
    (curve,) = fitted.curves
    errors = [point.valid for point in curve.points]
    assert len(errors) < 200
    assert curve.best_epoch == int(np.argmin(errors)) + 1 == len(errors) - 3


def test_without_early_stopping_all_epochs_are_run() -> None:
    fitted = fit(make_encoded_graph(), num_epochs="30", lr="0.05", enable_early_stop="false")
    assert len(fitted.curves[0].points) == 30


def test_a_stop_keeps_the_best_so_far_and_starts_no_other_member() -> None:
    graph, progress = make_encoded_graph(), Recorder(stop_after=2)
    fitted = fit(graph, progress=progress, seeds="5", num_epochs="50", regularization_coef="auto")
    assert fitted.stopped
    assert len(progress.epochs) == 2
    assert np.isfinite(predict(fitted, graph)).all()


def test_auto_tries_stronger_regularisation_and_says_what_it_took() -> None:
    progress = Recorder()
    fitted = fit(make_encoded_graph(), progress=progress, regularization_coef="auto", seeds="2", num_epochs="15")
    taken = float(fitted.hyperparameters["regularization-coef"])
    assert progress.notes[0].startswith("regularization strength 3: valid rmse")
    assert progress.notes[-1] == f"regularization strength {taken:g} it is; that model is member 1/2"
    assert {c.settings["regularization-coef"] for c in fitted.curves if c.kept} == {taken}
    assert sum(c.kept for c in fitted.curves) == 2
    # AND members are numbered as people count them; what the search trains has words of its own
    words = list(dict.fromkeys(step.words for step, _ in progress.epochs))
    assert words[0] == "search for the regularization, strength 1"
    assert [w for w in words if not w.startswith("search")] == ["member 2/2"]


def test_members_are_counted_up_to_the_number_of_seeds() -> None:
    progress = Recorder()
    fit(make_encoded_graph(), progress=progress, seeds="3", num_epochs="2")
    steps = list(dict.fromkeys(step for step, _ in progress.epochs))
    assert [(step.words, step.left) for step in steps] == [("member 1/3", 2), ("member 2/3", 1), ("member 3/3", 0)]


def test_the_ensemble_predicts_the_mean_of_its_members() -> None:
    # GIVEN members with the seeds 3 and 4, alone and together
    graph = make_encoded_graph()
    alone = [predict(fit(graph, seed=seed), graph) for seed in ("3", "4")]
    together = predict(fit(graph, seed="3", seeds="2"), graph)

    # THEN (apart from the clamp at either end of the label range)
    inside = (together > together.min() + 1e-3) & (together < together.max() - 1e-3)
    assert np.allclose(together[inside], np.mean(alone, axis=0)[inside], atol=2e-2)
    assert np.median(np.abs(together - np.mean(alone, axis=0))) < 1e-5


def test_a_learning_rate_that_explodes_is_reported_as_such() -> None:
    graph = make_encoded_graph()
    with pytest.raises(BadData, match="lower lr") as caught:
        fit(with_constant(graph, Split.VALID, np.inf))
    assert caught.value.code == "TRAINING_DIVERGED"


def test_matrix_factorisation_sees_neither_features_nor_other_edges() -> None:
    graph = make_encoded_graph()
    blank = replace(
        graph,
        nodes=tuple(replace(n, features=np.zeros((len(n), 0), np.float32), feature_names=()) for n in graph.nodes),
    )
    assert np.array_equal(predict(fit(graph, "mf"), graph), predict(fit(blank, "mf"), blank))
    assert isinstance(fit(graph, "mf").predictor, EdgeTables)
    assert graph.targets[0].edge == EDGE
