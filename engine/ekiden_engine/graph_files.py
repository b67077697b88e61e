"""The encoded graph as files: plain JSON, Parquet and npz, no pickle.

Files of the folder:

- `graph.json`: types, counts, file names and targets (`GraphDocument`).
- `mappings/<NodeType>.parquet`: column `id` (string); the row number is the node's index.
- `nodes/<NodeType>.npz`: `features` float32 [n, d], and labels.
- `edges/<index>-<s>-<r>-<d>.npz`: `source`, `dest` int32 [E]; optional `features` float32 [E, d]; and labels.
- labels of target t: `split_<t>` uint8 [rows], and, but for links, `label_<t>`: float32 [rows] (regression), int32
  [rows] (classification) or uint8 [rows, classes] (several classes a row).
- `features.json` and files that it names: fitted encoders (`ekiden_engine.features`).
- `model-hpo-configuration.json`: hyperparameters as Neptune ML names them; people may edit it.
- `manifest.json`: sizes and hashes, checked before anything is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ekiden_engine.errors import BadData
from ekiden_engine.graph import NO_CLASS, EdgeSet, EncodedGraph, Labels, NodeSet, Target
from ekiden_engine.manifest import check_manifest, write_manifest
from ekiden_engine.mapping import file_stems, read_mapping, write_mapping
from ekiden_engine.npz import load_arrays, save_arrays

GRAPH_FILE = "graph.json"
FEATURES_FILE = "features.json"
HPO_FILE = "model-hpo-configuration.json"

Arrays = dict[str, npt.NDArray[Any]]
Shapes = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class _Rows(BaseModel):
    """What the entries of node and edge types share; `targets` are positions in the document's targets."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    count: int = Field(ge=0)
    feature_dim: int = Field(ge=0)
    feature_names: tuple[str, ...]
    targets: tuple[int, ...] = ()
    file: str


class NodeEntry(_Rows):
    """A node type in `graph.json`."""

    type: str
    mapping: str


class EdgeEntry(_Rows):
    """An edge type in `graph.json`."""

    source: str
    relation: str
    dest: str


