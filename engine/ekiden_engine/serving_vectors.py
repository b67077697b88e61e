"""Nearest neighbours by the vectors that a model has of nodes (`embed_knn`); near is a large cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ekiden_engine.errors import quoted
from ekiden_engine.models.base import (
    EdgePredictor,
    FloatArray,
    IndexArray,
    InductiveVectors,
    LinkPredictor,
    NewNode,
    NodePredictor,
)
from ekiden_engine.neighbours import TopIndex, unit_length
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_fold_in import fold_in
from ekiden_engine.serving_given import Given
from ekiden_engine.serving_model import LISTED, Served, ServedModel
from ekiden_engine.serving_new_nodes import Resolved, resolve, type_of_new
from ekiden_engine.serving_payload import PARAMETERS, Payload
from ekiden_engine.serving_results import check_results, item, ranked, status_of
from ekiden_engine.serving_routing import check_node_type

DEFAULT_TOPK = 1


@dataclass(frozen=True, slots=True, eq=False)
class VectorIndex:
    """The known nodes of one type: their vectors as directions in `top`, their node indices, ascending, in `nodes`."""

    top: TopIndex
    nodes: IndexArray

    @property
    def nbytes(self) -> int:
        """See `Held`."""
        return self.top.nbytes + self.nodes.nbytes

    def places(self, nodes: IndexArray) -> IndexArray:
        """Where nodes are in `top`, -1 if they are not."""
        at = np.searchsorted(self.nodes, nodes).astype(np.int32)
        there = at < len(self.nodes)
        there[there] = self.nodes[at[there]] == nodes[there]
        return np.where(there, at, np.int32(-1))


def nearest(model: ServedModel, targets: Sequence[Served], payload: Payload) -> list[dict[str, Any]]:
    """The answer to `embed_knn`: an entry per node with its nearest nodes of type `tailNodeType`, or of its own.

    The node itself is never among them; with the mask, nor is what the graph or the request links to it in either
    direction. A node without vector has no results.
    """
    nodes, parameters = payload.nodes or (), payload.parameters
    if parameters.tail_type is not None:
        check_node_type(model, parameters.tail_type, f"{PARAMETERS}.tailNodeType")
    topk = parameters.topk or DEFAULT_TOPK
    check_results(len(nodes), topk)
    labels = [_label(model, node, payload) for node in nodes]
    answers: list[dict[str, Any]] = [{} for _ in nodes]
    for label in dict.fromkeys(labels):
        mine = [i for i, one in enumerate(labels) if one == label]
        found = _nearest(model, targets, payload, label, [nodes[i] for i in mine], topk)
        for i, answer in zip(mine, found, strict=True):
            answers[i] = answer
    return answers


def vector_index(model: ServedModel, served: Served, label: str) -> VectorIndex:
    """The index of a node type by one target's model, which must have vectors of it."""

    def make() -> VectorIndex:
        table = cast(FloatArray, served.predictor.embeddings(label))
        rows = _known(served, label, table)
        items = unit_length(table[rows])

        def sample(size: int) -> FloatArray:
            return items[np.random.default_rng(0).integers(len(items), size=size)]

        return VectorIndex(TopIndex(items, sample, f"neighbours among {label}"), rows)

    return model.tops.get((served.position, "vectors", label), make)


def _nearest(
    model: ServedModel, targets: Sequence[Served], payload: Payload, label: str, nodes: Sequence[Given], topk: int
) -> list[dict[str, Any]]:
    other = payload.parameters.tail_type or label
    served = _target_with(model, targets, label, other)
    own, there = vector_index(model, served, label), vector_index(model, served, other)
    inductive = served.is_link or isinstance(served.predictor, InductiveVectors)
    found = resolve(model, label, nodes, served.target, inductive=inductive)
    places = own.places(found.index)
    found.known(places >= 0)
    vectors = {i: own.top.items[places[i]] for i in np.flatnonzero(places >= 0).tolist()}
    vectors |= _new_vectors(model, served, label, own, found)
    answers = [item([], {"node": basis}, found.ignored.get(i, 0)) for i, basis in enumerate(found.basis)]
    if not vectors:
        return answers
    excluded = []
    for i in vectors:
        linked = np.empty(0, np.int32)
        if payload.parameters.mask:
            new = found.new.get(i)
            linked = _linked(model, label, other, int(found.index[i])) if new is None else _own_links(new, other)
        itself = [found.index[i]] if label == other else []
        at = there.places(np.unique(np.append(linked, itself)).astype(np.int32))
        excluded.append(at[at >= 0])
    best = there.top.top(np.stack(list(vectors.values())), topk, excluded)
    for position, i in enumerate(vectors):
        rows = best.rows[position][best.rows[position] >= 0]
        names = model.names(other, there.nodes[rows])
        answers[i]["mlResults"] = ranked(names, best.scores[position].tolist(), status_of(found.basis[i]))
    return answers


