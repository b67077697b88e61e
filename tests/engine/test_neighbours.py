"""Top-N by inner product: exact, by an index, and the hand-over between the two."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden_engine.errors import EngineError
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.neighbours import (
    MOST_FETCHED,
    RECALL,
    ApproximateTop,
    ExactTop,
    TopCache,
    TopIndex,
    recall_of,
    unit_length,
)

WIDTH = 24
MANY = 20_000


def make_items(count: int = MANY, seed: int = 0) -> FloatArray:
    """Items in groups, with a popularity in the last column that few have much of."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, WIDTH))
    items = (centres[rng.integers(60, size=count)] + rng.normal(size=(count, WIDTH))) / 5
    return np.concatenate((items, rng.gamma(1, 0.5, size=(count, 1))), axis=1, dtype=np.float32)


def make_queries(count: int, seed: int = 1) -> FloatArray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, WIDTH))
    queries = centres[rng.integers(60, size=count)] + rng.normal(size=(count, WIDTH))
    return np.concatenate((queries, np.ones((count, 1))), axis=1, dtype=np.float32)


@pytest.fixture(scope="module")
def approximate() -> ApproximateTop:
    return ApproximateTop(ExactTop(make_items()), make_queries(64))


def sorted_out(items: FloatArray, query: FloatArray, k: int, excluded: Sequence[int]) -> list[int]:
    """The answer by sorting everything."""
    scores = items @ query
    order = sorted((i for i in range(len(items)) if i not in excluded), key=lambda i: (-scores[i], i))
    return order[:k]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 12), st.integers(1, 15), st.lists(st.integers(0, 11), max_size=8), st.integers(0, 99))
def test_exact_answers_are_those_of_sorting_everything(n: int, k: int, excluded: list[int], seed: int) -> None:
    items = np.random.default_rng(seed).integers(-2, 3, size=(n, 2)).astype(np.float32)  # many ties
    query = np.array([1, 2], np.float32)
    left_out = np.array([row for row in excluded if row < n], np.int32)
    found = ExactTop(items).top(query[None], k, [left_out])
    wanted = sorted_out(items, query, k, left_out.tolist())
    assert found.rows[0].tolist() == wanted + [-1] * (k - len(wanted))
    np.testing.assert_array_equal(found.scores[0, : len(wanted)], items[wanted] @ query)
    assert (found.scores[0, len(wanted) :] == -np.inf).all()


def test_many_queries_are_answered_as_each_alone() -> None:
    items, queries = make_items(3000), make_queries(3000)
    exact = ExactTop(items)
    found = exact.top(queries, 3)
    for position in (0, 1333, 1334, 2999):
        assert found.rows[position].tolist() == exact.top(queries[position : position + 1], 3).rows[0].tolist()


def test_the_index_agrees_with_the_exact_answer(approximate: ApproximateTop) -> None:
    # GIVEN queries that calibration did not see
    queries = make_queries(300, seed=5)

    # WHEN both answer
    exact, found = approximate.exact.top(queries, 10), approximate.top(queries, 10)

    # THEN nearly all is the same, and the scores are exact
    assert approximate.recall >= RECALL
    assert recall_of(found.rows, exact.rows) >= 0.95
    for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
        np.testing.assert_allclose(scores, approximate.exact.items[rows] @ query, rtol=1e-5)
        assert (np.diff(scores) <= 0).all()


def test_excluded_items_never_come_back_and_others_fill_their_place(approximate: ApproximateTop) -> None:
    queries = make_queries(40, seed=6)
    best = approximate.exact.top(queries, 50).rows
    excluded: list[IndexArray] = [rows[: 2 * i].astype(np.int32) for i, rows in enumerate(best[:, :40])]
    exact, found = approximate.exact.top(queries, 10, excluded), approximate.top(queries, 10, excluded)
    for rows, left_out in zip(found.rows, excluded, strict=True):
        assert len(set(rows.tolist())) == 10
        assert not set(rows.tolist()) & {-1, *left_out.tolist()}
    assert recall_of(found.rows, exact.rows) >= 0.95


