"""Ids that occur twice, and where: the whole column is kept as text, so that the answer is exact."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiden_engine.errors import BadData, quoted
from ekiden_engine.gremlin_csv import GremlinFile
from ekiden_engine.string_index import HashArray, string_hashes, surely_distinct


@dataclass(frozen=True, slots=True)
class Place:
    """A run of rows that came from one table: the file and its first record."""

    file: GremlinFile
    record: int


class IdColumn:
    """All ids of the vertices (or of the edges) with the places that they came from."""

    def __init__(self, what: str) -> None:
        """`what` the ids name, for messages: `vertex` or `edge`."""
        self._what = what
        self._chunks: list[pa.Array] = []
        self._starts: list[int] = []
        self._places: list[Place] = []
        self._hashes: list[HashArray] = []
        self._rows = 0

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    def add(self, ids: pa.ChunkedArray, place: Place) -> None:
        """Append a table's ids (null where a row has none)."""
        self._starts.append(self._rows)
        self._places.append(place)
        self._chunks.extend(ids.chunks)
        self._hashes.append(string_hashes(ids.drop_null() if ids.null_count else ids))
        self._rows += len(ids)

    def all(self) -> pa.ChunkedArray:
        """The ids in order."""
        return pa.chunked_array(self._chunks, pa.string())

    def at(self, row: int) -> str:
        """`file:line` of a row."""
        index = bisect.bisect_right(self._starts, row) - 1
        place = self._places[index]
        return place.file.at(place.record + row - self._starts[index])

    def check_distinct(self) -> None:
        """Raise `BadData` DUPLICATE_ID with the number of repeats and the first of them."""
        if surely_distinct(np.concatenate([np.empty(0, np.uint64), *self._hashes])):
            return
        ids = self.all()
        repeats = len(ids) - ids.null_count - pc.count_distinct(ids).as_py()
        if not repeats:
            return
        codes = pc.fill_null(ids.combine_chunks().dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        ordered = codes[order]
        again = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)) + 1
        second = int(order[again].min())
        first = int(order[np.searchsorted(ordered, codes[second])])
        raise BadData(
            "DUPLICATE_ID",
            f"{repeats} {self._what} id{'s' if repeats > 1 else ''} given again; first "
            f"{quoted(ids[second].as_py())} at {self.at(second)}, already at {self.at(first)}. "
            f"Ids must be unique over all {self._what} files",
        )
