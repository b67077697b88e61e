"""One end point's encoder (`encoder.Encoder`) where lists of neighbours lie on disk and batches see samples of them.

A sample alone would be too noisy: of a hundred neighbours, ten say little about the sum. So the sum over all neighbours
is remembered from the last time that it was computed, and a sample only tells how it has changed since: the control
variates of Chen, Zhu and Song 2018 (VR-GCN). What the batch's own edges say of their labels is taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import counting_sort, csr, product
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.encoder import (
    INIT_STD,
    PENALTY_BIAS,
    PENALTY_FEATURE,
    PENALTY_ID,
    PENALTY_MESSAGE,
    EndState,
    Neighbours,
)
from ekiden_engine.models.nodes_structure import RelationKey
from ekiden_engine.models.optimizer import Parameter
from ekiden_engine.models.sampled_tables import Distinct, Table, Used
from ekiden_engine.models.sampler import Adjacency, RowArray, Sample


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One end of a batch of edges: its distinct `nodes` int64 [m]; how often each is there, `counts` float32 [m]; by
    edge, the position of its node among them (`place`), its other end, and its residual; `visible` float32 [E] is 0
    for the batch's own edges, 1 for others."""

    nodes: RowArray
    counts: FloatArray
    place: IndexArray
    others: IndexArray
    residual: FloatArray
    visible: FloatArray


class SampledRelation:
    """One relation: lists of neighbours, and what each neighbour says; with residuals twice, once weighted by them."""

    def __init__(
        self,
        key: RelationKey,
        lists: Adjacency,
        messages: list[Table],
        residual: FloatArray | None = None,
        features: FloatArray | None = None,
        project: Tensor | None = None,
        *,
        holds_asked: bool = False,
    ) -> None:
        """`messages`: a table, or with `residual` float32 [E] two; `features` of the neighbours go through `project`.
        `holds_asked`: the asked edges themselves are in the lists of their nodes."""
        self.key = key
        self.is_target = residual is not None
        self.project = project
        self._lists = lists
        self._messages = messages
        self._residual = residual
        self._features = None if features is None else torch.from_numpy(features)
        self._holds_asked = holds_asked
        self._root = (1 / np.sqrt(np.maximum(lists.degree, 1))).astype(np.float32)
        self._distinct = Distinct(len(messages[0].values))
        self._then: list[Tensor] = []
        self._told = torch.zeros(0)

    def tell(self, asked: Asked, most: int, random: np.random.Generator) -> tuple[Tensor, list[Used]]:
        """What their neighbours say to the nodes, [m, columns], and the rows of messages that were used."""
        told = self._told.index_select(0, torch.from_numpy(asked.nodes))
        if self._holds_asked:
            told -= self._own_labels(asked)
        sample = self._lists.sample(asked.nodes, most, random)
        columns, place = self._distinct(sample.columns)
        owners, taken = sample.owners, np.diff(sample.pointers)
        # An edge pulls at its node's neighbours by 1/D each, and a sampled one stands for D/taken of them.
        exposure = np.bincount(place, (asked.counts / np.maximum(taken, 1))[owners], len(columns))
        order, begins = counting_sort(place, len(columns))
        rows, exposed = torch.from_numpy(columns), torch.from_numpy(exposure.astype(np.float32))
        plain = (self._root[asked.nodes] * sample.share)[owners]
        used = []
        for table, then, weights in zip(self._messages, self._then, self._weights(sample), strict=True):
            values = plain if weights is None else plain * weights * asked.visible[sample.edges]
            matrix = csr(sample.pointers, place, values, (len(taken), len(columns)))
            transpose = csr(begins, owners[order], values[order], (len(columns), len(taken)))
            used.append(table.use(rows, exposed))
            told = told + product(matrix, transpose, self._said(used[-1].values, rows) - then.index_select(0, rows))
        return told, used

    def tell_all(self) -> Tensor:
        """What all their neighbours say to all nodes; it is remembered."""
        self._then = [self._said(table.values, slice(None)).clone() for table in self._messages]
        told = torch.zeros(len(self._lists), self._then[0].shape[1])
        for block, sample in self._lists.blocks():
            plain = self._root[block][sample.owners]
            for message, weights in zip(self._then, self._weights(sample), strict=True):
                values = plain if weights is None else plain * weights
                told[block] += csr(sample.pointers, sample.columns, values, (len(sample.share), len(message))) @ message
        self._told = told
        return told

    def messages(self) -> list[tuple[RelationKey, bool, Tensor]]:
        """What each neighbour says, [count, columns], and whether labels weigh it."""
        said = [self._said(table.values, slice(None)).clone() for table in self._messages]
        return [(self.key, labelled, message) for labelled, message in zip((False, True), said, strict=False)]

    def _own_labels(self, asked: Asked) -> Tensor:
        """What the remembered sums hold of the asked edges' own labels."""
        values = asked.residual * self._root[asked.nodes][asked.place]
        order, begins = counting_sort(asked.place, len(asked.nodes))
        then = self._then[1]
        return csr(begins, asked.others[order], values[order], (len(asked.nodes), len(then))) @ then

    def _weights(self, sample: Sample) -> list[FloatArray | None]:
        return [None] if self._residual is None else [None, self._residual[sample.edges]]

    def _said(self, values: Tensor, rows: Tensor | slice) -> Tensor:
        if self._features is None or self.project is None:
            return values
        return values + self._features[rows] @ self.project


