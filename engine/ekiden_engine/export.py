"""`export`: Gremlin CSV files become Neptune-Export's layout, checked on the way.

Output: `nodes/<Label>.consolidated.csv`, `edges/%28<Src>%29-<edge>-%28<Dst>%29.consolidated.csv` (the `%28`
is part of the name), `training-data-configuration.json`, `stats.json`, and copies of the custom split files.

Files stream through in blocks. Held in memory: vertex ids with a type each, edge ids (to find repeats), one
block, and rows sorted by type up to a limit, beyond which they wait on disk.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ekiden.contracts.spec import PipelineSpec
from ekiden.contracts.training_data import CONFIGURATION_FILE
from ekiden_engine.duplicates import IdColumn, Place
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.export_config import (
    SPLITS_FOLDER,
    GraphShape,
    build_configuration,
    check_spec,
    split_files,
)
from ekiden_engine.features.vectors_file import copy_vectors, vectors_files
from ekiden_engine.graph_stats import EdgeType, TypeStats, edge_text, stats_document
from ekiden_engine.gremlin_csv import FROM, ID, LABEL, TO, GremlinFile, find_files
from ekiden_engine.log import log
from ekiden_engine.manifest import write_manifest
from ekiden_engine.mapping import file_stems
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.numbers import BadValue, parse_numbers
from ekiden_engine.progress import RowProgress
from ekiden_engine.spec_file import read_spec
from ekiden_engine.spool import TypeSpool, group_rows
from ekiden_engine.string_index import StringIndex

K = TypeVar("K", bound=str | EdgeType)

Numbers = Mapping[str | EdgeType, Sequence[str]]
"""Properties of a node or edge type that are to be predicted as numbers."""

SPOOL_BYTES = 256 << 20
"""Rows of vertices, and of edges, held in memory before they go to disk."""

DEFAULT_VERTEX_LABEL = "vertex"
"""What Neptune gives a vertex that has no label."""


def run(root: MlRoot) -> None:
    """Export the processing input `graph`, as `spec` asks, into the processing output `export`."""
    spec = read_spec(root.processing_input("spec"))
    export_graph(root.processing_input("graph"), root.processing_output("export"), spec)


def export_graph(source: Path, target: Path, spec: PipelineSpec) -> GraphShape:
    """Check and convert the graph in `source`; return what it holds.

    Raises `BadData`: NO_FILES, BAD_CSV, BAD_HEADER, MISSING_COLUMN, MISSING_VALUE, NOT_A_NUMBER, EMPTY_GRAPH,
    DUPLICATE_ID, DANGLING_EDGE, UNKNOWN_LABEL, UNKNOWN_PROPERTY, NO_SPLIT_FILE, NO_VECTORS_FILE.
    """
    splits = split_files(spec)
    files = find_files(source, exclude=[*splits, *vectors_files(spec).values()])
    vertex_files = [f for f in files if not f.is_edges]
    edge_files = [f for f in files if f.is_edges]
    log(f"found {len(vertex_files)} vertex files and {len(edge_files)} edge files")
    for folder in ("nodes", "edges"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    with TypeSpool[str](SPOOL_BYTES) as node_rows, TypeSpool[EdgeType](SPOOL_BYTES) as edge_rows:
        numbers = _numbers_to_predict(spec)
        progress = RowProgress("reading the graph", sum(file.path.stat().st_size for file in files))
        vertices = _Vertices(node_rows, numbers, progress)
        for file in vertex_files:
            vertices.add(file)
        if not len(vertices.ids):
            raise BadData("EMPTY_GRAPH", f"the graph has no vertex ({len(vertex_files)} vertex files, no rows)")
        vertices.ids.check_distinct()
        log(f"{len(vertices.ids)} vertices of {len(vertices.stats)} types")
        edges = _Edges(vertices, edge_rows, numbers, progress)
        for file in edge_files:
            edges.add(file)
        edges.finish()
        log(f"{len(edges.ids)} edges of {len(edges.stats)} types")
        shape = GraphShape(vertices.stats, edges.stats)
        check_spec(spec, shape)
        progress = RowProgress("writing the export", len(vertices.ids) + len(edges.ids))
        node_names = _write_all(target, "nodes", node_rows, shape.nodes, (ID, LABEL), progress)
        edge_names = _write_all(target, "edges", edge_rows, shape.edges, (ID, LABEL, FROM, TO), progress)
    for name in splits:
        _copy_split(source, target, name)
    copy_vectors(source, target, spec)
    configuration = build_configuration(spec, shape, node_names, edge_names)
    for warning in configuration.warnings:
        log(f"note: {warning}")
    (target / CONFIGURATION_FILE).write_text(configuration.to_json(), "utf-8")
    stats = json.dumps(stats_document(shape.nodes, shape.edges), indent=1, ensure_ascii=False)
    (target / "stats.json").write_text(stats + "\n", "utf-8")
    write_manifest(target)  # Neptune-Export has none; ours vouches for the files when a later retry reuses them
    return shape


class _Vertices:
    """Reads vertex files: rows to the spool by label; every id with the number of its label."""

    def __init__(self, spool: TypeSpool[str], numbers: Numbers, progress: RowProgress) -> None:
        self.ids = IdColumn("vertex")
        self.stats: dict[str, TypeStats] = {}
        self.labels: list[str] = []
        self._spool = spool
        self._numbers = numbers
        self._progress = progress
        self._codes: list[npt.NDArray[np.int64]] = []

    def add(self, file: GremlinFile) -> None:
        for record, table in file.tables(self._progress):
            self.ids.add(table[ID], Place(file, record))
            codes = self._label_codes(table[LABEL])
            self._codes.append(codes)
            for code, rows in group_rows(table, codes):
                label = self.labels[code]
                if (numbers := self._numbers.get(label)) is not None:
                    _check_numbers(numbers, file, record, table, codes == code)
                stats = self.stats.setdefault(label, TypeStats())
                self._spool.add(label, stats.add(rows, file.properties))

    def codes(self) -> npt.NDArray[np.int64]:
        """Number of each vertex's label in `labels`, in the order of `ids`."""
        return np.concatenate(self._codes)

    def _label_codes(self, column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        encoded = pc.fill_null(column, DEFAULT_VERTEX_LABEL).combine_chunks().dictionary_encode()
        known = {label: code for code, label in enumerate(self.labels)}
        translated = []
        for text in encoded.dictionary.to_pylist():
            label = _normal_label(text)
            if label not in known:
                known[label] = len(self.labels)
                self.labels.append(label)
            translated.append(known[label])
        codes: npt.NDArray[np.int64] = np.asarray(translated, dtype=np.int64)[encoded.indices.to_numpy()]
        return codes


class _Edges:
    """Reads edge files: both ends looked up, rows to the spool by (source type, relation, destination
    type)."""

    def __init__(
        self, vertices: _Vertices, spool: TypeSpool[EdgeType], numbers: Numbers, progress: RowProgress
    ) -> None:
        self.ids = IdColumn("edge")
        self.stats: dict[EdgeType, TypeStats] = {}
        self._index = StringIndex(vertices.ids.all())
        self._vertex_codes = vertices.codes()
        self._labels = vertices.labels
        self._spool = spool
        self._numbers = numbers
        self._progress = progress
        self._dangling = 0
        self._first_dangling = ""

    def add(self, file: GremlinFile) -> None:
        for record, table in file.tables(self._progress):
            if not file.has_ids:
                table = table.append_column(ID, pa.nulls(table.num_rows, pa.string()))
            self.ids.add(table[ID], Place(file, record))
            source, dest = self._index.find(table[FROM]), self._index.find(table[TO])
            if min(source.min(initial=0), dest.min(initial=0)) < 0:
                self._note_dangling(file, record, table, source, dest)
                continue
            if not self._dangling:
                self._sort(file, record, table, self._vertex_codes[source], self._vertex_codes[dest])

    def finish(self) -> None:
        """Raise what can only be said at the end: DANGLING_EDGE, EMPTY_GRAPH, DUPLICATE_ID."""
        if self._dangling:
            raise BadData(
                "DANGLING_EDGE",
                f"{self._dangling} edge{'s' if self._dangling > 1 else ''} with an end that is no vertex; "
                f"first {self._first_dangling}. Add the vertices or drop the edges",
            )
        if not len(self.ids):
            raise BadData("EMPTY_GRAPH", "the graph has vertices but no edge: give edge files with ~from,~to,~label")
        self.ids.check_distinct()

    def _note_dangling(
        self,
        file: GremlinFile,
        record: int,
        table: pa.Table,
        source: npt.NDArray[np.int32],
        dest: npt.NDArray[np.int32],
    ) -> None:
        bad = np.flatnonzero((source < 0) | (dest < 0))
        if not self._dangling:
            row = int(bad[0])
            column = FROM if source[row] < 0 else TO
            self._first_dangling = f"{file.at(record + row)}, {column} {quoted(table[column][row].as_py())}"
        self._dangling += len(bad)

    def _sort(
        self,
        file: GremlinFile,
        record: int,
        table: pa.Table,
        source: npt.NDArray[np.int64],
        dest: npt.NDArray[np.int64],
    ) -> None:
        relation = table[LABEL].combine_chunks().dictionary_encode()
        relations, kinds = relation.dictionary.to_pylist(), len(self._labels)
        codes = (relation.indices.to_numpy().astype(np.int64) * kinds + source) * kinds + dest
        for code, rows in group_rows(table, codes):
            edge_type = (
                self._labels[code // kinds % kinds],
                relations[code // kinds // kinds],
                self._labels[code % kinds],
            )
            if (numbers := self._numbers.get(edge_type)) is not None:
                _check_numbers(numbers, file, record, table, codes == code)
            stats = self.stats.setdefault(edge_type, TypeStats())
            self._spool.add(edge_type, stats.add(rows, file.properties))


def _numbers_to_predict(spec: PipelineSpec) -> Numbers:
    found: dict[str | EdgeType, list[str]] = {}
    for target in spec.predicts:
        kind = target.node or target.edge
        if target.type == "regression" and kind is not None and target.property is not None:
            found.setdefault(kind, []).append(target.property)
    return found


def _check_numbers(
    wanted: Sequence[str], file: GremlinFile, record: int, table: pa.Table, mask: npt.NDArray[np.bool_]
) -> None:
    """A property that is to be predicted as a number must be one, whatever type its column declares; `mask` tells the
    rows of the type."""
    for item in file.properties:
        if item.name in wanted:
            column = pc.if_else(pa.array(mask), table[item.name], None)
            try:
                parse_numbers(column, pa.float64(), finite=True)
            except BadValue as bad:
                raise file.not_a_number(bad, item, record) from None


def _normal_label(text: str) -> str:
    """`b;a` and `a;b` are one type: Neptune-Export sorts the labels of a vertex that has several."""
    return ";".join(sorted(text.split(";"))) if ";" in text else text


def _write_all(
    target: Path,
    folder: str,
    rows: TypeSpool[K],
    stats: Mapping[K, TypeStats],
    system: tuple[str, ...],
    progress: RowProgress,
) -> dict[K, str]:
    """Write a consolidated CSV file per type; return the path of each, relative to the export."""
    keys = rows.keys()
    texts = [key if isinstance(key, str) else edge_text(key) for key in keys]
    written = {}
    for key, stem in zip(keys, file_stems(texts), strict=True):
        written[key] = f"{folder}/{stem}.consolidated.csv"
        columns = (*system, *stats[key].properties)
        _write_csv(target / written[key], rows.tables(key), columns, progress)
    return written


def _write_csv(path: Path, tables: Iterator[pa.Table], columns: Sequence[str], progress: RowProgress) -> None:
    schema = pa.schema([(column, pa.string()) for column in columns])
    options = pacsv.WriteOptions(include_header=False, quoting_style="needed")
    with path.open("wb") as sink:
        # Arrow would put quotes around every header cell, which the exporter does not.
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns)
        sink.write(header.getvalue().encode())
        with pacsv.CSVWriter(sink, schema, write_options=options) as writer:
            for table in tables:
                present = set(table.column_names)
                empty = pa.nulls(table.num_rows, pa.string())
                arrays = [table[column] if column in present else empty for column in columns]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                progress.work(table.num_rows)
                progress.rows(table.num_rows)


def _copy_split(source: Path, target: Path, name: str) -> None:
    if not (source / name).is_file():
        raise BadData("NO_SPLIT_FILE", f"custom_split_filenames names {quoted(name)}, which graph.source does not hold")
    copy = target / SPLITS_FOLDER / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, copy)
