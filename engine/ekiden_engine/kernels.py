"""Sparse kernels for training: CSR products with a stored transpose, and a gather whose backward is a product.

On a CPU PyTorch's own CSR backward and `index_add_` (the backward of `x[index]`) are 10 to 60 times slower than the
products used here, which is why both get an `autograd.Function` of their own. Indices are int32, for speed. On a GPU
the same code runs on its CSR products.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.function import FunctionCtx

with warnings.catch_warnings():  # torch says once per process that CSR is in beta: let it say so here, unheard
    warnings.simplefilter("ignore")
    torch.eye(1).to_sparse_csr()

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]
CPU = torch.device("cpu")
CACHED_PAIRS = 1024
"""Pairs of vectors that are multiplied at a time, so that they stay in the processor's cache."""


class EdgeMatrix:
    """A sparse matrix [rows, columns] with one entry per edge, and its transpose; both CSR, float32.

    Two edges between the same nodes stay two entries, so that one can be hidden without the other.
    """

    def __init__(
        self,
        rows: IntArray,
        columns: IntArray,
        values: FloatArray,
        shape: tuple[int, int],
        device: torch.device = CPU,
    ) -> None:
        """`rows`, `columns` int [E]: the end points of edge e; `values` float32 [E]: its entry."""
        self._values = torch.from_numpy(values).to(device)
        self.matrix, self._entries, self._place = _compress(rows, columns, values, shape, device)
        self.transpose, self._t_entries, self._t_place = _compress(columns, rows, values, shape[::-1], device)

    def hide(self, edges: Tensor) -> None:
        """Set the entries of `edges` (int64 [m], on the matrix's device) to zero, in place, until `show`."""
        self._entries.index_fill_(0, self._place.index_select(0, edges), 0)
        self._t_entries.index_fill_(0, self._t_place.index_select(0, edges), 0)

    def show(self, edges: Tensor) -> None:
        """Undo `hide`."""
        values = self._values.index_select(0, edges)
        self._entries.index_copy_(0, self._place.index_select(0, edges), values)
        self._t_entries.index_copy_(0, self._t_place.index_select(0, edges), values)


def aggregate(edges: EdgeMatrix, x: Tensor) -> Tensor:
    """`edges.matrix @ x` for dense `x` float32 [columns, d]; the gradient flows into `x` only.

    What is hidden must not change between this and the backward pass.
    """
    return cast(Tensor, _aggregate(edges.matrix, edges.transpose, x))


def product(matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
    """`matrix @ x` for sparse CSR tensors, one the transpose of the other; the gradient flows into `x` only."""
    return cast(Tensor, _aggregate(matrix, transpose, x))


def csr(pointers: IntArray, columns: IntArray, values: FloatArray, shape: tuple[int, int]) -> Tensor:
    """A CSR tensor of arrays: `pointers` int32 [rows + 1], `columns` int32 [entries], `values` float32 [entries]."""
    return _csr(torch.from_numpy(pointers), torch.from_numpy(columns), torch.from_numpy(values), shape)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """`x[index]` for `x` float32 [n, d] and `index` int64 [m]; its backward is one CSR product."""
    return cast(Tensor, _gather(x, index))


def pair_dot(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`(x[rows] * y[columns]).sum(1)`, [m], for `x` [n, d], `y` [k, d], indices int64 [m].

    The rows are never copied out as a whole: that would be most of the work. The backward pass is one CSR product for
    `x` and one for `y`, of a matrix that has the gradient of pair i at (rows[i], columns[i]).
    """
    return cast(Tensor, _pair_dot(x, y, rows, columns))


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
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        keep = cast(Any, ctx)
        index: Tensor = keep.index
        order, pointers = _order(index, keep.rows)
        ones = torch.ones(len(index), device=index.device)
        selection = _csr(pointers, order, ones, (keep.rows, len(index)))
        return selection @ gradients[0], None


class _PairDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        keep = cast(Any, ctx)
        keep.x, keep.y, keep.rows, keep.columns = x, y, rows, columns
        size = CACHED_PAIRS if x.device.type == "cpu" else max(len(rows), 1)
        pairs = zip(torch.split(rows, size), torch.split(columns, size), strict=True)
        return torch.cat([x.index_select(0, r).mul_(y.index_select(0, c)).sum(1) for r, c in pairs])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        keep, (gradient,) = cast(Any, ctx), gradients
        found = []
        for here, there, x in ((keep.rows, keep.columns, keep.y), (keep.columns, keep.rows, keep.x)):
            count = len(keep.x) if here is keep.rows else len(keep.y)
            order, pointers = _order(here, count)
            shape = (count, len(x))
            columns = there.index_select(0, order).to(torch.int32)
            found.append(_csr(pointers, columns, gradient.index_select(0, order), shape) @ x)
        return found[0], found[1], None, None


# torch leaves `apply` untyped
_aggregate: Callable[..., Any] = _Aggregate.apply
_gather: Callable[..., Any] = _Gather.apply
_pair_dot: Callable[..., Any] = _PairDot.apply


def _order(index: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """`counting_sort` of a tensor, on its device; int32."""
    if index.device.type == "cpu":
        order, pointers = counting_sort(index.numpy(), bound)
        return torch.from_numpy(order), torch.from_numpy(pointers)
    begins = torch.zeros(bound + 1, dtype=torch.int32, device=index.device)
    begins[1:] = torch.cumsum(torch.bincount(index, minlength=bound), 0)
    return torch.argsort(index, stable=True).to(torch.int32), begins


def counting_sort(keys: IntArray, bound: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The stable order of `keys` [m] from 0 to `bound` - 1, and where each key begins in it, [bound + 1].

    It is what a change from CSR to CSC does, in linear time: ten times faster than sorting by comparison.
    """
    one_each = np.arange(len(keys) + 1, dtype=np.int32)
    table = sparse.csr_array((np.zeros(len(keys), np.int8), keys, one_each), shape=(len(keys), bound)).tocsc()
    return table.indices.astype(np.int32, copy=False), table.indptr.astype(np.int32, copy=False)


def _compress(
    rows: IntArray, columns: IntArray, values: FloatArray, shape: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR matrix, its entries (a view: writing there changes the matrix), and where edge e's entry is."""
    by_column, _ = counting_sort(columns, shape[1])
    by_row, pointers = counting_sort(rows[by_column], shape[0])
    order = by_column[by_row]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    indices = np.ascontiguousarray(columns[order], dtype=np.int32)
    entries = torch.from_numpy(values[order]).to(device)
    matrix = _csr(torch.from_numpy(pointers).to(device), torch.from_numpy(indices).to(device), entries, shape)
    return matrix, matrix.values(), torch.from_numpy(place).to(device)


def _csr(pointers: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(pointers, indices, values, shape, check_invariants=False)
