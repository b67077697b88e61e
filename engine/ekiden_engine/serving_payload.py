"""Neptune ML's v1 payload, read: what is asked, of which nodes or edges, with the path of whatever is wrong.

Members that we do not know are refused, except at the top level and in `data`: AWS documents neither, and what Neptune
sends there beyond its samples is not ours to refuse.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from ekiden_engine.graph import EdgeType
from ekiden_engine.serving_errors import BadRequest, expected, invalid, known_members, named
from ekiden_engine.serving_given import MAX_NEIGHBOURS, Given, is_number, read_edge_type, read_id, read_node, read_text

MAX_ITEMS: Final = 10_000
"""Nodes or edges of one request; more are a batch for CSV or Arrow."""
MAX_TOPK: Final = 10_000
MODES: Final = ("predict_tail", "predict_head", "embed_knn")
MASK, NO_MASK = "mask", (None, "null", "none", "")
PARAMETERS: Final = "data.globalParameters"
MASK_MEMBERS: Final = ("exclude_flag", "excludeFlag")
PARAMETER_MEMBERS: Final = (
    "topk",
    "threshold",
    "edgeType",
    "property",
    "headNodeType",
    "tailNodeType",
    "nodeType",
    *MASK_MEMBERS,
)
EDGE_MEMBERS: Final = (
    "headNodeId",
    "tailNodeId",
    "headNode",
    "tailNode",
    "headNodeType",
    "tailNodeType",
    "source",
    "target",
)


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
        raise expected("version", "the text v1", document["version"])
    mode, data = document.get("mode"), document["data"]
    if mode is not None and mode not in MODES:
        raise BadRequest(
            "UNSUPPORTED_MODE",
            f"mode: {named(mode)} is none of {', '.join(MODES)}; properties of nodes and edges take no mode",
        )
    parameters = _parameters(data.get("globalParameters", {}))
    if mode == "embed_knn" or (mode is None and "nodes" in data and "edges" not in data):
        given = _items(data.get("nodes"), "data.nodes")
        nodes = tuple(read_node(item, f"data.nodes[{i}]") for i, item in enumerate(given))
        return _bounded(Payload(mode, parameters, nodes, None))
    given = _items(data.get("edges"), "data.edges")
    edges = tuple(_edge(item, f"data.edges[{i}]", mode) for i, item in enumerate(given))
    return _bounded(Payload(mode, parameters, None, edges))


def _older(document: dict[str, Any]) -> Payload:
    given = _items(document["vertices"], "vertices")
    nodes = tuple(read_node(item, f"vertices[{i}]") for i, item in enumerate(given))
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
        raise expected(path, "an object, with property for instance", given)
    at = f"{path}." if path else ""
    if path:  # in the older form they stand at the top level
        known_members(given, PARAMETER_MEMBERS, at)
    topk, threshold = given.get("topk"), given.get("threshold")
    if topk is not None and (not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= MAX_TOPK):
        raise expected(f"{at}topk", f"a whole number from 1 to {MAX_TOPK:,}", topk)
    if threshold is not None and (not is_number(threshold) or not 0 <= threshold <= 1):
        raise expected(f"{at}threshold", "a probability from 0 to 1", threshold)
    mask = False
    for key in MASK_MEMBERS:
        flag = given.get(key)
        if flag != MASK and flag not in NO_MASK:
            raise expected(f"{at}{key}", "mask or null", flag)
        mask = mask or flag == MASK
    return Parameters(
        topk,
        threshold,
        read_edge_type(given["edgeType"], f"{at}edgeType") if given.get("edgeType") is not None else None,
        read_text(given, "property", at),
        read_text(given, "headNodeType", at),
        read_text(given, "tailNodeType", at),
        read_text(given, "nodeType", at),
        mask,
    )


def _edge(item: Any, path: str, mode: str | None) -> GivenEdge:
    if not isinstance(item, dict):
        raise expected(path, 'an object like {"headNodeId": …, "tailNodeId": …}', item)
    known_members(item, EDGE_MEMBERS, f"{path}.")
    head = None if mode == "predict_head" else _end(item, path, "head", "source")
    tail = None if mode == "predict_tail" else _end(item, path, "tail", "target")
    return GivenEdge(path, head, tail)


def _end(item: dict[str, Any], path: str, end: str, plain: str) -> Given:
    """An end as Neptune ML spells it, described in an object, or as the files of pairs have it."""
    described = item.get(f"{end}Node")
    if described is not None:
        found = read_node(described, f"{path}.{end}Node")
        beside = item.get(f"{end}NodeId")
        if beside is None or found.node_id is not None:
            return found
        return replace(found, node_id=read_id(beside, f"{path}.{end}NodeId"))
    key = plain if f"{end}NodeId" not in item and plain in item else f"{end}NodeId"
    return Given(path, read_id(item.get(key), f"{path}.{key}"), read_text(item, f"{end}NodeType", f"{path}."))
