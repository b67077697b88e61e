"""Classes of edges, one or several an edge, learnt from samples of neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models import fanout, sampler
from ekiden_engine.models.baselines import EndPriors
from ekiden_engine.models.edges_decoders import ClassCounts
from ekiden_engine.models.edges_objectives import ClassObjective
from ekiden_engine.models.edges_problem import make_edge_problem
from ekiden_engine.models.edges_sampled import fit_sampled
from ekiden_engine.models.edges_sampled_data import ClassEdges
from ekiden_engine.models.fitting import Recipe
from tests.engine.factories import make_encoded_graph
from tests.engine.model_factories import Recorder, accuracy, edges_of, fit, make_graph, predict
from tests.engine.test_models_edges import QUICK, make_tastes


def right(found: Any, graph: EncodedGraph) -> float:
    """Share of test edges, or of their classes where they have several, that are told right."""
    wanted = edges_of(graph, Split.TEST)[2]
    return float(((found > 0.5) == wanted).mean()) if wanted.ndim == 2 else accuracy(found, graph)


def tables(fitted: Any) -> dict[str, Any]:
    return dict(fitted.predictor.tensors)


@pytest.mark.parametrize("several", [False, True])
def test_a_few_neighbours_tell_classes_as_well_as_all_and_far_better_than_either_end(several: bool) -> None:
    # GIVEN classes that only both ends together tell
    graph = make_tastes(several=several)
    test = edges_of(graph, Split.TEST)
    priors = EndPriors.fit(*edges_of(graph, Split.TRAIN), (90, 60), len(graph.targets[0].classes)).predict(*test[:2])
    # WHEN they are learnt from all neighbours, and from 6 of about 20
    progress = Recorder()
    whole, few = fit(graph, fanout="0", **QUICK), fit(graph, fanout="6", progress=progress, **QUICK)
    # THEN
    found, wanted = predict(few, graph, Split.TEST), predict(whole, graph, Split.TEST)
    assert right(found, graph) > right(wanted, graph) - 0.04
    assert right(found, graph) > right(priors, graph) + 0.2
    assert found.shape == wanted.shape
    assert (few.hyperparameters["fanout"], few.device) == ("6", "cpu")
    assert progress.metrics == {"f1" if several else "accuracy"}
    assert {name: t.shape for name, t in tables(few).items()} == {name: t.shape for name, t in tables(whole).items()}


def test_class_weights_hold_for_samples_too() -> None:
    # GIVEN a rare class that users of a kind give, and others seldom
    rng = np.random.default_rng(3)
    source, dest = rng.integers(60, size=3000), rng.integers(40, size=3000)
    rare = rng.random(3000) < np.where(source % 3 == 0, 0.14, 0.01)
    split = rng.choice([0, 1, 2], size=3000, p=[0.6, 0.2, 0.2])
    graph = make_graph({"user": 60, "movie": 40}, {("user", "rated", "movie"): (source, dest)}, rare, split, classes=2)
    # WHEN
    plain, fair = (fit(graph, fanout="8", use_class_weight=given, num_epochs="15") for given in ("false", "true"))
    # THEN
    found = [predict(f, graph, Split.TEST).argmax(1)[edges_of(graph, Split.TEST)[2] == 1].mean() for f in (plain, fair)]
    assert found[0] < 0.2
    assert found[1] > 0.5
    assert (plain.curves[0].metric, fair.curves[0].metric) == ("accuracy", "f1")


def test_people_features_and_other_edges_tell_classes_by_samples() -> None:
    # GIVEN people who rate people by what their cities are, and what they are; 20 of them are never rated in training
    rng = np.random.default_rng(0)
    city, mood = np.arange(80) % 2, rng.integers(2, size=80)
    source, dest = rng.integers(60, size=2400), np.r_[rng.integers(60, size=2000), rng.integers(60, 80, size=400)]
    label = city[dest] ^ mood[source]
    split = np.where(dest >= 60, 2, np.where(np.arange(2400) % 10 == 0, 1, 0))
    edges = {("person", "rated", "person"): (source, dest), ("person", "lives-in", "city"): (np.arange(80), city)}
    graph = make_graph({"person": 80, "city": 2}, edges, label, split, {"person": np.eye(2)[mood]}, classes=2)
    # THEN
    fitted = fit(graph, fanout="8", **{**QUICK, "num_epochs": "60"})
    assert accuracy(predict(fitted, graph, Split.TEST), graph) > 0.9


@pytest.mark.parametrize(("available", "chosen"), [(1 << 10, "32"), (1 << 40, "0")])
@pytest.mark.parametrize("kind", ["number", "classes", "labels"])
def test_memory_decides_for_every_kind_of_label(
    monkeypatch: pytest.MonkeyPatch, kind: str, available: int, chosen: str
) -> None:
    monkeypatch.setattr(fanout, "available_bytes", lambda: available)
    graph = make_encoded_graph() if kind == "number" else make_tastes(edges=600, several=kind == "labels")
    progress = Recorder()
    fitted = fit(graph, progress=progress, num_epochs="1")
    assert fitted.hyperparameters["fanout"] == chosen
    assert any("are sampled instead" in note for note in progress.notes) == (chosen == "32")


@pytest.mark.parametrize("several", [False, True])
def test_biases_start_where_they_do_with_all_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    # GIVEN edges that are counted some at a time
    monkeypatch.setattr(sampler, "CHUNK", 500)
    problem = make_edge_problem(graph := make_tastes(several=several), graph.targets[0])
    generator = torch.Generator().manual_seed(0)
    data = ClassEdges(problem, problem.train, tmp_path, 4, generator, class_weights=False)
    rows = problem.train, problem.valid
    whole = ClassObjective(problem, rows, 4, generator, class_weights=False)
    # THEN biases and what is wanted are those of the full batch, and no message is weighted
    for start, encoder in zip(data.starts, whole.encoders, strict=True):
        assert np.array_equal(start, encoder.free[:, 4:].numpy())
    assert np.array_equal(data.wanted(np.arange(9)).numpy(), problem.wanted(problem.train[:9]))
    assert data.residual is None
    # THEN they are naive Bayes
    counts = ClassCounts(problem, problem.train)
    label = problem.wanted(problem.train)
    assert counts.frequencies == pytest.approx(label.mean(0))
    mine = label[problem.source[problem.train] == 7]
    near = (mine.sum(0) + 3 * counts.share) / (len(mine) + 3)
    odds = np.log(near) - np.log(counts.share)
    if several:
        odds -= np.log1p(-near) - np.log1p(-counts.share)
    assert np.allclose(data.starts[0][7], odds, atol=1e-5)


def test_dropout_is_another_training_that_still_learns() -> None:
    graph = make_tastes()
    plain, some = (fit(graph, fanout="6", dropout=dropout, **QUICK) for dropout in ("0", "0.3"))
    assert not np.array_equal(tables(plain)["source.vectors"], tables(some)["source.vectors"])
    assert accuracy(predict(some, graph, Split.TEST), graph) > 0.8


def test_the_same_seed_gives_the_same_model() -> None:
    graph = make_tastes(edges=600)
    first, second, other = (
        tables(fit(graph, fanout="4", dropout="0.2", num_epochs="3", seed=seed)) for seed in ("7", "7", "8")
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["source.vectors"], other["source.vectors"])


def test_a_handful_of_edges_still_gives_a_model() -> None:
    graph = make_graph({"a": 3, "b": 3}, {("a", "r", "b"): ([0, 1, 2], [0, 1, 2])}, [0, 1, 1], classes=3)
    assert np.isfinite(predict(fit(graph, fanout="1"), graph)).all()


def test_a_learning_rate_that_explodes_is_reported() -> None:
    problem = make_edge_problem(graph := make_tastes(edges=600), graph.targets[0])
    recipe = Recipe(width=4, epochs=3, lr=1e30, dropout=0.0, batch_size=64, regularization=1.0, patience=3)
    with pytest.raises(BadData) as caught:
        fit_sampled(problem, recipe, 4, 0, lambda metric, point: None, lambda: False)
    assert caught.value.code == "TRAINING_DIVERGED"
