"""The encoded graph: what `process` writes and `train` reads. Plain JSON, Parquet and npz, no pickle.

Files of the folder:

- `graph.json`: types, counts, file names and targets (`GraphDocument`).
- `mappings/<NodeType>.parquet`: column `id` (string); the row number is the node's index.
- `nodes/<NodeType>.npz`: `features` float32 [n, d].
- `edges/<index>-<s>-<r>-<d>.npz`: `source`, `dest` int32 [E]; `split` uint8 [E]; optional `label` float32 [E]
  (NaN where the edge has none) and `features` float32 [E, d].
- `features.json`: fitted encoders (`ekiden_engine.features`).
- `model-hpo-configuration.json`: hyperparameters as Neptune ML names them; people may edit it.
- `manifest.json`: sizes and hashes, checked before anything is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ekiden_engine.errors import BadData
from ekiden_engine.manifest import check_manifest, write_manifest
from ekiden_engine.mapping import file_stems, read_mapping, to_indices, write_mapping

GRAPH_FILE = "graph.json"
FEATURES_FILE = "features.json"
HPO_FILE = "model-hpo-configuration.json"

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int32]
SplitArray = npt.NDArray[np.uint8]
EdgeType = tuple[str, str, str]
"""Source node type, relation, destination node type."""


class Split(IntEnum):
    """Which part of the labelled edges an edge belongs to; `NONE`: no label, or in no part."""

    TRAIN = 0
    VALID = 1
    TEST = 2
    NONE = 255


@dataclass(frozen=True, slots=True, eq=False)
class NodeSet:
    """All nodes of one type, in index order: `ids` [n], `features` float32 [n, d] (d may be 0), a name per
    column."""

    label: str
    ids: pa.StringArray
    features: FloatArray
    feature_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.ids)

    def index_of(self, ids: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> IndexArray:
        """Index of each id, -1 where it is unknown (see `to_indices`)."""
        wanted = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        return to_indices(wanted, self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeSet:
    """All edges of one type: node indices `source`, `dest` int32 [E], `split` uint8 [E] (`Split`), and what
    they carry.

    `label` is float32 [E], NaN where an edge has none (its split is then `Split.NONE`), None if the type is
    no target. `features` is float32 [E, d] or None.
    """

    source_label: str
    relation: str
    dest_label: str
    source: IndexArray
    dest: IndexArray
    split: SplitArray
    label: FloatArray | None = None
    features: FloatArray | None = None
    feature_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.source)

    @property
    def edge_type(self) -> EdgeType:
        """(source node type, relation, destination node type)."""
        return (self.source_label, self.relation, self.dest_label)

    def rows(self, split: Split) -> npt.NDArray[np.int64]:
        """Row numbers of the edges in `split`, ascending."""
        return np.flatnonzero(self.split == split)


class Target(BaseModel):
    """What is to be predicted. `label_min`, `label_max` are those of the training edges: test labels must
    not leak."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    edge: EdgeType
    property: str
    type: Literal["regression"]
    label_min: float = Field(allow_inf_nan=False)
    label_max: float = Field(allow_inf_nan=False)


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

    def save(self, folder: Path) -> None:
        """Write the layout above into `folder`, and last the manifest over everything in it.

        Write `features.json` and `model-hpo-configuration.json` before; the latter stays outside the
        manifest, for people edit it.
        """
        for name in ("mappings", "nodes", "edges"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        stems = file_stems([nodes.label for nodes in self.nodes])
        node_entries = tuple(_save_nodes(folder, n, stem) for n, stem in zip(self.nodes, stems, strict=True))
        edge_entries = tuple(_save_edges(folder, edges, index) for index, edges in enumerate(self.edges))
        document = GraphDocument(nodes=node_entries, edges=edge_entries, targets=self.targets)
        (folder / GRAPH_FILE).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        write_manifest(folder, editable=(HPO_FILE,))

    @classmethod
    def load(cls, folder: Path) -> EncodedGraph:
        """Check the manifest, then read the graph and hold it against `graph.json`.

        Raises `BadData` CORRUPT_ARTIFACT: see `check_manifest`; also a file that is not in the manifest, and
        arrays whose shape, type or node indices contradict `graph.json`.
        """
        known = check_manifest(folder).paths()
        try:
            document = GraphDocument.model_validate_json((folder / GRAPH_FILE).read_bytes())
        except (ValidationError, OSError) as error:
            raise _corrupt(GRAPH_FILE, str(error)[:200]) from error
        for name in (GRAPH_FILE, *document.files()):
            if name not in known:
                raise _corrupt(name, "is not in manifest.json")
        nodes = tuple(_load_nodes(folder, entry) for entry in document.nodes)
        counts = {n.label: len(n) for n in nodes}
        edges = tuple(_load_edges(folder, entry, counts) for entry in document.edges)
        return cls(nodes, edges, document.targets)


class NodeEntry(BaseModel):
    """A node type in `graph.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    count: int = Field(ge=0)
    feature_dim: int = Field(ge=0)
    feature_names: tuple[str, ...]
    mapping: str
    file: str


class EdgeEntry(BaseModel):
    """An edge type in `graph.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    relation: str
    dest: str
    count: int = Field(ge=0)
    feature_dim: int = Field(ge=0)
    feature_names: tuple[str, ...]
    labelled: bool
    file: str


class GraphDocument(BaseModel):
    """`graph.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["ekiden.graph.v1"] = "ekiden.graph.v1"
    nodes: tuple[NodeEntry, ...]
    edges: tuple[EdgeEntry, ...]
    targets: tuple[Target, ...]

    def files(self) -> tuple[str, ...]:
        """Every data file that the document names."""
        return (*(f for n in self.nodes for f in (n.mapping, n.file)), *(e.file for e in self.edges))


def _save_nodes(folder: Path, nodes: NodeSet, stem: str) -> NodeEntry:
    mapping, file = f"mappings/{stem}.parquet", f"nodes/{stem}.npz"
    write_mapping(folder / mapping, nodes.ids)
    np.savez(folder / file, features=nodes.features)
    return NodeEntry(
        type=nodes.label,
        count=len(nodes),
        feature_dim=nodes.features.shape[1],
        feature_names=nodes.feature_names,
        mapping=mapping,
        file=file,
    )


def _save_edges(folder: Path, edges: EdgeSet, index: int) -> EdgeEntry:
    file = f"edges/{index}-{file_stems(['-'.join(edges.edge_type)])[0]}.npz"
    arrays: dict[str, npt.NDArray[Any]] = {"source": edges.source, "dest": edges.dest, "split": edges.split}
    if edges.label is not None:
        arrays["label"] = edges.label
    if edges.features is not None:
        arrays["features"] = edges.features
    np.savez(folder / file, allow_pickle=False, **arrays)
    return EdgeEntry(
        source=edges.source_label,
        relation=edges.relation,
        dest=edges.dest_label,
        count=len(edges),
        feature_dim=0 if edges.features is None else edges.features.shape[1],
        feature_names=edges.feature_names,
        labelled=edges.label is not None,
        file=file,
    )


def _load_nodes(folder: Path, entry: NodeEntry) -> NodeSet:
    ids = read_mapping(folder / entry.mapping)
    features = _arrays(folder, entry.file, {"features": (np.dtype(np.float32), (entry.count, entry.feature_dim))})[
        "features"
    ]
    if len(ids) != entry.count:
        raise _corrupt(entry.mapping, f"has {len(ids)} ids, {GRAPH_FILE} says {entry.count}")
    return NodeSet(entry.type, ids, features, entry.feature_names)


def _load_edges(folder: Path, entry: EdgeEntry, node_counts: dict[str, int]) -> EdgeSet:
    index, shape = np.dtype(np.int32), (entry.count,)
    wanted: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "source": (index, shape),
        "dest": (index, shape),
        "split": (np.dtype(np.uint8), shape),
    }
    if entry.labelled:
        wanted["label"] = (np.dtype(np.float32), shape)
    if entry.feature_dim:
        wanted["features"] = (np.dtype(np.float32), (entry.count, entry.feature_dim))
    arrays = _arrays(folder, entry.file, wanted)
    for name, node_type in (("source", entry.source), ("dest", entry.dest)):
        ends, count = arrays[name], node_counts.get(node_type, 0)
        if len(ends) and (int(ends.min()) < 0 or int(ends.max()) >= count):
            raise _corrupt(entry.file, f"{name} points outside the {count} nodes of type {node_type[:100]}")
    return EdgeSet(
        entry.source,
        entry.relation,
        entry.dest,
        source=arrays["source"],
        dest=arrays["dest"],
        split=arrays["split"],
        label=arrays.get("label"),
        features=arrays.get("features"),
        feature_names=entry.feature_names,
    )


def _arrays(
    folder: Path, file: str, wanted: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(folder / file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _corrupt(file, str(error)[:200]) from error
    for name, (dtype, shape) in wanted.items():
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            raise _corrupt(
                file, f"{name} is {arrays[name].dtype}{arrays[name].shape}, {GRAPH_FILE} says {dtype}{shape}"
            )
    return arrays


def _corrupt(file: str, detail: str) -> BadData:
    return BadData("CORRUPT_ARTIFACT", f"{file}: {detail}")
