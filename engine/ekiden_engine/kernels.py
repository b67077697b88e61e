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
FloatArray = npt.NDArray[np.float32]


class EdgeMatrix:
    """A sparse matrix [rows, columns] with one entry per edge, and its transpose; both CSR, float32.

    Two edges between the same nodes stay two entries, so that one can be hidden without the other.
    """

    def __init__(self, rows: IntArray, columns: IntArray, values: FloatArray, shape: tuple[int, int]) -> None:
        """`rows`, `columns` int [E]: the end points of edge e; `values` float32 [E]: its entry."""
        self._values = torch.from_numpy(values)
        self.matrix, self._entries, self._place = _compress(rows, columns, values, shape)
        self.transpose, self._t_entries, self._t_place = _compress(columns, rows, values, shape[::-1])

    def hide(self, edges: Tensor) -> None:
        """Set the entries of `edges` (int64 [m]) to zero, in place, until `show`."""
        self._entries[self._place[edges]] = 0
        self._t_entries[self._t_place[edges]] = 0

    def show(self, edges: Tensor) -> None:
        """Undo `hide`."""
        values = self._values[edges]
        self._entries[self._place[edges]] = values
        self._t_entries[self._t_place[edges]] = values


def aggregate(edges: EdgeMatrix, x: Tensor) -> Tensor:
    """`edges.matrix @ x` for dense `x` float32 [columns, d]; the gradient flows into `x` only.

    What is hidden must not change between this and the backward pass.
    """
    return cast(Tensor, _aggregate(edges.matrix, edges.transpose, x))


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


def _compress(
    rows: IntArray, columns: IntArray, values: FloatArray, shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR matrix, its entries (a view: writing there changes the matrix), and where edge e's entry is."""
    order = np.lexsort((columns, rows))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    pointers = np.zeros(shape[0] + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=pointers[1:])
    indices = np.ascontiguousarray(columns[order], dtype=np.int32)
    entries = torch.from_numpy(values[order])
    matrix = _csr(torch.from_numpy(pointers), torch.from_numpy(indices), entries, shape)
    return matrix, matrix.values(), torch.from_numpy(place)


def _csr(pointers: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(pointers, indices, values, shape, check_invariants=False)
