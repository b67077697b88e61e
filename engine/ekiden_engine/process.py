"""`process`: an exported graph becomes an encoded graph (see `ekiden_engine.graph`).

Reads the layout of Neptune-Export, ours or the service's own: node ids become row numbers, features become
numbers by encoders that are fitted here and kept, labelled rows are dealt out to training, validation and
test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.spec import PipelineSpec, edge_features_used
from ekiden.contracts.spec_features import ON_EDGES
from ekiden.contracts.training_data import EdgeFileConfig, FeatureConfig, NodeFileConfig
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features import FeatureBook, FittedEncoder, UnusableColumn, fit_encoder
from ekiden_engine.features.encoders import EdgeEncoders, side_by_side
from ekiden_engine.graph import EdgeSet, EdgeType, EncodedGraph, Labels, NodeSet, Split
from ekiden_engine.graph_files import FEATURES_FILE
from ekiden_engine.graph_stats import edge_text
from ekiden_engine.hpo_training import write_configuration
from ekiden_engine.log import log
from ekiden_engine.manifest import MANIFEST, check_manifest
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.neptune_files import write_training_recommendation
from ekiden_engine.numbers import BadValue
from ekiden_engine.process_tables import Rows, read_configuration, read_edges, read_nodes
from ekiden_engine.process_targets import TargetReader
from ekiden_engine.spec_file import read_spec
from ekiden_engine.splits import EdgeKeys, NodeKeys

FileT = TypeVar("FileT", NodeFileConfig, EdgeFileConfig)
KeyT = TypeVar("KeyT", bound=Hashable)


def run(root: MlRoot) -> None:
    """Encode the processing input `export`, as `spec` asks, into the processing output `processed`."""
    spec = read_spec(root.processing_input("spec"))
    scripts = root.processing_input("source")  # of a custom model; others have none
    process_graph(
        root.processing_input("export"),
        root.processing_output("processed"),
        spec,
        scripts=scripts if scripts.is_dir() else None,
    )


def process_graph(source: Path, target: Path, spec: PipelineSpec, *, scripts: Path | None = None) -> EncodedGraph:
    """Encode the export in `source`, write it to `target`, and return it. `scripts`: those of a custom model.

    Raises `BadData`: NO_CONFIGURATION, BAD_CONFIGURATION, NO_FILES, BAD_CSV, MISSING_COLUMN, MISSING_VALUE,
    EMPTY_GRAPH, DUPLICATE_ID, DANGLING_EDGE, CORRUPT_ARTIFACT; of labels and splits those of `TargetReader`; of
    features NOT_A_NUMBER, NOT_A_DATE, UNEVEN_VALUES, UNUSABLE_FEATURE, NO_TERMS, NO_VECTORS_FILE, BAD_VECTORS,
    MISSING_PACKAGE, NO_TEXT_MODEL; of a search NO_HPO_CONFIGURATION, BAD_HPO_CONFIGURATION.
    """
    target.mkdir(parents=True, exist_ok=True)
    if (source / MANIFEST).exists():  # an export of ours; Neptune-Export writes none
        check_manifest(source)
    configuration = read_configuration(source)
    reader = TargetReader(configuration.graph, spec, source)
    nodes: dict[str, NodeSet] = {}
    node_encoders: dict[str, tuple[FittedEncoder, ...]] = {}
    for label, node_files in _by_type(configuration.graph.nodes, lambda f: f.node[1]).items():
        nodes[label], node_encoders[label] = _nodes(source, label, node_files, reader, spec)
        log(f"{label}: {len(nodes[label])} nodes, {nodes[label].features.shape[1]} feature columns")
    edges, edge_encoders = [], []
    for edge_type, edge_files in _by_type(configuration.graph.edges, lambda f: f.edge_type).items():
        for end in (edge_type[0], edge_type[2]):
            if end not in nodes:
                name = edge_text(edge_type)
                raise BadData("EMPTY_GRAPH", f"edge type {quoted(name)} needs {quoted(end)} nodes; there are none")
        ends = (nodes[edge_type[0]], nodes[edge_type[2]])
        edge_set, encoders = _edges(source, edge_type, edge_files, ends, reader, spec)
        edges.append(edge_set)
        if encoders:
            edge_encoders.append(EdgeEncoders(edge=edge_type, encoders=encoders))
        log(f"{edge_text(edge_type)}: {len(edge_set)} edges")
    graph = EncodedGraph(tuple(nodes.values()), tuple(edges), reader.targets())
    FeatureBook(nodes=node_encoders, edges=tuple(edge_encoders)).save(target / FEATURES_FILE)
    write_configuration(target, spec, graph, scripts)
    write_training_recommendation(target, graph)
    graph.save(target)
    return graph


def _nodes(
    source: Path, label: str, files: Sequence[NodeFileConfig], reader: TargetReader, spec: PipelineSpec
) -> tuple[NodeSet, tuple[FittedEncoder, ...]]:
    columns = reader.columns(label)
    features = _features(files, label, columns)
    table = read_nodes(source, files, features, columns)

    def owner(row: int) -> str:
        return f", node {quoted(table.ids[row].as_py())}"

    bare = NodeSet(label, table.ids, np.zeros((len(table.ids), 0), np.float32), ())
    labels = reader.finish(label, NodeKeys(bare), columns)
    places = {f.property: f"features[{i}] of the spec" for i, f in enumerate(spec.features) if f.node == label}
    encoded = _encode(table.columns, features, _fitted_rows(labels), table.rows, len(table.ids), owner, (label, places))
    return NodeSet(label, table.ids, encoded.matrix, encoded.names, labels), encoded.encoders


def _edges(
    source: Path,
    edge_type: EdgeType,
    files: Sequence[EdgeFileConfig],
    ends: tuple[NodeSet, NodeSet],
    reader: TargetReader,
    spec: PipelineSpec,
) -> tuple[EdgeSet, tuple[FittedEncoder, ...]]:
    name = edge_text(edge_type)
    columns = reader.columns(edge_type)
    features = _features(files, name, columns)
    if features and not edge_features_used(spec.model.name, (t.node is not None for t in spec.predicts)):
        unused = ", ".join(f.name for f in features)[:200]
        log(f"note: {name}: left out, only targets on nodes use features of edges, by rgcn: {unused}")
        features = ()
    table = read_edges(source, files, features, columns, ends)
    keys = EdgeKeys(edge_type, ends, table.source, table.dest, relation=reader.relation(edge_type))
    labels = reader.finish(edge_type, keys, columns)
    places = {f.property: f"features[{i}] of the spec" for i, f in enumerate(spec.features) if f.edge == edge_type}
    count = len(table.source)
    encoded = _encode(table.columns, features, _fitted_rows(labels), table.rows, count, lambda row: "", (name, places))
    edges = EdgeSet(
        *edge_type,
        source=table.source,
        dest=table.dest,
        features=encoded.matrix if features else None,
        feature_names=encoded.names,
        labels=labels,
    )
    return edges, encoded.encoders


def _fitted_rows(labels: Sequence[Labels]) -> npt.NDArray[np.int64] | None:
    """Rows that encoders may learn from: all but those held out for validation or test. None: every row.

    Rows without a label are there at training time too, and text needs all it can get.
    """
    held_out = [np.isin(known.split, (Split.VALID, Split.TEST)) for known in labels if known.values is not None]
    if not held_out:
        return None
    return np.flatnonzero(~np.logical_or.reduce(held_out))


def _features(
    files: Sequence[NodeFileConfig | EdgeFileConfig], type_name: str, targets: Collection[str]
) -> tuple[FeatureConfig, ...]:
    """Features of all files of a type, each once; of edges, those that are `ON_EDGES`. What is to be predicted is no
    feature: nobody knows it of a row that is still to be predicted."""
    on_edges = any(isinstance(file, EdgeFileConfig) for file in files)
    features = []
    for feature in dict.fromkeys(f for file in files for f in file.features):
        if feature.column in targets:
            log(f"note: {type_name}.{feature.column}: is to be predicted, and so no feature")
        elif on_edges and feature.kind not in ON_EDGES:
            log(f"note: {type_name}.{feature.column}: type {feature.kind} is left out on edges")
        else:
            features.append(feature)
    return tuple(features)


@dataclass(frozen=True, slots=True)
class _Encoded:
    matrix: npt.NDArray[np.float32]
    names: tuple[str, ...]
    encoders: tuple[FittedEncoder, ...]


def _encode(
    columns: pa.Table,
    features: tuple[FeatureConfig, ...],
    fitted_rows: npt.NDArray[np.int64] | None,
    rows: Rows,
    count: int,
    owner: Callable[[int], str],
    names: tuple[str, Mapping[str, str]],
) -> _Encoded:
    """Fit an encoder per feature on `fitted_rows` (None: all), then encode all `count` rows.

    For errors: `owner` names a row's node; `names` are the type and, by property, the feature's place in the spec.
    """
    encoders: list[FittedEncoder] = []
    blocks = []
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


def _by_type(files: Iterable[FileT], key: Callable[[FileT], KeyT]) -> dict[KeyT, list[FileT]]:
    """Files by type, types in the order in which they first occur."""
    groups: dict[KeyT, list[FileT]] = {}
    for file in files:
        groups.setdefault(key(file), []).append(file)
    return groups
