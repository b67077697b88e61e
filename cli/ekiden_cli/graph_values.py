"""The values in a local graph folder: between which nodes edges go, and of what kind a property's values are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from ekiden.contracts.spec import EdgeType

_BLOCK = 8 << 20
_NUMBERS = ("regression", "numerical", "bucket_numerical")
_ZONE = re.compile(r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$")
_FINER_THAN_MICROSECONDS = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True, slots=True)
class Column:
    """A property's column: its file, the name of that for messages, the header as written, and its type."""

    file: Path
    name: str
    header: str
    type: str
    is_list: bool


@dataclass(slots=True)
class Seen:
    """Columns by label and property, and the files that hold each label; what was read once is kept."""

    nodes: dict[str, dict[str, list[Column]]] = field(default_factory=dict)
    edges: dict[str, dict[str, list[Column]]] = field(default_factory=dict)
    node_files: list[Path] = field(default_factory=list)
    edge_files: list[Path] = field(default_factory=list)
    ids: dict[str, pa.Array] = field(default_factory=dict)
    ends: dict[EdgeType, str] = field(default_factory=dict)


def normal(label: str) -> str:
    """Return a vertex's labels sorted: ``user;person`` is the one type ``person;user``, as for Neptune-Export."""
    return ";".join(sorted(label.split(";")))


def labels_in(path: Path) -> set[str]:
    """Return the distinct labels in a file. Raises ``ArrowException``."""
    import pyarrow.compute as pc

    labels: set[str] = set()
    for batch in _read(path, ["~label"]):
        labels.update(pc.unique(batch.column(0)).to_pylist())
    return {label for label in labels if label}


def wrong_ends(triple: EdgeType, seen: Seen) -> str:
    """Return what is wrong with an edge type's ends, empty if some edge goes from the first label to the last.

    The first edge that does ends the search. Raises ``ArrowException``.
    """
    if triple not in seen.ends:
        seen.ends[triple] = _wrong_ends(triple, seen)
    return seen.ends[triple]


def first_value(column: Column, label: str, seen: Seen, triple: EdgeType | None = None) -> str | None:
    """Return the first value of the property at a vertex or edge with the label; looks at one block.

    With ``triple`` the edge has these ends, too: edges of one label may go between several types of nodes.
    """
    import pyarrow as pa

    try:
        if triple is not None:
            return _first_of_edges(column, triple, seen)
        for batch in _read(column.file, ["~label", column.header]):
            for found, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                if value and found and label in (found, normal(found)):
                    return str(value)
            break
    except pa.ArrowException:
        return None
    return None


def needed(kind: str, value: str) -> str:
    """Return what a target or feature of this kind needs, if the value is none, as the engine judges; else nothing."""
    if kind in _NUMBERS:
        return "" if _is_number(value) else "a number"
    if kind == "datetime" and not _is_date(value):
        return "a date such as 2026-11-20 or 2026-11-20T08:30:00Z"
    return ""


def arrow_reason(error: Exception) -> str:
    """Return what Arrow says about a file, in words that help whoever wrote it."""
    text = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
    if "straddl" in text:
        return "a row is longer than a block of some megabytes; is a quote left open?"
    if "UTF8" in text or "UTF-8" in text:
        return "it holds bytes that are not UTF-8 text; convert it to UTF-8"
    return text


def _wrong_ends(triple: EdgeType, seen: Seen) -> str:
    import pyarrow.compute as pc

    source, label, dest = normal(triple[0]), triple[1], normal(triple[2])
    is_reversed = False
    left, right = _ids(seen, source), _ids(seen, dest)
    for file in seen.edge_files:
        for batch in _read(file, ["~from", "~to", "~label"]):
            of_type = pc.equal(batch.column(2), label)
            starts, ends = (pc.filter(batch.column(k), of_type) for k in (0, 1))
            if pc.any(pc.and_(pc.is_in(starts, left), pc.is_in(ends, right))).as_py():
                return ""
            is_reversed = is_reversed or bool(pc.any(pc.and_(pc.is_in(starts, right), pc.is_in(ends, left))).as_py())
    message = f"no edge {label!r} goes from a {source!r} to a {dest!r}"
    if is_reversed:
        message += f"; they go the other way: write [{triple[2]}, {label}, {triple[0]}]"
    return message


def _first_of_edges(column: Column, triple: EdgeType, seen: Seen) -> str | None:
    import pyarrow.compute as pc

    left, right = _ids(seen, normal(triple[0])), _ids(seen, normal(triple[2]))
    for batch in _read(column.file, ["~label", "~from", "~to", column.header]):
        label, starts, ends, values = batch.columns
        ours = pc.and_(pc.and_(pc.is_in(starts, left), pc.is_in(ends, right)), pc.equal(label, triple[1]))
        found = pc.filter(values, pc.and_(ours, pc.not_equal(values, "")))
        return str(found[0].as_py()) if len(found) else None
    return None


def _ids(seen: Seen, label: str) -> pa.Array:
    """Return the ids of the vertices with a label."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if label in seen.ids:
        return seen.ids[label]
    wanted = pa.array([label], pa.string())
    chunks: list[Any] = []
    for file in seen.node_files:
        for batch in _read(file, ["~id", "~label"]):
            names = pc.unique(batch.column(1)).to_pylist()
            same = pa.array([name for name in names if name and normal(name) == label], pa.string())
            chunks.append(pc.filter(batch.column(0), pc.is_in(batch.column(1), same if len(same) else wanted)))
    found = pa.chunked_array(chunks, pa.string()).combine_chunks() if chunks else pa.array([], pa.string())
    seen.ids[label] = found
    return found


def _read(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    convert = pacsv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
    parse = pacsv.ParseOptions(newlines_in_values=True)
    read = pacsv.ReadOptions(block_size=_BLOCK)
    with pacsv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _is_number(text: str) -> bool:
    try:
        return text.isascii() and "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    """Tell whether the engine's encoder takes the text: ISO 8601, with or without time and zone."""
    import pyarrow as pa

    plain = _FINER_THAN_MICROSECONDS.sub(r"\1", text.strip())
    try:
        pa.array([plain]).cast(pa.timestamp("us", tz="UTC" if _ZONE.search(plain) else None))
    except pa.ArrowInvalid:
        return False
    return True
