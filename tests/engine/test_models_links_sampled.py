"""Link prediction on samples of neighbours: its vectors are the full batch's, nothing hidden leaks, and it learns."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ekiden_engine import checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models import fanout as fanout_module
from ekiden_engine.models import links_sampled
from ekiden_engine.models.links_data import Validation, make_problem
from ekiden_engine.models.links_encoder import LinkEncoder, full_batch_bytes
from ekiden_engine.models.links_losses import LinkRecipe, cuts
from ekiden_engine.models.links_questions import Portions, Questions
from ekiden_engine.models.links_sampled import LIMITS, SampledLinkEncoder
from ekiden_engine.models.links_sampled_messages import Storage
from tests.engine.checkpoint_factories import Interruption, fit_first, saved_bytes
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

RECIPE = LinkRecipe(8, 0.02, 32, "cross-entropy", 0.0, 0, 0.2)
NOTHING = np.empty(0, np.int32)
ENCODER_ONLY = {"closed_form": "false", "num_hidden": "8"}


def make_context_graph() -> EncodedGraph:
    """Items with features, and with labels that are linked to them but not asked for."""
    graph = make_taste_graph()
    edges, labels = graph.link_labels(graph.targets[0])[0]
    told = (list(range(30)), [item % 5 for item in range(30)])
    return make_links(
        {"label": 5, "user": 40, "item": 30},
        {LIKES: (edges.source.tolist(), edges.dest.tolist()), ("item", "has", "label"): told},
        labels.split.tolist(),
        edge=LIKES,
        features={"item": np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)},
    )


def make_many_types() -> EncodedGraph:
    """Ten edge types, each linking users to the items of one group."""
    links = {}
    for kind in range(10):
        users = [u for u in range(20) for _ in range(4)]
        links["user", f"r{kind}", "item"] = (users, [(u % 5) * 4 + k for u in range(20) for k in range(4)])
    return make_links({"user": 20, "item": 20}, links, [Split.VALID if i % 8 == 7 else Split.TRAIN for i in range(80)])


def make_popular_graph(users: int = 300, items: int = 150, seed: int = 0) -> EncodedGraph:
    """Users of ten tastes, and items of which few are popular: long and short lists on both sides."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(10, 6)), rng.normal(size=(items, 6))
    fits = taste[rng.integers(0, 10, users)] @ kind.T - 0.7 * np.log(np.arange(1, items + 1))
    wanted = fits + rng.gumbel(size=(users, items))
    often = np.minimum(5 + rng.pareto(1.5, users) * 8, items // 3).astype(int)
    pairs = [(u, int(i)) for u in range(users) for i in np.argsort(-wanted[u])[: often[u]]]
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], p=[0.8, 0.1, 0.1], size=len(pairs))
    source, dest = ([pair[end] for pair in pairs] for end in (0, 1))
    return make_links({"user": users, "item": items}, {LIKES: (source, dest)}, split.tolist(), edge=LIKES)


def make_sampled(
    graph: EncodedGraph, folder: Path, fanout: int = 4, recipe: LinkRecipe = RECIPE, seed: int = 0
) -> SampledLinkEncoder:
    folder.mkdir(exist_ok=True)
    problem = make_problem(graph, graph.targets[0], context=True, seed=0).on_disk(folder)
    return SampledLinkEncoder(graph, problem, recipe, fanout, seed, folder)


def make_both(graph: EncodedGraph, folder: Path, fanout: int) -> tuple[LinkEncoder, SampledLinkEncoder]:
    """With the same parameters, which have moved since the sampled one remembered its sums."""
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    full, some = LinkEncoder(graph, problem, RECIPE, 1), make_sampled(graph, folder, fanout)
    some.encode()
    for _ in range(3):
        full.epoch((0.02, 0.02))
    with torch.no_grad():
        some._own.values.copy_(full._own)
        for mine, theirs in zip(some.relations, full.relations, strict=True):
            mine.messages.values.copy_(theirs.table)
        for (_, _, mine_weight), (_, _, weight) in zip(some._features, full._features, strict=True):
            mine_weight.copy_(weight)
    return full, some


@pytest.mark.parametrize("make", [make_taste_graph, make_ring_graph, make_context_graph, make_many_types])
def test_with_all_neighbours_in_the_sample_vectors_are_those_of_the_full_batch(make: Any, tmp_path: Path) -> None:
    # GIVEN both encoders with the same parameters
    full, some = make_both(make(), tmp_path, 1000)
    # WHEN every third node is encoded by a sample of all its neighbours
    nodes = np.arange(0, full._problem.nodes, 3)
    with torch.no_grad():
        found, _ = some.encode_some(nodes, NOTHING)
        wanted = full.encode()
        # THEN
        assert torch.allclose(found, wanted[nodes], atol=1e-5)
        # AND block by block from all neighbours, too
        some._remembered = None
        assert torch.allclose(some.encode(), wanted, atol=1e-5)


