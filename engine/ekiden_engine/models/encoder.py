"""One relational aggregation layer: free vectors, messages from neighbours, and features of one end point.

For a node i of the end point, with N_r(i) its neighbours under relation r and D_r its degree:

    vector_i = p_i + sum_r D_r(i)^-1/2 * sum_{j in N_r(i)} w_ij (y^r_j + x_j M^r) + x_i W

This is R-GCN (Schlichtkrull et al. 2018) with one layer and message tables per relation instead of
bases; with the target edges as the only relation it is SVD++ (Koren 2008) on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix, IntArray, aggregate
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.optimizer import Parameter

INIT_STD = 0.05
PENALTY_ID = 0.2
"""L2 weight of a free vector per training edge of its node, for labels of unit variance."""
PENALTY_MESSAGE = 0.3
"""L2 weight of a message vector per unit of exposure (`Relation.exposure`)."""
PENALTY_BIAS = 0.02
PENALTY_FEATURE = 0.01
"""L2 weight of the feature projections, not per edge: they are shared by all nodes."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """A relation of one end point: edge e says that node `rows[e]` has neighbour `columns[e]`.

    `name` is unique among the relations of the end point; `target` tells the target's own edges from others.
    `weights` float32 [E] (None: all 1) are residuals of labels, so edges with weights are hidden while they
    are being predicted. `features` float32 [count, f] are the neighbours' own.
    """

    name: str
    rows: IntArray
    columns: IntArray
    count: int
    target: bool = False
    weights: FloatArray | None = None
    features: FloatArray | None = None


class Relation:
    """`Neighbours` as a normalised matrix [nodes, neighbours]."""

    def __init__(self, given: Neighbours, nodes: int, degree: FloatArray) -> None:
        """`degree` float32 [nodes]: training edges per node."""
        self.name = given.name
        self.target = given.target
        self.count = given.count
        self.features = None if given.features is None else torch.from_numpy(given.features)
        plain = normalised(given.rows, nodes)
        values = plain if given.weights is None else plain * given.weights
        self.edges = EdgeMatrix(given.rows, given.columns, values, (nodes, given.count))
        self.carries_label = given.weights is not None
        exposure = np.bincount(given.columns, plain**2 * degree[given.rows], given.count)
        self.exposure = torch.from_numpy(exposure.astype(np.float32))
        """How strongly the target's training edges pull at each neighbour's message, [count]; its degree, in
        the target relation."""


def normalised(rows: IntArray, nodes: int) -> FloatArray:
    """D^-1/2 per edge, float32 [E]: one over the root of the number of edges of its row."""
    weight = 1 / np.sqrt(np.maximum(np.bincount(rows, minlength=nodes), 1))
    return weight.astype(np.float32)[rows]


class Encoder:
    """All parameters of one end point, and the encoding of all its nodes.

    Every table has `width + 1` columns, the vector and the bias: neighbours and features tell about both.
    """

    def __init__(
        self,
        degree: FloatArray,
        features: FloatArray,
        neighbours: Sequence[Neighbours],
        width: int,
        generator: torch.Generator,
    ) -> None:
        """`degree` float32 [n]: training edges per node; `features` float32 [n, f]."""
        n, f = features.shape
        self.degree = torch.from_numpy(degree)
        self.relations = [Relation(given, n, degree) for given in neighbours]
        self._x = torch.from_numpy(features) if f else None

        def table(rows: int, weight: Tensor | None = None) -> Tensor:
            values = torch.randn(rows, width + 1, generator=generator) * INIT_STD
            values[:, width] = 0
            if weight is not None:
                values *= (weight > 0)[:, None]  # what no training edge reaches must not add noise
            return values

        self.free = table(n, self.degree)
        self.messages = [table(r.count, r.exposure) for r in self.relations]
        self.project_message = [None if r.features is None else table(r.features.shape[1]) for r in self.relations]
        self.project = table(f) if f else None

    def start_biases(self, own: FloatArray, features: FloatArray, neighbours: Mapping[str, FloatArray]) -> None:
        """Set the bias columns: of the nodes [n], of the features [f], of neighbours by relation name."""
        self.free[:, -1] = torch.from_numpy(own)
        if self.project is not None:
            self.project[:, -1] = torch.from_numpy(features)
        for relation, table in zip(self.relations, self.messages, strict=True):
            if relation.name in neighbours:
                table[:, -1] = torch.from_numpy(neighbours[relation.name])

    def parameters(self, per_edge: float) -> list[Parameter]:
        """Every tensor to train, with its L2 weights; `per_edge` scales those that are per training edge."""
        columns = torch.ones(self.free.shape[1])
        own, told = columns * PENALTY_ID, columns * PENALTY_MESSAGE
        own[-1] = told[-1] = PENALTY_BIAS
        found = [Parameter(self.free, per_edge * self.degree[:, None] * own)]
        for table, relation in zip(self.messages, self.relations, strict=True):
            weight = columns * PENALTY_MESSAGE if relation.target else told
            found.append(Parameter(table, per_edge * relation.exposure[:, None] * weight))
        shared = (self.project, *self.project_message)
        found += [Parameter(p, PENALTY_FEATURE) for p in shared if p is not None]
        for parameter in found:
            parameter.value.requires_grad_()
        return found

    @contextmanager
    def hiding(self, edges: Tensor) -> Iterator[None]:
        """While entered, the target's `edges` (int64 [m]) are not in the relations that carry labels.

        Predicting an edge from its own label would teach nothing. In the label-free relation it stays: to
        know that an edge exists is what the model will be asked with.
        """
        carriers = [relation.edges for relation in self.relations if relation.carries_label]
        for carrier in carriers:
            carrier.hide(edges)
        yield
        for carrier in carriers:
            carrier.show(edges)

    def encode(self) -> Tensor:
        """Vectors and, in the last column, biases: float32 [n, width + 1]."""
        learnt, told = self._parts()
        return learnt if told is None else learnt + told

    def encode_inductive(self) -> Tensor:
        """`encode`, but what only training edges can teach is, for nodes without any, the mean of the others:
        [n + 1, width + 1].

        The last row is the mean node, the stand-in for nodes outside the graph. Without this, a new node's
        vector would lack what every trained node has, and its score would lean to one side.
        """
        learnt, told = self._parts()
        trained = self.degree > 0
        if bool(trained.any()):
            learnt = learnt + (~trained).float()[:, None] * learnt[trained].mean(0)
        whole = learnt if told is None else learnt + told
        mean = whole[trained].mean(0) if bool(trained.any()) else torch.zeros(whole.shape[1])
        return torch.cat([whole, mean[None]])

    def _parts(self) -> tuple[Tensor, Tensor | None]:
        """What the target's edges teach about each node, and what its features and other neighbours tell."""
        learnt = self.free
        told = None if self._x is None or self.project is None else self._x @ self.project
        for relation, table, projection in zip(self.relations, self.messages, self.project_message, strict=True):
            message = table
            if relation.features is not None and projection is not None:
                message = table + relation.features @ projection
            found = aggregate(relation.edges, message)
            if relation.target:
                learnt = learnt + found
            else:
                told = found if told is None else told + found
        return learnt, told
