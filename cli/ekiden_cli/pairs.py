"""Pairs to score: CSV or Parquet in, the API's canonical CSV up, result parts down, CSV or Parquet out.

Everything is streamed in Arrow batches: memory does not grow with the number of pairs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ekiden_cli.delimited import BadInput, header_of, shown
from ekiden_cli.errors import CliError, usage
from ekiden_cli.graph_checks import arrow_reason
from ekiden_cli.gremlin import join_rows
from ekiden_cli.storage import list_objects, split_uri, translated
from ekiden_cli.target import Target

COLUMNS = ("source", "target", "score", "status")
_BLOCK = 4 << 20
_LONGEST = 256 * 1024  # bytes of a line: what one message can hold
_AHEAD = 4  # result parts fetched before they are needed


def is_parquet(path: Path) -> bool:
    """Tell the format by the name's ending. Raises ``CliError`` for another ending than .csv and .parquet."""
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        return True
    if ending == ".csv":
        return False
    raise usage(f"{path.name[:80]} ends neither in .csv nor in .parquet", "the ending chooses the format")


def check_out(path: Path, pairs: Path | None = None) -> None:
    """Check before anything is scored that results can be written to ``path``. Raises ``CliError``."""
    is_parquet(path)
    if pairs is not None and path.exists() and path.samefile(pairs):
        raise usage(f"--out {path} is the file of the pairs: it would be overwritten", "choose another file")
    if path.is_dir():
        raise usage(f"--out {path} is a folder", "name a file, .csv or .parquet")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise usage(f"cannot write {path}: {folder} is no folder that you may write to", "choose another --out")


# -- pairs in


def canonical(pairs: Path, out: Path, *, source: str = "source", target: str = "target") -> int:
    """Write ``pairs`` as CSV with the header ``source,target``, one pair a line; return the number of pairs.

    ``source`` and ``target`` name the columns to take. Values of other types (numbers) are written as text;
    an empty one stays empty and is reported as *invalid* with its row's result. Raises ``BadInput`` with the
    row for an identifier with a line break, for a missing column, and for a file without pairs.
    """
    count = 0
    if source == target:
        raise BadInput(f"--source-column and --target-column are both {shown(source)}: a pair has two columns")
    first = 1 if is_parquet(pairs) else 2  # a CSV's header is its row 1
    with out.open("wb") as sink:
        sink.write(b"source,target\n")
        for left, right in _batches(pairs, source, target):
            for name, values in ((source, left), (target, right)):
                broken = pc.index(pc.fill_null(pc.match_substring_regex(values, "[\\r\\n]"), False), True).as_py()
                if broken >= 0:
                    raise BadInput(f"{pairs.name}, row {count + broken + first}: column {name} holds a line break")
            lengths = pc.add(pc.fill_null(pc.binary_length(left), 0), pc.fill_null(pc.binary_length(right), 0))
            long = pc.index(pc.greater(lengths, _LONGEST - 16), True).as_py()
            if long >= 0:
                raise BadInput(f"{pairs.name}, row {count + long + first}: longer than 256 KiB, these are no ids")
            sink.write(join_rows([left, right]))
            count += len(left)
    if not count:
        raise BadInput(f"{pairs.name} holds no pairs")
    return count


def _batches(pairs: Path, source: str, target: str) -> Iterator[tuple[pa.Array, pa.Array]]:
    reader = _parquet_batches if is_parquet(pairs) else _csv_batches
    for batch in reader(pairs, source, target):
        yield _text(pairs, batch, source), _text(pairs, batch, target)


def _text(pairs: Path, batch: pa.RecordBatch, column: str) -> pa.Array:
    values = batch.column(column)
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowException as error:
        kind = str(values.type)[:40]
        raise BadInput(f"{pairs.name}: column {column} ({kind}) is no text: {arrow_reason(error)}") from None


