"""Nodes as a request describes them, turned into what inductive models answer from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from ekiden_engine.errors import quoted
from ekiden_engine.features.rows import encode_many
from ekiden_engine.graph import EdgeType, Target
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray, NewEdge, NewNode
from ekiden_engine.numbers import BadValue
from ekiden_engine.serving_errors import BadRequest, invalid
from ekiden_engine.serving_model import LISTED, ServedModel
from ekiden_engine.serving_payload import Given, Neighbour


class Basis(IntEnum):
    """What the answer about a node rests on."""

    TRAINED = 0
    DESCRIBED = 1
    UNKNOWN = 2
    NOTHING_KNOWN = 3
    NOT_INDUCTIVE = 4


COLD: Final = {
    Basis.UNKNOWN: "unknown",
    Basis.NOTHING_KNOWN: "nothing_known",
    Basis.NOT_INDUCTIVE: "not_inductive",
}
"""Why a node counts as never seen: its id is not in the training graph; it is, but without a training edge, a feature
or a neighbour to go by; it was described, by nothing that the model can answer from."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The nodes at one end of a request: `index` int32 [m], -1 where training did not see the node; `new` by position,
    where a description is to be answered from; `ignored`: neighbours that training did not see either."""

    index: IndexArray
    basis: list[Basis]
    new: dict[int, NewNode]
    ignored: dict[int, int]

    def known(self, known: BoolArray) -> None:
        """Note what the model says of `index`."""
        for position in np.flatnonzero((self.index >= 0) & ~known).tolist():
            if self.basis[position] is Basis.TRAINED:
                self.basis[position] = Basis.NOTHING_KNOWN

    def unanswered(self, positions: Iterable[int]) -> None:
        """Note that the model makes nothing of these descriptions."""
        for position in positions:
            self.basis[position] = Basis.NOT_INDUCTIVE


def resolve(model: ServedModel, label: str, nodes: Sequence[Given], target: Target, *, inductive: bool) -> Resolved:
    """Look up nodes of type `label`. Those that training did not see, and those that ask for it, become new nodes if
    they are described and the model is `inductive`.

    Raises `BadRequest` with the path of a node type, property or neighbour that does not fit.
    """
    for node in nodes:
        if node.node_type not in (None, label):
            raise BadRequest(
                "UNKNOWN_NODE_TYPE",
                f"{node.path}.nodeType: {quoted(node.node_type)} is not the type asked for, which is {quoted(label)}",
            )
    index = model.index(label).of_texts(node.node_id for node in nodes)
    basis = [Basis.TRAINED if row >= 0 else Basis.UNKNOWN for row in index.tolist()]
    described = [i for i, node in enumerate(nodes) if node.is_described and (index[i] < 0 or node.is_new)]
    found = Resolved(index, basis, {}, {})
    features = _features(model, label, [nodes[i] for i in described])
    for position, own in zip(described, features, strict=True):
        neighbours, ignored = _neighbours(model, label, nodes[position].neighbours, target)
        if ignored:
            found.ignored[position] = ignored
        index[position] = -1
        says_something = bool(neighbours) or (own is not None and len(own) > 0)
        basis[position] = Basis.UNKNOWN if not says_something else Basis.DESCRIBED if inductive else Basis.NOT_INDUCTIVE
        if inductive and says_something:
            found.new[position] = NewNode(own, tuple(neighbours))
    return found


def _features(model: ServedModel, label: str, nodes: Sequence[Given]) -> list[FloatArray | None]:
    given = [node for node in nodes if node.properties is not None]
    if not given:
        return [None] * len(nodes)
    try:
        with np.errstate(over="ignore"):
            rows = encode_many(model.features, label, [node.properties or {} for node in given])
    except BadValue as bad:
        value = "" if bad.value is None else f"; found {quoted(bad.value)}"
        raise BadRequest("BAD_PROPERTY", f"{given[bad.row].path}.properties: {bad}{value}") from bad
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise BadRequest("BAD_PROPERTY", f"{given[wrong[0]].path}.properties: a number is too large for its encoder")
    encoded = iter(rows)
    return [None if node.properties is None else next(encoded) for node in nodes]


def _neighbours(
    model: ServedModel, label: str, neighbours: Sequence[Neighbour], target: Target
) -> tuple[list[NewEdge], int]:
    """The edges to nodes that training saw, and how many go to others."""
    found, ignored = [], 0
    ways: dict[tuple[str | EdgeType, bool | None], tuple[EdgeType, bool]] = {}
    for neighbour in neighbours:
        way = (neighbour.edge_type, neighbour.outgoing)
        if way not in ways:
            ways[way] = _edge(model, label, neighbour)
        edge, outgoing = ways[way]
        row = model.index(edge[2 if outgoing else 0]).find(neighbour.node_id)
        values = _values(neighbour, target) if edge == target.edge else [None]
        if row < 0:
            ignored += 1
        else:
            found += [NewEdge(edge, outgoing, row, value) for value in values]
    return found, ignored


def _edge(model: ServedModel, label: str, neighbour: Neighbour) -> tuple[EdgeType, bool]:
    """The edge type, and whether the new node is its source."""
    asked, path = neighbour.edge_type, f"{neighbour.path}.edgeType"
    there = [e for e in model.edge_types if (e[1] if isinstance(asked, str) else e) == asked]
    fits = [(e, True) for e in there if e[0] == label and neighbour.outgoing is not False]
    fits += [(e, False) for e in there if e[2] == label and neighbour.outgoing is not True]
    if len(fits) == 1:
        return fits[0]
    if fits:
        ways = ", ".join("-".join(e) + (" out" if out else " in") for e, out in fits[:LISTED])
        raise invalid(path, f"give [source node type, relation, destination node type] and direction: {ways} fit")
    names = ", ".join("-".join(e) for e in model.edge_types if label in e[::2]) or "no edge type"
    said = asked if isinstance(asked, str) else "-".join(asked)
    way = "" if neighbour.outgoing is None else " out" if neighbour.outgoing else " in"
    raise BadRequest(
        "UNKNOWN_EDGE_TYPE",
        f"{path}: {quoted(said)}{way} is no edge of a {quoted(label)} node; there are {names[:400]}",
    )


def _values(neighbour: Neighbour, target: Target) -> list[float | None]:
    """The target's own property of an edge; a class is its number. An edge of several classes stands for as many."""
    value, path = neighbour.value, f"{neighbour.path}.value"
    if value is None or value == ():
        return [None]
    if not target.is_classification:
        if isinstance(value, str | tuple):
            raise invalid(path, f"{target.name} is a number, not {quoted(value)}")
        return [float(value)]
    given = value if isinstance(value, tuple) else (str(value),)
    for name in given:
        if name not in target.classes:
            raise invalid(path, f"{quoted(name)} is not a class of {target.name}")
    if len(given) > 1 and not target.multi_label:
        raise invalid(path, f"{target.name} is one class, not {len(given)}")
    return [float(target.classes.index(name)) for name in given]
