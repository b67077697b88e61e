"""Neptune ML's v1 payload, read: what is asked, of which nodes or edges, with the path of whatever is wrong.

A node may be given by its id, or described: by properties and neighbours, for one that training never saw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from ekiden_engine.errors import quoted
from ekiden_engine.features.rows import PropertyValue
from ekiden_engine.graph import EdgeType
from ekiden_engine.serving_errors import BadRequest, invalid

MAX_ITEMS: Final = 10_000
"""Nodes or edges of one request; more are a batch for CSV or Arrow."""
MAX_TOPK: Final = 10_000
LARGEST: Final = 1e30
"""Of numbers that go into sums of 32-bit floats."""
MAX_NEIGHBOURS: Final = 20_000
"""Of all new nodes of one request."""
MODES: Final = ("predict_tail", "predict_head", "embed_knn")
MASK, NO_MASK = "mask", (None, "null", "none", "")
PARAMETERS: Final = "data.globalParameters"

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
        """Whether anything but an id is given."""
        return self.properties is not None or bool(self.neighbours)


@dataclass(frozen=True, slots=True)
class GivenEdge:
    """One edge of the request; an end that is asked for is None."""

    path: str
    head: Given | None
    tail: Given | None


@dataclass(frozen=True, slots=True)
class Parameters:
    """`globalParameters`; None is what was not given. `mask`: leave out what the graph already links."""

    topk: int | None = None
    threshold: float | None = None
    edge_type: str | EdgeType | None = None
    property: str | None = None
    head_type: str | None = None
    tail_type: str | None = None
    node_type: str | None = None
    mask: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """A request. Either `nodes` or `edges` is None."""

    mode: str | None
    parameters: Parameters
    nodes: tuple[Given, ...] | None
    edges: tuple[GivenEdge, ...] | None


def parse_payload(body: bytes) -> Payload:
    """Read a request. Raises `BadRequest` MALFORMED_JSON, INVALID_PAYLOAD or UNSUPPORTED_MODE with the path."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("MALFORMED_JSON", f"the body is not JSON: {str(error)[:120]}") from error
    if isinstance(document, dict) and "data" not in document and "vertices" in document:
        return _older(document)
    if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
        raise invalid("data", 'expected {"version": "v1", "data": {…}}')
    if document.get("version", "v1") != "v1":
        raise invalid("version", f"{quoted(document['version'])} is not v1")
    mode, data = document.get("mode"), document["data"]
    if mode is not None and mode not in MODES:
        raise BadRequest(
            "UNSUPPORTED_MODE",
            f"mode: {quoted(mode)} is none of {', '.join(MODES)}; properties of nodes and edges take no mode",
        )
    parameters = _parameters(data.get("globalParameters", {}))
    if mode == "embed_knn" or (mode is None and "nodes" in data and "edges" not in data):
        given = _items(data.get("nodes"), "data.nodes")
        nodes = tuple(_node(item, f"data.nodes[{i}]", "nodeId") for i, item in enumerate(given))
        return _bounded(Payload(mode, parameters, nodes, None))
    given = _items(data.get("edges"), "data.edges")
    edges = tuple(_edge(item, f"data.edges[{i}]", mode) for i, item in enumerate(given))
    return _bounded(Payload(mode, parameters, None, edges))


def _older(document: dict[str, Any]) -> Payload:
    given = _items(document["vertices"], "vertices")
    nodes = tuple(_node(item, f"vertices[{i}]", "nodeId") for i, item in enumerate(given))
    return _bounded(Payload(None, _parameters(document, ""), nodes, None))


def _bounded(payload: Payload) -> Payload:
    described = [
        *(payload.nodes or ()),
        *(end for edge in payload.edges or () for end in (edge.head, edge.tail) if end),
    ]
    if sum(len(node.neighbours) for node in described) > MAX_NEIGHBOURS:
        raise invalid("data", f"new nodes have more than {MAX_NEIGHBOURS:,} neighbours in all: split the request")
    return payload


def _items(found: Any, path: str) -> list[Any]:
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise invalid(path, f"expected a list of at most {MAX_ITEMS:,} (more: send text/csv)")
    return found


def _parameters(given: Any, path: str = PARAMETERS) -> Parameters:
    if not isinstance(given, dict):
        raise invalid(path, "expected an object, with property for instance")
    at = f"{path}." if path else ""
    topk, threshold = given.get("topk"), given.get("threshold")
    if topk is not None and (not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= MAX_TOPK):
        raise invalid(f"{at}topk", f"expected a whole number from 1 to {MAX_TOPK:,}, not {quoted(topk)}")
    if threshold is not None and (not _is_number(threshold) or not 0 <= threshold <= 1):
        raise invalid(f"{at}threshold", f"expected a probability from 0 to 1, not {quoted(threshold)}")
    mask = False
    for key in ("exclude_flag", "excludeFlag"):
        flag = given.get(key)
        if flag != MASK and flag not in NO_MASK:
            raise invalid(f"{at}{key}", f"expected mask or null, not {quoted(flag)}")
        mask = mask or flag == MASK
    return Parameters(
        topk,
        threshold,
        _edge_type(given["edgeType"], f"{at}edgeType") if given.get("edgeType") is not None else None,
        _text(given, "property", at),
        _text(given, "headNodeType", at),
        _text(given, "tailNodeType", at),
        _text(given, "nodeType", at),
        mask,
    )


