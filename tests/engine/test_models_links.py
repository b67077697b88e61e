"""Model `rgcn` for links: the encoder, the closed forms beside it, the blend and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from ekiden_engine.errors import BadData
from ekiden_engine.graph import Split
from ekiden_engine.models import predictor_class
from ekiden_engine.models.ease import MOST_ITEMS, Ease
from ekiden_engine.models.ials import UNOBSERVED, Ials
from ekiden_engine.models.links_blend import Asked, Block, choose_weights
from ekiden_engine.models.links_data import Validation, draw, make_problem
from ekiden_engine.models.links_encoder import LinkEncoder
from ekiden_engine.models.links_losses import LinkRecipe
from ekiden_engine.models.links_predictor import DIRECTIONS, LinkVectors
from tests.engine.links_factories import (
    LIKES,
    Recorder,
    fit_links,
    links_of,
    make_links,
    make_ring_graph,
    make_taste_graph,
    ranks_of,
)

ENCODER_ONLY = {"closed_form": "false", "num_hidden": "8"}


def make_matrix(users: int = 30, items: int = 12, seed: int = 0) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((users, items)) < 0.3).astype(np.float32))


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr", "contrastive"])
def test_the_encoder_finds_the_group_of_a_user_whatever_the_loss(loss: str) -> None:
    # GIVEN users who like the items of their group only (30 items, 10 of each group)
    graph = make_taste_graph()
    # WHEN the encoder alone is trained
    fitted = fit_links(graph, "rgcn", loss=loss, num_epochs="60", lr="0.02", **ENCODER_ONLY)
    # THEN unseen links of a user rank above all items of other groups
    assert np.mean(ranks_of(graph, links_of(fitted))) < 5


def test_drawn_negatives_do_instead_of_all_candidates() -> None:
    graph = make_taste_graph()
    fitted = fit_links(graph, "rgcn", num_negs="12", num_epochs="60", lr="0.02", **ENCODER_ONLY)
    assert np.mean(ranks_of(graph, links_of(fitted))) < 5


def test_the_blend_is_no_worse_on_validation_links_than_any_part_of_it() -> None:
    graph, progress = make_taste_graph(), Recorder()
    fit_links(graph, "rgcn", progress, num_epochs="5")
    notes = [note for note in progress.notes if "ndcg@20" in note]
    quality = {note.split(": ")[1].split(" ")[0].strip(","): float(note.rsplit(" ", 1)[1]) for note in notes}
    blended = next(float(note.rsplit(" ", 1)[1]) for note in notes if ", tail:" in note)
    assert {"EASE", "iALS"} <= set(quality)
    assert blended >= max(quality["EASE"], quality["iALS"]) - 1e-4


def test_weights_come_from_validation_links_best_candidate_first() -> None:
    # GIVEN one candidate that knows the truth, and one that says the opposite
    graph = make_taste_graph()
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    truth = np.eye(3, dtype=np.float32)
    users, items = truth[np.arange(40) % 3], truth[np.arange(30) % 3]
    right, wrong = Block("right", users, items, ""), Block("wrong", users, -items, "")
    asked = Asked.of(problem, Validation(problem, 1000, 0), 0, "tail")
    # WHEN they are blended
    weights, quality = choose_weights(asked, {b.name: b.scorer("tail") for b in (wrong, right)})
    # THEN the wrong one gets nothing
    assert weights == {"wrong": 0.0, "right": 1.0}
    assert quality > 0.6


def test_the_same_seed_gives_the_same_vectors() -> None:
    graph = make_taste_graph()
    first, second = (links_of(fit_links(graph, "rgcn", num_epochs="3")).items(0, "tail") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_test_links_change_nothing() -> None:
    # GIVEN two graphs that differ in their test links alone
    source, dest = [0, 0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 2, 3, 2]
    split = [0, 0, 0, 1, 0, 0, 2]
    graphs = [
        make_links({"user": 4, "item": 4}, {LIKES: (source, [*dest[:-1], end])}, split, edge=LIKES) for end in (2, 3)
    ]
    # WHEN both are trained
    first, second = (links_of(fit_links(graph, "rgcn", num_epochs="3")).items(0, "tail") for graph in graphs)
    # THEN the models are the same
    np.testing.assert_array_equal(first, second)


def test_features_rank_for_a_node_without_links() -> None:
    # GIVEN items that tell their group by a feature, one of them (the last) without a training link
    graph = make_taste_graph(users=60, items=30)
    group = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    edges, labels = graph.link_labels(graph.targets[0])[0]
    kept = (edges.dest != 29) | (labels.split == Split.TEST)
    graph = make_links(
        {"user": 60, "item": 30},
        {LIKES: (edges.source[kept].tolist(), edges.dest[kept].tolist())},
        labels.split[kept].tolist(),
        edge=LIKES,
        features={"item": group},
    )
    # WHEN the encoder is trained
    predictor = links_of(fit_links(graph, "rgcn", num_epochs="60", lr="0.02", **ENCODER_ONLY))
    # THEN users of its group score it higher than other users do
    users = np.arange(60, dtype=np.int32)
    scores = (predictor.queries(0, "tail", users) @ predictor.items(0, "tail").T)[:, 29]
    assert scores[users % 3 == 29 % 3].mean() > scores[users % 3 != 29 % 3].mean()
    assert predictor.known("item", np.array([29], np.int32)).all()


def test_both_ends_can_be_asked_for_and_unseen_nodes_stand_at_the_mean() -> None:
    graph = make_taste_graph()
    predictor = links_of(fit_links(graph, "rgcn", num_epochs="3"))
    assert predictor.counts() == {"user": 40, "item": 30}
    assert predictor.items(0, "head").shape[0] == 40
    asked = predictor.queries(0, "head", np.array([0, -1], np.int32))
    everyone = predictor.queries(0, "head", np.arange(30, dtype=np.int32))
    np.testing.assert_allclose(asked[1], everyone.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predictor.known("user", np.array([0, -1], np.int32)), [True, False])


def test_many_edge_types_share_their_messages_and_are_still_learnt() -> None:
    # GIVEN ten edge types, each linking users to the items of one group
    links = {}
    for kind in range(10):
        users = [u for u in range(20) for _ in range(4)]
        links["user", f"r{kind}", "item"] = (users, [(u % 5) * 4 + k for u in range(20) for k in range(4)])
    split = [Split.VALID if i % 8 == 7 else Split.TRAIN for i in range(80)]
    graph = make_links({"user": 20, "item": 20}, links, split)
    # WHEN all are trained together
    fitted = fit_links(graph, "rgcn", num_epochs="30", lr="0.02", num_hidden="8")
    # THEN held-out links rank near the top of 20
    assert len(links_of(fitted).edge_types) == 10
    assert np.mean(ranks_of(graph, links_of(fitted), Split.VALID)) < 3


def test_a_request_to_stop_ends_the_training_and_keeps_a_model() -> None:
    graph, progress = make_taste_graph(), Recorder(stop_after=1)
    fitted = fit_links(graph, "rgcn", progress, num_epochs="50")
    assert fitted.stopped
    assert len(progress.epochs) == 1
    assert links_of(fitted).items(0, "tail").shape[0] == 30


def test_without_training_links_the_fault_is_named() -> None:
    graph = make_links({"user": 2, "item": 2}, {LIKES: ([0, 1], [0, 1])}, [2, 2], edge=LIKES)
    with pytest.raises(BadData, match="no link of user-likes-item belongs to the training split"):
        fit_links(graph, "rgcn")


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    graph = make_taste_graph()
    predictor = links_of(fit_links(graph, "rgcn", num_epochs="2"))
    predictor.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(LinkVectors.files)
    loaded = predictor_class("links").load(tmp_path)
    assert isinstance(loaded, LinkVectors)
    nodes = np.array([3, -1], np.int32)
    for direction in DIRECTIONS:
        np.testing.assert_array_equal(loaded.queries(0, direction, nodes), predictor.queries(0, direction, nodes))
        np.testing.assert_array_equal(loaded.items(0, direction), predictor.items(0, direction))
    np.testing.assert_array_equal(loaded.embeddings("user"), predictor.embeddings("user"))
    assert loaded.embeddings("place") is None


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    predictor = links_of(fit_links(make_taste_graph(), "rgcn", num_epochs="1"))
    predictor.save(tmp_path)
    (tmp_path / "links.json").write_text('{"labels": ["item", "user"], "edge_types": [["user", "likes", "item"]]}')
    with pytest.raises(BadData, match=r"safetensors|predictor"):
        LinkVectors.load(tmp_path)
    (tmp_path / "links.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadData, match=r"safetensors|predictor"):
        LinkVectors.load(tmp_path)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others() -> None:
    links = make_matrix()
    x = links.toarray().astype(np.float64)
    model = Ease.fit(links, 5.0)
    for item in range(x.shape[1]):
        others = np.delete(np.arange(x.shape[1]), item)
        gram = x[:, others].T @ x[:, others] + 5.0 * np.eye(len(others))
        np.testing.assert_allclose(
            model.weights[others, item], np.linalg.solve(gram, x[:, others].T @ x[:, item]), atol=1e-5
        )
    assert not np.diag(model.weights).any()
    np.testing.assert_array_equal(model.scores(np.array([-1], np.int32)), np.zeros((1, 12)))


def test_all_dimensions_but_one_of_ease_give_nearly_its_scores() -> None:
    model = Ease.fit(make_matrix(), 5.0)
    users, items = model.factors(11, 0)
    exact = model.scores(np.arange(30, dtype=np.int32))
    assert np.linalg.norm(users @ items.T - exact) < 0.15 * np.linalg.norm(exact)


def test_ease_refuses_more_items_than_it_can_invert() -> None:
    with pytest.raises(ValueError, match="at most"):
        Ease.fit(sparse.csr_array((2, MOST_ITEMS + 1), dtype=np.float32), 1.0)


def test_ials_ends_where_no_vector_of_a_user_can_get_better() -> None:
    # GIVEN the vectors after some rounds, the users' solved last
    links, strength = make_matrix(), 0.01
    model = Ials.fit(links, strength, width=4, rounds=3)
    x = links.toarray()
    # WHEN the loss's gradient by the users is written out
    scores, penalty = model.users @ model.items.T, strength * (x.sum(1) + UNOBSERVED * x.shape[1])
    gradient = (x * (scores - 1) + UNOBSERVED * scores) @ model.items + penalty[:, None] * model.users
    # THEN it is zero
    assert np.abs(gradient).max() < 1e-4


def test_closed_forms_work_where_both_ends_are_of_one_type() -> None:
    graph = make_ring_graph()
    predictor = links_of(fit_links(graph, "rgcn", num_epochs="2"))
    assert predictor.items(1, "head").shape[0] == 40
    assert np.isfinite(predictor.queries(1, "head", np.arange(40, dtype=np.int32))).all()


def test_what_a_step_hides_is_there_again_after_it() -> None:
    # GIVEN an encoder whose links are all visible
    graph = make_taste_graph()
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    encoder = LinkEncoder(graph, problem, LinkRecipe(4, 0.01, 16, "cross-entropy", 0.0, 0, 0.0), 0)
    # WHEN it is trained for an epoch
    encoder.epoch((0.01, 0.0))
    # THEN every adjacency is complete, and vectors come from all of it
    assert [int(r.matrix.matrix.values().sum()) for r in encoder.relations] == [len(problem.links[0])] * 2


def test_drawn_candidates_stand_for_those_that_were_not() -> None:
    # GIVEN exponentials of 1,000 scores, of which 5 belong to answers
    random = np.random.default_rng(0)
    exponentials, answers = np.exp(random.normal(size=1000)), np.arange(100, 105)
    # WHEN their sum is estimated from 200 draws, many times
    found = []
    for _ in range(200):
        drawn = draw(random, answers, 0, 1000, 200, estimate=True)
        found.append((exponentials[drawn.columns] * np.exp(drawn.shift * drawn.drawn)).sum())
    # THEN the mean is the whole sum, and answers always count themselves
    assert np.mean(found) == pytest.approx(exponentials.sum(), rel=0.01)
    assert not drawn.drawn[np.searchsorted(drawn.columns, answers)].any()
