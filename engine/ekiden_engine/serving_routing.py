"""Which of a model's targets a request is about; where none or several fit, an error that lists what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn
from urllib.parse import unquote

from ekiden_engine.errors import quoted
from ekiden_engine.graph import EdgeType
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_model import LISTED, Served, ServedModel
from ekiden_engine.serving_payload import PARAMETERS, Parameters, Payload

HEADER = "X-Amzn-SageMaker-Custom-Attributes"


def named_target(model: ServedModel, attributes: str) -> tuple[Served, ...]:
    """What the header's `target=<name or position>` leaves of the model; everything if there is no such attribute.

    Raises `BadRequest` UNKNOWN_TARGET.
    """
    given = [part.strip() for part in attributes.split(";")]
    named = [part.removeprefix("target=").strip() for part in given if part.startswith("target=")]
    if not named:
        return model.served
    wanted = named[0]
    # positions first: names are free text, and a name of digits can still be reached by its position
    chosen = [s for s in model.served if wanted == str(s.position)]
    for name in (wanted, unquote(wanted)):
        chosen = chosen or [s for s in model.served if name in (s.name, s.target.name)]
    if not chosen:
        raise BadRequest("UNKNOWN_TARGET", f"{HEADER}: target {quoted(wanted)} is none of this model's: {model}")
    return tuple(chosen)


def batch_target(model: ServedModel, allowed: Sequence[Served], *, nodes: bool | None) -> Served:
    """The target of a batch: the first edge property that is allowed, else links, else a node property.

    `nodes` says what the rows are, None if that cannot be seen. Raises `BadRequest` UNKNOWN_TARGET or AMBIGUOUS_TARGET.
    """
    edges = [s for s in allowed if s.edge is not None and not s.is_link]
    links = [s for s in allowed if s.is_link]
    of_nodes = [s for s in allowed if s.edge is None]
    for fits, is_nodes in ((edges, False), (links, False), (of_nodes, True)):
        if not fits or nodes not in (None, is_nodes):
            continue
        if fits is links and len({s.edge for s in links}) > 1:
            _ambiguous(links, f"name an edge type in {HEADER}: target=<name>")
        return fits[0]
    asked = "node ids" if nodes else "pairs of node ids"
    raise BadRequest("UNKNOWN_TARGET", f"no target takes {asked}: this model predicts {model}")


def link_target(model: ServedModel, allowed: Sequence[Served], payload: Payload) -> Served:
    """The edge type whose links are asked for."""
    fits = [s for s in allowed if s.is_link]
    if not fits:
        raise BadRequest(
            "UNSUPPORTED_MODE", f"mode: {payload.mode} needs a model of links; this model predicts {model}"
        )
    return _edge_target(model, fits, payload.parameters)


def edge_target(model: ServedModel, allowed: Sequence[Served], payload: Payload) -> Served:
    """The edge property that is asked for; without `property`, a link's score where no edge property is predicted."""
    fits = [s for s in allowed if s.edge is not None and not s.is_link]
    if not fits and payload.parameters.property is None:
        fits = [s for s in allowed if s.is_link]
    if not fits:
        _unknown_property(model, payload.parameters, "edge")
    return _edge_target(model, fits, payload.parameters)


def node_targets(model: ServedModel, allowed: Sequence[Served], payload: Payload) -> list[Served]:
    """The node properties of that name, one per node type; `nodeType` leaves one."""
    parameters = payload.parameters
    fits = [s for s in allowed if s.edge is None]
    if parameters.node_type is not None:
        check_node_type(model, parameters.node_type, f"{PARAMETERS}.nodeType")
        fits = [s for s in fits if s.target.node == parameters.node_type]
    if parameters.property is not None:
        fits = [s for s in fits if s.target.property == parameters.property]
    if not fits:
        _unknown_property(model, parameters, "node")
    if len({s.target.property for s in fits}) > 1:
        _ambiguous(fits, f"give {PARAMETERS}.property")
    # the same property of the same nodes twice: the first target answers
    return list({s.target.node: s for s in reversed(fits)}.values())[::-1]


def vector_targets(model: ServedModel, allowed: Sequence[Served]) -> list[Served]:
    """The targets whose models have vectors of nodes, links first: only there a product of vectors means something."""
    seen: dict[int, Served] = {}
    for served in sorted(allowed, key=lambda s: not s.is_link):
        seen.setdefault(served.position, served)
    return [s for s in seen.values() if any(model.vector_width(s, label) for label in model.node_types)]


def check_node_type(model: ServedModel, label: str, path: str) -> None:
    """Raises `BadRequest` UNKNOWN_NODE_TYPE."""
    if label not in model.node_types:
        there = ", ".join(quoted(name) for name in model.node_types[:LISTED])
        raise BadRequest("UNKNOWN_NODE_TYPE", f"{path}: {quoted(label)} is not a node type; there are {there}")


def _edge_target(model: ServedModel, fits: list[Served], parameters: Parameters) -> Served:
    def keep(wanted: object, path: str, matches: Callable[[EdgeType], bool]) -> list[Served]:
        kept = [s for s in fits if matches(s.ends)]
        if not kept:
            raise BadRequest(
                "UNKNOWN_EDGE_TYPE",
                f"{PARAMETERS}.{path}: {quoted(wanted)} is not what this model predicts, which is {_list(fits)}",
            )
        return kept

    asked = parameters.edge_type
    if isinstance(asked, str):
        fits = keep(asked, "edgeType", lambda edge: edge[1] == asked)
    elif asked is not None:
        fits = keep("-".join(asked), "edgeType", lambda edge: edge == asked)
    for position, label, path in ((0, parameters.head_type, "headNodeType"), (2, parameters.tail_type, "tailNodeType")):
        if label is not None:
            check_node_type(model, label, f"{PARAMETERS}.{path}")
            fits = keep(label, path, lambda edge, at=position, name=label: edge[at] == name)  # type: ignore[misc]
    if parameters.property is not None and not fits[0].is_link:
        named = [s for s in fits if s.target.property == parameters.property]
        if not named:
            _unknown_property(model, parameters, "edge")
        fits = named
    if len({(s.edge, s.target.property) for s in fits}) > 1:
        _ambiguous(
            fits, f"give {PARAMETERS}.edgeType as [source node type, relation, destination node type], or property"
        )
    return fits[0]


def _unknown_property(model: ServedModel, parameters: Parameters, kind: str) -> NoReturn:
    wanted = "no property is given" if parameters.property is None else quoted(parameters.property)
    of = f" of {quoted(parameters.node_type)}" if parameters.node_type is not None else ""
    raise BadRequest(
        "UNKNOWN_PROPERTY",
        f"{PARAMETERS}.property: {wanted}{of} is no {kind} property that this model predicts, which is {model}",
    )


def _ambiguous(fits: Sequence[Served], what: str) -> NoReturn:
    raise BadRequest("AMBIGUOUS_TARGET", f"several targets fit, {_list(fits)}: {what}")


def _list(fits: Sequence[Served]) -> str:
    names = [str(s) for s in fits]
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
