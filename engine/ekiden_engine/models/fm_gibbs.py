"""Gibbs sampling of a Bayesian factorization machine over pairs of nodes.

    label(s, t) ~ N(mean + bias_s + bias_t + <v_s, v_t>, 1 / alpha)
    (v, bias)_i ~ N(A_i C, diag(1 / own))             A: what is known of node i (see `fm_design`)
    C_j ~ N(0, diag(1 / shared of j's group))

Without the interactions inside one end (they only give that end's bias another form) this is the factorization machine
of ids, features and implicit sets, in which v_i = p_i + A_i C with a free p_i (Rendle 2012, "Factorization machines
with libFM"; Freudenthaler, Schmidt-Thieme and Rendle 2011, "Bayesian factorization machines"). It is written around
v_i and not p_i so that a node's whole vector, bias included, is drawn at once, as in Bayesian matrix factorization,
and that C is drawn without looking at a single edge, as in Simm et al. 2017, "Macau". The posterior is the same.

Precisions: `alpha` and those of the biases have flat Gamma priors. Those of the vectors have Gamma priors around `OWN`
and `SHARED` that weigh as much as the values they describe: left to themselves, they settle where the sampler fits
the training edges best and predicts others worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.fm_design import Design
from ekiden_engine.models.fm_kernels import padded, sample_coefficients, sample_nodes

WARM_UP = 10
"""First iterations without noise and with fixed precisions: alternating ridge regressions, from which sampling starts
near where it will stay."""
ALPHA = 2.0
"""The start of alpha, for labels of unit variance: half of the variance explained."""
OWN, SHARED = 30.0, 50.0
"""Expected precisions of what is a node's own in its vector, and of coefficients, for vectors of `USUAL_RANK`; they
go with the square root of the rank, so that products of vectors have the same variance at any."""
USUAL_RANK = 15
OWN_BIAS, SHARED_BIAS = 12.0, 50.0
"""Where the precisions of biases start."""
INTERCEPT = 0.1
"""Precision of the coefficients of the ones: wide."""
WEIGHT = 1.0
"""Weight of the vectors' Gamma priors: what they are worth in multiples of the values at hand."""
INIT_STD = 0.1
LOWEST, HIGHEST = 1e-3, 1e5
"""Bounds of every precision, far from anything sensible: data without noise would send alpha beyond float32."""
STATE = ("own", "shared", "coefficients", "explained", "drawn", "mean", "squares")
"""What a draw consists of, by attributes of `EndState`."""
TASK_EDGES = 20_000
"""Edges that are worth a task of their own for a thread."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What one iteration says of both ends; rows are the nodes [n], the unseen node [1], the coefficients [m].

    Columns: the vector, then the bias. `source` holds the conditional means given `dest`: their product averages to
    the posterior mean with less noise than that of two draws (Rao and Blackwell).
    """

    source: FloatArray
    dest: FloatArray


