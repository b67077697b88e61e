"""Ranks of true candidates among all, and the figures made of them.

A query is one end of an edge type; its truths are the held-out edges' other ends. Two ranks of a truth matter:

- *raw*: among all candidates but those that the query is already linked to in other splits. What a person sees
  in a list; recall@k and NDCG@k are made of it, averaged over queries.
- *filtered*: as raw, without the query's other truths (Bordes et al. 2013, "filtered setting"). MRR and hits@k are made
  of it, averaged over truths.

Candidates of equal score share the mean of their ranks, so that a model which gives all the same score gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ekiden_engine.metrics import CountArray, DoubleArray, Figures, FloatArray

HITS = (1, 3, 10)
LIST_LENGTH = 20
"""Length of the list that recall and NDCG are about."""
MANY = 16
"""From so many truths on, one sort of a query's scores is cheaper than counting for each."""

RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Ranks of all truths [t], those of a query together: query i has truths offsets[i] to offsets[i + 1]."""

    offsets: CountArray
    raw: DoubleArray
    filtered: DoubleArray

    def figures(self) -> Figures:
        """Mean reciprocal rank, hits@1, 3 and 10, mean rank (filtered); recall@20, NDCG@20; `count` truths of
        `queries`."""
        queries, count = len(self.offsets) - 1, len(self.raw)
        if not count:
            names = ("mrr", *(f"hits@{k}" for k in HITS), "mean_rank", f"recall@{LIST_LENGTH}", f"ndcg@{LIST_LENGTH}")
            return dict.fromkeys(names, None) | {"count": 0, "queries": 0}
        recall, ndcg = self.lists()
        return {
            "mrr": float((1 / self.filtered).mean()),
            **{f"hits@{k}": float((self.filtered <= k).mean()) for k in HITS},
            "mean_rank": float(self.filtered.mean()),
            f"recall@{LIST_LENGTH}": float(recall.mean()),
            f"ndcg@{LIST_LENGTH}": float(ndcg.mean()),
            "count": count,
            "queries": queries,
        }

    def lists(self) -> tuple[DoubleArray, DoubleArray]:
        """Recall@20 and NDCG@20 of each query that has a truth.

        Recall is the share of the query's truths that are in its list. NDCG (Järvelin and Kekäläinen 2002) weighs each
        of them by 1 / log2(1 + rank), as a share of what a list with the truths on top has.
        """
        sizes = np.diff(self.offsets)
        starts = self.offsets[:-1][sizes > 0]
        sizes = sizes[sizes > 0]
        listed = self.raw <= LIST_LENGTH
        gain = np.where(listed, 1 / np.log2(1 + self.raw), 0.0)
        ideal = np.cumsum(1 / np.log2(1 + np.arange(1, LIST_LENGTH + 1)))
        best = ideal[np.minimum(sizes, LIST_LENGTH) - 1]
        return np.add.reduceat(listed, starts, dtype=np.float64) / sizes, np.add.reduceat(gain, starts) / best


def rank_truths(
    scores: FloatArray, known: tuple[RowArray, RowArray], truths: tuple[RowArray, RowArray]
) -> tuple[DoubleArray, DoubleArray]:
    """Raw and filtered rank of each truth, float64 [t], best 1.

    `scores` float32 [q, n] is changed: `known` (rows, columns) become -inf, unless they are truths too; NaN becomes the
    lowest number, so that a model that diverged ranks last. `truths` (rows, columns) in ascending order of rows.
    """
    if not np.isfinite(scores).all():
        np.nan_to_num(scores, copy=False, nan=float(np.finfo(np.float32).min))
    rows, columns = truths
    wanted = scores[rows, columns]
    scores[known] = -np.inf
    scores[rows, columns] = wanted
    raw, filtered = np.empty(len(rows)), np.empty(len(rows))
    if len(rows):
        bounds = np.append(np.flatnonzero(np.diff(rows, prepend=-1)), len(rows))
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            own, line = wanted[start:end], scores[rows[start]]
            above, level = _counts(line, own)
            rivals_above, rivals_level = _above_and_level(np.sort(own), own)
            raw[start:end] = 1 + above + (level - 1) / 2
            filtered[start:end] = 1 + above - rivals_above + (level - rivals_level) / 2
    return raw, filtered


def _counts(line: FloatArray, own: FloatArray) -> tuple[CountArray, CountArray]:
    """How many of `line` [n] are above each of `own`, and how many equal it (itself included)."""
    if len(own) > MANY:
        return _above_and_level(np.sort(line), own)
    above = np.array([np.count_nonzero(line > score) for score in own], np.int64)
    return above, np.array([np.count_nonzero(line == score) for score in own], np.int64)


def _above_and_level(ordered: FloatArray, own: FloatArray) -> tuple[CountArray, CountArray]:
    right = np.searchsorted(ordered, own, "right")
    return len(ordered) - right, right - np.searchsorted(ordered, own, "left")
