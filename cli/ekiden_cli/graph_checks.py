"""What a local graph folder can tell about a spec before anything is uploaded or paid for.

Headers, labels, the ends of the target's edges and the first value of each named property are looked at. The
engine's export checks the rest (dangling edges, duplicate ids, every value).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import EdgeType, PipelineSpec

FORMAT = "Gremlin CSV: vertex files have ~id,~label; edge files ~from,~to,~label"
_TYPES = ("Bool", "Boolean", "Byte", "Date", "Datetime", "Double", "Float", "Int", "Integer", "Long", "Short", "String")
_KNOWN_TYPES = frozenset(name.lower() for name in _TYPES)
_PROPERTY = re.compile(r"(?P<name>(?:\\:|[^:])+)(?::(?P<type>[A-Za-z]+)(?P<many>\((?:single|set|list)\)|\[\])?)?")
_BLOCK = 8 << 20


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
    """Columns by label and property, and the files that hold each label."""

    nodes: dict[str, dict[str, list[Column]]] = field(default_factory=dict)
    edges: dict[str, dict[str, list[Column]]] = field(default_factory=dict)
    node_files: list[Path] = field(default_factory=list)
    edge_files: list[Path] = field(default_factory=list)


def look(name: str, path: Path, seen: Seen) -> None:
    """Add what the file's header and its labels say. Raises ``ValueError`` on what is no Gremlin CSV."""
    from ekiden_cli.delimited import header_of

    header = header_of(path, ",")
    ends = {"~from", "~to"} & set(header)
    if "~label" not in header or len(ends) == 1 or (not ends and "~id" not in header):
        raise ValueError(f"{name} has the header {','.join(header)[:80]!r}. {FORMAT}")
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise ValueError(f"{name} has the column {twice[0][:60]!r} twice")
    columns: dict[str, Column] = {}
    for column in header:
        if not column.startswith("~"):
            key, found = _parsed(name, path, column)
            columns[key] = found
    by_label = seen.edges if ends else seen.nodes
    (seen.edge_files if ends else seen.node_files).append(path)
    for label in _labels(name, path):
        known = by_label.setdefault(label if ends else normal(label), {})
        for key, found in columns.items():
            known.setdefault(key, []).append(found)


def faults(spec: PipelineSpec, seen: Seen) -> Iterator[Fault]:
    """Yield what the spec names and the graph does not have, or has otherwise."""
    for number, target in enumerate(spec.targets):
        path = f"targets[{number}]"
        if target.node is not None:
            yield from _node_faults(path, target.node, str(target.property), target.type, seen, target.separator)
        elif target.edge is not None:
            yield from _edge_target_faults(path, target.edge, target.property, target.type, seen)
    for number, feature in enumerate(spec.features):
        path = f"features[{number}]"
        if feature.edge is not None:
            yield from _edge_faults(path, feature.edge, feature.property, seen)
            continue
        separator = getattr(feature, "separator", None)
        yield from _node_faults(path, str(feature.node), feature.property, feature.type, seen, separator)


def normal(label: str) -> str:
    """Return a vertex's labels sorted: ``user;person`` is the one type ``person;user``, as for Neptune-Export."""
    return ";".join(sorted(label.split(";")))


def _fault(path: str, message: str) -> Fault:
    from ekiden.contracts.base import Fault

    return Fault(path, message)