class EndState:
    """One end point: its edges in order, its design by column, and the current draw."""

    def __init__(
        self, design: Design, edges: tuple[IndexArray, IndexArray, FloatArray], dimensions: int, scale: float
    ) -> None:
        """`edges`: this end's index, the other's, the label, each [E]; `scale` multiplies the expected precisions."""
        index, other, label = edges
        n, m = design.matrix.shape
        order = np.lexsort((other, index))
        degree = np.bincount(index, minlength=n)
        self.design = design
        self.pointers = np.concatenate([[0], np.cumsum(degree)]).astype(np.int64)
        self.other = np.ascontiguousarray(other[order], np.int32)
        self.label = np.ascontiguousarray(label[order], np.float32)
        self.active = np.flatnonzero(degree > 0)
        self.idle = np.flatnonzero(degree == 0)
        columns = design.matrix[self.active].tocsc()
        self.column_pointers = columns.indptr.astype(np.int64)
        self.column_rows = self.active[columns.indices].astype(np.int32)
        self.column_values = columns.data.astype(np.float32)
        self.column_squares = np.asarray(columns.multiply(columns).sum(0), np.float32).ravel()
        filled = np.diff(self.column_pointers) > 0
        self.group_of = design.group_of
        self.members = [np.flatnonzero((self.group_of == g) & filled) for g in range(len(design.groups))]
        scale *= np.sqrt((dimensions - 1) / USUAL_RANK)
        self.expected_own = np.full(dimensions, OWN * scale, np.float32)
        self.expected_own[-1] = OWN_BIAS
        self.expected_shared = np.full((len(design.groups), dimensions), SHARED * scale, np.float32)
        self.expected_shared[:, -1] = SHARED_BIAS
        self.expected_shared[0] = INTERCEPT
        self.own, self.shared = self.expected_own.copy(), self.expected_shared.copy()
        self.coefficients = np.zeros((m, dimensions), np.float32)
        self.explained = np.zeros((n, dimensions), np.float32)  # A C
        self.drawn = np.zeros((n, dimensions), np.float32)
        self.mean = np.zeros((n, dimensions), np.float32)
        self.squares = np.zeros(n, np.float32)

    def as_table(self) -> tuple[FloatArray, FloatArray]:
        """The draw as the other end sees it: vectors and a one, padded; and the biases as offsets."""
        n, d = self.drawn.shape
        table = np.zeros((n, padded(d)), np.float32)
        table[:, : d - 1] = self.drawn[:, :-1]
        table[:, d - 1] = 1
        return table, np.ascontiguousarray(self.drawn[:, -1])

    def state(self) -> dict[str, FloatArray]:
        """The current draw: what the next iteration needs besides the data."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Take back what `state` gave. Raises `ValueError` if it is of other data."""
        for name in STATE:
            if state[name].shape != getattr(self, name).shape:
                raise ValueError(f"{name} has shape {state[name].shape}")
            setattr(self, name, state[name])

    def rows(self, nodes: FloatArray) -> FloatArray:
        """An `Estimate`'s rows; nodes without training edges are what their columns say."""
        table = np.concatenate([nodes, self.coefficients[:1], self.coefficients])
        if len(self.idle):
            table[self.idle] = self.design.matrix[self.idle] @ self.coefficients
        return table


