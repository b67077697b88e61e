"""An edge target as arrays: its labelled edges, and what else touches the nodes at either end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType, EncodedGraph, Split, Target
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.encoder import Neighbours
from ekiden_engine.models.nodes_structure import Kind

RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EdgeProblem:
    """One edge target. `source`, `dest` int32 [E] of all its edges; `label` by `kind`: float32 [E], int32 [E] (of
    `classes`) or uint8 [E, classes]; `train`, `valid` row numbers; features [n, f] of both ends; relations other than
    the target. `relational`: whether the target's edges bring messages, too."""

    target: Target
    kind: Kind
    source: IndexArray
    dest: IndexArray
    label: npt.NDArray[Any]
    train: RowArray
    valid: RowArray
    source_features: FloatArray
    dest_features: FloatArray
    source_extra: tuple[Neighbours, ...]
    dest_extra: tuple[Neighbours, ...]
    relational: bool

    @property
    def edge(self) -> EdgeType:
        """The edge type."""
        if self.target.edge is None:
            raise ValueError(f"{self.target.name} is no edge target")
        return self.target.edge

    @property
    def ends(self) -> tuple[str, str]:
        """Node types of source and destination."""
        return self.edge[0], self.edge[2]

    @property
    def outputs(self) -> int:
        """Number of classes, or 1."""
        return 1 if self.kind == "number" else len(self.target.classes)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of nodes at either end."""
        return len(self.source_features), len(self.dest_features)

    def degrees(self, rows: RowArray) -> tuple[FloatArray, FloatArray]:
        """Edges among `rows` per source node and per destination node."""
        s = np.bincount(self.source[rows], minlength=self.counts[0]).astype(np.float32)
        return s, np.bincount(self.dest[rows], minlength=self.counts[1]).astype(np.float32)

    def known(self, end: int) -> tuple[FloatArray, tuple[Neighbours, ...]]:
        """Features of the nodes at an end (0: sources), and relations other than the target."""
        return (self.dest_features, self.dest_extra) if end else (self.source_features, self.source_extra)

    def own(self, end: int, ends: tuple[IndexArray, IndexArray], weights: FloatArray | None = None) -> list[Neighbours]:
        """The target's own edges between `ends`, int32 [E] each, as relations of the nodes at an end; none if the
        problem is not relational."""
        if not self.relational:
            return []
        here, there, count = ends[end], ends[1 - end], self.counts[1 - end]
        found = [Neighbours((self.edge, end == 0), here, there, count, True, weights)]
        if self.ends[0] == self.ends[1]:  # a node is also at the other end of edges
            found.append(Neighbours((self.edge, end == 1), there, here, count, True, weights))
        return found

    def wanted(self, rows: RowArray) -> FloatArray:
        """Labels of `rows` as outputs, float32 [m, outputs]: numbers, one-hot, or several-hot."""
        label = self.label[rows]
        if self.kind != "classes":
            return np.asarray(label, np.float32).reshape(len(rows), self.outputs)
        found = np.zeros((len(rows), self.outputs), np.float32)
        found[np.arange(len(rows)), label] = 1
        return found

    def set_aside(self, seed: int, share: float) -> tuple[RowArray, RowArray]:
        """Training and validation rows of one member.

        Without validation rows it is `share` of the training rows that the member does not learn from; each seed takes
        others. A handful of rows is validated on itself.
        """
        if len(self.valid):
            return self.train, self.valid
        carved = round(len(self.train) * share)
        if not carved:
            return self.train, self.train
        order = np.random.default_rng(seed).permutation(self.train)
        return np.sort(order[carved:]), np.sort(order[:carved])


def make_edge_problem(graph: EncodedGraph, target: Target, *, relational: bool = True) -> EdgeProblem:
    """The problem of an edge target; test labels are never looked at. Raises `BadData` EMPTY_TRAINING_SET."""
    if target.edge is None:
        raise ValueError(f"{target.name} is no edge target")
    edges, labels = graph.edge(target.edge), graph.labels(target)
    train, valid = labels.rows(Split.TRAIN), labels.rows(Split.VALID)
    if labels.values is None or not len(train):
        raise BadData(
            "EMPTY_TRAINING_SET",
            f"no edge of {target.subject[:200]} has a {target.property[:100]} and belongs to the training "
            "split: check split_rate, or the file custom_split_filenames.train names",
        )
    source, dest = graph.node(target.edge[0]), graph.node(target.edge[2])
    blank = (np.zeros((len(source), 0), np.float32), np.zeros((len(dest), 0), np.float32))
    return EdgeProblem(
        target=target,
        kind="number" if target.is_regression else "labels" if target.multi_label else "classes",
        source=edges.source,
        dest=edges.dest,
        label=labels.values,
        train=train,
        valid=valid,
        source_features=source.features if relational else blank[0],
        dest_features=dest.features if relational else blank[1],
        source_extra=_extra(graph, target, source.label) if relational else (),
        dest_extra=_extra(graph, target, dest.label) if relational else (),
        relational=relational,
    )


def _extra(graph: EncodedGraph, target: Target, label: str) -> tuple[Neighbours, ...]:
    """Relations other than the target that touch nodes of type `label`, in either direction."""
    found = []
    for edges in graph.edges:
        if edges.edge_type == target.edge or not len(edges):
            continue
        ends = ((edges.source_label, edges.source), (edges.dest_label, edges.dest))
        for outgoing, ((here, rows), (there, columns)) in ((True, ends), (False, ends[::-1])):
            if here == label:
                other = graph.node(there)
                features = other.features if other.features.shape[1] else None
                key = (edges.edge_type, outgoing)
                found.append(Neighbours(key, rows, columns, len(other), features=features))
    return tuple(found)
