"""Ids as 64-bit hashes, some ten million a second: whether they are distinct, and where each is.

A string is read as 64-bit words straight from Arrow's buffer and mixed into one hash, whole columns at a time. Hashes
only propose; equal ones are told apart by comparing all bytes, so that answers are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HashArray = npt.NDArray[np.uint64]
RowArray = npt.NDArray[np.int64]

WORD = 8
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF, _LENGTH = np.uint64(32), np.uint64(8 * (WORD - 1))
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(WORD + 1)], np.uint64)
"""By number of bytes: the bits that they fill (words are little-endian)."""


class _Words:
    """A column of strings as words; a null is an empty string."""

    def __init__(self, column: pa.Array) -> None:
        array = column if pa.types.is_string(column.type) else column.cast(pa.string())
        _, offsets, data = array.buffers()
        size = 0
        if len(array):
            ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
            self._starts, self.lengths = ends[:-1], np.diff(ends)
            size = int(ends[-1])
        else:
            self._starts = self.lengths = np.empty(0, np.int32)
        padded = np.zeros(size + 2 * WORD, np.uint8)  # a word may be read beyond the last byte
        if size:
            padded[:size] = np.frombuffer(data, np.uint8, size)
        # Word number b begins at byte b: they overlap.
        self._at = np.ndarray(size + WORD, np.dtype("<u8"), padded, strides=(1,))
        self.longest = int(self.lengths.max(initial=0))

    def word(self, number: int, rows: RowArray | slice) -> HashArray:
        """Word `number` of each row, which has more bytes than that."""
        left = np.minimum(self.lengths[rows] - number * WORD, WORD)
        found: HashArray = self._at[self._starts[rows] + number * WORD]
        found &= _MASKS[left]
        return found

    def hashes(self) -> HashArray:
        """A hash per row: of strings that are shorter than a word, each its own."""
        found = self.word(0, slice(None))
        found ^= self.lengths.astype(np.uint64) << _LENGTH
        found = _mixed(found)
        for number in range(1, -(-self.longest // WORD)):
            rows = np.flatnonzero(self.lengths > number * WORD)
            found[rows] = _mixed(found[rows] ^ self.word(number, rows))
        return found


def string_hashes(column: pa.Array | pa.ChunkedArray) -> HashArray:
    """A 64-bit hash per string [n]; equal strings have equal hashes. A null counts as an empty string."""
    if isinstance(column, pa.ChunkedArray):
        parts = [_Words(chunk).hashes() for chunk in column.chunks]
        return np.concatenate([np.empty(0, np.uint64), *parts])
    return _Words(column).hashes()


def surely_distinct(hashes: HashArray) -> bool:
    """Whether no two hashes are equal, hence no two strings; the array is sorted on the way."""
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any()


class StringIndex:
    """Where each of many distinct strings is: a hash table of open addressing, filled and asked for whole columns."""

    def __init__(self, strings: pa.Array | pa.ChunkedArray) -> None:
        """`strings` are distinct."""
        column = _one(strings)
        self._words = _Words(column)
        self._hashes = self._words.hashes()
        size = 1 << max(2 * len(column), 2).bit_length()
        self._mask = np.uint64(size - 1)
        self._table = np.full(size, -1, np.int32)
        waiting = np.arange(len(column), dtype=np.int32)
        slots = (self._hashes & self._mask).astype(np.int64)
        while len(waiting):
            free = self._table[slots] < 0
            self._table[slots[free]] = waiting[free]  # of several that want a slot, one gets it
            lost = self._table[slots] != waiting
            waiting, slots = waiting[lost], (slots[lost] + 1) & int(self._mask)

    def __len__(self) -> int:
        """Number of strings."""
        return len(self._hashes)

    def find(self, wanted: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """Position of each wanted string, int32 [m]; -1 where it is absent or null."""
        column = _one(wanted)
        if not len(self):
            return np.full(len(column), -1, np.int32)
        words = _Words(column)
        hashes = words.hashes()
        slots = (hashes & self._mask).astype(np.int64)
        found = self._table[slots]
        rows = self._differing(np.arange(len(found)), found, words, hashes)
        while len(rows):
            slots[rows] = (slots[rows] + 1) & int(self._mask)
            found[rows] = self._table[slots[rows]]
            rows = self._differing(rows, found[rows], words, hashes)
        if column.null_count:
            found[column.is_null().to_numpy(zero_copy_only=False)] = -1
        return found

    def _differing(self, rows: RowArray, found: npt.NDArray[np.int32], words: _Words, hashes: HashArray) -> RowArray:
        """The `rows` whose proposal `found` is another string; no proposal means that the string is absent."""
        other = self._hashes[found] != hashes[rows]
        proposed = found >= 0
        other &= proposed
        if max(words.longest, self._words.longest) >= WORD:
            same = np.flatnonzero(proposed & ~other)
            here, there = rows[same], found[same].astype(np.int64)
            other[same[_unequal(words, here, self._words, there)]] = True
        differing: RowArray = rows[other]
        return differing


def _unequal(words: _Words, rows: RowArray, others: _Words, other_rows: RowArray) -> npt.NDArray[np.bool_]:
    """Which pairs of rows are different strings."""
    unequal: npt.NDArray[np.bool_] = words.lengths[rows] != others.lengths[other_rows]
    for number in range(-(-words.longest // WORD)):
        pairs = np.flatnonzero(~unequal & (words.lengths[rows] > number * WORD))
        unequal[pairs] = words.word(number, rows[pairs]) != others.word(number, other_rows[pairs])
    return unequal


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks else pa.array([], pa.string())


def _mixed(values: HashArray) -> HashArray:
    """A bijection of 64-bit numbers, in place, that lets every bit act on the low ones."""
    values *= _MIX
    values ^= values >> _HALF
    values *= _MIX
    values ^= values >> _HALF
    return values