def _new_vectors(
    model: ServedModel, served: Served, label: str, own: VectorIndex, nodes: Resolved
) -> dict[int, FloatArray]:
    """Directions of the new ones among the nodes, by position; those of which nothing follows are marked so."""

    def known(rows: IndexArray) -> FloatArray:
        at = own.places(rows)
        return own.top.items[at[at >= 0]]

    found: dict[int, FloatArray] = {}
    if served.is_link:
        found = fold_in(model, nodes, known)
    elif nodes.new and isinstance(served.predictor, InductiveVectors):
        made = served.predictor.embed_new(label, list(nodes.new.values()))
        found = {} if made is None else dict(zip(nodes.new, made, strict=True))
    found = {position: unit_length(vector[None])[0] for position, vector in found.items() if vector.any()}
    nodes.unanswered(nodes.new.keys() - found.keys())
    return found


def _own_links(node: NewNode, other: str) -> IndexArray:
    """Nodes of type `other` that the request links the new node to, in either direction."""
    linked = [e.node for e in node.neighbours if (e.edge_type[2] if e.outgoing else e.edge_type[0]) == other]
    return np.array(linked, np.int32)


def _label(model: ServedModel, node: Given, payload: Payload) -> str:
    """The type of a node: what is said, else that of its neighbours if it has the id, else the only one that has it,
    else the only one that its description fits. A node of which nothing is known counts as one of `tailNodeType`."""
    said = node.node_type or payload.parameters.node_type
    if said is not None:
        check_node_type(model, said, f"{node.path if node.node_type else PARAMETERS}.nodeType")
        return said
    wanted = payload.parameters.tail_type
    if wanted is not None and model.index(wanted).find(node.node_id) >= 0:
        return wanted
    fits = [label for label in model.node_types if model.index(label).find(node.node_id) >= 0]
    if len(fits) > 1:
        raise BadRequest(
            "AMBIGUOUS_NODE", f"{node.path}: id {quoted(node.node_id)} is in {', '.join(fits[:LISTED])}; give nodeType"
        )
    if fits:
        return fits[0]
    if node.is_described:
        return type_of_new(model, node, model.node_types)
    if wanted is not None:
        return wanted
    what = "there is no id" if node.node_id is None else f"no node type has the id {quoted(node.node_id)}"
    raise BadRequest(
        "UNKNOWN_NODE_TYPE", f"{node.path}: {what}; correct it, or describe the new node by neighbours or properties"
    )


def _target_with(model: ServedModel, targets: Sequence[Served], label: str, other: str) -> Served:
    for served in targets:
        width = model.vector_width(served, label)
        if width and width == model.vector_width(served, other):
            return served
    both = quoted(label) if label == other else f"{quoted(label)} and {quoted(other)} in one space"
    raise BadRequest("UNSUPPORTED_MODE", f"mode: embed_knn: this model has no vectors of {both}; it predicts {model}")


def _known(served: Served, label: str, table: FloatArray) -> IndexArray:
    """Indices of the nodes whose vector says something of them: not zero, and known to the model."""
    every = np.arange(len(table), dtype=np.int32)
    nobody = np.full(len(table), -1, np.int32)
    knows = table.any(axis=1)
    if served.is_link:
        predictor = cast(LinkPredictor, served.predictor)
        if any(label in edge[::2] for edge in predictor.edge_types):
            knows &= predictor.known(label, every)
    elif served.edge is None:
        if label == served.target.node:
            knows &= cast(NodePredictor, served.predictor).known(every)
    elif label == served.edge[0]:
        knows &= cast(EdgePredictor, served.predictor).known(every, nobody)[0]
    elif label == served.edge[2]:
        knows &= cast(EdgePredictor, served.predictor).known(nobody, every)[1]
    return np.flatnonzero(knows).astype(np.int32)


def _linked(model: ServedModel, label: str, other: str, node: int) -> IndexArray:
    """Nodes of type `other` that the graph links to a node, in either direction."""
    parts = [np.empty(0, np.int32)]
    for edge in model.known_edges:
        if (edge[0], edge[2]) == (label, other) and (table := model.linked(edge, "tail")) is not None:
            parts.append(table.of(node))
        if (edge[2], edge[0]) == (label, other) and (table := model.linked(edge, "head")) is not None:
            parts.append(table.of(node))
    return np.concatenate(parts)
