"""Which labelled rows are for training, validation and test: by rates and a seed, or by files."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.training_data import CustomSplitFiles
from ekiden_engine.csv_stream import line_of, read_header, stream_csv
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EdgeType, Labels, NodeSet, Split, SplitArray
from ekiden_engine.mapping import to_indices
from ekiden_engine.numbers import BadValue
from ekiden_engine.process_labels import LabelColumn

DEFAULT_SPLIT_RATE = (0.9, 0.1, 0.0)
"""Neptune-Export's default, for a configuration that names neither rates nor files."""
RELATION_COLUMN = "~label"
"""In a split file that is about several edge types: which of them a row is of."""

RowNumbers = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def split_by_rate(
    labelled: BoolArray, rate: tuple[float, float, float], seed: int, subject: Sequence[str]
) -> SplitArray:
    """Deal the labelled rows out by `rate`: uint8 [n] of `Split`, `NONE` for the others.

    The same rows, rates, seed and subject (the names of the node or edge type) always give the same split. Parts have
    the nearest whole sizes, and training at least one row.
    """
    split = np.full(len(labelled), Split.NONE, dtype=np.uint8)
    rows = np.flatnonzero(labelled)
    generator = np.random.default_rng([seed, zlib.crc32("\0".join(subject).encode())])
    dealt = generator.permutation(rows)
    first, second = max(round(len(rows) * rate[0]), 1), round(len(rows) * (rate[0] + rate[1]))
    split[dealt[:first]] = Split.TRAIN
    split[dealt[first:second]] = Split.VALID
    split[dealt[max(first, second) :]] = Split.TEST
    return split


class Keys(Protocol):
    """How a row of a split file names rows of a node or edge type."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a split file must have."""

    @property
    def subject(self) -> str:
        """The node or edge type, for messages."""

    @property
    def relation(self) -> str | None:
        """The relation, if a split file may be about several edge types; else None."""

    def find(self, table: pa.Table) -> tuple[RowNumbers, RowNumbers]:
        """Rows that the file's rows name, and for each the position of the naming row in `table`."""

    def __len__(self) -> int:
        """Number of rows of the type."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeKeys:
    """Nodes by `~id`."""

    nodes: NodeSet
    columns: tuple[str, ...] = ("~id",)
    relation: str | None = None

    @property
    def subject(self) -> str:
        """See `Keys`."""
        return f"{self.nodes.label} node"

    def find(self, table: pa.Table) -> tuple[RowNumbers, RowNumbers]:
        """See `Keys`."""
        found = to_indices(table["~id"], self.nodes.ids).astype(np.int64)
        owner = np.flatnonzero(found >= 0)
        return found[owner], owner

    def __len__(self) -> int:
        """See `Keys`."""
        return len(self.nodes)


@dataclass(slots=True, eq=False)
class EdgeKeys:
    """Edges by `~from`, `~to`; a pair that several edges share names them all."""

    edge_type: EdgeType
    ends: tuple[NodeSet, NodeSet]
    source: npt.NDArray[np.int32]
    dest: npt.NDArray[np.int32]
    columns: tuple[str, ...] = ("~from", "~to")
    relation: str | None = None
    _order: RowNumbers | None = field(default=None, init=False)
    _ordered: RowNumbers | None = field(default=None, init=False)

    @property
    def subject(self) -> str:
        """See `Keys`."""
        return f"{self.edge_type[1]} edge"

    def find(self, table: pa.Table) -> tuple[RowNumbers, RowNumbers]:
        """See `Keys`."""
        width = max(len(self.ends[1]), 1)
        if self._order is None or self._ordered is None:
            pairs = self.source.astype(np.int64) * width + self.dest
            self._order = np.argsort(pairs, kind="stable")
            self._ordered = pairs[self._order]
        source, dest = (to_indices(table[c], end.ids) for c, end in zip(self.columns, self.ends, strict=True))
        wanted = np.where((source < 0) | (dest < 0), np.int64(-1), source.astype(np.int64) * width + dest)
        start = np.searchsorted(self._ordered, wanted, "left")
        counts = np.searchsorted(self._ordered, wanted, "right") - start
        owner = np.repeat(np.arange(len(wanted)), counts)
        offsets = np.repeat(start - np.cumsum(counts) + counts, counts)
        return self._order[offsets + np.arange(int(counts.sum()))], owner

    def __len__(self) -> int:
        """See `Keys`."""
        return len(self.source)


class SplitFiles:
    """The split files of an export; each is read once, however many edge types it is about."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the export."""
        self._folder = folder
        self._files: dict[str, _PartFile] = {}

    def assign(self, files: CustomSplitFiles, keys: Keys, label: LabelColumn, label_name: str) -> SplitArray:
        """Which part each row is in: uint8 [n]; rows in no file get `Split.NONE`.

        A column `label_name` in a file overrides the exported labels.

        Raises `BadData`: NO_SPLIT_FILE, MISSING_COLUMN, EMPTY_SPLIT_FILE, SPLIT_OVERLAP (a row in two files),
        UNLABELLED_SPLIT_ROW, NOT_A_NUMBER. Rows that name nothing are told by `finish`.
        """
        split = np.full(len(keys), Split.NONE, dtype=np.uint8)
        for part, name in ((Split.TRAIN, files.train), (Split.VALID, files.valid), (Split.TEST, files.test)):
            if name is None:
                continue
            file = self._file(name, keys)
            candidates = file.of(keys.relation)
            table = file.table if candidates is None else file.table.take(pa.array(candidates))
            rows, owner = keys.find(table)
            owner = owner if candidates is None else candidates[owner]
            file.matched[owner] = True
            taken = (split[rows] != Split.NONE) & (split[rows] != part)
            if taken.any():
                first = int(taken.argmax())
                other = Split(int(split[rows[first]])).name.lower()
                where = int(owner[first])
                raise BadData("SPLIT_OVERLAP", f"{file.at(where)}: {file.key(where, keys)} is in the {other} file too")
            split[rows] = part
            if label_name in file.table.column_names:
                self._override(file, label, rows, owner, label_name)
            bare = ~label.labelled()[rows]
            if bare.any():
                where = int(owner[int(bare.argmax())])
                raise BadData(
                    "UNLABELLED_SPLIT_ROW",
                    f"{file.at(where)}: {file.key(where, keys)} has no {label_name[:80]}; "
                    "fill it in the graph or in the split file",
                )
        return split

    def finish(self) -> None:
        """Raise `BadData` UNKNOWN_SPLIT_ROW if a row of a file names nothing in the graph."""
        for file in self._files.values():
            if not file.matched.all():
                row = int(file.matched.argmin())
                count = int((~file.matched).sum())
                raise BadData(
                    "UNKNOWN_SPLIT_ROW",
                    f"{file.at(row)}: {file.key(row)} is no {file.subject} of the graph ({count} such rows)",
                )

    def _override(self, file: _PartFile, label: LabelColumn, rows: RowNumbers, owner: RowNumbers, name: str) -> None:
        try:
            label.override(rows, file.table[name].take(pa.array(owner)))
        except BadValue as bad:
            where = f"{file.at(int(owner[bad.row]))}, column {quoted(name)}"
            raise BadData(bad.code, f"{where}: {quoted(bad.value or '')} is {bad.problem}") from None

    def _file(self, name: str, keys: Keys) -> _PartFile:
        if name not in self._files:
            self._files[name] = _PartFile.read(self._folder, name, keys)
        return self._files[name]


