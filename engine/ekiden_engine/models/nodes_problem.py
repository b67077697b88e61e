"""A node target as arrays: the inputs of every node type, the relations in both directions, the labelled rows.

What a node brings along are its features and, per relation, its number of edges and the mean of their features.
Each property is brought to the same size: its columns are centred and divided by the root mean square of their norm,
so that a text of a hundred columns and a single number weigh the same, whatever unit they came in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EdgeSet, EncodedGraph, Split, Target
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.nodes_structure import Inputs, Kind, RelationKey

RowArray = npt.NDArray[np.int64]

LEAST_VARIATION: Final = 1e-6
"""A property that varies less than this, relative to its mean, is constant but for rounding, and says nothing."""
PART: Final = 4_000_000
"""Edges that are counted at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """One edge type in one direction: node `rows[e]` of type `here` has neighbour `columns[e]` of type `there`.

    Types are positions in `NodeProblem.labels`; `key` is the edge type and whether
    the node is its source.
    """

    key: RelationKey
    here: int
    there: int
    rows: IndexArray
    columns: IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class NodeProblem:
    """A node target and its graph.

    Per node type: `labels`, `counts`, `x` float32 [n, f] (normalised), `inputs` (how `x` was made), `bare` (it has no
    features of its own). `values` float32 [n, k] of the target's type: one-hot, several-hot, or one column of numbers
    of mean 0 and variance 1 over the training rows (`mean`, `scale` undo that). `train`, `valid`: row numbers.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    x: tuple[FloatArray, ...]
    inputs: tuple[Inputs, ...]
    bare: tuple[bool, ...]
    relations: tuple[Relation, ...]
    target: int
    task: Task
    multi_label: bool
    values: FloatArray
    mean: float
    scale: float
    train: RowArray
    valid: RowArray

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.task is Task.NODE_REGRESSION

    @property
    def kind(self) -> Kind:
        """What is predicted, as losses and answers tell it apart."""
        return "number" if self.regression else "labels" if self.multi_label else "classes"

    @property
    def outputs(self) -> int:
        """Number of classes, or 1."""
        return int(self.values.shape[1])

    @property
    def edge_count(self) -> int:
        """Edges, counted once per direction."""
        return sum(len(relation.rows) for relation in self.relations)


def make_node_problem(graph: EncodedGraph, target: Target) -> NodeProblem:
    """The problem of a node target. Test labels are never looked at.

    Raises `BadData` EMPTY_TRAINING_SET.
    """
    if target.node is None:
        raise ValueError(f"{target.name} is no node target")
    found = graph.labels(target)
    train, valid = found.rows(Split.TRAIN), found.rows(Split.VALID)
    if found.values is None or not len(train):
        raise BadData(
            "EMPTY_TRAINING_SET",
            f"no {quoted(target.node)} has a {quoted(target.property)} and belongs to the training split: check "
            "split_rate, or the file custom_split_filenames.train names",
        )
    labels = tuple(nodes.label for nodes in graph.nodes)
    relations = tuple(r for edges in graph.edges if len(edges) for r in _both_ways(edges, labels))
    described = [_inputs(graph, position, relations) for position in range(len(labels))]
    seen = np.concatenate([train, valid])
    values = np.zeros((len(found.split), 1 if target.is_regression else len(target.classes)), np.float32)
    mean, scale = 0.0, 1.0
    if target.is_regression:
        known = found.values[train].astype(np.float64)
        mean, scale = float(known.mean()), float(known.std()) or 1.0
        values[seen, 0] = (found.values[seen] - mean) / scale
    elif target.multi_label:
        values[seen] = found.values[seen]
    else:
        values[seen, found.values[seen]] = 1
    return NodeProblem(
        labels=labels,
        counts=tuple(len(nodes) for nodes in graph.nodes),
        x=tuple(x for x, _ in described),
        inputs=tuple(inputs for _, inputs in described),
        bare=tuple(not nodes.features.shape[1] for nodes in graph.nodes),
        relations=relations,
        target=labels.index(target.node),
        task=target.task,
        multi_label=target.multi_label,
        values=values,
        mean=mean,
        scale=scale,
        train=train,
        valid=valid,
    )


def _both_ways(edges: EdgeSet, labels: Sequence[str]) -> tuple[Relation, Relation]:
    source, dest = labels.index(edges.source_label), labels.index(edges.dest_label)
    return (
        Relation((edges.edge_type, True), source, dest, edges.source, edges.dest),
        Relation((edges.edge_type, False), dest, source, edges.dest, edges.source),
    )


def _inputs(graph: EncodedGraph, position: int, relations: Sequence[Relation]) -> tuple[FloatArray, Inputs]:
    """The normalised columns of one node type: features, then per relation its degree and mean edge features."""
    nodes = graph.nodes[position]
    count = len(nodes)
    blocks, groups = [nodes.features], list(property_groups(nodes.feature_names))
    mine = [relation for relation in relations if relation.here == position]
    blocks.append(np.empty((count, len(mine)), np.float32))
    for column, relation in enumerate(mine):
        blocks[-1][:, column] = np.log1p(_sums(relation.rows, count))
    groups += [1] * len(mine)
    for relation in mine:
        edges = graph.edge(relation.key[0])
        if edges.features is not None and edges.features.shape[1]:
            blocks.append(_mean_of_edges(relation, edges.features, count))
            groups += property_groups(edges.feature_names)
    raw = np.concatenate(blocks, axis=1)
    centre = raw.mean(0, dtype=np.float64) if count else np.zeros(raw.shape[1])
    deviation = raw.var(0, dtype=np.float64) if count else np.zeros(raw.shape[1])
    factor = np.empty(raw.shape[1])
    start = 0
    for width in groups:
        size = float(np.sqrt(deviation[start : start + width].sum()))
        least = LEAST_VARIATION * float(np.abs(centre[start : start + width]).max(initial=0))
        factor[start : start + width] = 1 / size if size > least else 0.0
        start += width
    inputs = Inputs(
        features=nodes.features.shape[1],
        relations=tuple(relation.key for relation in mine),
        centre=centre.astype(np.float32),
        factor=factor.astype(np.float32),
    )
    return inputs.normalise(raw), inputs


def _mean_of_edges(relation: Relation, features: FloatArray, count: int) -> FloatArray:
    found = np.empty((count, features.shape[1]), np.float32)
    degree = np.maximum(_sums(relation.rows, count), 1)
    for column in range(features.shape[1]):
        found[:, column] = _sums(relation.rows, count, features[:, column]) / degree
    return found


def _sums(rows: IndexArray, count: int, values: FloatArray | None = None) -> npt.NDArray[np.float64]:
    """The sum of the values, or the number, of each row's edges; `bincount` makes copies, so it gets parts."""
    found = np.zeros(count)
    for start in range(0, len(rows), PART):
        part = slice(start, start + PART)
        found += np.bincount(rows[part], None if values is None else values[part], count)
    return found


def property_groups(names: Sequence[str]) -> tuple[int, ...]:
    """Widths of the runs of columns of one encoded property: their names agree up to the first of `=[.#:~`."""
    stems = (re.split(r"(?<=[=\[.#:~])", name, maxsplit=1)[0] for name in names)
    return tuple(len(list(group)) for _, group in groupby(stems))
