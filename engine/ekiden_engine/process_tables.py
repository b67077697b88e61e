"""Reading an exported graph, file by file, as its `training-data-configuration.json` says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.base import DocumentError
from ekiden.contracts.training_data import (
    CONFIGURATION_FILE,
    EdgeFileConfig,
    FeatureConfig,
    NodeFileConfig,
    TrainingDataConfiguration,
    parse_training_data,
)
from ekiden_engine.csv_stream import line_of, read_header, stream_csv
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import NodeSet
from ekiden_engine.mapping import to_indices
from ekiden_engine.numbers import BadValue
from ekiden_engine.process_labels import LabelColumn
from ekiden_engine.progress import RowProgress
from ekiden_engine.string_index import StringIndex, string_hashes, surely_distinct


def read_configuration(folder: Path) -> TrainingDataConfiguration:
    """Read the export's configuration. Raises `BadData` NO_CONFIGURATION or BAD_CONFIGURATION."""
    path = folder / CONFIGURATION_FILE
    if not path.is_file():
        raise BadData("NO_CONFIGURATION", f"the export has no {CONFIGURATION_FILE}")
    try:
        configuration = parse_training_data(path.read_bytes())
    except DocumentError as error:
        raise BadData("BAD_CONFIGURATION", f"{CONFIGURATION_FILE}: {str(error)[:700]}") from error
    if configuration.query_engine != "gremlin" or any(e.relation[0] for e in configuration.graph.edges):
        raise BadData(
            "BAD_CONFIGURATION",
            f"{CONFIGURATION_FILE} describes RDF triples; export the graph as a property graph (export-pg)",
        )
    return configuration


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one type, over all of its files: what an error needs to say where a row came from."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    separators: tuple[str, ...]
    starts: tuple[int, ...]

    def at(self, row: int) -> str:
        """`file:line` of a row."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        line = line_of(self.paths[index], row - self.starts[index], self.separators[index])
        return f"{self.names[index]}:{line}"

    def bad_data(self, bad: BadValue, name: str, owner: str = "") -> BadData:
        """The error for a value that could not be used; `name` says which property it is, in the user's words
        (`user.age (features[0] of the spec)`), `owner` which node."""
        found = "it" if bad.value is None else quoted(bad.value)
        return BadData(bad.code, f"{name}{owner}: {found} is {bad.problem} (in the export: {self.at(bad.row)})")


@dataclass(frozen=True, slots=True)
class NodeTable:
    """Nodes of one type: ids, and the columns that features and labels need, as strings."""

    ids: pa.StringArray
    columns: pa.Table
    rows: Rows


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """Edges of one type: node indices int32 [E], and the columns that features need, as strings."""

    source: npt.NDArray[np.int32]
    dest: npt.NDArray[np.int32]
    columns: pa.Table
    rows: Rows


def read_nodes(
    folder: Path,
    files: Sequence[NodeFileConfig],
    features: Iterable[FeatureConfig],
    labels: Mapping[str, LabelColumn],
) -> NodeTable:
    """Read all files of one node type; `labels`, by column, are filled.

    Raises `BadData` (also DUPLICATE_ID, MISSING_VALUE, EMPTY_GRAPH, NOT_A_NUMBER for labels).
    """
    columns = list(dict.fromkeys([*(f.column for f in features), *labels]))
    tables, starts = [], []
    count = 0
    progress = _progress(folder, files, files[0].node[1])
    for file in files:
        starts.append(count)
        for table in _stream(folder, file, [file.node[0], *columns], progress):
            tables.append(table.rename_columns(["\0id", *columns]))
            count += table.num_rows
    label = files[0].node[1]
    if not count:
        raise BadData("EMPTY_GRAPH", f"node type {quoted(label)} has no rows in {files[0].file_name}")
    joined = pa.concat_tables(tables)
    ids, rows = joined["\0id"], _rows(folder, files, starts)
    for column, found in labels.items():
        _append(found, joined[column], f"{label[:120]}.{column[:80]}", rows)
    if ids.null_count:
        row = ids.is_null().index(True).as_py()
        raise BadData("MISSING_VALUE", f"{rows.at(row)}: {files[0].node[0]} is empty")
    if not surely_distinct(string_hashes(ids)) and len(distinct := ids.unique()) != len(ids):
        positions = to_indices(ids, distinct)
        # Row r of a repeat-free column is the r-th new id; the first row that is not is the first repeat.
        row = int(np.flatnonzero(positions != np.arange(len(ids)))[0])
        raise BadData("DUPLICATE_ID", f"{rows.at(row)}: node {quoted(ids[row].as_py())} is there twice")
    return NodeTable(pa.concat_arrays(ids.chunks), joined.drop_columns(["\0id"]), rows)


def read_edges(
    folder: Path,
    files: Sequence[EdgeFileConfig],
    features: Iterable[FeatureConfig],
    labels: Mapping[str, LabelColumn],
    ends: tuple[NodeSet, NodeSet],
) -> EdgeTable:
    """Read all files of one edge type, some rows at a time, and look the ends up in `ends` (source,
    destination); `labels`, by column, are filled.

    Raises `BadData` (also DANGLING_EDGE, NOT_A_NUMBER for labels).
    """
    columns = list(dict.fromkeys(f.column for f in features))
    starts: list[int] = []
    sources: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    dests: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    kept: list[pa.Table] = []
    count = 0
    names = ["\0from", "\0to", *columns, *(f"\0{c}" for c in labels)]
    progress = _progress(folder, files, "-".join(files[0].edge_type))
    first = StringIndex(ends[0].ids)
    indexes = first, (first if ends[1] is ends[0] else StringIndex(ends[1].ids))
    for index, file in enumerate(files):
        starts.append(count)
        rows = _rows(folder, files[: index + 1], starts)
        wanted = [file.source[0], file.dest[0], *columns, *labels]
        for table in _stream(folder, file, wanted, progress):
            # A property may be label and feature input at once: columns are told apart by position.
            part = pa.Table.from_arrays([table[c] for c in wanted], names=names)
            source, dest = (indexes[i].find(part[names[i]]) for i in (0, 1))
            _check_ends(source, dest, part, count, rows, file)
            sources.append(source)
            dests.append(dest)
            kept.append(part.select(columns))
            for column, found in labels.items():
                _append(found, part[f"\0{column}"], f"{'-'.join(file.edge_type)[:120]}.{column[:80]}", rows)
            count += table.num_rows
    empty = pa.table({c: pa.array([], pa.string()) for c in columns})
    return EdgeTable(
        np.concatenate(sources),
        np.concatenate(dests),
        pa.concat_tables(kept) if kept else empty,
        _rows(folder, files, starts),
    )


def _append(label: LabelColumn, values: pa.ChunkedArray, name: str, rows: Rows) -> None:
    try:
        label.append(values)
    except BadValue as bad:
        raise rows.bad_data(bad, f"{name} (a target of the spec)") from None


def _check_ends(
    source: npt.NDArray[np.int32],
    dest: npt.NDArray[np.int32],
    part: pa.Table,
    start: int,
    rows: Rows,
    file: EdgeFileConfig,
) -> None:
    bad = np.flatnonzero((source < 0) | (dest < 0))
    if not len(bad):
        return
    row = int(bad[0])
    position, (column, label) = (0, file.source) if source[row] < 0 else (1, file.dest)
    raise BadData(
        "DANGLING_EDGE",
        f"{rows.at(start + row)}: {column} {quoted(part[position][row].as_py())} is no {label[:80]} node "
        f"({len(bad)} such edges among {part.num_rows} rows)",
    )


def _progress(folder: Path, files: Sequence[NodeFileConfig | EdgeFileConfig], name: str) -> RowProgress:
    paths = {folder / file.file_name for file in files}
    return RowProgress(f"reading {name[:120]}", sum(path.stat().st_size for path in paths if path.is_file()))


def _stream(
    folder: Path, file: NodeFileConfig | EdgeFileConfig, columns: Sequence[str], progress: RowProgress
) -> Iterator[pa.Table]:
    path = _inside(folder, file.file_name)
    header = read_header(path, file.file_name, file.separator)
    missing = [c for c in columns if c not in header]
    if missing:
        known = ", ".join(quoted(c) for c in header[:12])
        raise BadData("MISSING_COLUMN", f"{file.file_name}:1: no column {quoted(missing[0])}; it has {known}")
    # A column may be asked for twice (label and feature); Arrow wants each once.
    return stream_csv(path, file.file_name, list(dict.fromkeys(columns)), file.separator, progress=progress)


def _inside(folder: Path, name: str) -> Path:
    """The file that a configuration names; the name is taken literally (`%28` is no escape)."""
    path = folder / name
    if name.startswith("/") or ".." in Path(name).parts or not path.is_file():
        raise BadData("NO_FILES", f"{CONFIGURATION_FILE} names {quoted(name)}, which the export does not hold")
    return path


def _rows(folder: Path, files: Sequence[NodeFileConfig | EdgeFileConfig], starts: Sequence[int]) -> Rows:
    paths = tuple(folder / file.file_name for file in files)
    names, separators = tuple(f.file_name for f in files), tuple(f.separator for f in files)
    return Rows(paths, names, separators, tuple(starts))