@dataclass(frozen=True, slots=True, eq=False)
class _PartFile:
    """One split file, all columns as text; `matched` bool [rows]: whether a row has named something."""

    path: Path
    name: str
    table: pa.Table
    subject: str
    key_columns: tuple[str, ...]
    matched: BoolArray
    by_relation: dict[str, RowNumbers] | None

    @classmethod
    def read(cls, folder: Path, name: str, keys: Keys) -> _PartFile:
        path = folder / name
        if ".." in Path(name).parts or not path.is_file():
            raise BadData("NO_SPLIT_FILE", f"custom_split_filenames names {quoted(name)}, which is not in the export")
        raw = read_header(path, name)
        header = [column.split(":")[0] for column in raw]
        if missing := [column for column in keys.columns if column not in header]:
            wanted = ",".join(keys.columns)
            raise BadData("MISSING_COLUMN", f"{name}:1: a split of {keys.subject}s needs {wanted}; no {missing[0]}")
        chunks = list(stream_csv(path, name, raw))
        if not chunks:
            raise BadData("EMPTY_SPLIT_FILE", f"{name} has a header but no rows")
        table = pa.concat_tables(chunks).rename_columns(header)
        by_relation = None
        if keys.relation is not None and RELATION_COLUMN in header:
            encoded = table[RELATION_COLUMN].combine_chunks().dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy()
            by_relation = {
                relation: np.flatnonzero(codes == code) for code, relation in enumerate(encoded.dictionary.to_pylist())
            }
        matched = np.zeros(table.num_rows, np.bool_)
        subject = keys.subject if by_relation is None else "edge"
        return cls(path, name, table, subject, keys.columns, matched, by_relation)

    def of(self, relation: str | None) -> RowNumbers | None:
        """The rows that may be about `relation`; None: all."""
        if relation is None or self.by_relation is None:
            return None
        return self.by_relation.get(relation, np.empty(0, np.int64))

    def at(self, row: int) -> str:
        return f"{self.name}:{line_of(self.path, row)}"

    def key(self, row: int, keys: Keys | None = None) -> str:
        columns = self.key_columns if keys is None else keys.columns
        return " to ".join(quoted(str(self.table[column][row].as_py())) for column in columns)


def describe_split(labels: Labels) -> str:
    """`800 train, 100 valid, 100 test, 0 in no part`, for the log."""
    counts = labels.counts()
    unused = counts.pop("unused")
    return ", ".join([f"{count} {name}" for name, count in counts.items()] + [f"{unused} in no part"])
