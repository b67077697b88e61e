"""Links: the likeliest ends of a link, and how likely a given link is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ekiden_engine.models.base import BoolArray, Direction, FloatArray, IndexArray, NewNode
from ekiden_engine.neighbours import TopIndex
from ekiden_engine.serving_fold_in import fold_in
from ekiden_engine.serving_model import LinkTable, Served, ServedModel
from ekiden_engine.serving_new_nodes import Resolved, resolve
from ekiden_engine.serving_payload import Payload
from ekiden_engine.serving_results import check_results, item, ranked, status_of

CHUNK: Final = 16_384
"""Pairs whose vectors are held at a time."""
DEFAULT_TOPK: Final = 1


def likeliest_ends(model: ServedModel, served: Served, payload: Payload) -> list[dict[str, Any]]:
    """The answer to `predict_tail` and `predict_head`: an entry per edge with its best candidates.

    With the mask, what the graph or the request links to the node is left out, and so is the node itself. A node that
    the model knows nothing of stands at the mean of all: it gets what is likely for anyone.
    """
    tail = payload.mode == "predict_tail"
    direction: Direction = "tail" if tail else "head"
    source, _, dest = served.ends
    label, other = (source, dest) if tail else (dest, source)
    given = [end for edge in payload.edges or () if (end := edge.head if tail else edge.tail) is not None]
    topk = payload.parameters.topk or DEFAULT_TOPK
    check_results(len(given), topk)
    nodes = resolve(model, label, given, served.target, inductive=True)
    nodes.known(served.link_predictor.known(label, nodes.index))
    excluded = None
    if payload.parameters.mask:
        table = model.linked(served.ends, direction)
        excluded = [_linked(table, node, itself=label == other) for node in nodes.index.tolist()]
    queries = served.link_predictor.queries(served.edge_type, direction, nodes.index)
    predictor, edge_type = served.link_predictor, served.edge_type
    for position, query in fold_in(model, nodes, lambda rows: predictor.queries(edge_type, direction, rows)).items():
        queries[position] = query
    if excluded is not None:
        for position, new in nodes.new.items():
            excluded[position] = _own_links(served, direction, new)
    found = candidates(model, served, direction).top(queries, topk, excluded)
    answers = []
    for position in range(len(given)):
        rows = found.rows[position][found.rows[position] >= 0]
        names = model.names(other, rows)
        status = status_of(nodes.basis[position])
        answers.append(
            item(
                ranked(names, found.scores[position].tolist(), status),
                {"head" if tail else "tail": nodes.basis[position]},
                nodes.ignored.get(position, 0),
            )
        )
    return answers


def candidates(model: ServedModel, served: Served, direction: Direction) -> TopIndex:
    """The candidates of one end of a link, in index order. A knowledge graph has hundreds of relations, most of them
    with the same candidates: those share one index."""
    key = (served.position, served.edge_type, direction)
    fresh: list[FloatArray] = []
    if key not in model.contents:
        fresh.append(_items(model, served, direction))
        model.contents[key] = _fingerprint(fresh[0])

    def typical(size: int) -> FloatArray:
        count = len(model.index(served.ends[0 if direction == "tail" else 2]))
        nodes = np.random.default_rng(0).integers(-1, max(1, count), size=size).astype(np.int32)
        return served.link_predictor.queries(served.edge_type, direction, nodes)

    def make() -> TopIndex:
        items = fresh[0] if fresh else _items(model, served, direction)
        return TopIndex(items, typical, f"{served.name} {direction}s")

    return model.tops.get((served.position, model.contents[key]), make)


def link_scores(
    model: ServedModel,
    served: Served,
    source: IndexArray,
    dest: IndexArray,
    new: tuple[Mapping[int, FloatArray], Mapping[int, FloatArray]] = ({}, {}),
) -> FloatArray:
    """How likely each link is, as its destination's score among all, float32 [m]; an unseen node stands at the mean.

    `new`: by position, vectors that stand for sources (queries) and for destinations (items).
    """
    items = candidates(model, served, "tail").items
    scores = np.empty(len(source), np.float32)
    mean = None
    for start in range(0, len(source), CHUNK):
        part = slice(start, start + CHUNK)
        queries = served.link_predictor.queries(served.edge_type, "tail", source[part])
        chosen = items[dest[part]] if len(items) else np.zeros_like(queries)
        unseen = dest[part] < 0
        if unseen.any() and len(items):
            mean = items.mean(0) if mean is None else mean
            chosen[unseen] = mean
        for vectors, given in zip((queries, chosen), new, strict=True):
            for position, vector in given.items():
                if start <= position < start + len(queries):
                    vectors[position - start] = vector
        scores[part] = np.vecdot(queries, chosen)
    return scores


def new_ends(
    model: ServedModel, served: Served, heads: Resolved, tails: Resolved
) -> tuple[dict[int, FloatArray], dict[int, FloatArray]]:
    """What stands for the new ones among heads and tails in `link_scores`; those of which nothing follows are marked so
    in `heads` and `tails`."""
    predictor, items = served.link_predictor, candidates(model, served, "tail").items
    queries = fold_in(model, heads, lambda rows: predictor.queries(served.edge_type, "tail", rows))
    return queries, fold_in(model, tails, lambda rows: items[rows])


def known_ends(served: Served, source: IndexArray, dest: IndexArray) -> tuple[BoolArray, BoolArray]:
    """Whether the model knows anything of each source and of each destination."""
    predictor = served.link_predictor
    return predictor.known(served.ends[0], source), predictor.known(served.ends[2], dest)


def _own_links(served: Served, direction: Direction, node: NewNode) -> IndexArray:
    """The neighbours that the request links the new node to by the edge type that is asked about."""
    out = direction == "tail"
    linked = [e.node for e in node.neighbours if e.edge_type == served.edge and e.outgoing == out]
    return np.array(linked, np.int32)


def _fingerprint(items: FloatArray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(items).data, digest_size=16, key=repr(items.shape).encode()).digest()


def _items(model: ServedModel, served: Served, direction: Direction) -> FloatArray:
    with model.making:  # predictors may keep the last ones
        return served.link_predictor.items(served.edge_type, direction)


def _linked(table: LinkTable | None, node: int, *, itself: bool) -> IndexArray:
    """What the graph links to a node."""
    rows = np.empty(0, np.int32) if table is None else table.of(node)
    return np.append(rows, np.int32(node)) if itself and node >= 0 else rows
