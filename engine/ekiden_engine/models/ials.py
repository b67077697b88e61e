"""iALS: matrix factorisation of links by alternating least squares (Hu, Koren and Volinsky 2008), with the weights
that make it competitive (Rendle, Krichene, Zhang and Koren 2022, "Revisiting the performance of iALS"). It minimises

    sum over links (1 - <w_u, h_i>)² + a sum over all pairs <w_u, h_i>² + λ sum of (degree + a other side) |vector|²

with `a` the weight of a pair that is not linked and `other side` the number of nodes there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ekiden_engine.models.base import FloatArray, IndexArray

UNOBSERVED = 0.1
"""The weight of a pair without a link."""
STRENGTHS = (0.003, 0.01, 0.03)
"""Values of λ worth trying."""
WIDTH, ROUNDS = 64, 8
SPREAD = 0.1
BLOCK = 512


@dataclass(frozen=True, slots=True, eq=False)
class Ials:
    """Vectors of `users` [n, d] and `items` [m, d], float32."""

    users: FloatArray
    items: FloatArray

    @classmethod
    def fit(
        cls, links: sparse.csr_array, strength: float, *, width: int = WIDTH, rounds: int = ROUNDS, seed: int = 0
    ) -> Ials:
        """From training links [users, items] of ones; `strength` is λ."""
        random = np.random.default_rng(seed)
        scale = np.float32(SPREAD / np.sqrt(width))
        items = random.standard_normal((links.shape[1], width), np.float32) * scale
        turned = links.T.tocsr()
        users = _solve(links, items, strength)
        for _ in range(rounds - 1):
            items = _solve(turned, users, strength)
            users = _solve(links, items, strength)
        return cls(users, items)

    def scores(self, users: IndexArray) -> FloatArray:
        """Scores of all items for each user, float32 [m, items]; -1 is a user without links, who scores 0."""
        found: FloatArray = self.users[np.maximum(users, 0)] @ self.items.T
        found[users < 0] = 0
        return found


def _solve(links: sparse.csr_array, other: FloatArray, strength: float) -> FloatArray:
    """The best vectors of the rows of `links`, those of the columns being `other`. Rows without links get zero."""
    rows, width = links.shape[0], other.shape[1]
    everyone = UNOBSERVED * (other.T @ other)
    degrees = np.diff(links.indptr)
    penalty = (strength * (degrees + UNOBSERVED * links.shape[1])).astype(np.float32)
    diagonal = np.arange(width)
    found = np.zeros((rows, width), np.float32)
    linked = np.flatnonzero(degrees)
    for start in range(0, len(linked), BLOCK):
        block = linked[start : start + BLOCK]
        grams = np.empty((len(block), width, width), np.float32)
        sums = np.empty((len(block), width, 1), np.float32)
        for place, row in enumerate(block.tolist()):
            own = other[links.indices[links.indptr[row] : links.indptr[row + 1]]]
            np.matmul(own.T, own, out=grams[place])
            sums[place, :, 0] = own.sum(0)
        grams += everyone
        grams[:, diagonal, diagonal] += penalty[block, None]
        found[block] = np.linalg.solve(grams, sums)[:, :, 0]
    return found
