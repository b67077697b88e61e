"""What a model has to beat on edges: the mean of the training labels, regularised biases of both end points, the
frequencies of the classes, and how popular a candidate is.

`BiasBaseline` is also the bias fit that models start from. Baselines of node properties: `models.nodes_baselines`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ekiden_engine.models.base import FloatArray, IndexArray

SHRINKAGE = 3.0
"""Pseudo-ratings of zero bias per node; 2 to 3 was best on rating data from 30 thousand to 600 thousand
edges."""

ROUNDS = 10
ROWS_AT_ONCE = 65_536
SMALLEST = 1e-9

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BiasBaseline:
    """`mean + source[s] + dest[t]`, clamped to the label range; the biases of unseen nodes are zero."""

    mean: float
    low: float
    high: float
    source: DoubleArray
    dest: DoubleArray

    @classmethod
    def fit(cls, source: IndexArray, dest: IndexArray, label: FloatArray, counts: tuple[int, int]) -> BiasBaseline:
        """Alternating ridge regression (Koren, Bell and Volinsky 2009, section "Adding biases") on training
        edges.

        `source`, `dest` int32 [E], `label` float32 [E] with E ≥ 1; `counts`: nodes at either end.
        """
        values = label.astype(np.float64)
        mean = float(values.mean())
        n_source = SHRINKAGE + np.bincount(source, minlength=counts[0])
        n_dest = SHRINKAGE + np.bincount(dest, minlength=counts[1])
        b_source, b_dest = np.zeros(counts[0]), np.zeros(counts[1])
        for _ in range(ROUNDS):
            b_dest = np.bincount(dest, values - mean - b_source[source], counts[1]) / n_dest
            b_source = np.bincount(source, values - mean - b_dest[dest], counts[0]) / n_source
        return cls(mean, float(values.min()), float(values.max()), b_source, b_dest)

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """Predicted labels of pairs of node indices, float32 [m]."""
        raw = self.mean + self.source[source] + self.dest[dest]
        return np.clip(raw, self.low, self.high).astype(np.float32)


def class_frequencies(label: npt.NDArray[np.integer], classes: int) -> DoubleArray:
    """Share of each class among training rows, float64 [k].

    `label` int32 [m] (add up to 1; evenly spread if there is no row) or, with several classes a row, 0/1 uint8 [m, k]
    (each for itself).
    """
    if label.ndim == 2:
        found: DoubleArray = label.mean(0, dtype=np.float64) if len(label) else np.zeros(classes)
        return found
    if not len(label):
        return np.full(classes, 1 / classes)
    return np.bincount(label, minlength=classes) / len(label)


@dataclass(frozen=True, slots=True, eq=False)
class EndPriors:
    """Class probabilities of an edge from those of its two end points, taken as independent given the class.

    Naive Bayes on the two end points: P(c | s, t) ∝ P(c | s) P(c | t) / P(c), where P(c | s) is the share of class c
    among the training edges of s, drawn towards P(c) as if by `SHRINKAGE` edges. An unseen node says nothing.
    """

    prior: DoubleArray
    several: bool
    source: sparse.csr_array
    dest: sparse.csr_array

    @classmethod
    def fit(
        cls,
        source: IndexArray,
        dest: IndexArray,
        label: npt.NDArray[np.integer],
        counts: tuple[int, int],
        classes: int,
    ) -> EndPriors:
        """`source`, `dest` int32 [E]; `label` int32 [E] or uint8 [E, k]; `counts`: nodes at either end.

        The matrices hold the count of each class per node, and in a last column the node's edges.
        """
        several = label.ndim == 2
        rows, column = np.nonzero(label) if several else (np.arange(len(label)), label)
        edges = np.arange(len(label))
        tables = []
        for nodes, count in zip((source, dest), counts, strict=True):
            where = np.concatenate((nodes[rows], nodes[edges]))
            what = np.concatenate((column, np.full(len(edges), classes)))
            ones = np.ones(len(where))
            tables.append(sparse.csr_array((ones, (where, what)), shape=(count, classes + 1)))
        return cls(class_frequencies(label, classes), several, tables[0], tables[1])

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """Class probabilities of pairs, float32 [m, k]."""
        parts = [
            self._some(source[i : i + ROWS_AT_ONCE], dest[i : i + ROWS_AT_ONCE])
            for i in range(0, len(source), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.prior)), np.float32)

    def _some(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        prior = np.clip(self.prior, SMALLEST, 1 - SMALLEST if self.several else 1.0)
        shares = []
        for table, nodes in ((self.source, source), (self.dest, dest)):
            seen = table[nodes].toarray()
            share = (seen[:, :-1] + SHRINKAGE * prior) / (seen[:, -1:] + SHRINKAGE)
            shares.append(np.clip(share, SMALLEST, 1 - SMALLEST if self.several else 1.0))
        first, second = shares
        if self.several:
            odds = first / (1 - first) * second / (1 - second) * (1 - prior) / prior
            together: DoubleArray = odds / (1 + odds)
        else:
            product = first * second / prior
            together = product / product.sum(1, keepdims=True)
        return together.astype(np.float32)


def popularity(candidates: IndexArray, count: int) -> FloatArray:
    """Training edges of each candidate, float32 [count]: the score that takes no notice of who asks."""
    return np.bincount(candidates, minlength=count).astype(np.float32)