def _parsed(name: str, path: Path, column: str) -> tuple[str, Column]:
    match = _PROPERTY.fullmatch(column)
    known = ", ".join(_TYPES)
    if match is None:
        raise ValueError(f"{name}: the column {column[:60]!r} is no name:Type. Types: {known}")
    declared = match["type"] or "String"
    if declared.lower() not in _KNOWN_TYPES:
        near = difflib.get_close_matches(declared.capitalize(), _TYPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {known}"
        raise ValueError(f"{name}: the column {column[:60]!r} has the unknown type {declared[:40]!r}; {hint}")
    is_list = (match["many"] or "") in ("(set)", "(list)", "[]")
    return match["name"].replace("\\:", ":"), Column(path, name, column, declared, is_list)


def _labels(name: str, path: Path) -> set[str]:
    """Return the distinct labels in a file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    labels: set[str] = set()
    try:
        for batch in _read(path, ["~label"]):
            labels.update(pc.unique(batch.column(0)).to_pylist())
    except pa.ArrowException as error:
        raise ValueError(f"{name}: {arrow_reason(error)}") from None
    return {label for label in labels if label}


def arrow_reason(error: Exception) -> str:
    """Return what Arrow says about a file, in words that help whoever wrote it."""
    text = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
    if "straddl" in text:
        return "a row is longer than a block of some megabytes; is a quote left open?"
    if "UTF8" in text or "UTF-8" in text:
        return "it holds bytes that are not UTF-8 text; convert it to UTF-8"
    return text


def _read(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    convert = pacsv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
    parse = pacsv.ParseOptions(newlines_in_values=True)
    read = pacsv.ReadOptions(block_size=_BLOCK)
    with pacsv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _node_faults(
    path: str, node: str, name: str, kind: str, seen: Seen, separator: str | None = None
) -> Iterator[Fault]:
    label = normal(node)
    if label not in seen.nodes:
        yield _fault(f"{path}.node", _no("node label", node, seen.nodes))
    elif name not in seen.nodes[label]:
        yield _fault(f"{path}.property", _no(f"property of node {node!r}", name, seen.nodes[label]))
    else:
        yield from _values(f"{path}.property", kind, seen.nodes[label][name], label, separator)


def _edge_target_faults(path: str, triple: EdgeType, name: str | None, kind: str, seen: Seen) -> Iterator[Fault]:
    unknown = list(_edge_faults(path, triple, name, seen))
    yield from unknown
    if unknown:
        return
    yield from _ends(path, triple, seen)
    if name is not None:
        yield from _values(f"{path}.property", kind, seen.edges[triple[1]][name], triple[1])


def _edge_faults(path: str, triple: EdgeType, name: str | None, seen: Seen) -> Iterator[Fault]:
    """Without ``name`` the edge type alone is looked for: links have no property."""
    source, label, dest = triple
    for position, node in ((0, source), (2, dest)):
        if normal(node) not in seen.nodes:
            yield _fault(f"{path}.edge[{position}]", _no("node label", node, seen.nodes))
    if label not in seen.edges:
        yield _fault(f"{path}.edge[1]", _no("edge label", label, seen.edges))
    elif name is not None and name not in seen.edges[label]:
        yield _fault(f"{path}.property", _no(f"property of edge {label!r}", name, seen.edges[label]))


def _ends(path: str, triple: EdgeType, seen: Seen) -> Iterator[Fault]:
    """Check that some edge goes from the first label to the last; the first that does ends the search."""
    import pyarrow as pa
    import pyarrow.compute as pc

    source, label, dest = normal(triple[0]), triple[1], normal(triple[2])
    is_reversed = False
    try:
        left, right = _ids(seen, source), _ids(seen, dest)
        for file in seen.edge_files:
            for batch in _read(file, ["~from", "~to", "~label"]):
                of_type = pc.equal(batch.column(2), label)
                starts, ends = (pc.filter(batch.column(k), of_type) for k in (0, 1))
                if pc.any(pc.and_(pc.is_in(starts, left), pc.is_in(ends, right))).as_py():
                    return
                is_reversed = is_reversed or bool(
                    pc.any(pc.and_(pc.is_in(starts, right), pc.is_in(ends, left))).as_py()
                )
    except pa.ArrowException as error:
        yield _fault("graph.source", arrow_reason(error))
        return
    message = f"no edge {label!r} goes from a {source!r} to a {dest!r}"
    if is_reversed:
        message += f"; they go the other way: write [{triple[2]}, {label}, {triple[0]}]"
    yield _fault(f"{path}.edge", message)


def _ids(seen: Seen, label: str) -> pa.Array:
    """Return the ids of the vertices with a label."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array([label], pa.string())
    chunks: list[Any] = []
    for file in seen.node_files:
        for batch in _read(file, ["~id", "~label"]):
            names = pc.unique(batch.column(1)).to_pylist()
            same = pa.array([name for name in names if name and normal(name) == label], pa.string())
            chunks.append(pc.filter(batch.column(0), pc.is_in(batch.column(1), same if len(same) else wanted)))
    return pa.chunked_array(chunks, pa.string()).combine_chunks() if chunks else pa.array([], pa.string())


def _values(path: str, kind: str, columns: list[Column], label: str, separator: str | None = None) -> Iterator[Fault]:
    """Check that the first value of a property is of the kind the spec wants; a column's type may say less."""
    for column in columns:
        value = _first(column, label)
        if value is None:
            continue
        if separator or column.is_list:
            value = value.split(separator or ";")[0]
        if kind in ("regression", "numerical", "bucket_numerical") and not _is_number(value):
            what = "a number"
        elif kind == "datetime" and not re.match(r"\s*(\d{4}-\d\d|\d{8}|-?\d+\s*$)", value):
            what = "a date"
        else:
            continue
        where = f"{column.name}, column {column.header[:60]!r}"
        yield _fault(path, f"{kind} needs {what}, and {where} holds {value[:40]!r}")
        return


def _first(column: Column, label: str) -> str | None:
    """Return the first value of the property at a vertex or edge with the label; looks at one block."""
    import pyarrow as pa

    try:
        for batch in _read(column.file, ["~label", column.header]):
            for found, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                if value and found and label in (found, normal(found)):
                    return str(value)
            break
    except pa.ArrowException:
        return None
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _no(what: str, name: str, known: Any) -> str:
    from ekiden.contracts.base import shorten

    near = difflib.get_close_matches(name, list(known), n=1)
    near = near or [other for other in known if name in other.split(";")][:1]
    if near:
        return f"the graph has no {what} {shorten(name)}; did you mean {shorten(near[0])}?"
    return f"the graph has no {what} {shorten(name)}; it has {', '.join(sorted(known))[:120] or 'none'}"
