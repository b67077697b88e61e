"""The linear part of the model, solved before training: biases of nodes, of their features and of their
neighbours.

    label(s, t) ~ mean + b_s + x_s c + sum_r A_r m_r  +  the same for t

One ridge regression over all of it, so that what a feature or a neighbour (a studio, say) explains is told
about every node that has it, also those without any training edge, instead of sitting in each node's own
bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, lsqr

from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.baselines import SHRINKAGE
from ekiden_engine.models.encoder import Neighbours, normalised

MAX_ITERATIONS = 60
TOLERANCE = 1e-4

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearPart:
    """One end point's coefficients, float32: `own` [n], `features` [f], `neighbours` one array [count] per
    relation."""

    own: FloatArray
    features: FloatArray
    neighbours: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end point of the training edges: `index` int32 [E], `features` [n, f], relations other than the
    target."""

    index: IndexArray
    features: FloatArray
    neighbours: Sequence[Neighbours]

    def design(self) -> sparse.csr_array:
        """[n, n + f + neighbours]: what the linear part is a product of."""
        n = len(self.features)
        blocks = [sparse.eye_array(n, format="csr"), sparse.csr_array(self.features.astype(np.float64))]
        for given in self.neighbours:
            entries = (normalised(given.rows, n).astype(np.float64), (given.rows, given.columns))
            blocks.append(sparse.csr_array(entries, shape=(n, given.count)))
        return sparse.hstack(blocks, format="csr")

    def split(self, solution: DoubleArray) -> LinearPart:
        """The parts of a solution, in the order of the design."""
        sizes = [len(self.features), self.features.shape[1], *(given.count for given in self.neighbours)]
        parts = [p.astype(np.float32) for p in np.split(solution, np.cumsum(sizes)[:-1])]
        return LinearPart(parts[0], parts[1], tuple(parts[2:]))


def solve(source: End, dest: End, unit: FloatArray) -> tuple[LinearPart, LinearPart, FloatArray]:
    """Fit both ends to `unit` float32 [E] (labels of mean zero); return them and the residuals float32 [E].

    Every coefficient is shrunk as by `SHRINKAGE` ratings of zero. LSQR (Paige and Saunders 1982).
    """
    ends = (source, dest)
    designs = [end.design() for end in ends]
    transposed = [design.T.tocsr() for design in designs]
    widths = [design.shape[1] for design in designs]
    counts = [design.shape[0] for design in designs]

    def forward(x: DoubleArray) -> DoubleArray:
        parts = np.split(x, [widths[0]])
        s, t = ((design @ part) for design, part in zip(designs, parts, strict=True))
        found: DoubleArray = s[source.index] + t[dest.index]
        return found

    def backward(y: DoubleArray) -> DoubleArray:
        sums = (np.bincount(end.index, y, n) for end, n in zip(ends, counts, strict=True))
        return np.concatenate([matrix @ total for matrix, total in zip(transposed, sums, strict=True)])

    shape = (len(unit), sum(widths))
    operator = LinearOperator(shape, matvec=forward, rmatvec=backward, dtype=np.float64)
    wanted = unit.astype(np.float64)
    solution = lsqr(operator, wanted, damp=SHRINKAGE**0.5, atol=TOLERANCE, btol=TOLERANCE, iter_lim=MAX_ITERATIONS)[0]
    first, second = np.split(solution, [widths[0]])
    return source.split(first), dest.split(second), (wanted - forward(solution)).astype(np.float32)
