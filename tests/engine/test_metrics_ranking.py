"""Ranks and what is made of them, held against a worked example and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ekiden_engine.metrics_ranking import MANY, Ranks, rank_truths


def pairs(*given: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(given, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def test_known_links_are_no_candidates_and_other_truths_only_in_the_raw_rank() -> None:
    # GIVEN one query with candidates 0..4, best first 0, 1, 2, 3, 4; 0 is known, 1 and 3 are true
    scores = np.array([[5, 4, 3, 2, 1]], np.float32)

    # WHEN
    raw, filtered = rank_truths(scores, pairs((0, 0)), pairs((0, 1), (0, 3)))

    # THEN
    assert raw.tolist() == [1, 3]
    assert filtered.tolist() == [1, 2]


def test_equal_scores_share_the_mean_of_their_ranks() -> None:
    scores = np.zeros((1, 5), np.float32)
    raw, filtered = rank_truths(scores, pairs(), pairs((0, 2), (0, 4)))
    assert raw.tolist() == [3, 3]
    assert filtered.tolist() == [2.5, 2.5], "among three that are not true, and itself"


def test_a_truth_that_is_also_known_still_ranks() -> None:
    raw, _ = rank_truths(np.array([[3, 2, 1]], np.float32), pairs((0, 1), (0, 0)), pairs((0, 1)))
    assert raw.tolist() == [1]


def test_a_model_that_gives_nan_ranks_last() -> None:
    raw, filtered = rank_truths(np.array([[1, np.nan, 2, 0]], np.float32), pairs((0, 0)), pairs((0, 1)))
    assert raw.tolist() == filtered.tolist() == [3]


@pytest.mark.parametrize("truths", [3, MANY * 2])
def test_ranks_agree_with_brute_force(truths: int) -> None:
    rng = np.random.default_rng(truths)
    scores = rng.integers(0, 30, (6, 90)).astype(np.float32)
    picked = np.array([rng.choice(90, truths + 4, replace=False) for _ in range(6)])
    known = (np.repeat(np.arange(6), 4), picked[:, :4].ravel())
    true = (np.repeat(np.arange(6), truths), picked[:, 4:].ravel())
    raw, filtered = rank_truths(scores.copy(), known, true)
    for i, (row, column) in enumerate(zip(*true, strict=True)):
        mine = scores[row, column]
        others = np.setdiff1d(np.arange(90), [*picked[row, :4], column])
        strangers = np.setdiff1d(others, picked[row])
        for found, rivals in ((raw[i], others), (filtered[i], strangers)):
            assert found == 1 + (scores[row, rivals] > mine).sum() + (scores[row, rivals] == mine).sum() / 2


def test_figures_of_a_worked_example() -> None:
    # GIVEN two queries: one with two truths at raw ranks 1 and 3, one with a truth at rank 30
    ranks = Ranks(np.array([0, 2, 3]), np.array([1.0, 3.0, 30.0]), np.array([1.0, 2.0, 30.0]))

    # WHEN
    found = ranks.figures()

    # THEN
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 30) / 3)
    assert (found["hits@1"], found["hits@3"], found["hits@10"]) == (1 / 3, 2 / 3, 2 / 3)
    assert found["mean_rank"] == 11
    assert found["recall@20"] == pytest.approx((1 + 0) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@20"] == pytest.approx((1 + 1 / math.log2(4)) / ideal / 2)
    assert (found["count"], found["queries"]) == (3, 2)


def test_more_truths_than_the_list_is_long_can_still_be_listed_perfectly() -> None:
    raw = np.arange(1, 41, dtype=np.float64)
    found = Ranks(np.array([0, 40]), raw, np.ones(40)).figures()
    assert found["ndcg@20"] == pytest.approx(1.0)
    assert found["recall@20"] == 0.5


def test_figures_of_no_truth_are_none() -> None:
    found = Ranks(np.zeros(1, np.int64), np.empty(0), np.empty(0)).figures()
    assert found.pop("count") == found.pop("queries") == 0
    assert set(found.values()) == {None}
