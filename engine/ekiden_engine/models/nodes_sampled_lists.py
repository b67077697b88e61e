"""All nodes of a graph that does not fit into memory: neighbours on disk, and states computed some nodes at a time.

States of a layer are a mapped file from `LARGE` on: the system keeps of it in memory what it has room for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.kernels import csr
from ekiden_engine.models.device import CPU
from ekiden_engine.models.nodes_problem import NodeProblem, Relation
from ekiden_engine.models.nodes_structure import RelationKey
from ekiden_engine.models.nodes_views import Rows
from ekiden_engine.models.sampler import Adjacency, RowArray, Sample

BLOCK: Final = 1 << 15
"""Nodes that are computed at a time."""
LARGE: Final = 1 << 24
"""Bytes from which on a tensor lies on disk."""


class Lists:
    """The lists of neighbours under every relation, and a `View` of all nodes that is good for answers only: nothing
    is remembered for gradients."""

    def __init__(self, problem: NodeProblem, folder: Path) -> None:
        """Writes the lists into `folder`, which must stay; states go into nameless files there."""
        self._problem, self._folder = problem, folder
        self._lists: dict[RelationKey, Adjacency] = {}
        self._degree = [np.zeros(count, np.int64) for count in problem.counts]
        for number, relation in enumerate(problem.relations):
            count = problem.counts[relation.here]
            found = Adjacency(relation.rows, relation.columns, count, folder, f"relation-{number}")
            self._lists[relation.key] = found
            self._degree[relation.here] += found.degree

    @property
    def device(self) -> torch.device:
        """See `View`: always the CPU."""
        return CPU

    def each(self, level: int, t: int, of: Callable[[Rows], Tensor]) -> Tensor:
        """See `View`: block by block."""
        count = self._problem.counts[t]
        with torch.no_grad():
            first = of(slice(0, min(BLOCK, count)))
            if count <= BLOCK:
                return first
            found = self._empty((count, *first.shape[1:]), first.dtype)
            found[:BLOCK] = first
            for rows in blocks_of(count, BLOCK):
                found[rows] = of(rows)
        return found

    def vectors(self, t: int, table: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return table[rows]

    def own(self, level: int, t: int, before: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return before[rows]

    def mean(self, level: int, relation: Relation, x: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        block = cast(slice, rows)
        degree = torch.from_numpy(self._lists[relation.key].degree[block])
        return self._sums(relation, x, block) / degree.clamp(min=1)[:, None]

    def propagate(self, start: dict[int, Tensor], steps: int, teleport: float) -> dict[int, Tensor]:
        """See `View`: of every type."""
        value = start
        for _ in range(steps):
            value = {t: self.each(0, t, partial(self._step, start, value, t, teleport)) for t in start}
        return value

    def _step(self, start: dict[int, Tensor], before: dict[int, Tensor], t: int, teleport: float, rows: Rows) -> Tensor:
        """One of the propagation, for nodes of type t."""
        block = cast(slice, rows)
        total = self._around(before, t, block) + before[t][block]
        share = (1 - teleport) / (torch.from_numpy(self._degree[t][block]) + 1)
        return total * share[:, None] + start[t][block] * teleport

    def held(self, values: Tensor) -> Tensor:
        """See `AllNodes`."""
        return self._empty(values.shape, values.dtype).copy_(values.detach())

    def around(self, values: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
        """The mean over all neighbours of every node, given [n, k] per type; 0 for who has none."""
        given = {t: torch.from_numpy(value) for t, value in enumerate(values)}
        found = []
        for t, value in enumerate(values):
            found.append(np.zeros_like(value))
            for rows in blocks_of(len(value)):
                degree = np.maximum(self._degree[t][rows], 1)[:, None]
                found[t][rows] = self._around(given, t, rows).numpy() / degree
        return found

    def sample(self, relation: Relation, nodes: RowArray, most: int, random: np.random.Generator) -> Sample:
        """See `Adjacency.sample`."""
        return self._lists[relation.key].sample(nodes, most, random)

    def walk(
        self, t: int, nodes: RowArray, lengths: RowArray, random: np.random.Generator
    ) -> tuple[RowArray, RowArray]:
        """Where walks from nodes of type t are after so many steps: types and nodes. Each step goes to one of the
        node's neighbours under all relations, or nowhere, all with the same probability."""
        types, found = np.full(len(nodes), t), nodes.copy()
        for step in range(int(lengths.max(initial=0))):
            here = types.copy()
            for kind in np.unique(here):
                moving = np.flatnonzero((here == kind) & (lengths > step))
                degree = self._degree[kind][found[moving]]
                place = (random.random(len(moving)) * (degree + 1)).astype(np.int64)
                place[place >= degree] = -1  # nowhere
                for relation in self._problem.relations:
                    if relation.here == kind:
                        moving, place = self._follow(relation, moving, place, types, found)
        return types, found

    def _follow(
        self, relation: Relation, moving: RowArray, place: RowArray, types: RowArray, found: RowArray
    ) -> tuple[RowArray, RowArray]:
        """Move the walks whose place lies in the relation's lists; those that are left, and their places in the rest
        of the relations."""
        lists = self._lists[relation.key]
        degree = lists.degree[found[moving]]
        here = (place >= 0) & (place < degree)
        goes, rest = moving[here], place >= degree
        found[goes] = lists.at(found[goes], place[here])
        types[goes] = relation.there
        return moving[rest], (place - degree)[rest]

    def _around(self, values: dict[int, Tensor], t: int, rows: slice) -> Tensor:
        """The sum over all neighbours of the nodes."""
        found = values[t].new_zeros(rows.stop - rows.start, values[t].shape[1])
        for relation in self._problem.relations:
            if relation.here == t:
                found += self._sums(relation, values[relation.there], rows)
        return found

    def _sums(self, relation: Relation, x: Tensor, rows: slice) -> Tensor:
        found = x.new_zeros(rows.stop - rows.start, x.shape[1])
        for block, sample in self._lists[relation.key].blocks(rows):
            if len(sample.columns):
                ones = np.ones(len(sample.columns), x.numpy().dtype)
                matrix = csr(sample.pointers, sample.columns, ones, (len(sample.share), len(x)))
                found[block.start - rows.start : block.stop - rows.start] = matrix @ x
        return found

    def _empty(self, shape: Sequence[int], kind: torch.dtype) -> Tensor:
        size = int(np.prod(shape)) * kind.itemsize
        if size < LARGE:
            return torch.empty(*shape, dtype=kind)
        with tempfile.TemporaryFile(dir=self._folder) as file:  # the mapping keeps it, and nothing else
            return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=(size,))).view(kind).view(*shape)


def blocks_of(count: int, start: int = 0) -> Iterator[slice]:
    """Ranges of `BLOCK` that cover `start` to `count`."""
    for begin in range(start, count, BLOCK):
        yield slice(begin, min(begin + BLOCK, count))
