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
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix, IntArray, aggregate
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.nodes_structure import RelationKey
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

    `key`: the edge type, and whether the node is its source; `target` tells the target's own edges from others.
    `weights` float32 [E] (None: all 1) are residuals of labels, so edges with weights are hidden while they
    are being predicted. `features` float32 [count, f] are the neighbours' own.
    """

    key: RelationKey
    rows: IntArray
    columns: IntArray
    count: int
    target: bool = False
    weights: FloatArray | None = None
    features: FloatArray | None = None


class Relation:
    """`Neighbours` as a normalised matrix [nodes, neighbours]."""

    def __init__(self, given: Neighbours, nodes: int, degree: FloatArray, device: torch.device = CPU) -> None:
        """`degree` float32 [nodes]: training edges per node."""
        self.key = given.key
        self.target = given.target
        self.count = given.count
        self.features = None if given.features is None else on(device, given.features)
        plain = normalised(given.rows, nodes)
        values = plain if given.weights is None else plain * given.weights
        self.edges = EdgeMatrix(given.rows, given.columns, values, (nodes, given.count), device)
        self.carries_label = given.weights is not None
        exposure = np.bincount(given.columns, plain**2 * degree[given.rows], given.count)
        self.exposure = on(device, exposure.astype(np.float32))
        """How strongly the target's training edges pull at each neighbour's message, [count]; its degree, in
        the target relation."""


def normalised(rows: IntArray, nodes: int) -> FloatArray:
    """D^-1/2 per edge, float32 [E]: one over the root of the number of edges of its row."""
    weight = 1 / np.sqrt(np.maximum(np.bincount(rows, minlength=nodes), 1))
    return weight.astype(np.float32)[rows]


@dataclass(frozen=True, slots=True, eq=False)
class EndState:
    """A trained end point; every tensor has `width + outputs` columns.

    `encoded` [n + 1, …]: all nodes; what only training edges can teach is, for nodes without any, the mean of the
    others: a node would otherwise lack what every trained node has, and its score lean to one side. The last row is the
    mean node, the stand-in for nodes outside the graph.
    `usual` [3, …]: means over trained nodes of their own part, of that and their target edges' messages together, and
    over all nodes of what their features say. `project` [f, …] of the features, `messages` [count, …] of the neighbours
    by relation, with whether it carries labels.
    """

    encoded: Tensor
    usual: Tensor
    project: Tensor | None
    messages: tuple[tuple[RelationKey, bool, Tensor], ...]


class Encoder:
    """All parameters of one end point, and the encoding of all its nodes.

    Every table has `width + outputs` columns, the vector and the biases: neighbours and features tell about both.
    """

    def __init__(
        self,
        degree: FloatArray,
        features: FloatArray,
        neighbours: Sequence[Neighbours],
        width: int,
        generator: torch.Generator,
        outputs: int = 1,
        device: torch.device = CPU,
    ) -> None:
        """`degree` float32 [n]: training edges per node; `features` float32 [n, f]; `outputs`: biases per node."""
        self.width = width
        self._device = device
        n, f = features.shape
        self.degree = on(device, degree)
        self.relations = [Relation(given, n, degree, device) for given in neighbours]
        self._x = on(device, features) if f else None

        def table(rows: int, weight: Tensor | None = None) -> Tensor:
            values = torch.randn(rows, width + outputs, generator=generator) * INIT_STD
            values[:, width:] = 0
            values = values.to(device)
            if weight is not None:
                values *= (weight > 0)[:, None]  # what no training edge reaches must not add noise
            return values

        self.free = table(n, self.degree)
        self.messages = [table(r.count, r.exposure) for r in self.relations]
        self.project_message = [None if r.features is None else table(r.features.shape[1]) for r in self.relations]
        self.project = table(f) if f else None

    def start_biases(
        self,
        own: FloatArray,
        features: FloatArray | None = None,
        neighbours: Mapping[RelationKey, FloatArray] = MappingProxyType({}),
    ) -> None:
        """Set the bias columns: of the nodes [n, outputs]; for one output also of the features [f], and of neighbours
        by relation."""
        self.free[:, self.width :] = on(self._device, own)
        if self.project is not None and features is not None:
            self.project[:, -1] = on(self._device, features)
        for relation, table in zip(self.relations, self.messages, strict=True):
            if not relation.target and relation.key in neighbours:
                table[:, -1] = on(self._device, neighbours[relation.key])

    def parameters(self, per_edge: float) -> list[Parameter]:
        """Every tensor to train, with its L2 weights; `per_edge` scales those that are per training edge."""
        columns = torch.ones(self.free.shape[1], device=self._device)
        own, told = columns * PENALTY_ID, columns * PENALTY_MESSAGE
        own[self.width :] = told[self.width :] = PENALTY_BIAS
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
        """Vectors and, in the last columns, biases: float32 [n, width + outputs]."""
        learnt, told = self._parts()
        return learnt if told is None else learnt + told

    def state(self) -> EndState:
        """What stays of the encoder once it is trained, on the CPU."""
        messages = self._told_by()
        named = [(r.key, r.carries_label, m.clone()) for r, m in zip(self.relations, messages, strict=True)]
        return end_state(self.free, self._parts(messages), self.degree > 0, self._x, self.project, named)

    def _parts(self, messages: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """What the target's edges teach about each node, and what its features and other neighbours tell."""
        learnt = self.free
        told = None if self._x is None or self.project is None else self._x @ self.project
        for relation, message in zip(self.relations, messages or self._told_by(), strict=True):
            found = aggregate(relation.edges, message)
            if relation.target:
                learnt = learnt + found
            else:
                told = found if told is None else told + found
        return learnt, told

    def _told_by(self) -> list[Tensor]:
        """What each neighbour says under each relation, [count, width + outputs]: its message, and its features'."""
        found = []
        for relation, table, projection in zip(self.relations, self.messages, self.project_message, strict=True):
            message = table
            if relation.features is not None and projection is not None:
                message = table + relation.features @ projection
            found.append(message)
        return found


def end_state(
    free: Tensor,
    parts: tuple[Tensor, Tensor | None],
    trained: Tensor,
    features: Tensor | None,
    project: Tensor | None,
    messages: Sequence[tuple[RelationKey, bool, Tensor]],
) -> EndState:
    """The state of an end point, on the CPU. `free` are the free vectors; `parts`: what the target's edges teach about
    each node, and what features and other neighbours tell; `trained` bool [n]: nodes with training edges."""
    learnt, told = parts
    nobody = torch.zeros(free.shape[1], device=free.device)
    some = bool(trained.any())
    own = free[trained].mean(0) if some else nobody
    usual = learnt[trained].mean(0) if some else nobody
    from_features = nobody
    if features is not None and project is not None and len(features):
        from_features = features.mean(0) @ project
    encoded = torch.empty(len(learnt) + 1, learnt.shape[1], device=free.device)
    whole = encoded[:-1].copy_(learnt)  # in place: there may be little memory left
    whole[~trained] += usual
    if told is not None:
        whole += told
    encoded[-1] = whole[trained].mean(0) if some else nobody
    return EndState(
        encoded.cpu(),
        torch.stack([own, usual, from_features]).cpu(),
        None if project is None else project.detach().clone().cpu(),
        tuple((key, labelled, message.cpu()) for key, labelled, message in messages),
    )
