"""Nodes of a payload, read: each is given by its id or, where training never saw it, described by properties and
neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from ekiden_engine.features.rows import PropertyValue
from ekiden_engine.graph import EdgeType
from ekiden_engine.serving_errors import expected, invalid, known_members, member

MAX_NEIGHBOURS: Final = 20_000
"""Of all new nodes of one request."""
LARGEST: Final = 1e30
"""Of numbers that go into sums of 32-bit floats."""
NODE_MEMBERS: Final = ("nodeId", "nodeType", "properties", "neighbours", "inductive")
NEIGHBOUR_MEMBERS: Final = ("edgeType", "nodeId", "direction", "value")

Value: TypeAlias = float | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour of a new node: `outgoing` tells whether the new node is the source, None if it was not said;
    `value` is the edge's own property, several classes in a tuple."""

    path: str
    node_id: str
    edge_type: str | EdgeType
    outgoing: bool | None
    value: Value


@dataclass(frozen=True, slots=True)
class Given:
    """One node of the request. `is_new`: it is to be answered from its description even if training saw it."""

    path: str
    node_id: str | None
    node_type: str | None = None
    properties: Mapping[str, PropertyValue] | None = None
    neighbours: tuple[Neighbour, ...] = ()
    is_new: bool = False

    @property
    def is_described(self) -> bool:
        """Whether the answer may rest on anything but the id."""
        return self.is_new or self.properties is not None or bool(self.neighbours)


def read_node(item: Any, path: str) -> Given:
    """A node: its id alone, or an object. Raises `BadRequest` INVALID_PAYLOAD, as all here do."""
    if isinstance(item, str):
        return Given(path, read_id(item, path))
    if not isinstance(item, dict):
        raise expected(path, 'an object like {"nodeId": …}', item)
    known_members(item, NODE_MEMBERS, f"{path}.")
    properties, neighbours, inductive = item.get("properties"), item.get("neighbours"), item.get("inductive", False)
    if not isinstance(inductive, bool):
        raise expected(f"{path}.inductive", "true or false", inductive)
    described = properties is not None or neighbours is not None
    if inductive and not described:
        raise invalid(path, "inductive needs properties or neighbours to answer from")
    node_id = item.get("nodeId")
    if node_id is not None or not described:
        node_id = read_id(node_id, f"{path}.nodeId")
    return Given(
        path,
        node_id,
        read_text(item, "nodeType", f"{path}."),
        None if properties is None else _properties(properties, f"{path}.properties"),
        () if neighbours is None else _neighbours(neighbours, f"{path}.neighbours"),
        inductive,
    )


def read_id(value: Any, path: str) -> str:
    """An id of a node."""
    if not isinstance(value, str) or not value:
        raise expected(path, "a node id (text, not empty)", value)
    return value


def read_text(given: Mapping[str, Any], key: str, at: str) -> str | None:
    """A member that may be absent."""
    value = given.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise expected(f"{at}{key}", "text, not empty", value)
    return value


def read_edge_type(given: Any, path: str) -> str | EdgeType:
    """A relation, or an edge type."""
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and len(given) == 3 and all(isinstance(part, str) and part for part in given):
        return (given[0], given[1], given[2])
    raise expected(path, "a relation, or [source node type, relation, destination node type]", given)


def is_number(value: Any) -> bool:
    """Whether it can be calculated with: neither true nor false, NaN, infinite or larger than `LARGEST`."""
    # a comparison, for a whole number of any length is no float; false for NaN and infinities
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _properties(given: Any, path: str) -> Mapping[str, PropertyValue]:
    if not isinstance(given, dict):
        raise expected(path, "an object of property names and values", given)
    for name, value in given.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, int | float) or _is_text(part) for part in parts):
            raise invalid(f"{path}.{member(name)}", "expected text, a number, true, false, null or a list of these")
    return given


def _neighbours(given: Any, path: str) -> tuple[Neighbour, ...]:
    if not isinstance(given, list) or len(given) > MAX_NEIGHBOURS:
        raise invalid(path, f"expected a list of at most {MAX_NEIGHBOURS:,} edges")
    found = []
    for number, item in enumerate(given):
        at = f"{path}[{number}]"
        if not isinstance(item, dict):
            raise expected(at, 'an object like {"edgeType": …, "nodeId": …}', item)
        known_members(item, NEIGHBOUR_MEMBERS, f"{at}.")
        direction = item.get("direction")
        if direction not in (None, "out", "in"):
            raise expected(f"{at}.direction", "out or in", direction)
        outgoing = None if direction is None else direction == "out"
        edge_type = read_edge_type(item.get("edgeType"), f"{at}.edgeType")
        value = _value(item.get("value"), f"{at}.value")
        found.append(Neighbour(at, read_id(item.get("nodeId"), f"{at}.nodeId"), edge_type, outgoing, value))
    return tuple(found)


def _value(given: Any, path: str) -> Value:
    if given is None or isinstance(given, str) or is_number(given):
        return cast(Value, given)
    if isinstance(given, list) and all(isinstance(part, str) for part in given):
        return tuple(given)
    raise expected(path, "a number, a class or a list of classes", given)


def _is_text(value: Any) -> bool:
    """JSON can escape halves of characters, which are no text."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
