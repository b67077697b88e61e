"""The encoded graph in memory: what `process` makes and `train` reads (files: `ekiden_engine.graph_files`)."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ekiden.contracts.tasks import Task
from ekiden_engine.mapping import to_indices

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int32]
SplitArray = npt.NDArray[np.uint8]
EdgeType = tuple[str, str, str]
"""Source node type, relation, destination node type."""

NO_CLASS = -1
"""Class index of a row without a label."""


class Split(IntEnum):
    """Which part of the labelled rows a row belongs to; `NONE`: no label, or in no part."""

    TRAIN = 0
    VALID = 1
    TEST = 2
    NONE = 255


class Target(BaseModel):
    """What is to be predicted: a property of a node type or of an edge type, or links of one edge type, or of all.

    `classes` are in the order of their indices. `label_min`, `label_max` are those of the training rows: test labels
    must not leak.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: Task
    node: str | None = None
    edge: EdgeType | None = None
    property: str = ""  # hides the decorator in this class: hence builtins.property below
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    label_min: float | None = Field(default=None, allow_inf_nan=False)
    label_max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _names_what_its_task_needs(self) -> Self:
        on_node = self.task in (Task.NODE_CLASSIFICATION, Task.NODE_REGRESSION)
        if on_node != (self.node is not None) or (self.node is not None and self.edge is not None):
            raise ValueError(f"{self.task} is about {'a node type' if on_node else 'an edge type'}")
        if self.edge is None and not on_node and self.task is not Task.LINK_PREDICTION:
            raise ValueError(f"{self.task} needs an edge type")
        return self

    @builtins.property
    def is_classification(self) -> bool:
        """Whether classes are predicted."""
        return self.task in (Task.NODE_CLASSIFICATION, Task.EDGE_CLASSIFICATION)

    @builtins.property
    def is_regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.task in (Task.NODE_REGRESSION, Task.EDGE_REGRESSION)

    @builtins.property
    def subject(self) -> str:
        """The node or edge type, in words: `user-rated-movie`, `paper`, `all edge types`."""
        return self.node or ("all edge types" if self.edge is None else "-".join(self.edge))

    @builtins.property
    def name(self) -> str:
        """`user-rated-movie.rating`; without a property just the `subject`."""
        return f"{self.subject}.{self.property}" if self.property else self.subject


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What one target knows of the rows [n] of one node or edge type.

    `target` is its position in `EncodedGraph.targets`, `split` uint8 [n] (`Split`). `values` by task: regression
    float32 [n], NaN for none; classification int32 [n], `NO_CLASS` for none; with several classes a row uint8 [n, k];
    links None. Rows without a label are in `Split.NONE`.
    """

    target: int
    split: SplitArray
    values: npt.NDArray[Any] | None = None

    def rows(self, *splits: Split) -> npt.NDArray[np.int64]:
        """Row numbers of what is in one of `splits`, ascending."""
        return np.flatnonzero(np.isin(self.split, [int(s) for s in splits]))

    def counts(self) -> dict[str, int]:
        """Rows per part: train, valid, test, and `unused`."""
        parts = {part.name.lower(): int((self.split == part).sum()) for part in Split if part is not Split.NONE}
        return {**parts, "unused": int((self.split == Split.NONE).sum())}


@dataclass(frozen=True, slots=True, eq=False)
class NodeSet:
    """All nodes of one type, in index order: `ids` [n], `features` float32 [n, d] (d may be 0), a name per
    column, `labels` per target."""

    label: str
    ids: pa.StringArray
    features: FloatArray
    feature_names: tuple[str, ...]
    labels: tuple[Labels, ...] = ()

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.ids)

    def index_of(self, ids: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> IndexArray:
        """Index of each id, -1 where it is unknown (see `to_indices`)."""
        wanted = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        return to_indices(wanted, self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeSet:
    """All edges of one type: node indices `source`, `dest` int32 [E], `features` float32 [E, d] or None, `labels`
    per target."""

    source_label: str
    relation: str
    dest_label: str
    source: IndexArray
    dest: IndexArray
    features: FloatArray | None = None
    feature_names: tuple[str, ...] = ()
    labels: tuple[Labels, ...] = ()

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.source)

    @property
    def edge_type(self) -> EdgeType:
        """(source node type, relation, destination node type)."""
        return (self.source_label, self.relation, self.dest_label)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGraph:
    """A whole graph in memory; node and edge types in the order of training-data-configuration.json."""

    nodes: tuple[NodeSet, ...]
    edges: tuple[EdgeSet, ...]
    targets: tuple[Target, ...]

    def node(self, label: str) -> NodeSet:
        """The nodes of type `label`; `KeyError` if there is no such type."""
        for nodes in self.nodes:
            if nodes.label == label:
                return nodes
        raise KeyError(label)

    def edge(self, edge_type: EdgeType) -> EdgeSet:
        """The edges of one type; `KeyError` if there is no such type."""
        for edges in self.edges:
            if edges.edge_type == edge_type:
                return edges
        raise KeyError(edge_type)

    def labels(self, target: Target) -> Labels:
        """The labels of a target of one node or edge type; `KeyError` if the graph has none."""
        if target.node is not None:
            return self._labels_in(self.node(target.node).labels, target)
        if target.edge is None:
            raise KeyError(target.name)
        return self._labels_in(self.edge(target.edge).labels, target)

    def link_labels(self, target: Target) -> tuple[tuple[EdgeSet, Labels], ...]:
        """The edge types whose links a link-prediction target is about, with their splits."""
        wanted = [e for e in self.edges if target.edge is None or e.edge_type == target.edge]
        return tuple((e, self._labels_in(e.labels, target)) for e in wanted)

    def _labels_in(self, labels: Iterable[Labels], target: Target) -> Labels:
        position = self.targets.index(target)
        for found in labels:
            if found.target == position:
                return found
        raise KeyError(target.name)

    def save(self, folder: Path) -> None:
        """Write the layout of `ekiden_engine.graph_files` into `folder`, and last the manifest."""
        from ekiden_engine.graph_files import save_graph

        save_graph(self, folder)

    @classmethod
    def load(cls, folder: Path) -> EncodedGraph:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT (see `ekiden_engine.graph_files.load_graph`)."""
        from ekiden_engine.graph_files import load_graph

        return load_graph(folder)
