"""One end point's encoder (`encoder.Encoder`) where lists of neighbours lie on disk and batches see samples of them.

A sample alone would be too noisy: of a hundred neighbours, ten say little about the sum. So the sum over all neighbours
is remembered from the last time that it was computed, and a sample only tells how it has changed since: the control
variates of Chen, Zhu and Song 2018 (VR-GCN). What the batch's own edges say of their labels is taken out again; that
they are there stays, as with all neighbours: plain messages carry no label, so classes have nothing to hide.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    end_state,
)
from ekiden_engine.models.nodes_structure import RelationKey
from ekiden_engine.models.optimizer import Parameter
from ekiden_engine.models.sampled_tables import Distinct, Table, Used, blocks, matrix_on_disk
from ekiden_engine.models.sampler import Adjacency, RowArray, Sample, chunks


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One end of a batch of edges: its distinct `nodes` int64 [m], ascending; how often each is there, `counts` float32
    [m]; the `edges`, int32 [batch]; `visible` float32 [E] is 0 for these, 1 for others (None: no label is told)."""

    nodes: RowArray
    counts: FloatArray
    edges: IndexArray
    visible: FloatArray | None


class SampledRelation:
    """One relation: lists of neighbours, and what each neighbour says; with weights twice, once weighted by them."""

    def __init__(
        self, given: Neighbours, lists: Adjacency, messages: list[Table], project: Tensor | None, folder: Path
    ) -> None:
        """`messages`: a table, and with weights a second one; features of the neighbours go through `project`; what is
        remembered lies in `folder`."""
        self.key = given.key
        self.is_target = given.target
        self.project = project
        self.tables = messages
        self._given, self._lists = given, lists
        self._features = None if given.features is None else torch.from_numpy(given.features)
        self._root = (1 / np.sqrt(np.maximum(lists.degree, 1))).astype(np.float32)
        self._distinct = Distinct(len(messages[0].values))
        self._then = [matrix_on_disk(folder / f"then-{i}", table.values.shape) for i, table in enumerate(messages)]
        self._told = matrix_on_disk(folder / "told", (len(lists), messages[0].values.shape[1]))

    def tell(self, asked: Asked, most: int, random: np.random.Generator) -> tuple[Tensor, list[Used]]:
        """What their neighbours say to the nodes, [m, columns], and the rows of messages that were used."""
        told = self._told.index_select(0, torch.from_numpy(asked.nodes))
        if self._given.weights is not None:
            self._hide(asked, self._given.weights, told)
        sample = self._lists.sample(asked.nodes, most, random)
        columns, place = self._distinct(sample.columns)
        owners, taken = sample.owners, np.diff(sample.pointers)
        # An edge pulls at its node's neighbours by 1/D each, and a sampled one stands for D/taken of them.
        exposure = np.bincount(place, (asked.counts / np.maximum(taken, 1))[owners], len(columns))
        order, begins = counting_sort(place, len(columns))
        rows, exposed = torch.from_numpy(columns), torch.from_numpy(exposure.astype(np.float32))
        plain = (self._root[asked.nodes] * sample.share)[owners]
        used = []
        for table, then, weights in zip(self.tables, self._then, self._weights(sample), strict=True):
            values = plain if weights is None else plain * weights
            if weights is not None and asked.visible is not None:
                values = values * asked.visible[sample.edges]
            matrix = csr(sample.pointers, place, values, (len(taken), len(columns)))
            transpose = csr(begins, owners[order], values[order], (len(columns), len(taken)))
            used.append(table.use(rows, exposed))
            told = told + product(matrix, transpose, self._said(used[-1].values, rows) - then.index_select(0, rows))
        return told, used

    def tell_all(self) -> Tensor:
        """What all their neighbours say to all nodes; it is remembered."""
        for table, then in zip(self.tables, self._then, strict=True):
            for part in blocks(len(then)):
                then[part] = self._said(table.values[part], part)
        self._told.zero_()
        for block, sample in self._lists.blocks():
            plain = self._root[block][sample.owners]
            for message, weights in zip(self._then, self._weights(sample), strict=True):
                values = plain if weights is None else plain * weights
                matrix = csr(sample.pointers, sample.columns, values, (len(sample.share), len(message)))
                self._told[block] += matrix @ message
        return self._told

    def messages(self) -> list[tuple[RelationKey, bool, Tensor]]:
        """What each neighbour said when that was remembered, [count, columns], and whether labels weigh it."""
        return [(self.key, labelled, said.clone()) for labelled, said in zip((False, True), self._then, strict=False)]

    def _hide(self, asked: Asked, weights: FloatArray, told: Tensor) -> None:
        """Take out of the remembered sums what the asked edges say of their labels."""
        here = self._given.rows[asked.edges]
        place = np.minimum(np.searchsorted(asked.nodes, here), len(asked.nodes) - 1)
        mine = np.flatnonzero(asked.nodes[place] == here)  # the other way round, a few belong to asked nodes
        if not len(mine):
            return
        edges, place = asked.edges[mine], place[mine]
        values = weights[edges] * self._root[asked.nodes][place]
        order, begins = counting_sort(place, len(asked.nodes))
        then = self._then[1]
        columns = self._given.columns[edges][order]
        told -= csr(begins, columns, values[order], (len(asked.nodes), len(then))) @ then

    def _weights(self, sample: Sample) -> list[FloatArray | None]:
        return [None] if self._given.weights is None else [None, self._given.weights[sample.edges]]

    def _said(self, values: Tensor, rows: Tensor | slice) -> Tensor:
        if self._features is None or self.project is None:
            return values
        return values + self._features[rows] @ self.project


