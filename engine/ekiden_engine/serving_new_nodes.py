"""Nodes as a request describes them, turned into what inductive models answer from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from ekiden_engine.errors import quoted
from ekiden_engine.features.numerical import missing_value
from ekiden_engine.features.rows import encode_many
from ekiden_engine.graph import EdgeType, Target
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray, NewEdge, NewNode
from ekiden_engine.numbers import BadValue
from ekiden_engine.serving_errors import BadRequest, invalid, named
from ekiden_engine.serving_given import Given, Neighbour
from ekiden_engine.serving_model import LISTED, ServedModel


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
"""Why a node counts as never seen: its id is not in the training graph, and nothing else is said of it; it is, but
without a training edge, a feature or a neighbour to go by; it was described, by nothing that the model can answer
from."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The nodes at one end of a request: `index` int32 [m], -1 where training did not see the node; `new` by position,
    where a description is to be answered from; `ignored`: how many neighbours do not count, by position."""

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
        basis[position] = Basis.NOT_INDUCTIVE
        if inductive and says_something:
            basis[position] = Basis.DESCRIBED
            found.new[position] = NewNode(own, tuple(neighbours))
    return found


def type_of_new(model: ServedModel, node: Given, among: Sequence[str]) -> str:
    """The type of a described node that does not say it: the only one of `among` that its description fits.

    Its neighbours decide, by edge types and by ids that are known at the other end; where they leave several, the names
    of its properties do. Raises `BadRequest` AMBIGUOUS_NODE or UNKNOWN_EDGE_TYPE.
    """

    def leads_to_known(label: str, neighbour: Neighbour) -> bool:
        ends = (edge[2 if outgoing else 0] for edge, outgoing in _ways(model, label, neighbour))
        return any(neighbour.node_id in model.index(end) for end in ends)

    fits = [label for label in among if all(_ways(model, label, one) for one in node.neighbours)]
    if not fits:
        for one in node.neighbours:
            if not any(_ways(model, label, one) for label in among):
                raise _no_way(model, among, one)
    # a type stays possible while one neighbour is known: a majority would decide wrongly where types share ids
    fits = [label for label in fits if any(leads_to_known(label, one) for one in node.neighbours)] or fits
    if len(fits) > 1 and node.properties:
        columns = {label: {encoder.column for encoder in model.features.encoders(label)} for label in fits}
        fits = [label for label in fits if columns[label] & node.properties.keys()] or fits
    if len(fits) == 1:
        return fits[0]
    types = ", ".join((fits or among)[:LISTED])
    raise BadRequest("AMBIGUOUS_NODE", f"{node.path}: give nodeType, the type of the new node, one of {types}")


def _features(model: ServedModel, label: str, nodes: Sequence[Given]) -> list[FloatArray | None]:
    given = [node for node in nodes if node.properties is not None]
    if not given:
        return [None] * len(nodes)
    try:
        with np.errstate(over="ignore"):
            rows = encode_many(model.features, label, [node.properties or {} for node in given])
    except BadValue as bad:
        value = "" if bad.value is None else f"; found {quoted(bad.value)}"
        # the encoder speaks to who writes the spec, which a request cannot change
        problem = str(bad).replace(missing_value(bad.row).problem, "give a value; the spec named no imputer")
        raise BadRequest("BAD_PROPERTY", f"{given[bad.row].path}.properties: {problem}{value}") from bad
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
    fits = _ways(model, label, neighbour)
    if len(fits) == 1:
        return fits[0]
    if fits:
        ways = ", ".join("-".join(e) + (" out" if out else " in") for e, out in fits[:LISTED])
        raise invalid(
            f"{neighbour.path}.edgeType",
            f"give [source node type, relation, destination node type] and direction: {ways} fit",
        )
    raise _no_way(model, [label], neighbour)


def _ways(model: ServedModel, label: str, neighbour: Neighbour) -> list[tuple[EdgeType, bool]]:
    """The edge types that lead from a node of type `label` to the neighbour, and whether that node is their source."""
    there = model.edges_called(neighbour.edge_type)
    fits = [(e, True) for e in there if e[0] == label and neighbour.outgoing is not False]
    return fits + [(e, False) for e in there if e[2] == label and neighbour.outgoing is not True]


def _no_way(model: ServedModel, labels: Sequence[str], neighbour: Neighbour) -> BadRequest:
    asked = neighbour.edge_type
    names = ", ".join("-".join(e) for e in model.edge_types if {e[0], e[2]} & set(labels)) or "no edge type"
    said = asked if isinstance(asked, str) else "-".join(asked)
    way = "" if neighbour.outgoing is None else " out" if neighbour.outgoing else " in"
    of = " or ".join(quoted(label) for label in labels[:LISTED])
    return BadRequest(
        "UNKNOWN_EDGE_TYPE",
        f"{neighbour.path}.edgeType: {quoted(said)}{way} is no edge of a {of} node; there are {names[:400]}",
    )


def _values(neighbour: Neighbour, target: Target) -> list[float | None]:
    """The target's own property of an edge; a class is its number. An edge of several classes stands for as many."""
    value, path = neighbour.value, f"{neighbour.path}.value"
    if value is None or value == ():
        return [None]
    if not target.is_classification:
        if isinstance(value, str | tuple):
            raise invalid(path, f"{target.name} is a number; found {named(value)}")
        return [float(value)]
    given = value if isinstance(value, tuple) else (str(value),)
    for name in given:
        if name not in target.classes:
            said = name if isinstance(value, tuple) else value
            raise invalid(path, f"{named(said)} is not a class of {target.name}")
    if len(given) > 1 and not target.multi_label:
        raise invalid(path, f"{target.name} is one class, not {len(given)}")
    return [float(target.classes.index(name)) for name in given]