class GraphDocument(BaseModel):
    """`graph.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["ekiden.graph.v2"] = "ekiden.graph.v2"
    nodes: tuple[NodeEntry, ...]
    edges: tuple[EdgeEntry, ...]
    targets: tuple[Target, ...]

    def files(self) -> tuple[str, ...]:
        """Every data file that the document names."""
        return (*(f for n in self.nodes for f in (n.mapping, n.file)), *(e.file for e in self.edges))


def save_graph(graph: EncodedGraph, folder: Path) -> None:
    """Write the layout above into `folder`, and last the manifest over everything in it.

    Write the encoders and `model-hpo-configuration.json` before; the latter stays outside the manifest, for people
    edit it.
    """
    for name in ("mappings", "nodes", "edges"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = file_stems([nodes.label for nodes in graph.nodes])
    node_entries = tuple(_save_nodes(folder, n, stem) for n, stem in zip(graph.nodes, stems, strict=True))
    edge_entries = tuple(_save_edges(folder, edges, index) for index, edges in enumerate(graph.edges))
    document = GraphDocument(nodes=node_entries, edges=edge_entries, targets=graph.targets)
    (folder / GRAPH_FILE).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
    write_manifest(folder, editable=(HPO_FILE, f"hpo-configuration-templates/{HPO_FILE}"))


def load_graph(folder: Path) -> EncodedGraph:
    """Check the manifest, then read the graph and hold it against `graph.json`.

    Raises `BadData` CORRUPT_ARTIFACT: see `check_manifest`; also a file that is not in the manifest, a graph that
    another version wrote, and arrays whose shape, type or node indices contradict `graph.json`.
    """
    known = check_manifest(folder).paths()
    try:
        document = GraphDocument.model_validate_json((folder / GRAPH_FILE).read_bytes())
    except (ValidationError, OSError) as error:
        hint = ": an earlier version processed it; run the stage process again" if "version" in str(error) else ""
        raise _corrupt(GRAPH_FILE, str(error)[:200] + hint) from error
    for name in (GRAPH_FILE, *document.files()):
        if name not in known:
            raise _corrupt(name, "is not in manifest.json")
    nodes = tuple(_load_nodes(folder, entry, document.targets) for entry in document.nodes)
    counts = {n.label: len(n) for n in nodes}
    edges = tuple(_load_edges(folder, entry, counts, document.targets) for entry in document.edges)
    return EncodedGraph(nodes, edges, document.targets)


def _save_nodes(folder: Path, nodes: NodeSet, stem: str) -> NodeEntry:
    mapping, file = f"mappings/{stem}.parquet", f"nodes/{stem}.npz"
    write_mapping(folder / mapping, nodes.ids)
    save_arrays(folder / file, {"features": nodes.features, **_label_arrays(nodes.labels)})
    return NodeEntry(
        type=nodes.label,
        count=len(nodes),
        feature_dim=nodes.features.shape[1],
        feature_names=nodes.feature_names,
        targets=tuple(labels.target for labels in nodes.labels),
        mapping=mapping,
        file=file,
    )


def _save_edges(folder: Path, edges: EdgeSet, index: int) -> EdgeEntry:
    file = f"edges/{index}-{file_stems(['-'.join(edges.edge_type)])[0]}.npz"
    arrays: Arrays = {"source": edges.source, "dest": edges.dest, **_label_arrays(edges.labels)}
    if edges.features is not None:
        arrays["features"] = edges.features
    save_arrays(folder / file, arrays)
    return EdgeEntry(
        source=edges.source_label,
        relation=edges.relation,
        dest=edges.dest_label,
        count=len(edges),
        feature_dim=0 if edges.features is None else edges.features.shape[1],
        feature_names=edges.feature_names,
        targets=tuple(labels.target for labels in edges.labels),
        file=file,
    )


def _label_arrays(labels: tuple[Labels, ...]) -> Arrays:
    arrays: Arrays = {}
    for found in labels:
        arrays[f"split_{found.target}"] = found.split
        if found.values is not None:
            arrays[f"label_{found.target}"] = found.values
    return arrays


def _load_nodes(folder: Path, entry: NodeEntry, targets: tuple[Target, ...]) -> NodeSet:
    ids = read_mapping(folder / entry.mapping)
    wanted: Shapes = {"features": (np.dtype(np.float32), (entry.count, entry.feature_dim))}
    arrays = _arrays(folder, entry.file, wanted | _label_shapes(entry, targets))
    if len(ids) != entry.count:
        raise _corrupt(entry.mapping, f"has {len(ids)} ids, {GRAPH_FILE} says {entry.count}")
    return NodeSet(entry.type, ids, arrays["features"], entry.feature_names, _labels(entry, targets, arrays))


def _load_edges(folder: Path, entry: EdgeEntry, node_counts: Mapping[str, int], targets: tuple[Target, ...]) -> EdgeSet:
    index, shape = np.dtype(np.int32), (entry.count,)
    wanted: Shapes = {"source": (index, shape), "dest": (index, shape), **_label_shapes(entry, targets)}
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
        features=arrays.get("features"),
        feature_names=entry.feature_names,
        labels=_labels(entry, targets, arrays),
    )


def _label_shapes(entry: _Rows, targets: tuple[Target, ...]) -> Shapes:
    shapes: Shapes = {}
    for position in entry.targets:
        if not 0 <= position < len(targets):
            raise _corrupt(GRAPH_FILE, f"{entry.file} is said to have labels of target {position}, which is not there")
        target = targets[position]
        shapes[f"split_{position}"] = (np.dtype(np.uint8), (entry.count,))
        if target.is_regression:
            shapes[f"label_{position}"] = (np.dtype(np.float32), (entry.count,))
        elif target.multi_label:
            shapes[f"label_{position}"] = (np.dtype(np.uint8), (entry.count, len(target.classes)))
        elif target.is_classification:
            shapes[f"label_{position}"] = (np.dtype(np.int32), (entry.count,))
    return shapes


def _labels(entry: _Rows, targets: tuple[Target, ...], arrays: Arrays) -> tuple[Labels, ...]:
    found = []
    for position in entry.targets:
        values, target = arrays.get(f"label_{position}"), targets[position]
        codes = values if target.is_classification and not target.multi_label else None
        if codes is not None and len(codes) and not NO_CLASS <= codes.min() <= codes.max() < len(target.classes):
            raise _corrupt(entry.file, f"label_{position} names classes beyond the {len(target.classes)}")
        found.append(Labels(position, arrays[f"split_{position}"], values))
    return tuple(found)


def _arrays(folder: Path, file: str, wanted: Shapes) -> Arrays:
    try:
        arrays = load_arrays(folder / file, wanted)
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