class SampledEncoder:
    """The parameters of one end point, and encodings of its nodes."""

    def __init__(
        self,
        degree: FloatArray,
        starts: FloatArray,
        features: FloatArray,
        neighbours: Sequence[Neighbours],
        width: int,
        generator: torch.Generator,
        folder: Path,
    ) -> None:
        """`degree` float32 [n]: training edges per node; `starts` [n, outputs]: what its biases start from; `features`
        [n, f]; lists of neighbours are written into `folder`."""
        self._trained = torch.from_numpy(degree > 0)
        self._x = torch.from_numpy(features) if features.shape[1] else None
        size = width + starts.shape[1]

        def start(values: Tensor) -> Tensor:
            for part in blocks(len(values)):
                values[part, :width] = torch.randn(values[part].shape, generator=generator)[:, :width] * INIT_STD
            return values

        def table(name: str, rows: int, weights: Tensor) -> Table:
            value, *moments = (matrix_on_disk(folder / f"{name}-{i}", (rows, size)) for i in range(3))
            return Table(start(value), weights, (moments[0], moments[1]))

        columns = torch.ones(size)
        own, told = columns * PENALTY_ID, columns * PENALTY_MESSAGE
        own[width:] = told[width:] = PENALTY_BIAS
        self._free = table("free", len(degree), own)
        self._free.values.mul_(self._trained[:, None])
        self._free.values[:, width:] = torch.from_numpy(starts)
        self._project = None if self._x is None else start(torch.zeros(features.shape[1], size))
        self._learnt, self._others = (
            matrix_on_disk(folder / name, (len(degree), size)) for name in ("learnt", "others")
        )
        self._relations = []
        for number, given in enumerate(neighbours):
            place = folder / str(number)
            place.mkdir()
            lists = Adjacency(given.rows, given.columns, len(degree), place, "lists")
            reached = _reached(given, degree)[:, None]  # what no training edge reaches must not add noise
            weights = columns * PENALTY_MESSAGE if given.target else told
            copies = 1 if given.weights is None else 2
            messages = [table(f"{number}/messages-{i}", given.count, weights) for i in range(copies)]
            for one in messages:
                one.values.mul_(reached)
            project = None if given.features is None else start(torch.zeros(given.features.shape[1], size))
            self._relations.append(SampledRelation(given, lists, messages, project, place))

    def tables(self) -> list[Table]:
        """The parameters of which a batch moves some rows."""
        return [self._free, *(table for relation in self._relations for table in relation.tables)]

    def dense(self) -> list[Parameter]:
        """The parameters that every batch moves as a whole."""
        found = [p for p in (self._project, *(r.project for r in self._relations)) if p is not None]
        return [Parameter(p.requires_grad_(), PENALTY_FEATURE) for p in found]

    def encode(self, asked: Asked, most: int, random: np.random.Generator) -> tuple[Tensor, list[Used]]:
        """Encodings [m, width + outputs] of the nodes, by what `most` neighbours each say; and what was used for it."""
        rows = torch.from_numpy(asked.nodes)
        used = [self._free.use(rows, torch.from_numpy(asked.counts))]
        encoded = used[0].values
        if self._x is not None and self._project is not None:
            encoded = encoded + self._x[rows] @ self._project
        for relation in self._relations:
            told, more = relation.tell(asked, most, random)
            encoded, used = encoded + told, used + more
        return encoded, used

    def remember(self) -> list[Tensor]:
        """What all neighbours say to all nodes, by relation: from here on samples tell how that changes."""
        return [relation.tell_all() for relation in self._relations]

    def encode_all(self) -> tuple[Tensor, Tensor]:
        """Of all nodes, by what all neighbours say: what the target's edges teach, and what others and features tell;
        the sums are remembered. The next call writes over it."""
        self._learnt.copy_(self._free.values)
        self._others.zero_()
        if self._x is not None and self._project is not None:
            for part in blocks(len(self._x)):
                self._others[part] = self._x[part] @ self._project
        for relation, found in zip(self._relations, self.remember(), strict=True):
            (self._learnt if relation.is_target else self._others).add_(found)
        return self._learnt, self._others

    def state(self, parts: tuple[Tensor, Tensor]) -> EndState:
        """What stays of the encoder, given `encode_all` (see `encoder.EndState`)."""
        said = [message for relation in self._relations if relation.is_target for message in relation.messages()]
        said.sort(key=lambda message: message[1])  # as with all neighbours: first what carries no label
        said += [message for relation in self._relations if not relation.is_target for message in relation.messages()]
        return end_state(self._free.values, parts, self._trained, self._x, self._project, said)


def _reached(given: Neighbours, degree: FloatArray) -> Tensor:
    """Whose message some training edge sees, bool [count]."""
    found = np.zeros(given.count, np.bool_)
    for part in chunks(len(given.rows)):
        found[given.columns[part][degree[given.rows[part]] > 0]] = True
    return torch.from_numpy(found)
