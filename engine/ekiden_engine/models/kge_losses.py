"""Losses of one batch of questions against shared candidates, with their gradients written out.

All questions of a batch are scored against the same candidates by one matrix product; each loss gives the derivative by
that score matrix, from which two more products make the derivatives by questions and candidates. Autograd would keep
several matrices of that size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

TEMPERATURE = 1.0
"""Of the self-adversarial weights (Sun et al. 2019, equation 5)."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The true answers [m] of a batch of b questions: row of the score matrix and column, int64; `counts` float32 [b],
    answers per question. No pair twice."""

    rows: Tensor
    columns: Tensor
    counts: Tensor


def cross_entropy(scores: Tensor, answers: Answers) -> tuple[Tensor, Tensor]:
    """Softmax over the candidates, a term per answer: sum over answers of (log sum exp of the row - score).

    `scores` [b, c] is used up. The answers of one question share its row, so a question with many answers costs what
    one with a single answer costs; the gradient is exactly that of asking once per answer. Returns the mean loss per
    answer, and its derivative by `scores` [b, c].
    """
    total = answers.counts.sum()
    probability = torch.softmax(scores, 1)
    found = probability[answers.rows, answers.columns]
    loss = -found.float().clamp_min(1e-30).log().sum() / total
    probability.mul_((answers.counts / total)[:, None].to(probability.dtype))
    probability[answers.rows, answers.columns] -= (1 / total).to(probability.dtype)
    return loss, probability


def bpr(scores: Tensor, answers: Answers, negative: Tensor) -> tuple[Tensor, Tensor]:
    """-log sigmoid(score of an answer - score of a negative), mean over both (Rendle et al. 2009).

    `negative` bool [b, c] tells which candidates count as negatives of a question. Returns as `cross_entropy`.
    """
    able, m = negative[answers.rows], len(answers.rows)
    share = able / (able.sum(1, keepdim=True).clamp_min(1) * m)
    lines = scores[answers.rows].float()
    margin = lines[torch.arange(m, device=lines.device), answers.columns][:, None] - lines
    loss = -(logsigmoid(margin) * share).sum()
    pull = torch.sigmoid(-margin) * share
    gradient = torch.zeros_like(scores, dtype=torch.float32).index_add_(0, answers.rows, pull)
    gradient[answers.rows, answers.columns] -= pull.sum(1)
    return loss, gradient.to(scores.dtype)


def contrastive(scores: Tensor, answers: Answers, negative: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """-log sigmoid(gamma + score of an answer) - weighted mean over negatives of log sigmoid(-gamma - score).

    The weights are the softmax over a question's negatives: hard ones count more ("self-adversarial negative sampling",
    Sun et al. 2019, equation 5). `gamma` is the margin for distances, whose scores are at most 0. Returns as
    `cross_entropy`.
    """
    lines = scores.float()
    total = answers.counts.sum()
    weight = torch.softmax((TEMPERATURE * lines).masked_fill(~negative, -torch.inf), 1)
    weight = torch.nan_to_num(weight) * (answers.counts / total)[:, None]  # a row without negatives has none to weigh
    own = lines[answers.rows, answers.columns]
    loss = -(logsigmoid(gamma + own).sum() / total) - (weight * logsigmoid(-gamma - lines)).sum()
    gradient = weight * torch.sigmoid(gamma + lines)
    gradient[answers.rows, answers.columns] -= torch.sigmoid(-gamma - own) / total
    return loss, gradient.to(scores.dtype)