def _csv_batches(pairs: Path, source: str, target: str) -> Iterator[pa.RecordBatch]:
    header = header_of(pairs, ",")
    _check_columns(pairs, header, source, target)
    faults: list[Any] = []

    def bad_row(row: Any) -> str:
        faults.append(row)
        return "skip"

    parse = pacsv.ParseOptions(invalid_row_handler=bad_row, newlines_in_values=True)
    convert = pacsv.ConvertOptions(
        include_columns=[source, target], column_types={source: pa.string(), target: pa.string()}
    )
    read = pacsv.ReadOptions(block_size=_BLOCK, use_threads=False)
    try:
        with pacsv.open_csv(pairs, read_options=read, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                if faults:
                    break
                yield batch
    except pa.ArrowException as error:
        raise BadInput(f"{pairs.name}: {arrow_reason(error)}") from None
    if faults:
        row = faults[0]
        where = f"row {row.number}" if row.number else f"the row {shown(row.text)}"
        raise BadInput(f"{pairs.name}, {where}: {row.actual_columns} fields where the header has {len(header)}")


def _parquet_batches(pairs: Path, source: str, target: str) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(pairs) as file:
            _check_columns(pairs, file.schema_arrow.names, source, target)
            yield from file.iter_batches(batch_size=131_072, columns=[source, target])
    except pa.ArrowException as error:
        raise BadInput(f"{pairs.name}: {arrow_reason(error)}") from None


def _check_columns(pairs: Path, header: list[str], source: str, target: str) -> None:
    if not header:
        raise BadInput(f"{pairs.name} is empty: its first line has to name the columns, {source},{target}")
    if twice := [name for name in (source, target) if header.count(name) > 1]:
        raise BadInput(f"{pairs.name} has the column {twice[0]} twice")
    missing = [name for name in (source, target) if name not in header]
    if missing:
        raise BadInput(
            f"{pairs.name} has no column {' and '.join(missing)}; it has {', '.join(header)[:150]}. "
            f"Name them with --source-column and --target-column"
        )


# -- results out


class ResultWriter(AbstractContextManager["ResultWriter"]):
    """Writes results to CSV or Parquet, by the name's ending; the file appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._partial = path.with_name(path.name + ".partial")
        self._csv: BinaryIO | None = None
        self._parquet: pq.ParquetWriter | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_parquet(path):
            schema = pa.schema([(c, pa.float32() if c == "score" else pa.string()) for c in COLUMNS])
            self._parquet = pq.ParquetWriter(self._partial, schema)
        else:
            self._csv = self._partial.open("wb")
            self._csv.write((",".join(COLUMNS) + "\n").encode())

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch with the columns source, target, score and status, all text."""
        if self._parquet is not None:
            score = pc.cast(pc.if_else(pc.equal(batch.column("score"), ""), None, batch.column("score")), pa.float32())
            columns = [score if c == "score" else batch.column(c) for c in COLUMNS]
            self._parquet.write_batch(pa.record_batch(columns, schema=self._parquet.schema))
        elif self._csv is not None:
            self._csv.write(join_rows([batch.column(c) for c in COLUMNS]))
        self.rows += len(batch)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for sink in (self._parquet, self._csv):
            if sink is not None:
                sink.close()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self


def merge(
    target: Target,
    results: str,
    out: Path,
    *,
    expected: int,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Download the parts below ``results`` (an ``s3://`` prefix) to ``out`` in order; return the rows.

    Raises ``CliError`` if a part is not of the expected form or rows are missing: ``out`` is not written
    then.
    """
    bucket, prefix = split_uri(results)
    s3 = target.client("s3")
    with ExitStack() as stack:
        stack.enter_context(translated(bucket))
        pool = stack.enter_context(ThreadPoolExecutor(_AHEAD))
        keys = [key for key, _ in list_objects(s3, bucket, prefix) if key.endswith(".csv")]
        writer = stack.enter_context(ResultWriter(out))
        # A bounded window: parts are fetched ahead of the writer, yet memory holds only a few of them.
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        for key in keys:
            waiting.append((key, pool.submit(_fetch, s3, bucket, key)))
            if len(waiting) > _AHEAD:
                progress(_write_part(writer, *waiting.popleft()))
        while waiting:
            progress(_write_part(writer, *waiting.popleft()))
        if writer.rows != expected:
            raise CliError(
                f"the results hold {writer.rows:,} rows, the request had {expected:,} pairs",
                hint=f"fetch them again with `ekiden scores ID --out {out.name}`",
                code="INCOMPLETE_RESULTS",
            )
        return writer.rows


def _fetch(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def _write_part(writer: ResultWriter, key: str, content: Future[bytes]) -> int:
    data = content.result()
    convert = pacsv.ConvertOptions(
        include_columns=list(COLUMNS),
        column_types={c: pa.string() for c in COLUMNS},
        strings_can_be_null=False,
    )
    try:
        table = pacsv.read_csv(pa.BufferReader(data), convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise CliError(f"{key}: {str(error).splitlines()[0][:150]}", code="BAD_RESULTS") from None
    for batch in table.to_batches():
        writer.write(batch)
    return writer.rows