@dataclass(frozen=True, slots=True, eq=False)
class TargetEdges:
    """The target's training edges under one relation: `rows[e]` has neighbour `columns[e]`, residual float32 [E]."""

    key: RelationKey
    rows: IndexArray
    columns: IndexArray
    count: int
    residual: FloatArray


class SampledEncoder:
    """The parameters of one end point, and encodings of its nodes."""

    def __init__(
        self,
        degree: FloatArray,
        biases: FloatArray,
        features: FloatArray,
        target: list[TargetEdges],
        extra: tuple[Neighbours, ...],
        width: int,
        generator: torch.Generator,
        folder: Path,
    ) -> None:
        """`degree`, `biases` float32 [n]: training edges per node, and what its bias starts from; `features` [n, f];
        `target`: the first holds the edges that batches ask for; lists of neighbours are written into `folder`."""
        self._width = width
        self._trained = torch.from_numpy(degree > 0)
        self._x = torch.from_numpy(features) if features.shape[1] else None

        def table(rows: int) -> Tensor:
            values = torch.randn(rows, width + 1, generator=generator) * INIT_STD
            values[:, width] = 0
            return values

        columns = torch.ones(width + 1)
        own, told = columns * PENALTY_ID, columns * PENALTY_MESSAGE
        own[width] = told[width] = PENALTY_BIAS
        free = table(len(degree)) * self._trained[:, None]
        free[:, width] = torch.from_numpy(biases)
        self._free = Table(free, own)
        self._project = None if self._x is None else table(features.shape[1])

        def write(name: str, given: Neighbours | TargetEdges) -> Adjacency:
            return Adjacency(given.rows, given.columns, len(degree), folder, name)

        self._relations = []
        for number, edges in enumerate(target):
            messages = [Table(table(edges.count), columns * PENALTY_MESSAGE) for _ in range(2)]
            lists = write(f"target-{number}", edges)
            self._relations.append(SampledRelation(edges.key, lists, messages, edges.residual, holds_asked=number == 0))
        for number, given in enumerate(extra):
            project = None if given.features is None else table(given.features.shape[1])
            messages, lists = [Table(table(given.count), told)], write(f"extra-{number}", given)
            self._relations.append(
                SampledRelation(given.key, lists, messages, features=given.features, project=project)
            )

    def dense(self) -> list[Parameter]:
        """The parameters that every batch moves as a whole."""
        found = [p for p in (self._project, *(r.project for r in self._relations)) if p is not None]
        return [Parameter(p.requires_grad_(), PENALTY_FEATURE) for p in found]

    def encode(self, asked: Asked, most: int, random: np.random.Generator) -> tuple[Tensor, list[Used]]:
        """Encodings [m, width + 1] of the nodes, by what `most` neighbours each say; and what was used for it."""
        rows = torch.from_numpy(asked.nodes)
        used = [self._free.use(rows, torch.from_numpy(asked.counts))]
        encoded = used[0].values
        if self._x is not None and self._project is not None:
            encoded = encoded + self._x[rows] @ self._project
        for relation in self._relations:
            told, more = relation.tell(asked, most, random)
            encoded, used = encoded + told, used + more
        return encoded, used

    def encode_all(self) -> tuple[Tensor, Tensor | None]:
        """Of all nodes, by what all neighbours say: what the target's edges teach, and what others and features tell;
        the sums are remembered."""
        learnt = self._free.values
        told = None if self._x is None or self._project is None else self._x @ self._project
        for relation in self._relations:
            found = relation.tell_all()
            if relation.is_target:
                learnt = learnt + found
            else:
                told = found if told is None else told + found
        return learnt, told

    def state(self, learnt: Tensor, told: Tensor | None) -> EndState:
        """What stays of the encoder, given `encode_all` (see `encoder.EndState`)."""
        nobody = torch.zeros(self._width + 1)
        any_trained = bool(self._trained.any())
        own, both = (x[self._trained].mean(0) if any_trained else nobody for x in (self._free.values, learnt))
        from_features = nobody
        if self._x is not None and self._project is not None and len(self._x):
            from_features = self._x.mean(0) @ self._project
        learnt = learnt + (~self._trained).float()[:, None] * both
        whole = learnt if told is None else learnt + told
        mean = whole[self._trained].mean(0) if any_trained else nobody
        return EndState(
            torch.cat([whole, mean[None]]),
            torch.stack([own, both, from_features]),
            None if self._project is None else self._project.detach().clone(),
            tuple(message for relation in self._relations for message in relation.messages()),
        )
