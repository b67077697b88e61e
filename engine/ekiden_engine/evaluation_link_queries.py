"""Queries of link prediction: which links are held out, which are known, and ranking them block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, Split
from ekiden_engine.metrics import CountArray, FloatArray
from ekiden_engine.metrics_ranking import Ranks, rank_truths
from ekiden_engine.models.base import Direction, IndexArray

BLOCK = 8_000_000
"""Scores held at once: 32 MB."""
DIRECTIONS: tuple[Direction, Direction] = ("tail", "head")

RowArray = npt.NDArray[np.int64]
Concerned = tuple[tuple[EdgeSet, Labels], ...]
"""The edge types that a target is about, with their splits."""
Scorer = Callable[[int, Direction, IndexArray], FloatArray]
"""Scores of all candidates, float32 [m, n], for m given ends of the edge type at a position among those concerned."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """All queries of one edge type and direction: `query` int32 [q] ascending, `offsets` int64 [q + 1] into `truth`
    int32 [t]; `known` lists the links of other splits, sorted by the node that is given."""

    index: int
    direction: Direction
    query_label: str
    candidates: int
    query: IndexArray
    offsets: CountArray
    truth: IndexArray
    known_nodes: IndexArray
    known_links: IndexArray

    def sample(self, share: float, random: np.random.Generator) -> Side:
        """A random share of the queries, one at least."""
        count = max(round(len(self.query) * share), 1)
        if count >= len(self.query):
            return self
        chosen = np.sort(random.choice(len(self.query), count, replace=False))
        sizes = np.diff(self.offsets)[chosen]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        truth = self.truth[_ranges(self.offsets[chosen], sizes)]
        return Side(
            self.index, self.direction, self.query_label, self.candidates, self.query[chosen], offsets, truth,
            self.known_nodes, self.known_links,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Outcome of ranking one side: ranks of its truths, and (if asked for) the best candidates of each query."""

    ranks: Ranks
    top: IndexArray
    top_scores: FloatArray


def make_sides(graph: EncodedGraph, concerned: Concerned, split: Split) -> list[Side]:
    """Every edge type in both directions; edge types without a link in `split` are left out."""
    sides = []
    for index, (edges, labels) in enumerate(concerned):
        mine = labels.split == split
        if not mine.any():
            continue
        for direction in DIRECTIONS:
            given, asked = (edges.source, edges.dest) if direction == "tail" else (edges.dest, edges.source)
            query_label, candidate_label = (
                (edges.source_label, edges.dest_label)
                if direction == "tail"
                else (edges.dest_label, edges.source_label)
            )
            candidates = len(graph.node(candidate_label))
            # A link that is there twice is one truth.
            pairs = np.unique(given[mine].astype(np.int64) * candidates + asked[mine])
            query, starts = np.unique(pairs // candidates, return_index=True)
            others = np.flatnonzero(~mine)
            order = others[np.argsort(given[others], kind="stable")]
            sides.append(
                Side(
                    index,
                    direction,
                    query_label,
                    candidates,
                    query.astype(np.int32),
                    np.append(starts, len(pairs)),
                    (pairs % candidates).astype(np.int32),
                    given[order],
                    asked[order],
                )
            )
    return sides


def budgeted(sides: list[Side], budget: float) -> tuple[list[Side], float]:
    """The sides, or the same random share of each (seed 0) if they cost more than `budget` scores; and the share."""
    cost = sum(len(side.query) * side.candidates for side in sides)
    if cost <= budget:
        return sides, 1.0
    share, random = budget / cost, np.random.default_rng(0)
    return [side.sample(share, random) for side in sides], share


def rank_side(side: Side, scorer: Scorer, top: int = 0) -> Ranked:
    """Rank the truths of a side; `top`: also list so many of the best candidates per query."""
    queries, width = len(side.query), min(top, side.candidates)
    raw, filtered = np.empty(len(side.truth)), np.empty(len(side.truth))
    best, best_scores = np.full((queries, top), -1, np.int32), np.full((queries, top), -np.inf, np.float32)
    step = max(BLOCK // max(side.candidates, 1), 1)
    for start in range(0, queries, step):
        end = min(start + step, queries)
        nodes = side.query[start:end]
        scores = np.array(scorer(side.index, side.direction, nodes), np.float32)
        first, last = (
            np.searchsorted(side.known_nodes, nodes, "left"),
            np.searchsorted(side.known_nodes, nodes, "right"),
        )
        rows = np.repeat(np.arange(end - start), last - first)
        known = (rows, side.known_links[_ranges(first, last - first)].astype(np.int64))
        mine = slice(int(side.offsets[start]), int(side.offsets[end]))
        truth_rows = np.repeat(np.arange(end - start), np.diff(side.offsets[start : end + 1]))
        raw[mine], filtered[mine] = rank_truths(scores, known, (truth_rows, side.truth[mine].astype(np.int64)))
        if width:
            best[start:end, :width], best_scores[start:end, :width] = _top(scores, width)
    return Ranked(Ranks(side.offsets, raw, filtered), best, best_scores)


def _top(scores: FloatArray, count: int) -> tuple[IndexArray, FloatArray]:
    """The `count` best columns of each row, best first; -1 where a row has fewer candidates."""
    columns = scores.shape[1]
    found = np.argpartition(scores, columns - count, axis=1)[:, columns - count :] if count < columns else None
    found = np.broadcast_to(np.arange(columns), scores.shape) if found is None else found
    values = np.take_along_axis(scores, found, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    found, values = np.take_along_axis(found, order, 1), np.take_along_axis(values, order, 1)
    return np.where(np.isneginf(values), -1, found).astype(np.int32), values


def _ranges(starts: npt.NDArray[np.integer], sizes: npt.NDArray[np.integer]) -> RowArray:
    """All numbers start, start + 1, … of each range, one after the other."""
    total = int(sizes.sum())
    if not total:
        return np.empty(0, np.int64)
    shift = np.repeat(starts - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
    return np.asarray(np.arange(total) + shift, np.int64)


def join_ranks(parts: Sequence[Ranks]) -> Ranks:
    """The ranks of several sides, one after the other."""
    offsets, base = [np.zeros(1, np.int64)], 0
    for part in parts:
        offsets.append(part.offsets[1:] + base)
        base += len(part.raw)
    none = [np.empty(0)]
    return Ranks(
        np.concatenate(offsets),
        np.concatenate([*none, *(p.raw for p in parts)]),
        np.concatenate([*none, *(p.filtered for p in parts)]),
    )
