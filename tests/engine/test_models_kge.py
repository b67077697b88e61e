"""Models `transe`, `distmult`, `complex`, `rotate`: formulas, losses, training, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ekiden_engine.errors import BadData
from ekiden_engine.graph import Split
from ekiden_engine.models import predictor_class
from ekiden_engine.models.kge_losses import Answers, bpr, contrastive, cross_entropy
from ekiden_engine.models.kge_predictor import KgePredictor
from ekiden_engine.models.kge_scores import Kge
from ekiden_engine.models.links_data import make_problem
from ekiden_engine.models.links_questions import Questions
from tests.engine.links_factories import (
    Recorder,
    fit_links,
    links_of,
    make_links,
    make_ring_graph,
    make_taste_graph,
    ranks_of,
)

MODELS = [model.value for model in Kge]
KNOWS = ("a", "knows", "a")


def make_predictor(model: Kge, width: int = 4) -> KgePredictor:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, width)).astype(np.float32)
    relations = rng.normal(size=(2, width)).astype(np.float32)
    if model is Kge.ROTATE:
        angles = rng.uniform(-3, 3, size=(2, width // 2))
        relations = np.concatenate((np.cos(angles), np.sin(angles)), 1).astype(np.float32)
    return KgePredictor(model, [KNOWS], {"a": vectors}, {"a": np.ones(6, np.bool_)}, relations)


def written_out(model: Kge, h: np.ndarray, r: np.ndarray, t: np.ndarray) -> float:
    """The score as the papers write it, the distances squared."""
    as_complex = [x[: len(x) // 2] + 1j * x[len(x) // 2 :] for x in (h, r, t)]
    match model:
        case Kge.TRANSE:
            return float(-np.sum((h + r - t) ** 2))
        case Kge.DISTMULT:
            return float(np.sum(h * r * t))
        case Kge.COMPLEX:
            a, b, c = as_complex
            return float(np.sum(a * b * c.conj()).real)
    a, b, c = as_complex
    return float(-np.sum(np.abs(a * b - c) ** 2))


@pytest.mark.parametrize("model", list(Kge))
@pytest.mark.parametrize(("direction", "relation"), [("tail", 0), ("head", 1)])
def test_the_inner_product_ranks_as_the_formula_does(model: Kge, direction: str, relation: int) -> None:
    # GIVEN some vectors
    predictor = make_predictor(model)
    nodes, r = predictor.vectors["a"], predictor.relations[relation]
    # WHEN all candidates are scored by one product
    scores = predictor.queries(0, direction, np.array([2], np.int32))[0] @ predictor.items(0, direction).T  # type: ignore[arg-type]
    # THEN they differ from the formula by one number, the question's own
    apart = scores - [written_out(model, nodes[2], r, t) for t in nodes]
    np.testing.assert_allclose(apart, apart[0], atol=1e-4)


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr", "contrastive"])
def test_each_loss_has_the_derivative_that_it_says(loss: str) -> None:
    # GIVEN scores of 3 questions over 6 candidates, the last 4 of them drawn, and four answers
    scores = torch.randn(3, 6, dtype=torch.float32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = Answers(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 5]), torch.tensor([2.0, 1.0, 1.0]))
    negative = torch.zeros(3, 6, dtype=torch.bool)
    negative[:, 2:] = True
    negative[2, 5] = False

    def value_of(given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if loss == "cross-entropy":
            return cross_entropy(given, truth)
        return bpr(given, truth, negative) if loss == "bpr" else contrastive(given, truth, negative, 1.0)

    # WHEN the derivative is taken by small differences (weights of negatives held as they are)
    with torch.no_grad():
        slope = value_of(scores.detach().clone())[1]
        step, found = 1e-2, torch.zeros(3, 6)
        for row in range(3):
            for column in range(6):
                up, down = scores.detach().clone(), scores.detach().clone()
                up[row, column] += step
                down[row, column] -= step
                found[row, column] = (value_of(up)[0] - value_of(down)[0]) / (2 * step)
    # THEN they agree; of the contrastive loss only for answers, since its weights count as constants
    where = torch.ones(3, 6, dtype=torch.bool) if loss != "contrastive" else ~negative
    torch.testing.assert_close(slope[where], found[where], atol=2e-3, rtol=0.02)


def test_answers_of_one_question_cost_as_if_asked_one_by_one() -> None:
    scores = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    together = cross_entropy(scores.clone(), Answers(torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([2.0])))
    apart = [
        cross_entropy(scores.clone(), Answers(torch.tensor([0]), torch.tensor([c]), torch.tensor([1.0])))
        for c in (1, 3)
    ]
    torch.testing.assert_close(together[0], (apart[0][0] + apart[1][0]) / 2)
    torch.testing.assert_close(together[1], (apart[0][1] + apart[1][1]) / 2)


def test_links_become_questions_in_both_directions_without_repetitions() -> None:
    source, kind, dest = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]), np.array([1, 2, 2, 2])
    asked = Questions.of((source, kind, dest), 3)
    shown = {
        (int(g), int(r)): asked.flat(np.array([i]))[1].tolist()
        for i, (g, r) in enumerate(zip(asked.given, asked.relation, strict=True))
    }
    assert shown == {(0, 0): [1, 2], (1, 0): [2], (1, 1): [0], (2, 1): [0, 1]}


def test_a_split_without_validation_links_gives_some_of_its_training_links() -> None:
    graph = make_links({"a": 30}, {KNOWS: ([i // 10 for i in range(300)], [i % 30 for i in range(300)])}, edge=KNOWS)
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    links = len(problem.links[0])
    assert len(problem.valid.answers) == 2 * round(0.05 * 300)
    assert links == 300 - round(0.05 * 300)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_learns_who_is_next(model: str) -> None:
    # GIVEN a ring of 40 places, whose held-out steps follow from other relations
    graph = make_ring_graph()
    # WHEN it is trained
    fitted = fit_links(graph, model, num_hidden="16", num_epochs="60", batch_size="32", regularization_coef="0.01")
    # THEN the place after rarely ranks lower than third of 40 (chance: 20)
    assert np.mean(ranks_of(graph, links_of(fitted))) < 5
    assert fitted.curves[0].metric == "mrr"


@pytest.mark.parametrize(("model", "loss"), [("complex", "bpr"), ("transe", "contrastive"), ("rotate", "contrastive")])
def test_the_other_losses_learn_too(model: str, loss: str) -> None:
    graph = make_taste_graph()
    gamma = {"gamma": "2"} if loss == "contrastive" else {}
    fitted = fit_links(
        graph, model, loss=loss, num_hidden="8", num_epochs="60", batch_size="32", regularization_coef="0.001", **gamma
    )
    assert np.mean(ranks_of(graph, links_of(fitted))) < 8


def test_drawn_candidates_do_instead_of_all() -> None:
    graph = make_taste_graph()
    fitted = fit_links(graph, "distmult", num_negs="12", num_hidden="8", num_epochs="60", regularization_coef="0.01")
    assert np.mean(ranks_of(graph, links_of(fitted))) < 6


def test_updating_only_what_was_touched_gives_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_taste_graph()
    dense = links_of(fit_links(graph, "complex", num_hidden="4", num_epochs="2", num_negs="8")).items(0, "tail")
    monkeypatch.setattr("ekiden_engine.models.kge_training.DENSE", 0)
    touched = links_of(fit_links(graph, "complex", num_hidden="4", num_epochs="2", num_negs="8")).items(0, "tail")
    np.testing.assert_allclose(dense, touched, atol=1e-5)


def test_the_same_seed_gives_the_same_vectors() -> None:
    graph = make_ring_graph()
    first, second, other = (
        links_of(fit_links(graph, "complex", num_hidden="4", num_epochs="2", seed=seed)).items(0, "tail")
        for seed in ("1", "1", "2")
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_target_of_one_edge_type_learns_from_the_others() -> None:
    # GIVEN a target whose training links alone say nothing of its held-out ones
    whole = make_ring_graph()
    edges = {e.edge_type: (e.source.tolist(), e.dest.tolist()) for e in whole.edges}
    split = whole.link_labels(whole.targets[0])[0][1].split.tolist()
    graph = make_links({"place": 40}, edges, split, edge=("place", "next", "place"))
    # WHEN it is trained
    fitted = fit_links(graph, "complex", num_hidden="16", num_epochs="60", batch_size="32", regularization_coef="0.01")
    # THEN the other relations, trained along, tell; and only the target can be asked for
    assert np.mean(ranks_of(graph, links_of(fitted))) < 5
    assert links_of(fitted).edge_types == (("place", "next", "place"),)


def test_a_request_to_stop_keeps_the_best_so_far() -> None:
    progress = Recorder(stop_after=2)
    fitted = fit_links(make_ring_graph(), "distmult", progress, num_hidden="4", num_epochs="50")
    assert fitted.stopped
    assert len(progress.epochs) == 2


def test_an_unknown_loss_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadData, match="cross-entropy, bpr, contrastive"):
        fit_links(make_ring_graph(), "complex", loss="hinge")


@pytest.mark.parametrize("model", MODELS)
def test_what_is_saved_is_what_is_loaded(model: str, tmp_path: Path) -> None:
    predictor = links_of(fit_links(make_ring_graph(), model, num_hidden="4", num_epochs="1"))
    predictor.save(tmp_path)
    loaded = predictor_class("kge").load(tmp_path)
    assert isinstance(loaded, KgePredictor)
    assert {p.name for p in tmp_path.iterdir()} == set(KgePredictor.files)
    nodes = np.array([0, -1], np.int32)
    np.testing.assert_array_equal(loaded.queries(2, "head", nodes), predictor.queries(2, "head", nodes))
    np.testing.assert_array_equal(loaded.items(2, "head"), predictor.items(2, "head"))
    np.testing.assert_array_equal(loaded.known("place", nodes), [True, False])
    assert loaded.counts() == {"place": 40}
    assert loaded.embeddings("place") is not None


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    make_predictor(Kge.COMPLEX).save(tmp_path)
    (tmp_path / "kge.json").write_text('{"model": "complex", "labels": ["a"], "edge_types": []}')
    with pytest.raises(BadData, match=r"safetensors|predictor"):
        KgePredictor.load(tmp_path)
    (tmp_path / "kge.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadData, match=r"safetensors|predictor"):
        KgePredictor.load(tmp_path)


def test_a_node_without_links_stands_at_the_mean_and_is_not_known() -> None:
    graph = make_links({"a": 5}, {KNOWS: ([0, 1, 2, 0], [1, 2, 0, 2])}, [Split.TRAIN] * 4, edge=KNOWS)
    predictor = links_of(fit_links(graph, "distmult", num_hidden="4", num_epochs="2"))
    items = predictor.items(0, "tail")
    np.testing.assert_allclose(items[4], items[:3].mean(0), atol=1e-6)
    np.testing.assert_array_equal(predictor.known("a", np.array([0, 4], np.int32)), [True, False])
