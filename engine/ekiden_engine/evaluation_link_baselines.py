"""What a model of links has to beat: popularity, and on one edge type the two recommenders that are hardest to beat.

EASE and iALS take links as a table of sources by destinations; one fit answers both ways. Their strength is chosen by
MRR on validation links, never on test links; without validation links, and on large tables, it is the middle one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ekiden_engine.evaluation_link_queries import Scorer, Side, budgeted, join_ranks, make_sides, rank_side
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.metrics import FloatArray
from ekiden_engine.models.base import Direction, IndexArray
from ekiden_engine.models.baselines import popularity

POPULARITY, EASE, IALS = "popularity", "ease", "ials"

MAX_EASE, TUNED_EASE = 8_000, 4_000
"""Nodes at the smaller end that EASE is fitted for at most, and up to which its strength is chosen: each fit is an
inverse of that size, two seconds for 4,000 on two cores."""
MAX_IALS, TUNED_IALS = 5_000_000, 1_000_000
"""The same for iALS, in training links: three seconds for a million."""
CHOICE_SCORES = 20_000_000
"""Scores that choosing a strength may cost, per candidate."""


@dataclass(frozen=True, slots=True)
class LinkBaselines:
    """Scorers by name; and why others are missing."""

    scorers: Mapping[str, Scorer]
    left_out: Mapping[str, str]


def link_baselines(graph: EncodedGraph, target: Target) -> LinkBaselines:
    """Fit the baselines on the training links."""
    found, left_out = {POPULARITY: _popularity(graph, target)}, {}
    concerned = graph.link_labels(target)
    edges, labels = concerned[0]
    train = labels.rows(Split.TRAIN)
    smaller = min(len(graph.node(edges.source_label)), len(graph.node(edges.dest_label)))
    if len(concerned) > 1:
        left_out = dict.fromkeys((EASE, IALS), "it knows one edge type, and these are several")
    elif not len(train):
        left_out = dict.fromkeys((EASE, IALS), "there are no training links")
    else:
        shape = (len(graph.node(edges.source_label)), len(graph.node(edges.dest_label)))
        links = sparse.csr_array(
            (np.ones(len(train), np.float32), (edges.source[train], edges.dest[train])), shape=shape
        )
        links.data[:] = 1  # a link that is there twice counts once
        check = budgeted(make_sides(graph, concerned, Split.VALID), CHOICE_SCORES)[0]
        if smaller > MAX_EASE:
            left_out[EASE] = f"it takes at most {MAX_EASE:,} nodes at the smaller end, here are {smaller:,}"
        else:
            found[EASE] = _ease(links, check if smaller <= TUNED_EASE else [])
        if len(train) > MAX_IALS:
            left_out[IALS] = f"it takes at most {MAX_IALS:,} training links, here are {len(train):,}"
        else:
            found[IALS] = _ials(links, check if len(train) <= TUNED_IALS else [])
    return LinkBaselines(found, left_out)


def _popularity(graph: EncodedGraph, target: Target) -> Scorer:
    """Training links of each candidate, per edge type and direction."""
    counts: list[dict[Direction, FloatArray]] = []
    for edges, labels in graph.link_labels(target):
        train = labels.rows(Split.TRAIN)
        counts.append(
            {
                "tail": popularity(edges.dest[train], len(graph.node(edges.dest_label))),
                "head": popularity(edges.source[train], len(graph.node(edges.source_label))),
            }
        )

    def scores(index: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        own = counts[index][direction]
        return np.broadcast_to(own, (len(nodes), len(own)))

    return scores


def _ease(links: sparse.csr_array, check: Sequence[Side]) -> Scorer:
    """Items are the destinations, unless they are too many for that and the sources are not."""
    from ekiden_engine.models.ease import STRENGTHS, Ease

    turned = links.shape[1] > MAX_EASE
    table = links.T.tocsr() if turned else links

    def fit(strength: float) -> Scorer:
        model = Ease.fit(table, strength)

        def scores(_: int, direction: Direction, nodes: IndexArray) -> FloatArray:
            if (direction == "tail") != turned:
                return model.scores(nodes)
            return np.ascontiguousarray((table @ model.weights[:, nodes]).T)

        return scores

    return _best(fit, STRENGTHS, check)


def _ials(links: sparse.csr_array, check: Sequence[Side]) -> Scorer:
    from ekiden_engine.models.ials import STRENGTHS, Ials

    def fit(strength: float) -> Scorer:
        model = Ials.fit(links, strength)

        def scores(_: int, direction: Direction, nodes: IndexArray) -> FloatArray:
            given, asked = (model.users, model.items) if direction == "tail" else (model.items, model.users)
            return given[nodes] @ asked.T

        return scores

    return _best(fit, STRENGTHS, check)


def _best(fit: Callable[[float], Scorer], strengths: Sequence[float], check: Sequence[Side]) -> Scorer:
    """The fit with the highest MRR on validation links."""
    if not check:
        return fit(strengths[len(strengths) // 2 - (len(strengths) % 2 == 0)])
    best, highest = None, -1.0
    for strength in strengths:
        model = fit(strength)
        found = float(join_ranks([rank_side(side, model).ranks for side in check]).figures()["mrr"] or 0.0)
        if found > highest:
            best, highest = model, found
    return best if best is not None else fit(strengths[0])
