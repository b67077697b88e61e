"""What a factorization machine knows of a node: a sparse row of columns, in groups.

The groups of an end point: a column of ones, the node's features, the set of nodes that its training edges lead to
(SVD++'s implicit set: Koren 2008, "Factorization meets the neighborhood"), and one set per relation and direction of
other edge types. A set's entries are 1/sqrt(its size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray
from ekiden_engine.models.fm_predictor import Group

DoubleArray = npt.NDArray[np.float64]
RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """One end point: `matrix` CSR float32 [n, m], its columns by `groups`: the ones, the features, the sets.

    `seen` bool [n]: nodes of which training knows anything at all.
    """

    label: str
    groups: tuple[Group, ...]
    matrix: Any
    seen: BoolArray

    @property
    def group_of(self) -> IndexArray:
        """Position in `groups` of every column, int32 [m]."""
        return np.repeat(np.arange(len(self.groups), dtype=np.int32), [group.count for group in self.groups])


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """The training edges: `source`, `dest` int32 [E], `label` float32 [E]; and those for validation, likewise."""

    source: IndexArray
    dest: IndexArray
    label: FloatArray
    valid_source: IndexArray
    valid_dest: IndexArray
    valid_label: FloatArray


def read_ratings(graph: EncodedGraph, target: Target) -> Ratings:
    """The labelled edges of a target. Raises `BadData` EMPTY_TRAINING_SET."""
    assert target.edge is not None  # noqa: S101 - the registry gives this model edge targets only
    edges, labels = graph.edge(target.edge), graph.labels(target)
    train, valid = labels.rows(Split.TRAIN), labels.rows(Split.VALID)
    if labels.values is None or not len(train):
        raise BadData(
            "EMPTY_TRAINING_SET",
            f"no edge of {target.subject[:200]} has a {target.property[:100]} and belongs to the training "
            "split: check split_rate, or the file custom_split_filenames.train names",
        )
    values = labels.values.astype(np.float32)
    return Ratings(
        edges.source[train],
        edges.dest[train],
        values[train],
        edges.source[valid],
        edges.dest[valid],
        values[valid],
    )


def make_designs(graph: EncodedGraph, target: Target, ratings: Ratings) -> tuple[Design, Design]:
    """The designs of source and destination; of the target's own edges they see those of training only."""
    assert target.edge is not None  # noqa: S101
    ends = (ratings.source, ratings.dest)
    first = _design(graph, target, target.edge[0], ends, outgoing=True)
    return first, _design(graph, target, target.edge[2], ends[::-1], outgoing=False)


def _design(
    graph: EncodedGraph, target: Target, label: str, ends: tuple[IndexArray, IndexArray], *, outgoing: bool
) -> Design:
    assert target.edge is not None  # noqa: S101
    nodes = graph.node(label)
    n = len(nodes)
    there = target.edge[2] if outgoing else target.edge[0]
    groups = [Group(1), Group(nodes.features.shape[1]), Group(len(graph.node(there)), target.edge, outgoing)]
    blocks = [
        sparse.csr_array(np.ones((n, 1), np.float32)),
        sparse.csr_array(nodes.features.astype(np.float32)),
        _sets(*ends, (n, groups[-1].count)),
    ]
    for edges in graph.edges:
        if edges.edge_type == target.edge or not len(edges):
            continue
        sides = ((edges.source_label, edges.source), (edges.dest_label, edges.dest))
        for out, ((here, rows), (other, columns)) in ((True, sides), (False, sides[::-1])):
            if here == label:
                groups.append(Group(len(graph.node(other)), edges.edge_type, out))
                blocks.append(_sets(rows, columns, (n, groups[-1].count)))
    matrix = sparse.hstack(blocks, format="csr", dtype=np.float32)
    return Design(label, tuple(groups), matrix, np.diff(matrix.indptr) > 1)


def _sets(rows: IndexArray, columns: IndexArray, shape: tuple[int, int]) -> Any:
    sizes = np.bincount(rows, minlength=shape[0])
    entries = (1 / np.sqrt(np.maximum(sizes, 1)))[rows].astype(np.float32)
    return sparse.csr_array((entries, (rows, columns)), shape=shape)
