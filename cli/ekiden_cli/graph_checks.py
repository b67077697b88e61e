"""What a local graph folder can tell about a spec before anything is uploaded or paid for.

Headers, labels, the ends of named edge types and the first value of each named property are looked at. The engine's
export and data processing check the rest (dangling edges, duplicate ids, every value).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekiden_cli.graph_values import Column as Column
from ekiden_cli.graph_values import Seen as Seen
from ekiden_cli.graph_values import arrow_reason as arrow_reason
from ekiden_cli.graph_values import first_value, labels_in, needed, normal, wrong_ends

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import EdgeType
    from ekiden.contracts.spec_parts import SpecParts

FORMAT = "Gremlin CSV: vertex files have ~id,~label; edge files ~from,~to,~label"
_TYPES = ("Bool", "Boolean", "Byte", "Date", "Datetime", "Double", "Float", "Int", "Integer", "Long", "Short", "String")
_KNOWN_TYPES = frozenset(name.lower() for name in _TYPES)
_PROPERTY = re.compile(r"(?P<name>(?:\\:|[^:])+)(?::(?P<type>[A-Za-z]+)(?P<many>\((?:single|set|list)\)|\[\])?)?")


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


def faults(parts: SpecParts, seen: Seen) -> list[Fault]:
    """Return what the spec names and the graph does not have, or has otherwise."""
    found: list[Fault] = []
    for number, target in parts.targets.items():
        path = f"targets[{number}]"
        if target.node is not None:
            found += _node_faults(path, target.node, str(target.property), target.type, seen, target.separator)
        elif target.edge is not None:
            found += _edge_faults(path, target.edge, target.property, target.type, seen)
    for number, feature in parts.features.items():
        path, separator = f"features[{number}]", getattr(feature, "separator", None)
        if feature.edge is not None:
            found += _edge_faults(path, feature.edge, feature.property, feature.type, seen, separator)
        else:
            found += _node_faults(path, str(feature.node), feature.property, feature.type, seen, separator)
    return list(dict.fromkeys(found))  # a file that cannot be read is found by each that needs it


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
    import pyarrow as pa

    try:
        return labels_in(path)
    except pa.ArrowException as error:
        raise ValueError(f"{name}: {arrow_reason(error)}") from None


def _node_faults(
    path: str, node: str, name: str, kind: str, seen: Seen, separator: str | None = None
) -> Iterator[Fault]:
    label = normal(node)
    if label not in seen.nodes:
        yield _fault(f"{path}.node", _no("node label", node, seen.nodes))
    elif name not in seen.nodes[label]:
        yield _fault(f"{path}.property", _no(f"property of node {node!r}", name, seen.nodes[label]))
    else:
        values = ((column, first_value(column, label, seen)) for column in seen.nodes[label][name])
        yield from _value_faults(f"{path}.property", kind, values, separator)


def _edge_faults(
    path: str, triple: EdgeType, name: str | None, kind: str, seen: Seen, separator: str | None = None
) -> Iterator[Fault]:
    """Without ``name`` the edge type alone is looked at: links have no property."""
    import pyarrow as pa

    unknown = list(_unknown_in_edge(path, triple, name, seen))
    yield from unknown
    if any(fault.path != f"{path}.property" for fault in unknown):
        return
    try:
        wrong = wrong_ends(triple, seen)
    except pa.ArrowException as error:
        yield _fault("graph.source", arrow_reason(error))
        return
    if wrong:
        yield _fault(f"{path}.edge", wrong)
    elif name is not None and not unknown:
        values = ((column, first_value(column, triple[1], seen, triple)) for column in seen.edges[triple[1]][name])
        yield from _value_faults(f"{path}.property", kind, values, separator)


def _unknown_in_edge(path: str, triple: EdgeType, name: str | None, seen: Seen) -> Iterator[Fault]:
    source, label, dest = triple
    for position, node in ((0, source), (2, dest)):
        if normal(node) not in seen.nodes:
            yield _fault(f"{path}.edge[{position}]", _no("node label", node, seen.nodes))
    if label not in seen.edges:
        yield _fault(f"{path}.edge[1]", _no("edge label", label, seen.edges))
    elif name is not None and name not in seen.edges[label]:
        yield _fault(f"{path}.property", _no(f"property of edge {label!r}", name, seen.edges[label]))


def _value_faults(
    path: str, kind: str, values: Iterable[tuple[Column, str | None]], separator: str | None
) -> Iterator[Fault]:
    """Check that each file's first value of a property is of the kind the spec wants; a column's type may say less."""
    for column, value in values:
        if value is None:
            continue
        if kind == "numerical" and (separator or column.is_list):
            value = value.split(separator or ";")[0]
        if what := needed(kind, value):
            where = f"{column.name}, column {column.header[:60]!r}"
            yield _fault(path, f"{kind} needs {what}, and {where} holds {value[:40]!r}")
            return


def _no(what: str, name: str, known: Any) -> str:
    from ekiden.contracts.base import shorten

    near = difflib.get_close_matches(name, list(known), n=1)
    near = near or [other for other in known if name in other.split(";")][:1]
    if near:
        return f"the graph has no {what} {shorten(name)}; did you mean {shorten(near[0])}?"
    return f"the graph has no {what} {shorten(name)}; it has {', '.join(sorted(known))[:120] or 'none'}"
