"""Parameters of which a batch needs, and moves, some rows only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.models.base import IndexArray
from ekiden_engine.models.optimizer import BETAS, EPSILON
from ekiden_engine.models.sampler import RowArray, mapped

BLOCK: Final = 1 << 16
"""Rows that are worked on at a time where all of a table would be another table."""


@dataclass(frozen=True, slots=True, eq=False)
class Used:
    """Rows of a table in one batch: int64 [m], their values as autograd sees them, and each row's L2 weight."""

    table: Table
    rows: Tensor
    values: Tensor
    penalty: Tensor


class Table:
    """A parameter [rows, columns] of which each step moves some rows, by Adam (Kingma and Ba 2015)."""

    def __init__(self, values: Tensor, weights: Tensor, moments: tuple[Tensor, Tensor] | None = None) -> None:
        """`weights` float32 [columns]: L2 weights; `moments`: zeros as large as `values`, where these should lie."""
        self.values = values
        self._weights = weights
        self._first, self._second = moments or (torch.zeros_like(values), torch.zeros_like(values))

    def moments(self) -> tuple[Tensor, Tensor]:
        """The running means of its gradient and of its square, [rows, columns], themselves: to be kept, and resumed."""
        return self._first, self._second

    def use(self, rows: Tensor, penalty: Tensor) -> Used:
        """The rows, int64 [m], to compute with; `penalty` float32 [m] scales their L2 weights."""
        return Used(self, rows, self.values.index_select(0, rows).requires_grad_(), penalty)

    def step(self, used: Used, share: float, lr: float, steps: int) -> None:
        """Move the rows along their gradient; `share` scales the penalty, `steps` counts this one, too."""
        gradient, value = used.values.grad, used.values.detach()
        if gradient is None:
            return
        gradient.addcmul_(value, used.penalty[:, None] * self._weights, value=2 * share)
        first = self._first.index_select(0, used.rows).lerp_(gradient, 1 - BETAS[0])
        second = self._second.index_select(0, used.rows).mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        self._first.index_copy_(0, used.rows, first)
        self._second.index_copy_(0, used.rows, second)
        scale = second.sqrt_().mul_((1 - BETAS[1] ** steps) ** -0.5).add_(EPSILON)
        moved = value.addcdiv_(first, scale, value=-lr / (1 - BETAS[0] ** steps))
        self.values.index_copy_(0, used.rows, moved)


class LazyTable(Table):
    """A `Table` with the full batch's penalty, which pulls at every row in every step: a row that is used pays for the
    steps since it was used last, so that in the long run each pays what it would have paid (lazy updates: Carpenter
    2008)."""

    def __init__(self, values: Tensor, pull: Tensor, moments: tuple[Tensor, Tensor] | None = None) -> None:
        """`pull` float32 [rows]: the L2 weight of each; `moments` as for `Table`."""
        super().__init__(values, torch.ones(values.shape[1]), moments)
        self.last = torch.zeros(len(values), dtype=torch.int32)
        self._pull = pull

    def use_at(self, rows: Tensor, step: int) -> Used:
        """Those rows, int64 [m], distinct, in the step of that number, counted from 1."""
        waited = step - self.last.index_select(0, rows)
        self.last.index_fill_(0, rows, step)
        return self.use(rows, self._pull.index_select(0, rows) * waited)


class Distinct:
    """The distinct ones of numbers below a bound, without sorting."""

    def __init__(self, bound: int) -> None:
        """Two arrays of that length are kept."""
        self._there = np.zeros(bound, np.bool_)
        self._place = np.zeros(bound, np.int32)

    def __call__(self, numbers: IndexArray) -> tuple[RowArray, IndexArray]:
        """The distinct numbers, ascending, and the position of each number among them."""
        self._there[numbers] = True
        found = np.flatnonzero(self._there)
        self._there[found] = False
        self._place[found] = np.arange(len(found), dtype=np.int32)
        return found, self._place[numbers]


def matrix_on_disk(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A new float32 matrix of zeros in a memory-mapped file: what is in use stays in memory as far as that goes."""
    return torch.from_numpy(mapped(path, np.float32, shape[0] * shape[1]).reshape(shape))


def blocks(rows: int) -> Iterator[slice]:
    """Slices of `BLOCK` rows that cover all."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))
