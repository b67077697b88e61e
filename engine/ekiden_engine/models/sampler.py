"""Neighbours on disk, and samples of them: what training needs where a graph does not fit into memory.

Lists of neighbours lie in memory-mapped files, of which the system keeps in memory what is in use. A sample is drawn
for all nodes of a batch at once: random positions in their lists, with replacement, some ten million a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiden_engine.kernels import counting_sort
from ekiden_engine.models.base import FloatArray, IndexArray

CHUNK: Final = 4_000_000
"""Edges that are worked on at a time."""

RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Neighbours of some nodes: those of node i stand in `columns[pointers[i]:pointers[i + 1]]`.

    `columns` int32 [s]; `edges` int32 [s] are positions in the arrays that the lists were made of; `share` float32
    [nodes]: how many of its neighbours each of a node's sampled ones stands for.
    """

    pointers: npt.NDArray[np.int32]
    columns: IndexArray
    edges: IndexArray
    share: FloatArray

    @property
    def owners(self) -> IndexArray:
        """The node that each sampled neighbour belongs to, int32 [s]."""
        return np.repeat(np.arange(len(self.share), dtype=np.int32), np.diff(self.pointers))


class Adjacency:
    """The lists of neighbours of all nodes under one relation; edge e says that `rows[e]` has `columns[e]`."""

    def __init__(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any], nodes: int, folder: Path, name: str) -> None:
        """Write the lists into `folder`; the arrays, int [E], may be memory-mapped, and are read `CHUNK` at a time."""
        self.degree = np.zeros(nodes, np.int64)
        for part in chunks(len(rows)):
            self.degree += np.bincount(rows[part], minlength=nodes)
        self._begins = np.zeros(nodes + 1, np.int64)
        np.cumsum(self.degree, out=self._begins[1:])
        self._columns = mapped(folder / f"{name}-columns", np.int32, len(rows))
        self._edges = mapped(folder / f"{name}-edges", np.int32, len(rows))
        free = self._begins[:-1].copy()
        for part in chunks(len(rows)):
            here = np.asarray(rows[part])
            order, begins = counting_sort(here, nodes)
            counts = np.diff(begins)
            places = np.repeat(free - begins[:-1], counts) + np.arange(len(order))
            self._columns[places] = columns[part][order]
            self._edges[places] = order + part.start
            free += counts

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.degree)

    def sample(self, nodes: RowArray, most: int, random: np.random.Generator) -> Sample:
        """All neighbours of a node that has no more than `most`, else `most` of them at random, with replacement."""
        degree = self.degree[nodes]
        count = np.minimum(degree, most)
        pointers = np.zeros(len(nodes) + 1, np.int64)
        np.cumsum(count, out=pointers[1:])
        total = int(pointers[-1])
        # Lists that fit are walked through from their beginning; longer ones are jumped into.
        places = np.arange(total) + np.repeat(self._begins[nodes] - pointers[:-1], count)
        long = np.flatnonzero(degree > most)
        if len(long):
            jumps = (random.random((len(long), most), np.float32) * degree[long, None]).astype(np.int64)
            jumps = np.minimum(jumps, degree[long, None] - 1) + self._begins[nodes[long], None]
            places[(pointers[long, None] + np.arange(most)).ravel()] = jumps.ravel()
        share = (degree / np.maximum(count, 1)).astype(np.float32)
        return Sample(pointers.astype(np.int32), self._columns[places], self._edges[places], share)

    def at(self, nodes: RowArray, places: RowArray) -> IndexArray:
        """The neighbour in place `places[i]`, below its degree, of each node i's list."""
        found: IndexArray = self._columns[self._begins[nodes] + places]
        return found

    def blocks(self, within: slice | None = None) -> Iterator[tuple[slice, Sample]]:
        """All neighbours of all nodes, or of those in a range, some nodes at a time: about `CHUNK` edges, and one node
        at least."""
        start, end = (0, len(self)) if within is None else (within.start, within.stop)
        while start < end:
            stop = int(np.searchsorted(self._begins, self._begins[start] + CHUNK, side="right")) - 1
            stop = min(max(stop, start + 1), end)
            first, last = int(self._begins[start]), int(self._begins[stop])
            pointers = (self._begins[start : stop + 1] - first).astype(np.int32)
            share = np.ones(stop - start, np.float32)
            yield slice(start, stop), Sample(pointers, self._columns[first:last], self._edges[first:last], share)
            start = stop


def mapped(path: Path, kind: type[np.generic], count: int) -> npt.NDArray[Any]:
    """A new array on disk, writable."""
    if not count:
        return np.empty(0, kind)
    return np.asarray(np.memmap(path, dtype=kind, mode="w+", shape=(count,)))


def chunks(count: int) -> Iterator[slice]:
    """Slices of `CHUNK` that cover 0 to `count`."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))
