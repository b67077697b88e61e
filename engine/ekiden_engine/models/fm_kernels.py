"""The two loops of the Gibbs sampler, compiled by numba: vectors given the other end, coefficients given vectors.

Both release the GIL and write to the rows (or columns) they are given alone, so threads share the work and the result
does not depend on how many there are. All random numbers come in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from ekiden_engine.models.base import FloatArray, IndexArray

LANES = 8
"""Tables are padded to a multiple of this many columns, so that the compiler's vector instructions fill."""

PointerArray = npt.NDArray[np.int64]
FunctionT = TypeVar("FunctionT", bound=Callable[..., None])


def _compiled(function: FunctionT) -> FunctionT:
    try:
        return cast(FunctionT, numba.njit(function, cache=True, nogil=True, fastmath=True))
    except RuntimeError:  # neither the package's folder nor the home is writable: compile anew in every process
        return cast(FunctionT, numba.njit(function, nogil=True, fastmath=True))


def padded(columns: int) -> int:
    """`columns`, rounded up to a multiple of `LANES`."""
    return -(-columns // LANES) * LANES


@_compiled
def sample_nodes(
    pointers: PointerArray,
    other: IndexArray,
    label: FloatArray,
    table: FloatArray,
    offset: FloatArray,
    prior: FloatArray,
    precision: FloatArray,
    noise: FloatArray,
    alpha: np.float32,
    mean: FloatArray,
    drawn: FloatArray,
    squares: FloatArray,
    start: int,
    stop: int,
) -> None:
    """Draw the vectors of nodes `start` to `stop` from their conditional distribution.

    With the edges of node i at `pointers[i]:pointers[i + 1]`, each to node `other[e]` with `label[e]`, and z the rows
    of `table` [*, padded d] (a last used column of ones makes the bias the last entry of a vector):

        x_i ~ N(P^-1 (alpha sum_e z_e (label_e - offset_e) + diag(precision) prior_i), P^-1)
        P = alpha sum_e z_e z_e^T + diag(precision)

    Writes that mean to `mean`, the draw (by `noise`, standard normal) to `drawn`, all float32 [n, d], and the sum of
    squared residuals of the node's edges under the draw to `squares` [n]. Formula: Salakhutdinov and Mnih 2008,
    "Bayesian probabilistic matrix factorization", equations 11 to 13, with a prior mean per node.
    """
    d = prior.shape[1]
    width = table.shape[1]
    gram = np.zeros((width, width), np.float32)
    moment = np.zeros(width, np.float32)
    x = np.zeros(d, np.float32)
    for i in range(start, stop):
        first, last = pointers[i], pointers[i + 1]
        gram[:] = 0
        moment[:] = 0
        e = first
        while e + 4 <= last:  # four edges a pass: a quarter of the loads and stores of `gram`
            z0, z1, z2, z3 = table[other[e]], table[other[e + 1]], table[other[e + 2]], table[other[e + 3]]
            y0, y1 = label[e] - offset[other[e]], label[e + 1] - offset[other[e + 1]]
            y2, y3 = label[e + 2] - offset[other[e + 2]], label[e + 3] - offset[other[e + 3]]
            for a in range(d):
                c0, c1, c2, c3 = z0[a], z1[a], z2[a], z3[a]
                for b in range(width):  # the upper half is for nothing, but in whole vectors
                    gram[a, b] += c0 * z0[b] + c1 * z1[b] + c2 * z2[b] + c3 * z3[b]
            for b in range(width):
                moment[b] += y0 * z0[b] + y1 * z1[b] + y2 * z2[b] + y3 * z3[b]
            e += 4
        while e < last:
            z0 = table[other[e]]
            y0 = label[e] - offset[other[e]]
            for a in range(d):
                c0 = z0[a]
                for b in range(width):
                    gram[a, b] += c0 * z0[b]
            for b in range(width):
                moment[b] += y0 * z0[b]
            e += 1
        for a in range(d):
            for b in range(a + 1):
                gram[a, b] *= alpha
            gram[a, a] += precision[a]
            x[a] = alpha * moment[a] + precision[a] * prior[i, a]
        for a in range(d):  # Cholesky, in place: gram becomes L
            for b in range(a):
                total = gram[a, b]
                for k in range(b):
                    total -= gram[a, k] * gram[b, k]
                gram[a, b] = total / gram[b, b]
            total = gram[a, a]
            for k in range(a):
                total -= gram[a, k] * gram[a, k]
            gram[a, a] = np.sqrt(max(total, np.float32(1e-6)))
        for a in range(d):  # L y = x
            total = x[a]
            for k in range(a):
                total -= gram[a, k] * x[k]
            x[a] = total / gram[a, a]
        for a in range(d):
            moment[a] = noise[i, a]
        for a in range(d - 1, -1, -1):  # L^T mean = y and L^T deviation = noise
            m, s = x[a] / gram[a, a], moment[a] / gram[a, a]
            x[a], moment[a] = m, s
            for k in range(a):
                x[k] -= gram[a, k] * m
                moment[k] -= gram[a, k] * s
        for a in range(d):
            mean[i, a] = x[a]
            x[a] += moment[a]
            drawn[i, a] = x[a]
        total = np.float32(0)
        for e in range(first, last):
            j = other[e]
            residual = label[e] - offset[j]
            for a in range(d):
                residual -= table[j, a] * x[a]
            total += residual * residual
        squares[i] = total


@_compiled
def sample_coefficients(
    pointers: PointerArray,
    rows: IndexArray,
    values: FloatArray,
    squares: FloatArray,
    group: IndexArray,
    own: FloatArray,
    precision: FloatArray,
    noise: FloatArray,
    residual: FloatArray,
    coefficients: FloatArray,
    start: int,
    stop: int,
) -> None:
    """Draw the coefficients [m, d] of a design matrix, one of its columns after the other, in dimensions `start` to
    `stop`.

    Column j of the matrix has `values` in `rows` at `pointers[j]:pointers[j + 1]`, and their sum of squares
    `squares[j]`. `residual` [n, d] is the nodes' vectors less matrix times coefficients, and is kept so; its
    dimensions have precision `own` [d]. The prior of a coefficient is N(0, 1 / precision[group[j]]). Columns without
    entries are left alone. Formula: Rendle 2012, "Factorization machines with libFM", equations 29 and 30, with
    vectors in the place of labels.
    """
    d = stop - start
    change = np.zeros(d, np.float32)
    for j in range(len(pointers) - 1):
        first, last = pointers[j], pointers[j + 1]
        if first == last:
            continue
        change[:] = 0
        for e in range(first, last):
            value = values[e]
            row = residual[rows[e]]
            for f in range(d):
                change[f] += value * row[start + f]
        for f in range(d):
            before = coefficients[j, start + f]
            total = precision[group[j], start + f] + own[start + f] * squares[j]
            after = own[start + f] * (change[f] + before * squares[j]) / total
            after += noise[j, start + f] / np.sqrt(total)
            change[f] = after - before
            coefficients[j, start + f] = after
        for e in range(first, last):
            value = values[e]
            row = residual[rows[e]]
            for f in range(d):
                row[start + f] -= value * change[f]


def compile_kernels() -> None:
    """Compile both loops and leave them in numba's cache: seconds once, for instance while a container is built."""
    index, pointers = np.zeros(1, np.int32), np.array([0, 1], np.int64)

    def table(*shape: int) -> FloatArray:
        return np.ones(shape, np.float32)

    sample_nodes(
        pointers, index, table(1), table(1, LANES), table(1), table(1, 2), table(2), table(1, 2), np.float32(1),
        table(1, 2), table(1, 2), table(1), 0, 1,
    )  # fmt: skip
    sample_coefficients(
        pointers, index, table(1), table(1), index, table(2), table(1, 2), table(1, 2), table(1, 2), table(1, 2), 0, 2,
    )  # fmt: skip
