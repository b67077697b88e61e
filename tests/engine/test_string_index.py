"""Ids as hashes: exact answers about which are the same and where each is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from ekiden_engine import string_index
from ekiden_engine.string_index import StringIndex, string_hashes, surely_distinct

ALPHABET = np.array(list("ab0é漢"))


def random_strings(count: int, longest: int, seed: int = 0) -> list[str]:
    """Strings of few letters, so that many share beginnings and ends, some of them empty."""
    random = np.random.default_rng(seed)
    return ["".join(random.choice(ALPHABET, random.integers(0, longest + 1))) for _ in range(count)]


def expected(wanted: list[str | None], strings: list[str]) -> list[int]:
    places = {text: place for place, text in enumerate(strings)}
    return [-1 if text is None else places.get(text, -1) for text in wanted]


@pytest.mark.parametrize("longest", [3, 7, 8, 9, 40])
def test_every_string_is_found_where_it_is_and_no_other(longest: int) -> None:
    # GIVEN distinct strings up to and beyond the length of a word, and others that are not among them
    strings = sorted(set(random_strings(2_000, longest)))
    wanted = [*random_strings(3_000, longest + 1, seed=1), None, *strings, "\0", "a\0", "a"]
    # WHEN / THEN
    found = StringIndex(pa.array(strings)).find(pa.array(wanted))
    assert found.dtype == np.int32
    assert found.tolist() == expected(wanted, strings)


def test_parts_of_columns_and_columns_in_parts_give_the_same_answers() -> None:
    strings = [f"id-{i}" for i in range(300)]
    whole = pa.array(["x", *strings, "y"])
    index = StringIndex(pa.chunked_array([whole.slice(1, 100), whole.slice(101, 200)]))
    wanted = pa.chunked_array([pa.array(["?", "id-299"]).slice(1), pa.array([], pa.string()), pa.array(["id-0", "?"])])
    assert len(index) == 300
    assert index.find(wanted).tolist() == [299, 0, -1]
    assert StringIndex(pa.array([], pa.string())).find(wanted).tolist() == [-1, -1, -1]


def test_equal_hashes_of_different_strings_do_not_deceive(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a hash of two bits, so that nearly all strings collide
    def bad(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        return values & np.uint64(3)

    monkeypatch.setattr(string_index, "_mixed", bad)
    strings = [f"longer than a word {i}" for i in range(60)]
    wanted = [*reversed(strings), "longer than a word 60", "longer than a w"]
    # WHEN / THEN
    assert StringIndex(pa.array(strings)).find(pa.array(wanted)).tolist() == expected([*wanted], strings)


def test_strings_are_surely_distinct_or_maybe_not() -> None:
    distinct = pa.array([f"r{i}" for i in range(5_000)])
    repeated = pa.concat_arrays([distinct, pa.array(["r17"])])
    assert surely_distinct(string_hashes(distinct))
    assert surely_distinct(string_hashes(pa.chunked_array([], pa.string())))
    assert not surely_distinct(string_hashes(pa.chunked_array([repeated])))
