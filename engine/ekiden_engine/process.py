"""`process`: an exported graph becomes an encoded graph (see `ekiden_engine.graph`).

Reads the layout of Neptune-Export, ours or the service's own: node ids become row numbers, features become
numbers by encoders that are fitted here and kept, labelled edges are dealt out to training, validation and
test.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.hyperparameters import HYPERPARAMETERS, as_text
from ekiden.contracts.spec import PipelineSpec
from ekiden.contracts.training_data import EdgeFileConfig, FeatureConfig, LabelConfig, NodeFileConfig
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features import FeatureBook, FittedEncoder, UnusableColumn, fit_encoder
from ekiden_engine.features.encoders import EdgeEncoders, side_by_side
from ekiden_engine.graph import FEATURES_FILE, EdgeSet, EncodedGraph, NodeSet, Split, SplitArray, Target
from ekiden_engine.graph_stats import edge_text
from ekiden_engine.hpo import write_hpo
from ekiden_engine.log import log
from ekiden_engine.manifest import MANIFEST, check_manifest
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.numbers import BadValue
from ekiden_engine.process_tables import (
    EdgeTable,
    NodeTable,
    Rows,
    read_configuration,
    read_edges,
    read_nodes,
)
from ekiden_engine.spec_file import read_spec
from ekiden_engine.splits import (
    DEFAULT_SPLIT_RATE,
    LabelledEdges,
    describe_split,
    split_by_files,
    split_by_rate,
)

ON_EDGES: Final = ("numerical", "category", "bucket_numerical", "datetime", "none")
"""Types that features of edges may have: text would take gigabytes on many edges, and no model looks at it."""

FileT = TypeVar("FileT", NodeFileConfig, EdgeFileConfig)
KeyT = TypeVar("KeyT", bound=Hashable)


def run(root: MlRoot) -> None:
    """Encode the processing input `export`, as `spec` asks, into the processing output `processed`."""
    spec = read_spec(root.processing_input("spec"))
    process_graph(root.processing_input("export"), root.processing_output("processed"), spec)


def process_graph(source: Path, target: Path, spec: PipelineSpec) -> EncodedGraph:
    """Encode the export in `source`, write it to `target`, and return it.

    Raises `BadData`: NO_CONFIGURATION, BAD_CONFIGURATION, NO_FILES, BAD_CSV, MISSING_COLUMN, MISSING_VALUE,
    EMPTY_GRAPH, DUPLICATE_ID, DANGLING_EDGE, NOT_A_NUMBER, NOT_A_DATE, UNEVEN_VALUES, UNSUPPORTED_FEATURE,
    CORRUPT_ARTIFACT, UNSUPPORTED_TARGET, NO_TARGET, NO_LABELS, NO_TRAINING_EDGES, and those of `split_by_files`.
    """
    target.mkdir(parents=True, exist_ok=True)
    if (source / MANIFEST).exists():  # an export of ours; Neptune-Export writes none
        check_manifest(source)
    configuration = read_configuration(source)
    seed = _seed(spec)
    _check_labels(configuration.graph.nodes, configuration.graph.edges)
    nodes: dict[str, NodeSet] = {}
    node_encoders: dict[str, tuple[FittedEncoder, ...]] = {}
    for label, node_files in _by_type(configuration.graph.nodes, lambda f: f.node[1]).items():
        features = _features(node_files, label)
        table = read_nodes(source, node_files, features)
        # Every node is there at training time when edges are what is predicted: encoders see all of them.
        nodes[label], node_encoders[label] = _encode_nodes(label, table, features, spec)
        log(f"{label}: {len(nodes[label])} nodes, {nodes[label].features.shape[1]} feature columns")
    edges, targets, edge_encoders = [], [], []
    for edge_type, edge_files in _by_type(configuration.graph.edges, lambda f: f.edge_type).items():
        name = edge_text(edge_type)
        for end in (edge_type[0], edge_type[2]):
            if end not in nodes:
                raise BadData("EMPTY_GRAPH", f"edge type {quoted(name)} needs {quoted(end)} nodes; there are none")
        features = _features(edge_files, name)
        label_configs = tuple(dict.fromkeys(c for f in edge_files for c in f.labels))
        ends = (nodes[edge_type[0]], nodes[edge_type[2]])
        edge_table = read_edges(source, edge_files, features, [c.column for c in label_configs], ends)
        truth: npt.NDArray[np.float32] | None = None
        split = np.full(len(edge_table.source), Split.NONE, dtype=np.uint8)
        for config in label_configs:
            truth, split = _split(source, config, edge_type, edge_table, ends, seed)
            targets.append(_target(config, edge_type, truth, split))
            log(f"{name}.{config.column}: {describe_split(split)}")
        if features:
            log(
                f"note: {name}: the engine does not use edge features yet ({', '.join(f.name for f in features)[:200]})"
            )
        edge_set, encoders = _encode_edges(edge_type, edge_table, features, truth, split)
        edges.append(edge_set)
        if encoders:
            edge_encoders.append(EdgeEncoders(edge=edge_type, encoders=encoders))
        log(f"{name}: {len(edge_set)} edges")
    graph = EncodedGraph(tuple(nodes.values()), tuple(edges), tuple(targets))
    FeatureBook(nodes=node_encoders, edges=tuple(edge_encoders)).save(target / FEATURES_FILE)
    write_hpo(target, spec.model.name, spec.model.hyperparameters)
    graph.save(target)
    return graph


def _check_labels(nodes: Iterable[NodeFileConfig], edges: Iterable[EdgeFileConfig]) -> None:
    """Regression of edge properties is what the engine trains; exactly one property."""
    found = [("node", n.file_name, label) for n in nodes for label in n.labels]
    found += [("edge", e.file_name, label) for e in edges for label in e.labels]
    for kind, name, label in found:
        if kind == "node" or label.task != "regression":
            raise BadData(
                "UNSUPPORTED_TARGET",
                f"{name}: {kind} {label.task} is not supported; use regression of an edge property",
            )
    wanted = {(e.edge_type, label.column) for e in edges for label in e.labels}
    if len(wanted) != 1:
        code = "NO_TARGET" if not wanted else "UNSUPPORTED_TARGET"
        raise BadData(code, f"the configuration names {len(wanted)} labels; it needs exactly one, on an edge type")


def _features(files: Sequence[NodeFileConfig | EdgeFileConfig], type_name: str) -> tuple[FeatureConfig, ...]:
    """Features of all files of a type, each once; of edges, those that are `ON_EDGES`."""
    on_edges = any(isinstance(file, EdgeFileConfig) for file in files)
    features = []
    for feature in dict.fromkeys(f for file in files for f in file.features):
        if on_edges and feature.kind not in ON_EDGES:
            log(f"note: {type_name}.{feature.column}: type {feature.kind} is left out on edges")
        else:
            features.append(feature)
    return tuple(features)


def _encode_nodes(
    label: str, table: NodeTable, features: tuple[FeatureConfig, ...], spec: PipelineSpec
) -> tuple[NodeSet, tuple[FittedEncoder, ...]]:
    def owner(row: int) -> str:
        return f", node {quoted(table.ids[row].as_py())}"

    places = {f.property: f"features[{i}] of the spec" for i, f in enumerate(spec.features) if f.node == label}
    encoded = _encode(table.columns, features, None, table.rows, len(table.ids), owner, (label, places))
    return NodeSet(label, table.ids, encoded.matrix, encoded.names), encoded.encoders


def _encode_edges(
    edge_type: tuple[str, str, str],
    table: EdgeTable,
    features: tuple[FeatureConfig, ...],
    label: npt.NDArray[np.float32] | None,
    split: SplitArray,
) -> tuple[EdgeSet, tuple[FittedEncoder, ...]]:
    """Edge encoders of a type with a target learn from training edges alone."""
    training = None if label is None else split == Split.TRAIN
    encoded = _encode(
        table.columns, features, training, table.rows, len(table.source), lambda row: "", (edge_text(edge_type), {})
    )
    matrix = encoded.matrix if features else None
    edges = EdgeSet(
        *edge_type,
        source=table.source,
        dest=table.dest,
        split=split,
        label=label,
        features=matrix,
        feature_names=encoded.names,
    )
    return edges, encoded.encoders


@dataclass(frozen=True, slots=True)
class _Encoded:
    matrix: npt.NDArray[np.float32]
    names: tuple[str, ...]
    encoders: tuple[FittedEncoder, ...]


def _encode(
    columns: pa.Table,
    features: tuple[FeatureConfig, ...],
    training: npt.NDArray[np.bool_] | None,
    rows: Rows,
    count: int,
    owner: Callable[[int], str],
    names: tuple[str, Mapping[str, str]],
) -> _Encoded:
    """Fit an encoder per feature on the `training` rows (None: all), then encode all `count` rows.

    For errors: `owner` names a row's node; `names` are the type and, by property, the feature's place in the spec.
    """
    encoders: list[FittedEncoder] = []
    blocks = []
    fitted_rows = None if training is None else np.flatnonzero(training)
    for feature in features:
        values = columns[feature.column]
        try:
            encoder = _fit(feature, values, fitted_rows, _export_folder(rows))
            blocks.append(encoder.transform(values))
        except BadValue as bad:
            place = names[1].get(feature.column, "not named in the spec, used by itself")
            name = f"{names[0][:120]}.{feature.column[:80]} ({place})"
            raise rows.bad_data(bad, name, owner(bad.row)) from None
        except UnusableColumn as error:
            place = names[1].get(feature.column, "not named in the spec, used by itself")
            raise BadData(error.code, f"{names[0][:120]}.{feature.column[:80]} ({place}): {error.problem}") from None
        encoders.append(encoder)
    columns_made = tuple(name for encoder in encoders for name in encoder.names)
    return _Encoded(side_by_side(blocks, count), columns_made, tuple(encoders))


def _fit(
    feature: FeatureConfig, values: pa.ChunkedArray, fitted_rows: npt.NDArray[np.int64] | None, folder: Path
) -> FittedEncoder:
    if fitted_rows is None:
        return fit_encoder(feature, values, folder=folder)
    try:
        return fit_encoder(feature, values.take(pa.array(fitted_rows)), folder=folder)
    except BadValue as bad:
        raise BadValue(int(fitted_rows[bad.row]), bad.value, bad.problem, bad.code) from None


def _export_folder(rows: Rows) -> Path:
    """The export: the path of one of its files is that folder and the file's name."""
    return rows.paths[0].parents[len(Path(rows.names[0]).parts) - 1]


