"""Which labelled edges are for training, validation and test: by rates and a seed, or by files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiden.contracts.training_data import CustomSplitFiles
from ekiden_engine.csv_stream import line_of, read_header, stream_csv
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EdgeType, NodeSet, Split, SplitArray
from ekiden_engine.mapping import to_indices
from ekiden_engine.numbers import BadValue, to_float64

DEFAULT_SPLIT_RATE = (0.9, 0.1, 0.0)
"""Neptune-Export's default, for a configuration that names neither rates nor files."""


def split_by_rate(
    labelled: npt.NDArray[np.bool_], rate: tuple[float, float, float], seed: int, edge_type: EdgeType
) -> SplitArray:
    """Deal the labelled rows out by `rate`: uint8 [E] of `Split`, `NONE` for the others.

    The same rows, rates, seed and edge type always give the same split. Parts have the nearest whole sizes.
    """
    split = np.full(len(labelled), Split.NONE, dtype=np.uint8)
    rows = np.flatnonzero(labelled)
    generator = np.random.default_rng([seed, zlib.crc32("\0".join(edge_type).encode())])
    dealt = generator.permutation(rows)
    first, second = round(len(rows) * rate[0]), round(len(rows) * (rate[0] + rate[1]))
    split[dealt[:first]] = Split.TRAIN
    split[dealt[first:second]] = Split.VALID
    split[dealt[second:]] = Split.TEST
    return split


@dataclass(frozen=True, slots=True)
class LabelledEdges:
    """What a split by files needs to know of an edge type; `label` float32 [E] is NaN where there is none."""

    edge_type: EdgeType
    label_column: str
    source_ids: NodeSet
    dest_ids: NodeSet
    source: npt.NDArray[np.int32]
    dest: npt.NDArray[np.int32]
    label: npt.NDArray[np.float32]


def split_by_files(
    folder: Path, files: CustomSplitFiles, edges: LabelledEdges
) -> tuple[SplitArray, npt.NDArray[np.float32]]:
    """Assign edges by files of `~from,~to` pairs; a column named like the property overrides the exported
    label.

    Edges in no file get `Split.NONE`. A pair that several edges share assigns them all. Returns split and
    labels.

    Raises `BadData`: NO_SPLIT_FILE, MISSING_COLUMN, UNKNOWN_SPLIT_EDGE (a pair without an edge),
    SPLIT_OVERLAP (a pair in two files), UNLABELLED_SPLIT_EDGE, NOT_A_NUMBER.
    """
    width = max(len(edges.dest_ids), 1)
    pairs = edges.source.astype(np.int64) * width + edges.dest
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    split = np.full(len(pairs), Split.NONE, dtype=np.uint8)
    label = edges.label.copy()
    for part, name in ((Split.TRAIN, files.train), (Split.VALID, files.valid), (Split.TEST, files.test)):
        if name is None:
            continue
        part_file = _PartFile.read(folder, name, edges)
        wanted = part_file.source.astype(np.int64) * width + part_file.dest
        unknown = (part_file.source < 0) | (part_file.dest < 0)
        start, stop = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
        unknown |= start == stop
        if unknown.any():
            row = int(unknown.argmax())
            raise BadData(
                "UNKNOWN_SPLIT_EDGE",
                f"{part_file.at(row)}: {part_file.pair(row)} is no {edges.edge_type[1][:80]} edge "
                f"of the graph ({int(unknown.sum())} such rows)",
            )
        counts = stop - start
        owner = np.repeat(np.arange(len(wanted)), counts)
        hit = order[np.repeat(start - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))]
        taken = (split[hit] != Split.NONE) & (split[hit] != part)
        if taken.any():
            row = int(owner[taken.argmax()])
            other = Split(int(split[hit[taken.argmax()]])).name.lower()
            raise BadData("SPLIT_OVERLAP", f"{part_file.at(row)}: {part_file.pair(row)} is in the {other} file too")
        split[hit] = part
        if part_file.label is not None:
            given = part_file.label[owner]
            label[hit] = np.where(np.isnan(given), label[hit], given)
        bare = np.isnan(label[hit])
        if bare.any():
            row = int(owner[bare.argmax()])
            raise BadData(
                "UNLABELLED_SPLIT_EDGE",
                f"{part_file.at(row)}: {part_file.pair(row)} has no {edges.label_column[:80]}; "
                "fill it in the graph or in the split file",
            )
    return split, label


@dataclass(frozen=True, slots=True)
class _PartFile:
    """One split file: node indices (-1: unknown) and, if it has the column, labels."""

    path: Path
    name: str
    table: pa.Table
    source: npt.NDArray[np.int32]
    dest: npt.NDArray[np.int32]
    label: npt.NDArray[np.float32] | None

    @classmethod
    def read(cls, folder: Path, name: str, edges: LabelledEdges) -> _PartFile:
        path = folder / name
        if ".." in Path(name).parts or not path.is_file():
            raise BadData("NO_SPLIT_FILE", f"custom_split_filenames names {quoted(name)}, which is not in the export")
        header = [column.split(":")[0] for column in read_header(path, name)]
        if missing := [column for column in ("~from", "~to") if column not in header]:
            raise BadData("MISSING_COLUMN", f"{name}:1: a split of edges needs ~from,~to; {missing[0]} is missing")
        raw = read_header(path, name)
        wanted = [c for c in ("~from", "~to", edges.label_column) if c in header]
        chunks = list(stream_csv(path, name, [raw[header.index(c)] for c in wanted]))
        if not chunks:
            raise BadData("EMPTY_SPLIT_FILE", f"{name} has a header but no rows")
        table = pa.concat_tables(chunks).rename_columns(wanted)
        label = None
        if edges.label_column in wanted:
            try:
                label = to_float64(table[edges.label_column]).astype(np.float32)
            except BadValue as bad:
                where = f"{name}:{line_of(path, bad.row)}, column {quoted(edges.label_column)}"
                raise BadData(bad.code, f"{where}: {quoted(bad.value)} is {bad.problem}") from None
        source = to_indices(table["~from"], edges.source_ids.ids)
        dest = to_indices(table["~to"], edges.dest_ids.ids)
        return cls(path, name, table, source, dest, label)

    def at(self, row: int) -> str:
        return f"{self.name}:{line_of(self.path, row)}"

    def pair(self, row: int) -> str:
        return f"{quoted(self.table['~from'][row].as_py())} to {quoted(self.table['~to'][row].as_py())}"


def describe_split(split: SplitArray) -> str:
    """`800 train, 100 valid, 100 test, 0 in no part`, for the log."""
    sizes = [int(pc.sum(pc.equal(pa.array(split), int(part))).as_py() or 0) for part in Split]
    return ", ".join(
        f"{size} {part.name.lower() if part is not Split.NONE else 'in no part'}"
        for part, size in zip(Split, sizes, strict=True)
    )