@pytest.mark.parametrize("make", [make_taste_graph, make_ring_graph, make_context_graph, make_many_types])
def test_hidden_links_are_hidden_as_in_the_full_batch(make: Any, tmp_path: Path) -> None:
    full, some = make_both(make(), tmp_path, 1000)
    links = len(full._problem.links[0])
    hidden = np.sort(np.random.default_rng(0).permutation(links)[: links // 3]).astype(np.int32)
    with torch.no_grad():
        found, _ = some.encode_some(np.arange(full._problem.nodes), hidden)
        full._hide(hidden)
        wanted = full._encode({g: torch.from_numpy(r.way.edges_of(hidden)) for g, r in enumerate(full.relations)})
    assert torch.allclose(found, wanted, atol=1e-5)
    assert some._visible.all()


def test_samples_of_few_neighbours_are_right_in_the_mean(tmp_path: Path) -> None:
    full, some = make_both(make_taste_graph(), tmp_path, 2)
    nodes = np.arange(full._problem.nodes)
    with torch.no_grad():
        wanted = full.encode()
        found = torch.stack([some.encode_some(nodes, NOTHING)[0] for _ in range(600)])
    spread = found.std(0)
    assert float(spread.max()) > 0.01
    error = (found.mean(0) - wanted).abs() / (spread / 600**0.5 + 1e-6)
    assert float(error.max()) < 6


@pytest.mark.parametrize("when", ["remembered", "since"])
@pytest.mark.parametrize("fanout", [2, 1000])
def test_a_hidden_link_tells_nothing_to_either_end(when: str, fanout: int, tmp_path: Path) -> None:
    # GIVEN a link, and what goes along it in both directions
    _, some = make_both(make_taste_graph(), tmp_path, fanout)
    problem = some._problem
    source, _, dest = (int(column[7]) for column in problem.links)
    ends = np.sort(np.array([source, dest]))
    to_dest, to_source = some.relations
    state = some._random.bit_generator.state

    def vectors(hidden: list[int], change: float) -> torch.Tensor:
        some._random.bit_generator.state = state
        for relation, sender in ((to_dest, source), (to_source, dest)):
            relation.messages.values[sender - relation.way.columns[0]] += change
        some._remembered = None if when == "remembered" else 0
        with torch.no_grad():
            found = some.encode_some(ends, np.array(hidden, np.int32))[0].clone()
        for relation, sender in ((to_dest, source), (to_source, dest)):
            relation.messages.values[sender - relation.way.columns[0]] -= change
        return found

    # WHEN the messages change, THEN both ends notice, unless the link is hidden
    assert (vectors([], 5.0) - vectors([], 0.0)).abs().amax(1).min() > 0.5 or fanout == 2
    assert torch.allclose(vectors([7], 5.0), vectors([7], 0.0), atol=1e-4)


@pytest.mark.parametrize(("loss", "epochs"), [("cross-entropy", "12"), ("bpr", "15"), ("contrastive", "25")])
def test_it_learns_as_well_as_the_full_batch_whatever_the_loss(loss: str, epochs: str) -> None:
    # GIVEN a graph whose lists are mostly longer than the samples
    graph = make_popular_graph()
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    validation = Validation(problem, 20_000, 0)
    links = np.bincount(problem.train.given, problem.train.counts, problem.nodes).astype(np.float32)
    popular = []
    for rows in validation.blocks(1000):
        low, high = problem.ranges[validation.questions.relation[rows[0]]].tolist()
        popular.append(validation.ranks(rows, np.repeat(links[None, low:high], len(rows), 0))[1])
    # WHEN trained both ways
    given = {**ENCODER_ONLY, "loss": loss, "num_epochs": epochs, "lr": "0.02", "batch_size": "32"}
    whole, some = (fit_links(graph, "rgcn", fanout=fanout, **given) for fanout in ("0", "4"))
    # THEN the validation MRR is within a tenth, and far above that of popularity alone
    mrr = [fitted.curves[0].best_valid for fitted in (whole, some)]
    assert mrr[1] > 0.9 * mrr[0]
    assert mrr[1] > 1.5 * float((1 / np.concatenate(popular)).mean())


@pytest.mark.parametrize("make", [make_ring_graph, make_context_graph, make_many_types])
def test_several_edge_types_context_and_features_are_learnt(make: Any) -> None:
    graph = make()
    given = {**ENCODER_ONLY, "num_epochs": "25", "lr": "0.02", "batch_size": "32"}
    split = Split.TEST if make is not make_many_types else Split.VALID
    ranks = [np.mean(ranks_of(graph, links_of(fit_links(graph, "rgcn", fanout=f, **given)), split)) for f in ("0", "3")]
    assert ranks[1] < 1.25 * ranks[0] + 0.5


def test_the_trainer_says_how_it_trained_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graph, progress = make_taste_graph(), Recorder()
    whole = fit_links(graph, "rgcn", progress, fanout="0", num_epochs="2")
    some = fit_links(graph, "rgcn", progress, fanout="8", num_epochs="2")
    assert (whole.hyperparameters["fanout"], some.hyperparameters["fanout"]) == ("0", "8")
    assert some.device == "cpu"
    assert list(tmp_path.iterdir()) == []
    # AND closed forms are blended with it as with the other
    assert any("EASE" in note for note in progress.notes)
    assert [p.epoch for p in some.curves[0].points] == [1, 2]
    assert links_of(some).items(0, "tail").shape == links_of(whole).items(0, "tail").shape
    assert links_of(some).known("item", np.array([0, -1], np.int32)).tolist() == [True, False]


def test_what_does_not_fit_into_memory_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "available_bytes", lambda: 10_000)
    progress = Recorder()
    fitted = fit_links(make_taste_graph(), "rgcn", progress, num_epochs="1", **ENCODER_ONLY)
    assert fitted.hyperparameters["fanout"] == "32"
    assert any("32 neighbours of each node are sampled" in note for note in progress.notes)


def test_the_same_seed_gives_the_same_vectors_wherever_parameters_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_popular_graph(100, 60)
    found = []
    for available in (1 << 40, 1 << 40, 1):
        monkeypatch.setattr(links_sampled, "available_bytes", lambda: available)  # noqa: B023  called in the next line
        fitted = fit_links(graph, "rgcn", fanout="3", num_epochs="3", **ENCODER_ONLY)
        found.append(links_of(fitted).items(0, "tail"))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    other = links_of(fit_links(graph, "rgcn", fanout="3", num_epochs="3", seed="1", **ENCODER_ONLY))
    assert not np.array_equal(found[0], other.items(0, "tail"))


@pytest.mark.parametrize("make", [make_taste_graph, make_context_graph])
def test_an_interrupted_training_ends_as_one_that_was_not(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(checkpoints.SECONDS_VARIABLE, "0")
    settings = {
        "num-hidden": "8",
        "num-epochs": "8",
        "fanout": "3",
        "batch-size": "16",
        "enable-early-stop": "false",
        "closed-form": "false",
    }
    graph = make()
    expected = fit_first(graph, "rgcn", settings, Interruption(tmp_path / "a"))
    stopped = fit_first(graph, "rgcn", settings, Interruption(tmp_path / "b", stop_after=3))
    assert stopped.stopped
    found = fit_first(graph, "rgcn", settings, last := Interruption(tmp_path / "b"))
    assert last.resumed == "resumed after epoch 3/8 of the encoder"
    assert last.epochs == [4, 5, 6, 7, 8]
    assert saved_bytes(found, tmp_path / "found") == saved_bytes(expected, tmp_path / "expected")


def test_a_request_to_stop_ends_a_long_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden_engine.models.passes.LONG_EPOCH", 0.0)
    encoder = make_sampled(make_taste_graph(), tmp_path)
    loss, whole = encoder.epoch((0.01, 0.01), lambda: True)
    assert (encoder.steps_done, whole) == (1, False)
    assert loss > 0
    fitted = fit_links(make_taste_graph(), "rgcn", Recorder(stop_after=1), fanout="2", num_epochs="50")
    assert fitted.stopped
    assert len(fitted.curves[0].points) == 1


def test_a_loss_that_is_no_number_is_named() -> None:
    # GIVEN features whose products no float holds
    graph = make_ring_graph()
    huge = replace(graph.nodes[0], features=np.full((40, 1), 1e38, np.float32), feature_names=("f0",))
    with pytest.raises(BadData, match="lower lr") as caught:
        fit_links(replace(graph, nodes=(huge,)), "rgcn", fanout="2", num_epochs="2", **ENCODER_ONLY)
    assert caught.value.code == "TRAINING_DIVERGED"


def test_portions_hold_every_answer_once() -> None:
    # GIVEN questions of 1 to 40 answers
    source = np.repeat(np.arange(40), np.arange(1, 41)).astype(np.int32)
    dest = (np.concatenate([np.arange(n) for n in range(1, 41)]) + 40).astype(np.int32)
    questions = Questions.of((source, np.zeros(len(source), np.int32), dest), 80)
    # WHEN none may have more than seven
    portions = Portions.of(questions, 7)
    everyone = portions.between(0, len(questions))
    rows, places = portions.places(everyone)
    # THEN
    assert sorted(places.tolist()) == list(range(len(questions.answers)))
    assert np.bincount(rows).tolist() == portions.sizes(everyone).tolist()
    assert portions.sizes(everyone).max() == 7
    which = portions.question(everyone)[rows]
    assert (places >= questions.offsets[which]).all()
    assert (places < questions.offsets[which + 1]).all()
    assert portions.is_cut(np.array([3, 39])).tolist() == [False, True]
    # AND without a bound each question is one
    assert (Portions.of(questions, None).sizes(np.arange(len(questions))) == questions.counts).all()


def test_slices_cover_all_and_keep_to_their_bound() -> None:
    sizes = np.array([3, 3, 9, 1, 1, 1, 1, 6, 1])
    found = list(cuts(9, 3, sizes, 6))
    assert [(s.start, s.stop) for s in found] == [(0, 2), (2, 3), (3, 6), (6, 7), (7, 8), (8, 9)]
    assert [(s.start, s.stop) for s in cuts(7, 3, None, None)] == [(0, 3), (3, 6), (6, 7)]


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr"])
def test_long_questions_are_asked_in_portions_whose_other_answers_are_no_negatives(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN limits that most questions exceed
    monkeypatch.setattr(links_sampled, "LIMITS", replace(LIMITS, candidates=10, portion=3, answers=12))
    graph = make_taste_graph()
    encoder = make_sampled(graph, tmp_path, recipe=replace(RECIPE, loss=loss, batch=8))
    train = encoder._problem.train
    asked = []
    # WHEN an epoch is drawn
    for portions in encoder._batches():
        batch = encoder._ask(portions)
        # THEN steps are small, and nobody's answer is anybody's negative
        assert len(batch.rows) <= 12
        assert set(batch.hidden.tolist()) <= set(train.links[encoder._portions.places(portions)[1]].tolist())
        asked += [
            (batch.relation, *pair) for pair in zip(batch.given[batch.rows], batch.columns[batch.place], strict=True)
        ]
        if loss == "bpr":
            which = encoder._portions.question(portions)
            for row, column in zip(*batch.known, strict=True):
                begin, end = train.offsets[which[row] : which[row] + 2]
                assert batch.columns[column] in train.answers[begin:end]
    # THEN every answer was asked for once
    assert len(asked) == len(set(asked)) == len(train.answers)
    # AND it learns
    before = encoder.mrr(validation := Validation(encoder._problem, 1000, 0))
    for _ in range(5):
        encoder.epoch((0.02, 0.02))
    assert encoder.mrr(validation) > 1.2 * before


def test_a_row_pays_for_the_steps_in_which_it_was_not_used(tmp_path: Path) -> None:
    table = Storage(tmp_path, on_disk=True).table("x", np.array([1.0, 2.0, 3.0], np.float32), 4)
    paid = np.zeros(3)
    for step, rows in enumerate(([0, 1], [1], [1, 2], [0, 1, 2]), 1):
        paid[rows] += table.use_at(torch.tensor(rows), step).penalty.numpy()
    assert paid.tolist() == [4 * 1.0, 4 * 2.0, 4 * 3.0]


def test_the_estimate_covers_what_a_full_batch_holds() -> None:
    for graph in (make_popular_graph(), make_context_graph(), make_many_types()):
        problem = make_problem(graph, graph.targets[0], context=True, seed=0)
        encoder = LinkEncoder(graph, problem, RECIPE, 0)
        matrices = [m for r in encoder.relations for m in (r.matrix.matrix, r.matrix.transpose)]
        held = 4 * sum(p.nbytes for p in encoder._parameters)
        held += sum(m.values().nbytes + m.col_indices().nbytes + 8 * len(m.values()) for m in matrices)
        estimate = full_batch_bytes(problem, graph, RECIPE)
        assert held < estimate < 6 * held
        assert full_batch_bytes(problem, graph, replace(RECIPE, width=64)) > 1.5 * estimate


def test_a_problem_on_disk_is_the_same_problem(tmp_path: Path) -> None:
    graph = make_ring_graph()
    problem = make_problem(graph, graph.targets[0], context=True, seed=0)
    there = problem.on_disk(tmp_path)
    for name in Questions.__slots__:
        np.testing.assert_array_equal(getattr(there.train, name), getattr(problem.train, name))
    for mine, theirs in zip(problem.links, there.links, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # AND questions are in order, each answer with its link
    train, (source, kind, dest) = there.train, there.links
    keys = list(zip(train.relation.tolist(), train.given.tolist(), strict=True))
    assert all(a < b for a, b in pairwise(keys))
    rows, places = train.places(np.arange(len(train)))
    links, backwards = train.links[places], train.relation[rows] % 2 == 1
    np.testing.assert_array_equal(kind[links], train.relation[rows] // 2)
    np.testing.assert_array_equal(np.where(backwards, dest[links], source[links]), train.given[rows])
    np.testing.assert_array_equal(np.where(backwards, source[links], dest[links]), train.answers[places])
