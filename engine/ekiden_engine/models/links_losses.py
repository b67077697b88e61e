"""One step's loss: questions against the candidates that they share, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.models.base import IndexArray
from ekiden_engine.models.device import on
from ekiden_engine.models.kge_losses import Answers, bpr, contrastive, cross_entropy
from ekiden_engine.models.links_data import Candidates
from ekiden_engine.models.links_questions import LongArray

ROWS: Final = 1024
"""Questions scored at a time, fewer where that would be more scores than a step may have at once."""
SCORES: Final = 20_480_000
"""So many in the full batch: 80 MB a matrix, of which there are about three."""


@dataclass(frozen=True, slots=True)
class LinkRecipe:
    """What a training does: see the hyperparameters of the same names."""

    width: int
    lr: float
    batch: int
    loss: str
    gamma: float
    negatives: int
    regularization: float


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Questions of one step, with the same candidates and the same bias: nodes `given` and edge types `kinds` int64
    [b], `counts` [b] answers each; answer i belongs to question `rows[i]` and is the candidate `columns[place[i]]`.
    `known`: rows and columns of candidates that are answers too, but not asked for in this step.

    `columns` int64 [c], ascending, in the common numbering; `drawn` is None where these are all nodes that can be
    answers. `hidden` int32: the links that no message may go along, ascending.
    """

    relation: int
    given: LongArray
    kinds: LongArray
    counts: LongArray
    rows: LongArray
    place: LongArray
    known: tuple[LongArray, LongArray]
    columns: LongArray
    drawn: Candidates | None
    hidden: IndexArray


def descend(
    batch: Batch, recipe: LinkRecipe, asked: Tensor, table: Tensor, bias: Tensor, half: torch.dtype, scores_at_once: int
) -> float:
    """The mean loss per answer of questions `asked` [b, d] against the candidates `table` [c, d], `bias` [c]; what
    these three come from gets its gradient. Scores are computed in the type `half`,
    so many at a time."""
    drawn, device = batch.drawn, table.device
    if drawn is not None and drawn.shift:
        bias = bias + on(device, drawn.drawn) * drawn.shift
    half_table = table.detach().to(half)
    counts = on(device, batch.counts).float()
    by_asked, by_table, by_bias = [], torch.zeros_like(table), torch.zeros_like(bias)
    loss, most = 0.0, max(scores_at_once // max(len(table), 1), 1)
    sizes = batch.counts if recipe.loss == "bpr" else None  # it has a line per answer
    for part in cuts(len(asked), min(ROWS, most), sizes, most):
        with torch.no_grad():
            own = asked[part].detach().to(half)
            scores = torch.addmm(bias.to(half), own, half_table.t())
            mine = slice(*np.searchsorted(batch.rows, (part.start, part.stop)).tolist())
            rows, place = on(device, batch.rows[mine] - part.start), on(device, batch.place[mine])
            value, slope = _loss(scores, Answers(rows, place, counts[part]), batch, recipe, part)
            share = float(counts[part].sum() / counts.sum())
            loss += float(value) * share
            slope.mul_(share)
            by_asked.append((slope @ half_table).float())
            by_table += (slope.t() @ own).float()
            by_bias += slope.float().sum(0)
    torch.autograd.backward([asked, table, bias], [torch.cat(by_asked), by_table, by_bias])
    return loss


def _loss(scores: Tensor, truth: Answers, batch: Batch, recipe: LinkRecipe, part: slice) -> tuple[Tensor, Tensor]:
    if batch.drawn is None or recipe.loss == "cross-entropy":
        return cross_entropy(scores, truth)
    negative = on(scores.device, batch.drawn.drawn).repeat(len(scores), 1)
    negative[truth.rows, truth.columns] = False
    rows, columns = batch.known
    mine = (rows >= part.start) & (rows < part.stop)
    negative[on(scores.device, rows[mine] - part.start), on(scores.device, columns[mine])] = False
    if recipe.loss == "bpr":
        return bpr(scores, truth, negative)
    return contrastive(scores, truth, negative, recipe.gamma)


def cuts(count: int, most: int, sizes: LongArray | None, bound: int | None) -> Iterator[slice]:
    """Slices that cover 0 to `count`: at most `most` long, and with `sizes` [count] of at most `bound` in sum, unless
    a single one is larger."""
    sums = None if sizes is None or bound is None else np.concatenate(([0], np.cumsum(sizes)))
    start = 0
    while start < count:
        stop = min(start + most, count)
        if sums is not None and bound is not None:
            stop = min(stop, max(int(np.searchsorted(sums, sums[start] + bound, side="right")) - 1, start + 1))
        yield slice(start, stop)
        start = stop