def _split(
    folder: Path,
    config: LabelConfig,
    edge_type: tuple[str, str, str],
    table: EdgeTable,
    ends: tuple[NodeSet, NodeSet],
    seed: int,
) -> tuple[npt.NDArray[np.float32], SplitArray]:
    label = table.labels[config.column]
    name = f"{edge_text(edge_type)}.{config.column}"
    if config.custom_split_filenames is not None:
        edges = LabelledEdges(edge_type, config.column, ends[0], ends[1], table.source, table.dest, label)
        split, label = split_by_files(folder, config.custom_split_filenames, edges)
    else:
        labelled = ~np.isnan(label)
        if not labelled.any():
            raise BadData("NO_LABELS", f"no edge has a value for {quoted(name)}")
        split = split_by_rate(labelled, config.split_rate or DEFAULT_SPLIT_RATE, seed, edge_type)
    if not (split == Split.TRAIN).any():
        raise BadData("NO_TRAINING_EDGES", f"the split of {quoted(name)} leaves no edge for training")
    return label, split


def _target(
    config: LabelConfig, edge_type: tuple[str, str, str], label: npt.NDArray[np.float32], split: SplitArray
) -> Target:
    known = label[split == Split.TRAIN]
    return Target(
        edge=edge_type,
        property=config.column,
        type="regression",
        label_min=float(known.min()),
        label_max=float(known.max()),
    )


def _by_type(files: Iterable[FileT], key: Callable[[FileT], KeyT]) -> dict[KeyT, list[FileT]]:
    """Files by type, types in the order in which they first occur."""
    groups: dict[KeyT, list[FileT]] = {}
    for file in files:
        groups.setdefault(key(file), []).append(file)
    return groups


def _seed(spec: PipelineSpec) -> int:
    """The spec's hyperparameter `seed`, or its default."""
    entry = HYPERPARAMETERS[spec.model.name]["seed"]
    try:
        return int(entry.parse(as_text(spec.model.hyperparameters.get("seed", 0))) or 0)
    except ValueError as error:
        raise BadData("BAD_HYPERPARAMETERS", f"model.hyperparameters.seed: {error}") from None
