"""Sparse kernels for training on a CPU: CSR products with a stored transpose, and a gather whose backward is
a product.

PyTorch's own CSR backward and `index_add_` (the backward of `x[index]`) are 10 to 60 times slower than the
products used here, which is why both get an `autograd.Function` of their own. Indices are int32, for speed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

with warnings.catch_warnings():  # torch says once per process that CSR is in beta: let it say so here, unheard
    warnings.simplefilter("ignore")
    torch.eye(1).to_sparse_csr()

IntArray = npt.NDArray[np.integer[Any]]


class CsrPair:
    """A sparse matrix [rows, columns] and its transpose, both CSR float32."""

    __slots__ = ("matrix", "transpose")

    def __init__(self, matrix: Tensor, transpose: Tensor) -> None:
        """Keep both; the caller vouches that they match."""
        self.matrix = matrix
        self.transpose = transpose


class Adjacency:
    """The pattern of a sparse matrix with one entry per edge, and its transpose; values come later.

    Two edges between the same nodes stay two entries, so that one can be masked without the other.
    """

    def __init__(self, rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> None:
        """`rows`, `columns`: int [E], the end points of edge e; `shape`: (number of rows, number of
        columns)."""
        self.shape = shape
        self._pointers, self._indices, self._order = _compress(rows, columns, shape[0])
        self._t_pointers, self._t_indices, self._t_order = _compress(columns, rows, shape[1])

    def with_values(self, values: Tensor) -> CsrPair:
        """The matrix whose entry of edge e is `values[e]` (float32 [E], in the order of the edges)."""
        rows, columns = self.shape
        return CsrPair(
            _csr(self._pointers, self._indices, values[self._order], (rows, columns)),
            _csr(self._t_pointers, self._t_indices, values[self._t_order], (columns, rows)),
        )


def aggregate(pair: CsrPair, x: Tensor) -> Tensor:
    """`pair.matrix @ x` for dense `x` float32 [columns, d]; the gradient flows into `x` only."""
    return cast(Tensor, _aggregate(pair.matrix, pair.transpose, x))


def gather(x: Tensor, index: Tensor) -> Tensor:
    """`x[index]` for `x` float32 [n, d] and `index` int64 [m]; its backward is one CSR product."""
    return cast(Tensor, _gather(x, index))


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
        cast(Any, ctx).transpose = transpose
        return matrix @ x

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, cast(Any, ctx).transpose @ gradients[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, index: Tensor) -> Tensor:
        keep = cast(Any, ctx)
        keep.index, keep.rows = index, x.shape[0]
        return x[index]

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        keep = cast(Any, ctx)
        index: Tensor = keep.index
        pointers = torch.zeros(keep.rows + 1, dtype=torch.int32)
        pointers[1:] = torch.cumsum(torch.bincount(index, minlength=keep.rows), 0)
        order = torch.argsort(index, stable=True).to(torch.int32)
        selection = _csr(pointers, order, torch.ones(len(index)), (keep.rows, len(index)))
        return selection @ gradients[0], None


# torch leaves `apply` untyped
_aggregate: Callable[..., Any] = _Aggregate.apply
_gather: Callable[..., Any] = _Gather.apply


def _compress(rows: IntArray, columns: IntArray, count: int) -> tuple[Tensor, Tensor, Tensor]:
    order = np.lexsort((columns, rows))
    pointers = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=count), out=pointers[1:])
    indices = np.ascontiguousarray(columns[order], dtype=np.int32)
    return torch.from_numpy(pointers), torch.from_numpy(indices), torch.from_numpy(order)


def _csr(pointers: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(pointers, indices, values, shape, check_invariants=False)
