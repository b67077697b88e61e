"""What a network of nodes sees of the graph: all nodes with all their neighbours, or a batch with samples of them.

The network asks a view for the nodes to compute and for the means over their neighbours, so that its formulas are
written once. `Matrices` has all of it in memory; `nodes_sampled_lists.Lists` leaves neighbours and states on disk, and
`nodes_sampled_batch.Batch` knows some nodes only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix, aggregate
from ekiden_engine.models.device import CPU
from ekiden_engine.models.nodes_problem import NodeProblem, Relation
from ekiden_engine.models.nodes_structure import RelationKey

Rows = slice | Tensor
"""Some nodes of a type: a range, or int64 [m]."""


class View(Protocol):
    """See the module. Level 0 is the input of the network, level l its l-th layer, the last one its output."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    def each(self, level: int, t: int, of: Callable[[Rows], Tensor]) -> Tensor:
        """The states of the nodes of type t at that level, float32 [m, any]: `of` gives those of some rows. At level 0
        these are rows of the type's tables, above rows of what `own` and `mean` give."""

    def vectors(self, t: int, table: Tensor, rows: Rows) -> Tensor:
        """The rows of the table of free vectors of type t, as autograd is to see them."""

    def own(self, level: int, t: int, before: Tensor, rows: Rows) -> Tensor:
        """The nodes' states on the level before, [m, d], given those of all nodes of their type there."""

    def mean(self, level: int, relation: Relation, x: Tensor, rows: Rows) -> Tensor:
        """The mean over their neighbours' states on the level before, [m, d]; 0 for who has none."""

    def propagate(self, start: dict[int, Tensor], steps: int, teleport: float) -> dict[int, Tensor]:
        """APPNP (see `nodes_network`) of what starts as [n, any] per type; what it gives at least holds the target's
        type, a row for each node asked for."""


class AllNodes(View, Protocol):
    """A view of all nodes."""

    def held(self, values: Tensor) -> Tensor:
        """A copy, where large things are kept."""


class Matrices:
    """The graph as sparse matrices on a device: shared by all members, made when first needed."""

    def __init__(self, problem: NodeProblem, device: torch.device = CPU) -> None:
        """Nothing is computed yet."""
        self._device = device
        self._problem = problem
        self._means: dict[RelationKey, EdgeMatrix] = {}
        self._everyone: EdgeMatrix | None = None

    @property
    def device(self) -> torch.device:
        """See `View`."""
        return self._device

    def each(self, level: int, t: int, of: Callable[[Rows], Tensor]) -> Tensor:
        """See `View`: all at once."""
        return of(slice(None))

    def vectors(self, t: int, table: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return table

    def own(self, level: int, t: int, before: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return before

    def mean(self, level: int, relation: Relation, x: Tensor, rows: Rows) -> Tensor:
        """See `View`."""
        return aggregate(self._mean(relation), x)

    def propagate(self, start: dict[int, Tensor], steps: int, teleport: float) -> dict[int, Tensor]:
        """See `View`: of every type."""
        if not steps:
            return start
        value = torch.cat([start[t] for t in sorted(start)])
        whole, own = self._whole(), value * teleport
        for _ in range(steps):
            value = torch.add(own, aggregate(whole, value), alpha=1 - teleport)
        parts = torch.split(value, [self._problem.counts[t] for t in sorted(start)])
        return dict(zip(sorted(start), parts, strict=True))

    def held(self, values: Tensor) -> Tensor:
        """See `AllNodes`."""
        return values.detach().clone()

    def _mean(self, relation: Relation) -> EdgeMatrix:
        """The mean over the neighbours under `relation`, [nodes here, nodes there]."""
        if relation.key not in self._means:
            counts = self._problem.counts
            degree = np.maximum(np.bincount(relation.rows, minlength=counts[relation.here]), 1)
            values = (1 / degree).astype(np.float32)[relation.rows]
            shape = (counts[relation.here], counts[relation.there])
            self._means[relation.key] = EdgeMatrix(relation.rows, relation.columns, values, shape, self._device)
        return self._means[relation.key]

    def _whole(self) -> EdgeMatrix:
        """The mean over all neighbours and oneself, over the nodes of all types one after the other, [all, all]."""
        if self._everyone is None:
            problem = self._problem
            offsets = np.concatenate([[0], np.cumsum(problem.counts)])
            own = np.arange(offsets[-1])
            rows = np.concatenate([own, *(r.rows + offsets[r.here] for r in problem.relations)])
            columns = np.concatenate([own, *(r.columns + offsets[r.there] for r in problem.relations)])
            values = (1 / np.bincount(rows)).astype(np.float32)[rows]
            self._everyone = EdgeMatrix(rows, columns, values, (len(own), len(own)), self._device)
        return self._everyone
