"""The posterior mean as one pair of narrow tables.

Every draw is a product X_s Y_s^T, and the model predicts with their mean, which is the product of all tables side by
side: hundreds of columns. But that mean is nearly of low rank (the rest is what differs from draw to draw), so the
tables are folded into its leading singular directions as they come: memory stays bounded, and what is served is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.fm_design import DoubleArray
from ekiden_engine.models.fm_gibbs import Estimate

BATCH = 8
"""Draws side by side before they are folded; fewer where `BATCH_BYTES` bounds them."""
BATCH_BYTES = 2**28
KEEP = 1.5
"""Directions kept between folds, as a multiple of those kept at the end."""


class PosteriorMean:
    """The running mean of `Estimate`s."""

    def __init__(self, nodes: tuple[int, int], width: int) -> None:
        """`nodes`: rows of either table that are nodes (the rest are coefficients, which follow along); `width`: the
        most columns of the result."""
        self._nodes = nodes
        self._width = width
        self._waiting: list[tuple[FloatArray, FloatArray]] = []
        self._biases: tuple[DoubleArray, DoubleArray] | None = None
        self.count = 0

    def add(self, estimate: Estimate) -> None:
        """Take one more draw into the mean."""
        tables = (estimate.source, estimate.dest)
        self._waiting.append((tables[0][:, :-1], tables[1][:, :-1]))
        last = [table[:, -1].astype(np.float64) for table in tables]
        before = self._biases or (0.0, 0.0)
        self._biases = (before[0] + last[0], before[1] + last[1])
        self.count += 1
        size = sum(table.nbytes for table in tables)
        if len(self._waiting) > max(2, min(BATCH, BATCH_BYTES // size)):
            self._fold(int(KEEP * self._width))

    def state(self) -> tuple[int, dict[str, npt.NDArray[Any]]]:
        """The number of draws, and arrays: restored, the mean goes on to the bit as this one does."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for place, (source, dest) in enumerate(self._waiting):
            arrays |= {f"{place}.source": source, f"{place}.dest": dest}
        if self._biases is not None:
            arrays |= {"bias.source": self._biases[0], "bias.dest": self._biases[1]}
        return self.count, arrays

    def restore(self, count: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what `state` gave."""
        self.count = count
        pairs = range(sum(name.endswith(".source") for name in arrays) - ("bias.source" in arrays))
        self._waiting = [(arrays[f"{place}.source"], arrays[f"{place}.dest"]) for place in pairs]
        self._biases = (arrays["bias.source"], arrays["bias.dest"]) if "bias.source" in arrays else None

    def tables(self) -> Estimate:
        """Source and destination, float32 [rows, k + 1]: vectors whose products are the mean, and mean biases.

        `ValueError` if nothing was added.
        """
        if self._biases is None:
            raise ValueError("no draw was added")
        self._fold(self._width)
        scale = np.sqrt(self.count)
        vectors = [table / scale for table in self._waiting[0]]
        biases = [bias / self.count for bias in self._biases]
        found = [np.column_stack([v, b]).astype(np.float32) for v, b in zip(vectors, biases, strict=True)]
        return Estimate(found[0], found[1])

    def _fold(self, width: int) -> None:
        # one thread: matrices this small gain nothing from a second, and on a busy machine its barriers cost a factor
        # of thirty; besides, the sums then do not depend on the number of threads
        with threadpool_limits(1, user_api="blas"):
            self._waiting = self._folded(width)

    def _folded(self, width: int) -> list[tuple[FloatArray, FloatArray]]:
        """The waiting tables as those of the leading `width` singular directions of the nodes' products.

        With X^T X = P p P^T and Y^T Y = Q q Q^T, the singular values of X Y^T are those of
        sqrt(p) P^T Q sqrt(q) = U s V^T, and X Q sqrt(q) V / sqrt(s) times (Y P sqrt(p) U / sqrt(s))^T is X Y^T cut to
        them.
        """
        x = np.concatenate([pair[0] for pair in self._waiting], axis=1)
        y = np.concatenate([pair[1] for pair in self._waiting], axis=1)
        left, right = _root(x[: self._nodes[0]]), _root(y[: self._nodes[1]])
        u, s, vt = np.linalg.svd(left.T @ right)
        kept = max(1, min(width, int((s > s[0] * 1e-6).sum())))
        scale = 1 / np.sqrt(np.maximum(s[:kept], np.finfo(np.float32).tiny))
        to_x, to_y = right @ vt[:kept].T * scale, left @ u[:, :kept] * scale
        return [(x @ to_x.astype(np.float32), y @ to_y.astype(np.float32))]


def _root(table: FloatArray) -> DoubleArray:
    """R [k, k] with R R^T = table^T table, its columns orthogonal."""
    values, vectors = np.linalg.eigh((table.T @ table).astype(np.float64))
    root: DoubleArray = vectors * np.sqrt(np.maximum(values, 0))
    return root
