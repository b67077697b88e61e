"""Node models trained on samples of neighbours: how good they are, and that a training is what it is anywhere else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models import fanout, nodes_sampled, nodes_sampled_batch, passes
from ekiden_engine.models.base import Fit, NewEdge, NewNode
from ekiden_engine.models.nodes_baselines import node_baselines
from ekiden_engine.models.nodes_predictor import NodeTablePredictor
from tests.engine.checkpoint_factories import Interruption, fit_first, saved_bytes
from tests.engine.nodes_factories import (
    BOUGHT,
    LAYERS,
    LIGHT,
    PROPAGATION,
    Watcher,
    all_answers,
    fit_nodes,
    labels_of,
    make_communities,
    make_node_graph,
    make_raters,
)

KINDS = ("classes", "labels", "number")
SAMPLED = {"fanout": 8, "batch_size": 100}


def make_buyers(kind: str, users: int = 500, items: int = 80, bought: int = 16) -> EncodedGraph:
    """Users of whom nothing is known but 16 items each, of which four in five are to their taste; what is asked is the
    taste, three tastes, or a number that goes with it."""
    rng = np.random.default_rng(0)
    of_items = rng.integers(2, size=(items, 3))
    taste = rng.integers(2, size=(users, 3))
    source = np.repeat(np.arange(users), bought)
    # the more of an item is to the taste of a user, the more likely it is bought
    alike = (of_items[None] == taste[:, None]).sum(2)
    chances = np.cumsum(4.0**alike, 1)
    chances /= chances[:, -1:]
    dest = np.concatenate([np.searchsorted(row, rng.random(bought)) for row in chances])
    x = of_items + rng.normal(scale=0.2, size=(items, 3))
    values: npt.NDArray[Any] = taste[:, 0]
    if kind == "labels":
        values = taste
    elif kind == "number":
        values = 100 + 20 * taste.sum(1) + rng.normal(scale=2, size=users)
    classes = {"classes": 2, "labels": 3, "number": 0}[kind]
    return make_node_graph({"user": users, "item": x}, {BOUGHT: (source, dest)}, values, classes=classes)


def error_of(answers: npt.NDArray[np.float32], graph: EncodedGraph) -> float:
    """Of the test rows: the share of wrong classes, or RMSE."""
    labels = labels_of(graph)
    rows = labels.rows(Split.TEST)
    assert labels.values is not None
    said, wanted = answers[rows], labels.values[rows]
    if said.ndim == 1:
        return float(np.sqrt(np.mean((said - wanted) ** 2)))
    return float(((said > 0.5) != (wanted > 0)).mean() if wanted.ndim == 2 else (said.argmax(1) != wanted).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_neighbours_a_step_are_nearly_as_good_as_all(kind: str) -> None:
    # GIVEN a graph where only neighbours tell, sixteen of every user
    graph = make_buyers(kind)
    # WHEN trained on eight of them at a time
    fit = fit_nodes(graph, {**LAYERS, **SAMPLED})
    # THEN the error is at most a tenth above the full batch's, or one row in fifty, and far below the baseline's
    found, whole = (error_of(all_answers(f, graph), graph) for f in (fit, fit_nodes(graph, LAYERS)))
    assert found < 1.1 * whole + (0 if kind == "number" else 0.02)
    usual = node_baselines(graph, graph.targets[0])["mean" if kind == "number" else "majority_class"]
    assert found < 0.5 * error_of(usual, graph)
    # AND the curves show the same
    assert {curve.metric for curve in fit.curves} == {{"classes": "accuracy", "labels": "f1", "number": "rmse"}[kind]}


def test_few_labels_spread_along_citations_from_samples_too() -> None:
    # GIVEN a graph where a label in ten is known, and the propagation reaches far
    graph = make_communities()
    errors = [error_of(all_answers(fit_nodes(graph, PROPAGATION, fanout=f), graph), graph) for f in (0, 8)]
    # THEN walks do what the propagation does
    assert errors[1] < errors[0] + 0.03 < 0.15


def test_the_search_finds_the_same_design_from_samples() -> None:
    # GIVEN users whose class shows only in which relation they have to which items
    graph, progress = make_raters(), Watcher()
    fit = fit_nodes(graph, LIGHT, fanout=4, num_epochs=60, progress=progress)
    # THEN two layers are found, by trials of all designs
    assert fit.hyperparameters["num-layer"] == "2"
    assert error_of(all_answers(fit, graph), graph) < 0.05
    assert [step.split(" ")[0] for step in progress.steps] == ["trial"] * len(fit.curves)
    assert sum(curve.kept for curve in fit.curves) == 1


def test_a_fanout_is_told_and_without_one_memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_communities()
    given = fit_nodes(graph, PROPAGATION, num_epochs=3, fanout=8, batch_size=16)
    assert (given.hyperparameters["fanout"], given.hyperparameters["batch-size"]) == ("8", "16")
    assert given.device == "cpu"
    assert fit_nodes(graph, PROPAGATION, num_epochs=3).hyperparameters["fanout"] == "0"
    # WHEN there is next to no memory
    monkeypatch.setattr(fanout, "available_bytes", lambda: 1 << 16)
    progress = Watcher()
    assert fit_nodes(graph, PROPAGATION, num_epochs=3, progress=progress).hyperparameters["fanout"] == "32"
    assert "neighbours of each node are sampled instead" in progress.notes[0]
    # AND without a fanout there are no batches
    fit_nodes(graph, PROPAGATION, num_epochs=3, fanout=0, batch_size=16, progress=progress)
    assert "batch-size is for training with a fanout" in progress.notes[-1]


def test_epochs_that_are_not_given_are_fewer_where_they_have_many_steps() -> None:
    graph = make_buyers("classes")
    few = fit_nodes(graph, {**LAYERS, **SAMPLED, "window_for_early_stop": "auto"})
    rows = len(labels_of(graph).rows(Split.TRAIN))
    assert few.hyperparameters["num-epochs"] == str(3 * 300 // -(-rows // 100))
    assert few.hyperparameters["window-for-early-stop"] == str(3 * 50 // -(-rows // 100))
    given = fit_nodes(graph, {**LAYERS, **SAMPLED}, num_epochs=7, window_for_early_stop=3)
    assert (given.hyperparameters["num-epochs"], given.hyperparameters["window-for-early-stop"]) == ("7", "3")


@pytest.mark.parametrize("settings", [LAYERS, PROPAGATION, {**LAYERS, "concat_node_embed": True}])
def test_the_same_seed_gives_the_same_model_and_no_file_is_left(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    graph = make_communities()
    first, again, other = (
        saved_bytes(fit_nodes(graph, {**settings, **SAMPLED}, num_epochs=4, seed=seed), tmp_path / name)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again != other
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("free", ["true", "false"])
@pytest.mark.parametrize("after", [2, 9])
def test_an_interrupted_training_ends_with_the_model_of_one_that_was_not(tmp_path: Path, free: str, after: int) -> None:
    # GIVEN a training by samples, and the same one that is stopped within its first or its second member
    graph = make_communities(labelled=0.4)
    hyperparameters = {
        "num-hidden": "8",
        "num-epochs": "6",
        "seeds": "2",
        "num-layer": "1",
        "fanout": "2",
        "batch-size": "20",
        "concat-node-embed": free,
        "dropout": "0.3",
        "weight-decay": "0.001",
        "propagation-steps": "2",
    }
    whole = fit_first(graph, "rgcn", hyperparameters, Interruption(tmp_path / "other"))
    stopped = fit_first(graph, "rgcn", hyperparameters, Interruption(tmp_path / "kept", after))
    assert stopped.stopped
    # WHEN it is started again
    again = Interruption(tmp_path / "kept")
    resumed = fit_first(graph, "rgcn", hyperparameters, again)
    # THEN it goes on where it was, and the model is the same to the last bit
    assert again.told_again == after
    assert again.resumed
    assert saved_bytes(resumed, tmp_path / "a") == saved_bytes(whole, tmp_path / "b")
    assert [curve.best_valid for curve in resumed.curves] == [curve.best_valid for curve in whole.curves]


def test_a_long_epoch_is_broken_off_by_a_request_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN epochs that are long, of a hundred and more steps, and a request that comes in the middle of the second
    class Impatient(Watcher):
        asked = 0

        def stop_requested(self) -> bool:
            self.asked += 1
            return self.asked > 1.5 * steps

    graph, progress = make_buyers("classes"), Impatient()
    steps = len(labels_of(graph).rows(Split.TRAIN)) / 2
    monkeypatch.setattr(passes, "LONG_EPOCH", 0.0)
    # WHEN
    fit = fit_nodes(graph, LAYERS, fanout=2, batch_size=2, progress=progress)
    # THEN the model is that of the first
    assert fit.stopped
    assert [len(curve.points) for curve in fit.curves] == [1]
    assert progress.asked < 1.6 * steps
    assert np.isfinite(all_answers(fit, graph)).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_cannot_be_learnt_from_is_no_model() -> None:
    edges: Any = {("paper", "cites", "paper"): (np.arange(59), np.arange(59) + 1)}
    graph = make_node_graph({"paper": np.full((60, 2), np.inf)}, edges, np.arange(60.0))
    with pytest.raises(BadData, match="no epoch gave a finite validation loss: lower lr") as caught:
        fit_nodes(graph, LAYERS, fanout=4)
    assert caught.value.code == "TRAINING_DIVERGED"


def test_a_graph_without_edges_and_one_with_a_single_label_are_answered() -> None:
    x = np.random.default_rng(2).normal(size=(200, 2))
    graph = make_node_graph({"paper": x}, {}, (x[:, 0] > 0).astype(int), classes=2)
    assert error_of(all_answers(fit_nodes(graph, fanout=4), graph), graph) < 0.15
    split = np.full(200, Split.TEST, np.uint8)
    split[0] = Split.TRAIN
    edges: Any = {("paper", "cites", "paper"): (np.arange(199), np.arange(199) + 1)}
    alone = make_node_graph({"paper": x}, edges, (x[:, 0] > 0).astype(int), split, classes=2)
    assert np.isfinite(all_answers(fit_nodes(alone, {**LIGHT, "num_epochs": 5}, fanout=4), alone)).all()


def test_new_nodes_are_answered_as_by_the_full_batch(tmp_path: Path) -> None:
    # GIVEN a model from samples, saved and loaded
    graph = make_buyers("number")
    fit: Fit = fit_nodes(graph, {**LAYERS, **SAMPLED})
    fit.predictor.save(tmp_path)
    predictor = NodeTablePredictor.load(tmp_path)
    # WHEN users come with the items of known ones
    (edges,) = graph.edges
    users = np.arange(40, dtype=np.int32)
    new = [NewNode(None, tuple(NewEdge(BOUGHT, True, int(i)) for i in edges.dest[edges.source == u])) for u in users]
    # THEN they are told about what those are told
    said, known = predictor.predict_new(new), predictor.predict(users)
    assert np.corrcoef(said, known)[0, 1] > 0.9


def test_the_baseline_of_a_graph_too_large_for_memory_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_communities()
    usual = node_baselines(graph, graph.targets[0])["label_propagation"]
    monkeypatch.setattr("ekiden_engine.models.nodes_baselines.available_bytes", lambda: 1 << 10)
    np.testing.assert_allclose(node_baselines(graph, graph.targets[0])["label_propagation"], usual, atol=1e-6)


def test_walks_and_batches_of_a_large_fanout_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN room for few sampled neighbours
    monkeypatch.setattr(nodes_sampled_batch, "MOST_EDGES", 2000)
    sizes: list[int] = []

    class Noted(nodes_sampled_batch.Batch):
        def __init__(self, sampler: Any, asked: Any, *rest: Any) -> None:
            sizes.append(len(asked))
            super().__init__(sampler, asked, *rest)

    monkeypatch.setattr(nodes_sampled, "Batch", Noted)
    # WHEN trained, THEN batches are small
    fit_nodes(make_buyers("classes"), LAYERS, fanout=16, num_epochs=1)
    assert 1 < max(sizes) <= 64
