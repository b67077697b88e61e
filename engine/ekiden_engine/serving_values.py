"""Properties of nodes and edges, and the score of a given link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ekiden_engine.errors import quoted
from ekiden_engine.models.base import FloatArray, InductiveEdges, InductiveNodes, NewNode
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_given import Given
from ekiden_engine.serving_links import known_ends, link_scores, new_ends
from ekiden_engine.serving_model import Served, ServedModel
from ekiden_engine.serving_new_nodes import Resolved, resolve, type_of_new
from ekiden_engine.serving_payload import Payload
from ekiden_engine.serving_results import check_results, item, rounded, status_of, value_results
from ekiden_engine.serving_routing import check_node_type


def edge_values(model: ServedModel, served: Served, payload: Payload) -> list[dict[str, Any]]:
    """The answer for edges given with both ends: an entry per edge."""
    edges, parameters = payload.edges or (), payload.parameters
    inductive = served.is_link or isinstance(served.predictor, InductiveEdges)
    (source, _, dest), target = served.ends, served.target
    heads = resolve(model, source, [_given(edge.head) for edge in edges], target, inductive=inductive)
    tails = resolve(model, dest, [_given(edge.tail) for edge in edges], target, inductive=inductive)
    known = (
        known_ends(served, heads.index, tails.index)
        if served.is_link
        else served.edge_predictor.known(heads.index, tails.index)
    )
    heads.known(known[0])
    tails.known(known[1])
    new = new_ends(model, served, heads, tails) if served.is_link else None
    statuses = [status_of(*both) for both in zip(heads.basis, tails.basis, strict=True)]
    if new is not None:
        scores = [rounded(score) for score in link_scores(model, served, heads.index, tails.index, new).tolist()]
        results = [[{"inferredValue": s, "score": s, "status": t}] for s, t in zip(scores, statuses, strict=True)]
    else:
        if target.is_classification:
            check_results(len(edges), min(parameters.topk or 1, len(target.classes)))
        results = value_results(target, _edge_answers(served, heads, tails), statuses, parameters)
    return [
        item(
            results[i],
            {"head": heads.basis[i], "tail": tails.basis[i]},
            heads.ignored.get(i, 0) + tails.ignored.get(i, 0),
        )
        for i in range(len(edges))
    ]


def node_values(model: ServedModel, targets: Sequence[Served], payload: Payload) -> list[dict[str, Any]]:
    """The answer for nodes: an entry per node, each by the target of its node type."""
    nodes, parameters = payload.nodes or (), payload.parameters
    if parameters.node_type is None:
        _check_types(model, targets, nodes)
    chosen = [_target_of(model, targets, node) for node in nodes]
    answers: list[dict[str, Any]] = [{} for _ in nodes]
    for served in targets:
        mine = [i for i, one in enumerate(chosen) if one is served]
        if not mine:
            continue
        target = served.target
        if target.is_classification:
            check_results(len(mine), min(parameters.topk or 1, len(target.classes)))
        inductive = isinstance(served.predictor, InductiveNodes)
        found = resolve(model, target.node or "", [nodes[i] for i in mine], target, inductive=inductive)
        found.known(served.node_predictor.known(found.index))
        statuses = [status_of(basis) for basis in found.basis]
        results = value_results(target, _node_answers(served, found), statuses, parameters)
        for position, i in enumerate(mine):
            answers[i] = item(results[position], {"node": found.basis[position]}, found.ignored.get(position, 0))
    return answers


def _given(end: Given | None) -> Given:
    return end or Given("", None)  # the payload has both ends where no mode asks for one


def _edge_answers(served: Served, heads: Resolved, tails: Resolved) -> FloatArray:
    answers = served.edge_predictor.predict(heads.index, tails.index)
    if heads.new or tails.new:
        rows = sorted(heads.new.keys() | tails.new.keys())
        source = [heads.new.get(i, int(heads.index[i])) for i in rows]
        dest = [tails.new.get(i, int(tails.index[i])) for i in rows]
        if isinstance(served.predictor, InductiveEdges):
            answers[rows] = served.predictor.predict_new(source, dest)
    return answers


def _node_answers(served: Served, nodes: Resolved) -> FloatArray:
    answers = served.node_predictor.predict(nodes.index)
    if nodes.new and isinstance(served.predictor, InductiveNodes):
        new: list[NewNode] = list(nodes.new.values())
        answers[list(nodes.new)] = served.predictor.predict_new(new)
    return answers


def _check_types(model: ServedModel, targets: Sequence[Served], nodes: Sequence[Given]) -> None:
    """Refuse an id that only node types have of which the property is not predicted: as an id of the target's type it
    would count as never seen. A node that is described, or says its type, is taken at its word."""
    labels = [str(served.target.node) for served in targets]
    plain = [
        (node.node_id, node)
        for node in nodes
        if node.node_id is not None and node.node_type is None and not node.is_described
    ]
    unseen = {name for name, _ in plain if not any(name in model.index(label) for label in labels)}
    for label in model.node_types if unseen else ():
        there = model.ids_of(label, unseen) if label not in labels else set()
        for name, node in plain if there else ():
            if name in there:
                raise BadRequest(
                    "UNKNOWN_NODE_TYPE",
                    f"{node.path}: {quoted(name)} is a node of type {label}; "
                    f"{targets[0].target.property} is predicted of {', '.join(labels)}",
                )


def _target_of(model: ServedModel, targets: Sequence[Served], node: Given) -> Served:
    """The target of a node's type: the type that it says, else the only one that has its id, else the only one that its
    description fits."""
    if node.node_type is not None:
        check_node_type(model, node.node_type, f"{node.path}.nodeType")
        for served in targets:
            if served.target.node == node.node_type:
                return served
        there = ", ".join(str(s.target.node) for s in targets)
        raise BadRequest(
            "UNKNOWN_NODE_TYPE",
            f"{node.path}.nodeType: the property is not predicted of {quoted(node.node_type)} but of {there}",
        )
    if len(targets) == 1:
        return targets[0]
    fits = [s for s in targets if model.index(str(s.target.node)).find(node.node_id) >= 0]
    if not fits and node.is_described:
        label = type_of_new(model, node, [str(s.target.node) for s in targets])
        return next(s for s in targets if s.target.node == label)
    if len(fits) != 1:
        types = ", ".join(str(s.target.node) for s in fits or targets)
        what = "several node types have it" if fits else "no node type has it"
        raise BadRequest(
            "AMBIGUOUS_NODE", f"{node.path}: id {quoted(node.node_id)}: {what}; give nodeType, one of {types}"
        )
    return fits[0]
