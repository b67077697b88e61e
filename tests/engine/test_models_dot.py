"""The fitted form of a model: dot products, stand-ins for unseen nodes, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.models.baselines import BiasBaseline
from ekiden_engine.models.dot import CHUNK, FILE, DotPredictor, Side


def make_predictor(sources: int = 3, dests: int = 4, width: int = 2, seed: int = 0) -> DotPredictor:
    """Random vectors; the last node of either side was never seen."""
    rng = np.random.default_rng(seed)

    def side(count: int) -> Side:
        seen = np.ones(count, np.bool_)
        seen[-1] = False
        vectors = rng.normal(size=(count + 1, width)).astype(np.float32)
        vectors[count - 1] = vectors[count]
        bias = rng.normal(size=count + 1).astype(np.float32)
        bias[count - 1] = bias[count]
        return Side(vectors, bias, seen)

    return DotPredictor(("user", "movie"), side(sources), side(dests), mean=0.25, low=-3.0, high=3.0)


def test_a_pair_is_scored_by_biases_and_a_dot_product_within_the_label_range() -> None:
    model = make_predictor()
    rows = np.array([0, 1, 0], np.int32), np.array([0, 1, 2], np.int32)
    wanted = [
        model.source.bias[s] + model.dest.bias[t] + model.source.vectors[s] @ model.dest.vectors[t]
        for s, t in zip(*rows, strict=True)
    ]
    assert model.predict(*rows) == pytest.approx(np.clip(wanted, -3, 3), abs=1e-5)
    model.high = 0.0
    assert model.predict(*rows).max() <= 0


def test_unseen_ends_get_the_mean_node_and_two_unseen_ends_the_global_mean() -> None:
    model = make_predictor()
    source, dest = np.array([-1, 0, -1, 2, 2], np.int32), np.array([0, -1, -1, 3, 0], np.int32)
    found = model.predict(source, dest)
    stand_in = model.source.bias[-1] + model.dest.bias[0] + model.source.vectors[-1] @ model.dest.vectors[0]
    assert found[0] == pytest.approx(np.clip(stand_in, -3, 3), abs=1e-5)
    assert found[2] == found[3] == pytest.approx(0.25)
    assert found[4] == found[0]  # in the graph, but the model learnt nothing of it
    known = model.known(source, dest)
    assert known[0].tolist() == [False, True, False, False, False]
    assert known[1].tolist() == [True, False, False, False, True]


def test_chunks_do_not_show() -> None:
    model = make_predictor(50, 60, 8)
    rng = np.random.default_rng(3)
    count = 2 * CHUNK + 17
    source, dest = rng.integers(-1, 50, count).astype(np.int32), rng.integers(-1, 60, count).astype(np.int32)
    found = model.predict(source, dest)
    picks = rng.integers(0, count, 50)
    assert [float(model.predict(source[[i]], dest[[i]])[0]) for i in picks] == pytest.approx(found[picks].tolist())


def test_no_pairs_give_no_scores_and_a_side_without_nodes_knows_none() -> None:
    model = make_predictor()
    assert model.predict(np.empty(0, np.int32), np.empty(0, np.int32)).shape == (0,)
    empty = Side(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.zeros(0, np.bool_))
    nobody = DotPredictor(("user", "movie"), empty, empty, 0.5, 0, 1)
    assert nobody.predict(np.array([-1], np.int32), np.array([-1], np.int32)).tolist() == [0.5]


def test_a_saved_model_comes_back_with_the_same_scores(tmp_path: Path) -> None:
    model = make_predictor()
    model.save(tmp_path)
    again = DotPredictor.load(tmp_path)
    source, dest = np.array([0, 1, -1], np.int32), np.array([3, 2, 1], np.int32)
    assert np.array_equal(again.predict(source, dest), model.predict(source, dest))
    assert again.counts() == {"user": 3, "movie": 4}


def test_a_file_that_is_none_or_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"model\.safetensors"):
        DotPredictor.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"not safetensors at all")
    with pytest.raises(BadData, match=r"model\.safetensors"):
        DotPredictor.load(tmp_path)
    make_predictor().save(tmp_path)
    tensors = load_file(tmp_path / FILE)
    save_file({**tensors, "source.bias": tensors["source.bias"][:1]}, tmp_path / FILE)
    with pytest.raises(BadData, match="shapes"):
        DotPredictor.load(tmp_path)
    save_file({**tensors, "dest.vectors": tensors["dest.vectors"][:, :1].copy()}, tmp_path / FILE)
    with pytest.raises(BadData, match="differ in width"):
        DotPredictor.load(tmp_path)


def test_bias_baselines_recover_biases_and_shrink_those_of_rare_nodes() -> None:
    # GIVEN a generous and a strict user with many ratings of every movie, and one with a single rating
    source = np.array([0] * 100 + [1] * 100 + [2], np.int32)
    dest = np.array([*range(100), *range(100), 0], np.int32)
    label = np.array([4.0] * 100 + [2.0] * 100 + [5.0], np.float32)

    # WHEN
    baseline = BiasBaseline.fit(source, dest, label, (4, 100))

    # THEN
    assert baseline.source[0] - baseline.source[1] == pytest.approx(2.0, abs=0.15)
    assert 0 < baseline.source[2] < 0.6
    assert baseline.source[3] == 0
    assert baseline.predict(np.array([3], np.int32), np.array([5], np.int32))[0] == pytest.approx(
        baseline.mean, abs=0.05
    )
