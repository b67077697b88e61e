"""The adjacencies that messages of the link encoder go along."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix
from ekiden_engine.models.base import IndexArray
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.links_data import LinkProblem
from ekiden_engine.models.links_questions import LongArray

SEPARATE = 8
"""Edge types up to which each has messages of its own; more share one adjacency, which keeps an epoch affordable."""
SPREAD = 0.01

Bounds = tuple[int, ...]
"""First node and last (exclusive), in the common numbering."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One direction of an edge type's links, or of all of them: `to` and `sent` int32 [E] are the receiving and the
    sending node of link `first` and those that follow, in the common numbering; receivers are among the nodes `rows`,
    senders among the nodes `columns`."""

    to: IndexArray
    sent: IndexArray
    first: int
    rows: Bounds
    columns: Bounds

    def edges_of(self, links: IndexArray) -> LongArray:
        """Those of `links` that go this way, by their number among its own."""
        mine = (links >= self.first) & (links < self.first + len(self.to))
        return links[mine].astype(np.int64) - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """Messages along one way.

    `matrix` [receivers, senders] has the edges as they are among the problem's links, from number `way.first` on.
    `degree` float32 [receivers]; `table` float32 [senders, d], the messages; `receivers` int32 [E] is the receiving row
    of each edge, on the device.
    """

    way: Way
    matrix: EdgeMatrix
    degree: Tensor
    table: Tensor
    receivers: Tensor

    def sent(self) -> Tensor:
        """Edges that each message goes along, float32 [senders]."""
        ones = torch.ones((len(self.degree), 1), device=self.degree.device)
        return (self.matrix.transpose @ ones)[:, 0]


def ways_of(problem: LinkProblem) -> list[Way]:
    """Both directions of every edge type that has links, or of all together above `SEPARATE` edge types."""
    source, edge_type, dest = problem.links
    types = len(problem.edge_types) + len(problem.context)
    if types > SEPARATE:
        everyone = (0, problem.nodes)
        return [Way(dest, source, 0, everyone, everyone), Way(source, dest, 0, everyone, everyone)]
    found = []
    bounds = np.searchsorted(edge_type, np.arange(types + 1, dtype=np.int32)).tolist()
    for index, (first, last) in enumerate(pairwise(bounds)):
        if first == last:
            continue
        dest_range, source_range = (tuple(r) for r in problem.ranges[2 * index : 2 * index + 2].tolist())
        s, d = source[first:last], dest[first:last]
        found += [Way(d, s, first, dest_range, source_range), Way(s, d, first, source_range, dest_range)]
    return found


def make_relations(
    problem: LinkProblem, width: int, random: np.random.Generator, device: torch.device = CPU
) -> list[Relation]:
    """The adjacencies of all ways, and random messages along them."""
    return [_relation(way, width, random, device) for way in ways_of(problem)]


def normal(random: np.random.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Entries to start from, of standard deviation `SPREAD`."""
    return on(device, random.standard_normal(shape, np.float32) * np.float32(SPREAD))


def _relation(way: Way, width: int, random: np.random.Generator, device: torch.device) -> Relation:
    to, sent = way.to - np.int32(way.rows[0]), way.sent - np.int32(way.columns[0])
    shape = (way.rows[1] - way.rows[0], way.columns[1] - way.columns[0])
    matrix = EdgeMatrix(to, sent, np.ones(len(to), np.float32), shape, device)
    degree = on(device, np.bincount(to, minlength=shape[0]).astype(np.float32))
    return Relation(way, matrix, degree, normal(random, (shape[1], width), device), on(device, to))
