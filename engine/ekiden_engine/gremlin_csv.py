"""Gremlin CSV, the format of Neptune's bulk loader: which files there are and what their headers say.

https://docs.aws.amazon.com/neptune/latest/userguide/bulk-load-tutorial-format-gremlin.html

Vertex files have `~id` and `~label`, edge files `~from`, `~to`, `~label` and usually `~id`; other columns
are properties, `name:Type`, `name:Type(single|set|list)` or `name:Type[]`. Values of a set or list are
separated by `;` (`\\;` is a semicolon).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from ekiden_engine.csv_stream import line_of, read_header, stream_csv
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.numbers import BadValue, parse_numbers
from ekiden_engine.progress import RowProgress

ID, LABEL, FROM, TO = "~id", "~label", "~from", "~to"
SYSTEM_COLUMNS: Final = frozenset({ID, LABEL, FROM, TO})
ENDINGS: Final = (".csv", ".csv.gz")


class ValueType(StrEnum):
    """Property types, by the names that Neptune-Export writes into `stats.json`."""

    BOOLEAN = "Boolean"
    BYTE = "Byte"
    SHORT = "Short"
    INTEGER = "Integer"
    LONG = "Long"
    FLOAT = "Float"
    DOUBLE = "Double"
    STRING = "String"
    DATE = "Date"

    @property
    def is_number(self) -> bool:
        """Whether the type is a number."""
        return self in ARROW_NUMBERS


ARROW_NUMBERS: Final = {
    ValueType.BYTE: pa.int8(),
    ValueType.SHORT: pa.int16(),
    ValueType.INTEGER: pa.int32(),
    ValueType.LONG: pa.int64(),
    ValueType.FLOAT: pa.float64(),
    ValueType.DOUBLE: pa.float64(),
}
_HEADER_TYPES: Final = {value.lower(): value for value in ValueType} | {
    "bool": ValueType.BOOLEAN,
    "int": ValueType.INTEGER,
    "datetime": ValueType.DATE,
}
_PROPERTY: Final = re.compile(
    r"(?P<name>(?:\\:|[^:])+)(?::(?P<type>[A-Za-z]+)(?:\((?P<cardinality>single|set|list)\)|(?P<array>\[\]))?)?"
)


@dataclass(frozen=True, slots=True)
class Property:
    """A property column: its header as written, the property's name, its type, whether it holds several
    values."""

    header: str
    name: str
    type: ValueType
    multiple: bool


@dataclass(frozen=True, slots=True)
class GremlinFile:
    """One file: where it is, its name for messages (relative to the graph's folder), and what its header
    says."""

    path: Path
    name: str
    is_edges: bool
    has_ids: bool
    properties: tuple[Property, ...]

    def tables(self, progress: RowProgress | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Tables of strings in file order, each with the number of its first record (from 0).

        Property columns carry the property's name. Numbers are checked against their type and system columns
        for gaps. Raises `BadData` BAD_CSV, NOT_A_NUMBER, MISSING_VALUE.
        """
        needed = (FROM, TO, LABEL) if self.is_edges else (ID,)
        system = (ID, FROM, TO, LABEL) if self.is_edges else (ID, LABEL)
        columns = [c for c in system if c != ID or self.has_ids]
        record = 0
        wanted = [*columns, *(p.header for p in self.properties)]
        for raw in stream_csv(self.path, self.name, wanted, progress=progress):
            table = raw.rename_columns([*columns, *(p.name for p in self.properties)])
            for column in needed:
                self._check_present(table, column, record)
            for item in self.properties:
                self._check_type(table, item, record)
            yield record, table
            record += table.num_rows

    def at(self, record: int) -> str:
        """`file:line` of a data record (from 0)."""
        return f"{self.name}:{line_of(self.path, record)}"

    def check_numbers(self, column: pa.ChunkedArray, item: Property, kind: pa.DataType, record: int) -> None:
        """Raise `BadData` NOT_A_NUMBER unless every value of `column`, which starts at `record`, is a
        `kind`."""
        try:
            parse_numbers(column, kind)
        except BadValue as bad:
            raise self.not_a_number(bad, item, record) from None

    def not_a_number(self, bad: BadValue, item: Property, record: int) -> BadData:
        """The error for `bad`, found in a table that starts at `record`."""
        return BadData(
            "NOT_A_NUMBER",
            f"{self.at(record + bad.row)}, column {quoted(item.header)}: {quoted(bad.value)} is {bad.problem}",
        )

    def _check_present(self, table: pa.Table, column: str, record: int) -> None:
        values = table[column]
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise BadData("MISSING_VALUE", f"{self.at(record + row)}: {column} is empty")

    def _check_type(self, table: pa.Table, item: Property, record: int) -> None:
        if item.type.is_number and not item.multiple and table[item.name].null_count < table.num_rows:
            self.check_numbers(table[item.name], item, ARROW_NUMBERS[item.type], record)


def find_files(folder: Path, exclude: Collection[str] = ()) -> list[GremlinFile]:
    """All Gremlin CSV files below `folder`, sorted by name; `exclude` names (relative) files that are
    something else.

    Raises `BadData`: NO_FILES, BAD_CSV, BAD_HEADER, MISSING_COLUMN.
    """
    skipped = {PurePosixPath(name) for name in exclude}
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name.lower().endswith(ENDINGS)):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if name not in skipped:
            files.append(_describe(path, str(name)))
    if not files:
        raise BadData(
            "NO_FILES",
            "graph.source holds no .csv or .csv.gz file: put Gremlin CSV (vertex files with ~id,~label; "
            "edge files with ~id,~from,~to,~label) there",
        )
    return files


