"""A loaded model as requests see it: what can be asked for, with the tables that finding an answer takes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeType, Target
from ekiden_engine.model_folder import KnownLinks, LoadedModel
from ekiden_engine.models.base import (
    Direction,
    EdgePredictor,
    IndexArray,
    LinkPredictor,
    NodePredictor,
    Predictor,
)
from ekiden_engine.neighbours import TopCache
from ekiden_engine.serving_ids import IdIndex, encoded_id

LISTED = 10
"""Names that an error message lists at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One thing that can be asked for: a property, or the links of one edge type.

    `position` is that of its target in config.json. `name` is the target's, of links the edge type's: a target may be
    about several. `edge_type` is the position in `LinkPredictor.edge_types`, -1 for properties.
    """

    position: int
    name: str
    target: Target
    predictor: Predictor
    edge: EdgeType | None = None
    edge_type: int = -1

    @property
    def is_link(self) -> bool:
        """Whether links are predicted."""
        return self.target.task is Task.LINK_PREDICTION

    @property
    def node_predictor(self) -> NodePredictor:
        """The predictor of a node property."""
        return cast(NodePredictor, self.predictor)

    @property
    def edge_predictor(self) -> EdgePredictor:
        """The predictor of an edge property."""
        return cast(EdgePredictor, self.predictor)

    @property
    def link_predictor(self) -> LinkPredictor:
        """The predictor of links."""
        return cast(LinkPredictor, self.predictor)

    @property
    def ends(self) -> EdgeType:
        """The edge type; the caller knows that it is not a node property."""
        return cast(EdgeType, self.edge)

    def __str__(self) -> str:
        return f"{self.name} ({self.target.task})"


class LinkTable:
    """The known links of one end's nodes: the indices at the other end, by a node's index."""

    def __init__(self, own: IndexArray, other: IndexArray, count: int) -> None:
        """`own` and `other` int32 [E]: the ends of each link; `count`: nodes at `own`'s end."""
        order = np.argsort(own, kind="stable")
        self._other = other[order]
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(own, minlength=count))))

    def of(self, node: int) -> IndexArray:
        """The other ends of the links of `node`; none for -1."""
        return self._other[self._starts[node] : self._starts[node + 1]] if node >= 0 else self._other[:0]


class ServedModel:
    """See the module. Tables are made when they are first needed, once, and any thread may ask.

    `tops` are the indexes of candidates; `contents` says by target, edge type and direction which candidates are alike;
    `making` is held while a predictor gives them.
    """

    def __init__(self, model: LoadedModel) -> None:
        """Nothing is built yet but the ids of the node types that targets are about."""
        self.config = model.config
        self.features = model.features
        self.tops = TopCache()
        self.contents: dict[tuple[int, int, Direction], bytes] = {}
        self.making = threading.Lock()
        self._ids = model.ids
        self._links = model.links
        self._indexes: dict[str, IdIndex] = {}
        self._tables: dict[tuple[EdgeType, Direction], LinkTable] = {}
        self._widths: dict[tuple[int, str], int] = {}
        self._lock = threading.Lock()
        self.served = tuple(_served(model))
        self._edges_called: dict[str | EdgeType, list[EdgeType]] = {}
        for edge in self.edge_types:
            self._edges_called.setdefault(edge[1], []).append(edge)
            self._edges_called[edge] = [edge]
        for served in self.served:
            for label in (served.target.node,) if served.edge is None else served.edge[::2]:
                if label is not None:
                    self.index(label)

    def __str__(self) -> str:
        """What the model predicts, for people."""
        names = [str(served) for served in self.served]
        return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")

    @property
    def node_types(self) -> tuple[str, ...]:
        """All node types."""
        return tuple(self._ids)

    def index(self, label: str) -> IdIndex:
        """The ids of a node type."""
        found = self._indexes.get(label)
        if found is None:
            with self._lock:
                found = self._indexes.get(label) or IdIndex(self._ids[label])
                self._indexes[label] = found
        return found

    def ids_of(self, label: str, wanted: Collection[str]) -> set[str]:
        """Which of some ids a node type has; without building its `index`, which large types take gigabytes for."""
        if label in self._indexes:
            return {name for name in wanted if name in self._indexes[label]}
        encoded = {encoded_id(name): name for name in wanted}
        ids = self._ids[label].cast(pa.binary())
        there = ids.filter(pc.is_in(ids, pa.array(encoded, pa.binary())))
        return {encoded[one] for one in there.to_pylist()}

    def names(self, label: str, rows: IndexArray) -> list[str]:
        """Ids of nodes by their indices."""
        found: list[str] = self._ids[label].take(pa.array(rows)).to_pylist()
        return found

    def linked(self, edge: EdgeType, direction: Direction) -> LinkTable | None:
        """The links that the graph has of one edge type; of `tail` by source, of `head` by destination."""
        links = self._links.get(edge)
        if links is None:
            return None
        with self._lock:
            if (edge, direction) not in self._tables:
                self._tables[edge, direction] = self._table(links, edge, direction)
            return self._tables[edge, direction]

    def vector_width(self, served: Served, label: str) -> int:
        """The length of the vectors that a target's model has of a node type, 0 if it has none."""
        key = (served.position, label)
        if key not in self._widths:
            vectors = served.predictor.embeddings(label)
            self._widths[key] = 0 if vectors is None else vectors.shape[1]
        return self._widths[key]

    @property
    def known_edges(self) -> tuple[EdgeType, ...]:
        """The edge types whose links are known."""
        return tuple(self._links)

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """All edge types of the graph."""
        return self.config.edges or tuple({s.edge: None for s in self.served if s.edge is not None})

    def edges_called(self, name: str | EdgeType) -> Sequence[EdgeType]:
        """The edge types of a relation; or the one, if there is that edge type."""
        return self._edges_called.get(name, ())

    def _table(self, links: KnownLinks, edge: EdgeType, direction: Direction) -> LinkTable:
        if direction == "tail":
            return LinkTable(links.source, links.dest, len(self._ids[edge[0]]))
        return LinkTable(links.dest, links.source, len(self._ids[edge[2]]))


def _served(model: LoadedModel) -> Iterator[Served]:
    for position, (entry, predictor) in enumerate(zip(model.config.targets, model.predictors, strict=True)):
        target = entry.target
        if target.task is not Task.LINK_PREDICTION:
            yield Served(position, target.name, target, predictor, target.edge)
            continue
        for number, edge in enumerate(cast(LinkPredictor, predictor).edge_types):
            yield Served(position, "-".join(edge), target, predictor, edge, number)
