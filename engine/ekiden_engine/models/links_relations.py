"""The adjacencies that messages of the link encoder go along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.links_data import LinkProblem, LongArray

SEPARATE = 8
"""Edge types up to which each has messages of its own; more share one adjacency, which keeps an epoch affordable."""
SPREAD = 0.01

Bounds = tuple[int, ...]
"""First node and last (exclusive), in the common numbering."""


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """Messages along one direction of an edge type, or of all of them.

    `matrix` [receivers, senders] has the edges as they are among the problem's links, from number `first` on. `to`
    int64 [E] is the receiving row of each, `degree` float32 [receivers]; `to_low` the first receiver in the common
    numbering; `table` float32 [senders, d], the messages; `receivers` is `to` on the device.
    """

    matrix: EdgeMatrix
    first: int
    to: LongArray
    degree: Tensor
    to_low: int
    table: Tensor
    receivers: Tensor

    def edges_of(self, links: LongArray) -> LongArray:
        """Those of `links` that are edges here, by their number here."""
        return links[(links >= self.first) & (links < self.first + len(self.to))] - self.first

    def sent(self) -> Tensor:
        """Edges that each message goes along, float32 [senders]."""
        ones = torch.ones((len(self.degree), 1), device=self.degree.device)
        return (self.matrix.transpose @ ones)[:, 0]


def make_relations(
    problem: LinkProblem, width: int, random: np.random.Generator, device: torch.device = CPU
) -> list[Relation]:
    """Both directions of every edge type that has links, or of all together above `SEPARATE` edge types."""
    source, edge_type, dest = problem.links
    types = len(problem.edge_types) + len(problem.context)
    if types > SEPARATE:
        everyone = (0, problem.nodes)
        ways = ((dest, source), (source, dest))
        return [_relation(*ends, 0, everyone, everyone, width, random, device) for ends in ways]
    found = []
    for index in range(types):
        first, last = (int(x) for x in np.searchsorted(edge_type, [index, index + 1]))
        if first == last:
            continue
        dest_range, source_range = (tuple(r) for r in problem.ranges[2 * index : 2 * index + 2].tolist())
        s, d = source[first:last], dest[first:last]
        found.append(_relation(d, s, first, dest_range, source_range, width, random, device))
        found.append(_relation(s, d, first, source_range, dest_range, width, random, device))
    return found


def normal(random: np.random.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Entries to start from, of standard deviation `SPREAD`."""
    return on(device, random.standard_normal(shape, np.float32) * np.float32(SPREAD))


def _relation(
    to: LongArray,
    sent: LongArray,
    first: int,
    rows: Bounds,
    columns: Bounds,
    width: int,
    random: np.random.Generator,
    device: torch.device,
) -> Relation:
    to, sent = to - rows[0], sent - columns[0]
    shape = (rows[1] - rows[0], columns[1] - columns[0])
    matrix = EdgeMatrix(to, sent, np.ones(len(to), np.float32), shape, device)
    degree = on(device, np.bincount(to, minlength=shape[0]).astype(np.float32))
    return Relation(matrix, first, to, degree, rows[0], normal(random, (shape[1], width), device), on(device, to))