class Sampler:
    """The chain. `labels` have mean zero and unit variance; the same seed gives the same chain, with any number of
    threads."""

    def __init__(
        self,
        designs: tuple[Design, Design],
        source: IndexArray,
        dest: IndexArray,
        labels: FloatArray,
        *,
        rank: int,
        scale: float,
        seed: int,
        threads: int,
    ) -> None:
        """`source`, `dest` int32 [E], `labels` float32 [E]; `scale` multiplies the expected precisions of vectors."""
        self._random = np.random.default_rng(seed)
        self.source = EndState(designs[0], (source, dest, labels), rank + 1, scale)
        self.dest = EndState(designs[1], (dest, source, labels), rank + 1, scale)
        self.dest.drawn[:, :-1] = self._random.standard_normal((len(self.dest.drawn), rank)) * INIT_STD
        self.alpha = ALPHA
        self.iteration = 0
        self._edges = len(labels)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def state(self) -> tuple[dict[str, Any], dict[str, FloatArray]]:
        """The chain so far, as JSON and arrays: restored, it goes on to the bit as this one does."""
        document = {"iteration": self.iteration, "alpha": self.alpha, "random": self._random.bit_generator.state}
        arrays = {f"source.{name}": array for name, array in self.source.state().items()}
        return document, arrays | {f"dest.{name}": array for name, array in self.dest.state().items()}

    def restore(self, document: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> None:
        """Take back what `state` gave. Raises `ValueError` or `KeyError` if it is of other data."""
        self.source.restore({name: arrays[f"source.{name}"] for name in STATE})
        self.dest.restore({name: arrays[f"dest.{name}"] for name in STATE})
        self.iteration, self.alpha = document["iteration"], document["alpha"]
        self._random.bit_generator.state = document["random"]

    @property
    def train_rmse(self) -> float:
        """RMSE of the current draw on the training edges, in units of the labels given."""
        return float(np.sqrt(self.dest.squares.sum(dtype=np.float64) / self._edges))

    def step(self) -> Estimate:
        """One iteration: source vectors, their coefficients and precisions; the same for the destination; alpha."""
        warm = self.iteration < WARM_UP
        self._draw_nodes(self.source, self.dest, warm)
        source, dest = self.source.rows(self.source.mean), self.dest.rows(self.dest.drawn)
        self._draw_coefficients(self.source, warm)
        self._draw_nodes(self.dest, self.source, warm)
        self._draw_coefficients(self.dest, warm)
        if not warm:
            squares = self.dest.squares.sum(dtype=np.float64)
            self.alpha = _bounded(self._random.gamma(1 + self._edges / 2, 1 / (1 + squares / 2)))
        self.iteration += 1
        return Estimate(source, dest)

    def _noise(self, shape: tuple[int, ...], warm: bool) -> FloatArray:
        return np.zeros(shape, np.float32) if warm else self._random.standard_normal(shape, np.float32)

    def _draw_nodes(self, end: EndState, other: EndState, warm: bool) -> None:
        table, offset = other.as_table()
        noise = self._noise(end.drawn.shape, warm)
        alpha = np.float32(self.alpha)

        def part(bounds: tuple[int, int]) -> None:
            sample_nodes(
                end.pointers, end.other, end.label, table, offset, end.explained, end.own, noise, alpha,
                end.mean, end.drawn, end.squares, *bounds,
            )  # fmt: skip

        tasks = max(1, min(8 * self._threads, self._edges // TASK_EDGES))
        self._share(part, np.searchsorted(end.pointers, np.linspace(0, self._edges, tasks + 1)[1:-1]), len(noise))

    def _draw_coefficients(self, end: EndState, warm: bool) -> None:
        noise = self._noise(end.coefficients.shape, warm)
        residual = end.drawn - end.explained

        def part(bounds: tuple[int, int]) -> None:
            sample_coefficients(
                end.column_pointers, end.column_rows, end.column_values, end.column_squares, end.group_of,
                end.own, end.shared, noise, residual, end.coefficients, *bounds,
            )  # fmt: skip

        d = residual.shape[1]
        self._share(part, np.linspace(0, d, self._threads + 1)[1:-1].astype(np.int64), d)
        end.explained = end.drawn - residual
        if warm:
            return
        end.own = self._precisions(residual[end.active], end.expected_own)
        for g, members in enumerate(end.members[1:], 1):
            if len(members):
                end.shared[g] = self._precisions(end.coefficients[members], end.expected_shared[g])

    def _precisions(self, values: FloatArray, expected: FloatArray) -> FloatArray:
        """Draw the precision of zero-mean values [k, d]: one for the vectors' dimensions together, one for the
        biases."""
        squares = np.einsum("ij,ij->j", values, values, dtype=np.float64)
        count = len(values) * (values.shape[1] - 1)
        strength = WEIGHT * count / 2
        found = np.empty_like(expected)
        shape, rate = 1 + strength + count / 2, (1 + strength) / expected[0] + squares[:-1].sum() / 2
        found[:-1] = _bounded(self._random.gamma(shape, 1 / rate))
        shape, rate = 1 + len(values) / 2, 1 / expected[-1] + squares[-1] / 2
        found[-1] = _bounded(self._random.gamma(shape, 1 / rate))
        return found

    def _share(self, part: Callable[[tuple[int, int]], None], inner: npt.NDArray[np.integer[Any]], end: int) -> None:
        """Have the threads do `part` for the ranges between 0, the `inner` bounds and `end`."""
        list(self._pool.map(part, pairwise([0, *inner.tolist(), end])))


def _bounded(precision: float) -> float:
    return float(np.clip(precision, LOWEST, HIGHEST))