def test_what_the_index_cannot_give_is_answered_exactly(approximate: ApproximateTop) -> None:
    queries = make_queries(3, seed=7)
    for k, left_out in ((MOST_FETCHED + 1, 0), (10, MOST_FETCHED), (MANY + 5, 0)):
        excluded = [np.arange(left_out, dtype=np.int32)] * 3
        exact, found = approximate.exact.top(queries, k, excluded), approximate.top(queries, k, excluded)
        np.testing.assert_array_equal(found.rows, exact.rows)
        np.testing.assert_array_equal(found.scores, exact.scores)


def test_an_index_is_built_behind_the_first_questions_and_takes_over(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN as many items as an index is for
    index = TopIndex(make_items(), make_queries, "movies", exact_below=MANY)
    queries = make_queries(50, seed=8)
    assert index.is_exact

    # WHEN the first question comes, THEN it is answered at once, and the index takes over when it is ready
    first = index.top(queries, 5)
    index.wait(60)
    assert not index.is_exact
    assert "movies: index of 20,000 candidates after" in capsys.readouterr().out
    assert recall_of(index.top(queries, 5).rows, first.rows) >= 0.95
    assert index.nbytes == 2 * index.items.nbytes


def test_few_items_are_searched_exactly_for_good() -> None:
    index = TopIndex(make_items(100), make_queries, "movies", exact_below=101)
    index.top(make_queries(1), 1)
    index.wait(1)
    assert index.is_exact
    assert index.nbytes == index.items.nbytes


def test_without_the_package_answers_stay_exact_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = TopIndex(make_items(300), make_queries, "movies", exact_below=100)
    index.wait(60)
    assert index.is_exact
    assert "movies: 300 candidates are searched one by one: an index needs the package faiss-cpu" in (
        capsys.readouterr().out
    )
    with pytest.raises(EngineError) as caught:
        ApproximateTop(ExactTop(make_items(300)), make_queries(8))
    assert caught.value.code == "MISSING_PACKAGE"


def test_an_index_that_finds_too_little_is_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN items without any structure, and queries far from all of them
    rng = np.random.default_rng(0)
    items = rng.normal(size=(4000, 64)).astype(np.float32)
    index = TopIndex(items, lambda count: rng.normal(size=(count, 64)).astype(np.float32), "noise", exact_below=1)
    index.wait(60)
    assert index.is_exact
    assert (
        "noise: 4,000 candidates are searched one by one: a quarter of the lists finds only" in capsys.readouterr().out
    )


def test_a_failure_while_building_leaves_answers_exact(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(count: int) -> FloatArray:
        raise MemoryError("no room")

    index = TopIndex(make_items(300), broken, "movies", exact_below=100)
    index.wait(60)
    assert index.is_exact
    assert "ERROR movies: no index of 300 candidates: MemoryError: no room" in capsys.readouterr().out


def test_threads_get_their_own_answers(approximate: ApproximateTop) -> None:
    queries = make_queries(200, seed=9)
    for searched in (approximate, approximate.exact):
        wanted = searched.top(queries, 7).rows
        found: dict[int, IndexArray] = {}

        def work(
            part: int, searched: ApproximateTop | ExactTop = searched, found: dict[int, IndexArray] = found
        ) -> None:
            found[part] = searched.top(queries[part * 20 : part * 20 + 20], 7).rows

        threads = [threading.Thread(target=work, args=(part,)) for part in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        np.testing.assert_array_equal(np.concatenate([found[part] for part in range(10)]), wanted)


def test_indexes_that_were_not_asked_for_lately_are_given_up_when_they_take_too_much() -> None:
    one = make_items(100).nbytes
    cache = TopCache(budget=2 * one)
    made: list[str] = []

    def get(key: str) -> TopIndex:
        def make() -> TopIndex:
            made.append(key)
            return TopIndex(make_items(100), make_queries, key)

        return cache.get(key, make)

    first = get("a")
    assert get("a") is first
    get("b")
    get("a")
    get("c")  # b goes
    get("a")
    get("b")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2
    assert len(TopCache(budget=0)) == 0


def test_directions_have_length_one_and_nothing_stays_nothing() -> None:
    found = unit_length(np.array([[3, 4], [0, 0]], np.float32))
    assert found.tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]


def test_recall_is_the_share_of_what_was_wanted() -> None:
    wanted = np.array([[1, 2], [3, -1], [-1, -1]], np.int32)
    assert recall_of(np.array([[2, 9], [3, 4], [5, 6]], np.int32), wanted) == 0.75
    assert recall_of(wanted, np.full((3, 2), -1, np.int32)) == 1.0