def _text(given: dict[str, Any], key: str, at: str) -> str | None:
    found = given.get(key)
    if found is not None and (not isinstance(found, str) or not found):
        raise invalid(f"{at}{key}", "expected text, not empty")
    return found


def _edge_type(given: Any, path: str) -> str | EdgeType:
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and len(given) == 3 and all(isinstance(part, str) and part for part in given):
        return (given[0], given[1], given[2])
    raise invalid(path, "expected a relation, or [source node type, relation, destination node type]")


def _edge(item: Any, path: str, mode: str | None) -> GivenEdge:
    if not isinstance(item, dict):
        raise invalid(path, 'expected an object like {"headNodeId": …, "tailNodeId": …}')
    head = None if mode == "predict_head" else _end(item, path, "head", "source")
    tail = None if mode == "predict_tail" else _end(item, path, "tail", "target")
    return GivenEdge(path, head, tail)


def _end(item: dict[str, Any], path: str, end: str, plain: str) -> Given:
    """An end as Neptune ML spells it, described in an object, or as the files of pairs have it."""
    described = item.get(f"{end}Node")
    if described is not None:
        found = _node(described, f"{path}.{end}Node", "nodeId")
        named = item.get(f"{end}NodeId")
        if named is None or found.node_id is not None:
            return found
        return _renamed(found, _id(named, f"{path}.{end}NodeId"))
    key = plain if f"{end}NodeId" not in item and plain in item else f"{end}NodeId"
    return Given(path, _id(item.get(key), f"{path}.{key}"), _text(item, f"{end}NodeType", f"{path}."))


def _renamed(given: Given, node_id: str) -> Given:
    return Given(given.path, node_id, given.node_type, given.properties, given.neighbours, given.is_new)


def _id(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid(path, "expected a node id (text, not empty)")
    return value


def _node(item: Any, path: str, key: str) -> Given:
    """A node: its id alone, or an object."""
    if isinstance(item, str):
        return Given(path, _id(item, path))
    if not isinstance(item, dict):
        raise invalid(path, f'expected an object like {{"{key}": …}}')
    properties, neighbours, inductive = item.get("properties"), item.get("neighbours"), item.get("inductive", False)
    if not isinstance(inductive, bool):
        raise invalid(f"{path}.inductive", "expected true or false")
    described = properties is not None or neighbours is not None
    if inductive and not described:
        raise invalid(path, "inductive needs properties or neighbours to answer from")
    node_id = item.get(key)
    if node_id is not None or not described:
        node_id = _id(node_id, f"{path}.{key}")
    return Given(
        path,
        node_id,
        _text(item, "nodeType", f"{path}."),
        None if properties is None else _properties(properties, f"{path}.properties"),
        () if neighbours is None else _neighbours(neighbours, f"{path}.neighbours"),
        inductive,
    )


def _properties(given: Any, path: str) -> Mapping[str, PropertyValue]:
    if not isinstance(given, dict):
        raise invalid(path, "expected an object of property names and values")
    for name, value in given.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, int | float) or _is_text(part) for part in parts):
            shown = name[:100].encode("utf-8", "backslashreplace").decode()
            raise invalid(f"{path}.{shown}", "expected text, a number, true, false, null or a list of these")
    return given


def _neighbours(given: Any, path: str) -> tuple[Neighbour, ...]:
    if not isinstance(given, list) or len(given) > MAX_NEIGHBOURS:
        raise invalid(path, f"expected a list of at most {MAX_NEIGHBOURS:,} edges")
    found = []
    for number, item in enumerate(given):
        at = f"{path}[{number}]"
        if not isinstance(item, dict):
            raise invalid(at, 'expected an object like {"edgeType": …, "nodeId": …}')
        direction = item.get("direction")
        if direction not in (None, "out", "in"):
            raise invalid(f"{at}.direction", f"expected out or in, not {quoted(direction)}")
        outgoing = None if direction is None else direction == "out"
        edge_type = _edge_type(item.get("edgeType"), f"{at}.edgeType")
        value = _value(item.get("value"), f"{at}.value")
        found.append(Neighbour(at, _id(item.get("nodeId"), f"{at}.nodeId"), edge_type, outgoing, value))
    return tuple(found)


def _value(given: Any, path: str) -> Value:
    if given is None or isinstance(given, str) or _is_number(given):
        return cast(Value, given)
    if isinstance(given, list) and all(isinstance(part, str) for part in given):
        return tuple(given)
    raise invalid(path, "expected a number, a class or a list of classes")


def _is_text(value: Any) -> bool:
    """JSON can escape halves of characters, which are no text."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_number(value: Any) -> bool:
    # a comparison, for a whole number of any length is no float; false for NaN and infinities
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
