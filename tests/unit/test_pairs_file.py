"""A pairs file is cut the same way however it arrives, and nothing of it is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.application import pairs_file
from ekiden.application.pairs_file import MAX_PART_BYTES, MAX_PART_ROWS, Part, cut, header_length
from ekiden.errors import ContractViolation

LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=60)


@settings(max_examples=200, deadline=None)
@given(lines=LINES, ended=st.booleans(), start=st.integers(0, 100), sizes=st.lists(st.integers(1, 40), max_size=20))
def test_the_parts_are_the_file_whatever_the_chunks(
    lines: list[bytes], ended: bool, start: int, sizes: list[int]
) -> None:
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs_file, "MAX_PART_ROWS", 7)
        patch.setattr(pairs_file, "MAX_PART_BYTES", 48)
        whole = list(cut([content], start))
        assert list(cut(_chunks(content, sizes), start)) == whole
        assert list(cut([content[i : i + 1] for i in range(len(content))], start)) == whole
        for part in whole[:3]:  # whoever stopped after a part goes on as if nothing had happened
            rest = content[part.end - start :]
            assert [part for part in cut([rest], part.end) if rest] == [p for p in whole if p.start >= part.end]

    assert [part.start for part in whole] == [start, *(part.end for part in whole)][: len(whole)]
    assert (whole[-1].end if whole else start) == start + len(content)
    for part in whole:
        piece = content[part.start - start : part.end - start]
        assert 0 < len(piece) <= 48
        assert part.rows == piece.count(b"\n") + (not piece.endswith(b"\n")) <= 7
        assert part.end == start + len(content) or piece.endswith(b"\n")


def _chunks(content: bytes, sizes: list[int]) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    for size in itertools.chain(sizes, itertools.repeat(64)):
        if at >= len(content):
            return found
        found.append(content[at : at + size])
        at += size
    return found


def test_a_part_has_at_most_ten_thousand_rows() -> None:
    content = b"u1,m1\n" * 25_000
    parts = list(cut([content[i : i + 65_536] for i in range(0, len(content), 65_536)], 14))
    assert [part.rows for part in parts] == [10_000, 10_000, 5_000]
    assert MAX_PART_ROWS == 10_000
    assert parts[-1].end == 14 + len(content)


def test_long_rows_are_cut_by_size() -> None:
    line = b"u" * 499 + b"," + b"m" * 499 + b"\n"
    parts = list(cut([line * 1000], 0))
    assert all(part.end - part.start <= MAX_PART_BYTES for part in parts)
    assert [part.rows for part in parts] == [262, 262, 262, 214]


def test_a_line_as_long_as_a_part_is_taken_and_a_longer_one_is_refused() -> None:
    fits = b"x" * (MAX_PART_BYTES - 1) + b"\n"
    assert list(cut([b"a,b\n" + fits], 0)) == [Part(0, 4, 1), Part(4, 4 + MAX_PART_BYTES, 1)]
    with pytest.raises(ContractViolation, match="the line at byte 4 is longer than 256 KiB"):
        list(cut([b"a,b\n", b"x" * MAX_PART_BYTES, b"\n"], 0))


def test_no_content_has_no_parts() -> None:
    assert list(cut([], 0)) == []
    assert list(cut([b""], 9)) == []


@pytest.mark.parametrize(
    ("chunk", "length"),
    [
        (b"source,target\nu1,m1\n", 14),
        (b"source,target\r\nu1,m1\r\n", 15),
        (b"\xef\xbb\xbfsource,target\nu1,m1\n", 17),
        (b"source,target", 13),
    ],
)
def test_the_header_is_recognised(chunk: bytes, length: int) -> None:
    assert header_length(chunk) == length


@pytest.mark.parametrize("chunk", [b"", b"u1,m1\n", b"source;target\n", b"Source,Target\n", b"x" * 999, b"\n"])
def test_a_file_without_its_header_is_refused(chunk: bytes) -> None:
    with pytest.raises(ContractViolation, match="begins with the line 'source,target'") as error:
        header_length(chunk)
    assert len(error.value.message) < 200
