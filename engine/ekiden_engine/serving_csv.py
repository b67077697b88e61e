"""Batches as CSV: pairs of ids, or single ids, to lines of values. No Python loop over rows."""

from __future__ import annotations

import csv

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ekiden_engine.models.base import FloatArray
from ekiden_engine.serving_batches import ALL_STATUSES, INVALID, Classes, Codes, Scores

SIGNIFICANT = 6
"""Digits of a score."""
BETWEEN_CLASSES = ";"
"""Between the classes of one row, and between their scores."""


def parse_pairs(body: bytes) -> tuple[pa.Array, pa.Array]:
    """Source and target ids as large_binary arrays, one element per line; null where a line is no pair."""
    lines = _lines(body)
    cells = pc.split_pattern(lines, b",")
    first = cells.offsets.to_numpy()[:-1]
    is_pair = pc.list_value_length(cells).to_numpy() == 2
    # a null index takes a null; the index under the mask must still be in range
    source = cells.values.take(pa.array(first, mask=~is_pair))
    dest = cells.values.take(pa.array(np.where(is_pair, first + 1, 0), mask=~is_pair))
    hit = pc.match_substring(lines, b'"')
    if not pc.any(hit).as_py():
        return source, dest
    pairs = [_quoted_pair(line) for line in lines.filter(hit).to_pylist()]
    source = pc.replace_with_mask(source, hit, pa.array([s for s, _ in pairs], pa.large_binary()))
    dest = pc.replace_with_mask(dest, hit, pa.array([d for _, d in pairs], pa.large_binary()))
    return source, dest


def _quoted_pair(line: bytes) -> tuple[bytes | None, bytes | None]:
    cells = _cells(line)
    return (cells[0], cells[1]) if len(cells) == 2 else (None, None)


def parse_nodes(body: bytes) -> pa.Array:
    """Ids as a large_binary array, one element per line; null where a line is no single id."""
    lines = _lines(body)
    several = pc.match_substring(lines, b",")
    ids = pc.if_else(several, pa.scalar(None, pa.large_binary()), lines)
    hit = pc.match_substring(lines, b'"')
    if not pc.any(hit).as_py():
        return ids
    read = [_cells(line) for line in lines.filter(hit).to_pylist()]
    single = [cells[0] if len(cells) == 1 else None for cells in read]
    return pc.replace_with_mask(ids, hit, pa.array(single, pa.large_binary()))


def format_answer(found: Scores | Classes) -> bytes:
    """A line per row: `score,status`, or `value,score,status` for classes."""
    return format_scores(found) if isinstance(found, Scores) else format_classes(found)


def format_scores(scores: Scores) -> bytes:
    """`score,status` lines; the score with 6 significant digits, empty where the row is invalid."""
    rounded = _rounded(scores.values, scores.codes == INVALID)
    out = pa.BufferOutputStream()
    pa_csv.write_csv(
        pa.table({"score": rounded, "status": status_names(scores.codes)}),
        out,
        pa_csv.WriteOptions(include_header=False, quoting_style="none"),
    )
    return bytes(out.getvalue())


def format_classes(found: Classes) -> bytes:
    """`value,score,status` lines, the value quoted where RFC 4180 wants it, empty where the row is invalid; several
    classes and their scores with semicolons between."""
    several = pa.types.is_list(found.names.type)
    names = pc.binary_join(found.names, BETWEEN_CLASSES) if several else found.names
    numbers = found.scores.values if several else found.scores
    missing = numbers.is_null().to_numpy(zero_copy_only=False)
    scores = _rounded(pc.fill_null(numbers, 0).to_numpy(), missing).cast(pa.string())
    if several:
        scores = pc.binary_join(pa.ListArray.from_arrays(found.scores.offsets, scores), BETWEEN_CLASSES)
    quotes = pc.match_substring_regex(names, '[,"\r\n]')
    cells = pc.if_else(quotes, pc.binary_join_element_wise('"', pc.replace_substring(names, '"', '""'), '"', ""), names)
    cells, scores = pc.fill_null(cells, ""), pc.fill_null(scores, "")
    rows = pc.binary_join_element_wise(cells, scores, status_names(found.codes), ",")
    lines = pc.binary_join_element_wise(rows, "", "\n")
    # text arrays keep their values end to end, which is the answer; the buffer may be longer
    _, offsets, text = lines.buffers()
    return bytes(text)[: np.frombuffer(offsets, np.int32)[len(lines)]] if len(lines) else b""


def status_names(codes: Codes) -> pa.Array:
    """The names of statuses, text [m]."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(ALL_STATUSES)).cast(pa.string())


def _lines(body: bytes) -> pa.Array:
    text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").removesuffix(b"\n")
    if not text and not body:
        return pa.array([], pa.large_binary())
    return pc.split_pattern(pa.array([text], pa.large_binary()), b"\n").flatten()


def _cells(line: bytes) -> list[bytes]:
    try:
        cells = next(csv.reader([line.decode("utf-8", "surrogateescape")], strict=True))
    except (csv.Error, StopIteration):
        return []
    return [cell.encode("utf-8", "surrogateescape") for cell in cells]


def _rounded(numbers: FloatArray, mask: npt.NDArray[np.bool_]) -> pa.Array:
    """float64 [m] with `SIGNIFICANT` digits; null under `mask`."""
    values = numbers.astype(np.float64)
    size = np.abs(values)
    digits = SIGNIFICANT - 1 - np.floor(np.log10(np.where(size > 0, size, 1))).astype(np.int64)
    factor = 10.0**digits
    return pa.array(np.round(values * factor) / factor, mask=mask)