def _describe(path: Path, name: str) -> GremlinFile:
    header = read_header(path, name)
    present = SYSTEM_COLUMNS.intersection(header)
    is_edges = bool(present & {FROM, TO})
    required = (FROM, TO, LABEL) if is_edges else (ID, LABEL)
    missing = [column for column in required if column not in present]
    if missing:
        kind = "an edge file" if is_edges else "a vertex file"
        raise BadData(
            "MISSING_COLUMN",
            f"{name}:1: {kind} needs {', '.join(required)}; {', '.join(missing)} is missing "
            f"(found {', '.join(quoted(c) for c in header[:8])}). If the file is a split, name it in "
            "custom_split_filenames",
        )
    properties = []
    names: set[str] = set()
    for column in header:
        if column in SYSTEM_COLUMNS:
            continue
        item = _parse_property(column, name)
        if item.name in names:
            raise BadData("BAD_HEADER", f"{name}:1: property {quoted(item.name)} has two columns")
        names.add(item.name)
        properties.append(item)
    return GremlinFile(path, name, is_edges, ID in present, tuple(properties))


def _parse_property(column: str, name: str) -> Property:
    match = _PROPERTY.fullmatch(column)
    known = ", ".join(sorted({"Bool", "Int"} | {value.value for value in ValueType}))
    if column.startswith("~") or match is None:
        raise BadData(
            "BAD_HEADER",
            f"{name}:1: column {quoted(column)} is none of ~id, ~label, ~from, ~to and no property name:Type "
            f"(types: {known}; write a colon in a name as \\:)",
        )
    declared = match["type"] or "String"
    value_type = _HEADER_TYPES.get(declared.lower())
    if value_type is None:
        raise BadData(
            "BAD_HEADER",
            f"{name}:1: column {quoted(column)} has the unknown type {quoted(declared)}; use {known}",
        )
    # Neptune's default cardinality is set, yet a column that says nothing nearly always holds one value:
    # a semicolon in it is then text, as for Neptune, which takes only declared arrays apart.
    multiple = match["cardinality"] in ("set", "list") or match["array"] is not None
    return Property(column, match["name"].replace("\\:", ":"), value_type, multiple)
