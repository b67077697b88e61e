"""A batch of nodes of the target's type, and samples of what surrounds it: GraphSAGE (Hamilton et al. 2017).

Backwards through the layers, of every node that is needed `fanout` neighbours per relation are drawn; the mean over
them has the mean over all neighbours as its expectation, and is that mean where there are no more.

The propagation needs no layer per step. Written out, its answer for node i is the mean of z_0 at the end of a random
walk from i that goes to a neighbour, or nowhere, with probability 1 - a, and ends with probability a, after `steps` at
the latest (APPNP's sum, term by term). So `fanout` such walks are drawn per node, `LEAST_WALKS` at least, and only
their ends are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import IntArray, counting_sort, csr, product
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import CPU
from ekiden_engine.models.nodes_network import Design, Network
from ekiden_engine.models.nodes_problem import NodeProblem, Relation
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.nodes_structure import RelationKey
from ekiden_engine.models.nodes_views import Rows
from ekiden_engine.models.sampled_tables import Distinct
from ekiden_engine.models.sampler import RowArray

MOST_EDGES: Final = 600_000
"""Sampled neighbours of a batch, about: if all of them are different nodes, their states and what gradients need of
them take 1 GB where vectors have 64 numbers."""
LEAST_NODES, MOST_NODES = 16, 1024
"""Of a batch: more make few steps of an epoch, and gain nothing."""

LEAST_WALKS: Final = 32
"""Fewer tell too little of what lies ten steps away, and cost hardly less."""


class Vectors(Protocol):
    """Tables of free vectors of which a batch uses some rows."""

    def use(self, t: int, rows: Tensor) -> Tensor:
        """The rows, int64 [m], of type t."""


class Mean:
    """Means over samples as a sparse matrix and its transpose."""

    def __init__(self, pointers: IntArray, columns: IntArray, count: int) -> None:
        """Row i is the mean over `columns[pointers[i]:pointers[i + 1]]`, of `count` there are."""
        taken = np.diff(pointers)
        values: FloatArray = np.repeat((1 / np.maximum(taken, 1)).astype(np.float32), taken)
        owners = np.repeat(np.arange(len(taken), dtype=np.int32), taken)
        order, begins = counting_sort(columns, count)
        self._matrix = csr(pointers, columns, values, (len(taken), count))
        self._transpose = csr(begins, owners[order], values[order], (count, len(taken)))
        self._empty = not len(columns)

    def of(self, x: Tensor) -> Tensor:
        """The means, [rows, d], given what is averaged, [count, d]."""
        if self._empty:
            return x.new_zeros(self._matrix.shape[0], x.shape[1])
        return product(self._matrix, self._transpose, x)


class Sampler:
    """Draws batches; `distinct` are the helpers per node type, made once."""

    def __init__(self, network: Network, lists: Lists, fanout: int) -> None:
        """The network tells what its layers need."""
        self.network, self.lists, self.fanout = network, lists, fanout
        self.distinct = [Distinct(count) for count in network.problem.counts]


class Batch:
    """A `View` of some nodes of the target's type and of what was drawn around them."""

    def __init__(self, sampler: Sampler, asked: RowArray, tables: Vectors, random: np.random.Generator) -> None:
        """`asked` int64 [b] in any order; the answers will be in that order."""
        self._tables = tables
        self._sampler = sampler
        network = sampler.network
        last, self._ends = self._drawn(network, asked, random)
        self._nodes = [last]
        """Per level, the nodes of each type, ascending; built from the last level down."""
        self._own: list[dict[int, Tensor]] = [{}]
        self._means: list[dict[RelationKey, Mean]] = [{}]
        for level in range(len(network.layers), 0, -1):
            self._expand(network.layers[level - 1].relations, network.reach[level - 1], random)

    @property
    def device(self) -> torch.device:
        """See `View`: always the CPU."""
        return CPU

    def each(self, level: int, t: int, of: Callable[[Rows], Tensor]) -> Tensor:
        """See `View`."""
        return of(slice(None)) if level else of(torch.from_numpy(self._nodes[0][t]))

    def vectors(self, t: int, table: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return self._tables.use(t, cast(Tensor, rows))

    def own(self, level: int, t: int, before: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return before.index_select(0, self._own[level][t])

    def mean(self, level: int, relation: Relation, x: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return self._means[level][relation.key].of(x)

    def propagate(self, start: dict[int, Tensor], steps: int, teleport: float) -> dict[int, Tensor]:
        """See `View`: of the nodes asked for. How many steps, the walks were told."""
        return {self._sampler.network.problem.target: self._ends.of(torch.cat([start[t] for t in sorted(start)]))}

    def _drawn(
        self, network: Network, asked: RowArray, random: np.random.Generator
    ) -> tuple[dict[int, RowArray], Mean]:
        """The nodes whose `z_0` answers for those asked, and their means."""
        design, target = network.design, network.problem.target
        each = max(self._sampler.fanout, LEAST_WALKS) if design.steps else 1
        types, nodes = np.full(len(asked) * each, target), np.repeat(asked, each)
        if design.steps:
            lengths = np.minimum(random.geometric(design.teleport, len(nodes)) - 1, design.steps)
            types, nodes = self._sampler.lists.walk(target, nodes, lengths, random)
        columns, offset = np.zeros(len(nodes), np.int32), 0
        last: dict[int, RowArray] = {}
        for t in sorted(network.reach[-1]):
            here = types == t
            last[t], place = self._sampler.distinct[t](nodes[here].astype(np.int32))
            columns[here] = place + offset
            offset += len(last[t])
        pointers = np.arange(0, len(nodes) + 1, each, dtype=np.int32)
        return last, Mean(pointers, columns, offset)

    def _expand(self, relations: list[Relation], before: frozenset[int], random: np.random.Generator) -> None:
        """Put a level before the first one: of its nodes, and of their neighbours."""
        nodes, sampler = self._nodes[0], self._sampler
        samples = [sampler.lists.sample(r, nodes[r.here], sampler.fanout, random) for r in relations]
        first: dict[int, RowArray] = {}
        own: dict[int, Tensor] = {}
        means: dict[RelationKey, Mean] = {}
        for t in before:
            told = [(r, s) for r, s in zip(relations, samples, strict=True) if r.there == t]
            mine = nodes.get(t, _nobody())
            pieces = [mine.astype(np.int32), *(s.columns for _, s in told)]
            first[t], places = sampler.distinct[t](np.concatenate(pieces))
            found = np.split(places, np.cumsum([len(piece) for piece in pieces])[:-1])
            own[t] = torch.from_numpy(found[0]).long()
            for (relation, sample), columns in zip(told, found[1:], strict=True):
                means[relation.key] = Mean(sample.pointers, columns, len(first[t]))
        self._nodes.insert(0, first)
        self._own.insert(1, own)
        self._means.insert(1, means)


def batch_size(problem: NodeProblem, design: Design, fanout: int) -> int:
    """So many nodes that about `MOST_EDGES` neighbours are drawn for them, `LEAST_NODES` to `MOST_NODES`."""
    size = MOST_NODES
    while size > LEAST_NODES and _drawn_for(size, problem, design, fanout) > MOST_EDGES:
        size //= 2
    return size


def _drawn_for(size: int, problem: NodeProblem, design: Design, fanout: int) -> float:
    """How many neighbours are drawn for a batch; of nodes that are needed twice, only once."""
    counts = np.array(problem.counts, np.float64)
    needed = np.zeros(len(counts))
    needed[problem.target] = size
    total = 0.0
    if design.steps:  # the walks end anywhere
        total = float(size * max(fanout, LEAST_WALKS))
        needed = total * counts / counts.sum()
    for _ in range(design.layers):
        needed = np.minimum(needed, counts)
        means = [(r, min(fanout, len(r.rows) / max(problem.counts[r.here], 1))) for r in problem.relations]
        drawn = [(r.there, needed[r.here] * mean) for r, mean in means]
        for there, number in drawn:
            needed[there] += number
            total += number
    return total


def _nobody() -> RowArray:
    return np.zeros(0, np.int64)
