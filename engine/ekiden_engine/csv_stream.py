"""CSV files as streams of Arrow tables of strings, and, when one is broken, the line where it breaks.

Everything is read as text: an export must hand values on unchanged, and a number that cannot be read is to be
reported with its file, line and column. Lines count from 1 and include the header, so an editor shows them.
"""

from __future__ import annotations

import csv
import gzip
import io
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from ekiden_engine.errors import BadData, quoted
from ekiden_engine.progress import RowProgress

BLOCK_BYTES = 8 << 20
"""Read at a time: the memory that a file of any size needs."""

READ_AHEAD = 2
"""Tables that wait, read, for who works on them."""

_MAX_FIELD = 64 << 20


def read_header(path: Path, name: str, separator: str = ",") -> list[str]:
    """Column names of a CSV file (gzip-compressed if it ends in `.gz`).

    Raises `BadData` BAD_CSV (no header, not UTF-8, not gzip) or BAD_HEADER (a name twice, an empty name).
    """
    try:
        with _text(path) as stream:
            header = next(csv.reader(stream, delimiter=separator), [])
    except (csv.Error, OSError, EOFError) as error:
        raise BadData("BAD_CSV", f"{name}:1: cannot read the header: {str(error)[:150]}") from error
    if any(map(_not_utf8, header)):
        raise BadData("BAD_CSV", f"{name}:1: not UTF-8 text; convert the file to UTF-8")
    if not any(header):
        raise BadData("BAD_CSV", f"{name} is empty: it needs a header line")
    seen: set[str] = set()
    for position, column in enumerate(header, start=1):
        if not column:
            raise BadData("BAD_HEADER", f"{name}:1: column {position} has no name")
        if column in seen:
            raise BadData("BAD_HEADER", f"{name}:1: column {quoted(column)} is there twice")
        seen.add(column)
    return header


def stream_csv(
    path: Path, name: str, columns: Sequence[str], separator: str = ",", *, progress: RowProgress | None = None
) -> Iterator[pa.Table]:
    """The named columns, as strings (null where empty), some thousand rows at a time in file order.

    Blank lines are skipped. A thread reads ahead. `progress` is told the bytes of the file and the rows. Raises
    `BadData` BAD_CSV with the line where the file breaks.
    """
    for table in _ahead(_tables(path, name, columns, separator, progress)):
        yield table
        if progress is not None:
            progress.rows(table.num_rows)


def _tables(
    path: Path, name: str, columns: Sequence[str], separator: str, progress: RowProgress | None
) -> Iterator[pa.Table]:
    types = {column: pa.string() for column in columns}
    try:
        with (
            _Counted(path, progress) as file,
            pa.input_stream(file, compression="gzip" if path.suffix == ".gz" else None) as stream,
            pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types=types,
                    include_columns=list(columns),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            ) as reader,
        ):
            for batch in reader:
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _explain(path, name, separator, str(error)) from error


class _Counted(io.FileIO):
    """A file that tells `progress` how many bytes were read."""

    def __init__(self, path: Path, progress: RowProgress | None) -> None:
        super().__init__(path)
        self._progress = progress

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(-1 if size is None else size)
        if self._progress is not None:
            self._progress.work(len(found))
        return found


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same tables, made by a thread while the caller works on the ones before: Arrow reads without the GIL."""
    ready: queue.Queue[pa.Table | BaseException | None] = queue.Queue(maxsize=READ_AHEAD)
    over = threading.Event()

    def read() -> None:
        end: BaseException | None = None
        try:
            for table in tables:
                ready.put(table)
                if over.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  it is raised where the tables are asked for
            end = error
        ready.put(end)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    item: pa.Table | BaseException | None = None
    try:
        while isinstance(item := ready.get(), pa.Table):
            yield item
    finally:
        over.set()
        while isinstance(item, pa.Table):  # given up in the middle: let the thread come to its end
            item = ready.get()
        thread.join()
    if item is not None:
        raise item


def line_of(path: Path, record: int, separator: str = ",") -> int:
    """Line on which data record number `record` (from 0, blank lines not counted) ends; only for messages."""
    with _text(path) as stream:
        reader = csv.reader(stream, delimiter=separator)
        for index, _ in enumerate(row for row in reader if row):
            if index == record + 1:
                return reader.line_num
    return record + 2


def _explain(path: Path, name: str, separator: str, reason: str) -> BadData:
    """Read the file again, slowly, to find the first line that the fast reader could not take."""
    line = 0
    try:
        with _text(path) as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            width = len(next(reader))
            for row in reader:
                line = reader.line_num
                if any(map(_not_utf8, row)):
                    return BadData("BAD_CSV", f"{name}:{line}: not UTF-8 text; convert the file to UTF-8")
                if row and len(row) != width:
                    return BadData(
                        "BAD_CSV",
                        f"{name}:{line}: {len(row)} values, the header has {width} columns "
                        f"(a value that holds {quoted(separator)} or a line break needs double quotes)",
                    )
    except csv.Error as error:
        return BadData("BAD_CSV", f"{name}:{line + 1}: {error} (quotes follow RFC 4180: double them inside a value)")
    except (OSError, EOFError) as error:
        return BadData("BAD_CSV", f"{name}: after line {line}: {str(error)[:150]}")
    return BadData("BAD_CSV", f"{name}: {reason[:150]}")


def _not_utf8(text: str) -> bool:
    """Whether decoding met bytes that are no UTF-8 (`surrogateescape` keeps them as lone surrogates)."""
    return any("\udc80" <= character <= "\udcff" for character in text)


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOBase]:
    csv.field_size_limit(_MAX_FIELD)
    with (
        gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        yield text
