"""Read delimited files into Arrow string columns; say in which file and row something is wrong.

Everything is read as text first: identifiers such as ``0104257`` keep their leading zeros, and a wrong
number can be shown with its row.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

_SHOWN = 60
_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


class BadInput(ValueError):
    """A file that cannot be read: names the file, the row (1-based line) and what was expected."""


def shown(text: str) -> str:
    """Return at most 60 characters of untrusted text, quoted."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def read_text(path: Path) -> str:
    """Read UTF-8, or Latin-1 where the file is not UTF-8 (MovieLens 100K and 1M are Latin-1)."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_columns(path: Path, names: Sequence[str], *, delimiter: str, header: bool) -> dict[str, pa.Array]:
    """Read a large file column by column: ``{name: string array}``.

    ``delimiter`` may be ``::`` or one character. With ``header`` the columns are picked by the header's
    names (a missing one is an error); without it the file has exactly ``names``.
    """
    if not header and delimiter != ",":
        data = path.read_bytes().replace(delimiter.encode(), b"\x1f")
        source: Any = pa.BufferReader(data)
        parse = pacsv.ParseOptions(delimiter="\x1f", quote_char=False, invalid_row_handler=None)
    else:
        source = path
        parse = pacsv.ParseOptions(delimiter=delimiter)
    faults: list[tuple[int | None, int, int]] = []

    def bad_row(row: Any) -> str:
        faults.append((row.number, row.expected_columns, row.actual_columns))
        return "skip"

    parse.invalid_row_handler = bad_row
    read = pacsv.ReadOptions(
        column_names=None if header else list(names), encoding="utf8", use_threads=False, block_size=8 << 20
    )
    text = {name: pa.string() for name in (header_of(path, delimiter) if header else names)}
    if header and (missing := [name for name in names if name not in text]):
        raise BadInput(f"{path.name}, row 1: no column {', '.join(missing)}; the header has {', '.join(text)}"[:300])
    convert = pacsv.ConvertOptions(
        column_types=text, include_columns=list(names), strings_can_be_null=True, null_values=[""],
        quoted_strings_can_be_null=True,
    )  # fmt: skip
    try:
        table = pacsv.read_csv(source, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        reason = "the file is empty" if path.stat().st_size == 0 else str(error).splitlines()[0][:150]
        raise BadInput(f"{path.name}: {reason}") from None
    if faults:
        number, expected, actual = faults[0]
        more = f" ({len(faults)} such rows)" if len(faults) > 1 else ""
        where = f"row {number}" if number is not None else "a row"
        raise BadInput(f"{path.name}, {where}: {actual} fields where {expected} were expected{more}")
    return {name: table.column(name).combine_chunks() for name in names}


def read_records(path: Path, width: int, *, delimiter: str) -> list[list[str]]:
    """Read a small file without header into rows of exactly ``width`` fields.

    In a ``::`` file with a title that itself holds ``::`` the middle fields are joined again.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        # Not splitlines(): Latin-1 text may hold control characters that it takes for line ends.
        line = line.rstrip("\r")
        if not line.strip():
            continue
        fields = line.split(delimiter)
        if len(fields) > width and delimiter == "::" and width == 3:
            fields = [fields[0], delimiter.join(fields[1:-1]), fields[-1]]
        if len(fields) != width:
            raise BadInput(
                f"{path.name}, row {number}: {len(fields)} fields where {width} were expected: {shown(line)}"
            )
        rows.append(fields)
    return rows


def read_dict_rows(path: Path, names: Sequence[str]) -> list[list[str]]:
    """Read a small CSV with a header into rows of the columns ``names``."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    header = next(reader, [])
    missing = [name for name in names if name not in header]
    if missing:
        raise BadInput(f"{path.name}, row 1: no column {', '.join(missing)}; the header has {', '.join(header)}"[:300])
    at = [header.index(name) for name in names]
    rows = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise BadInput(f"{path.name}, row {reader.line_num}: {len(row)} fields where {len(header)} were expected")
        rows.append([row[k] for k in at])
    return rows


def numbers(path: Path, values: pa.Array, column: str, *, first_row: int, empty_ok: bool = False) -> pa.Array:
    """Parse text as float64; raise ``BadInput`` with the row of the first cell that is no number."""
    fine = pc.match_substring_regex(values, _NUMBER)
    if empty_ok:
        fine = pc.or_kleene(pc.is_null(values), fine)
    bad = pc.index(pc.fill_null(fine, False), False).as_py()
    if bad >= 0:
        cell = values[bad].as_py()
        found = "empty" if cell is None else shown(cell)
        raise BadInput(f"{path.name}, row {bad + first_row}: {column} is {found}, not a number")
    return pc.cast(values, pa.float64())


def present(path: Path, values: pa.Array, column: str, *, first_row: int) -> pa.Array:
    """Check that no identifier is empty; raise ``BadInput`` with the first row where one is."""
    if values.null_count:
        bad = pc.index(pc.is_null(values), True).as_py()
        raise BadInput(f"{path.name}, row {bad + first_row}: {column} is empty")
    return values


def header_of(path: Path, delimiter: str) -> list[str]:
    """Return the fields of the first line. Raises ``BadInput`` if that is no CSV."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as source:
        line = source.readline(65_536).decode("utf-8-sig", "replace")
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        raise BadInput(f"{path.name} does not begin with a line of CSV; is it text, with lines ended by LF?") from None
