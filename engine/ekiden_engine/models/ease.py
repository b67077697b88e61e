"""EASE: a linear item-to-item model in closed form (Steck 2019, "Embarrassingly Shallow Autoencoders").

    score(u, i) = sum of B[j, i] over the items j that u is linked to

with B the ridge regression of every item on all others: P = inverse of (XᵀX + λI), B[j, i] = -P[j, i] / P[i, i],
B[i, i] = 0. It takes one inverse of items x items: for some 20,000 items (3.2 GB and minutes) and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, eigsh

from ekiden_engine.models.base import FloatArray, IndexArray

MOST_ITEMS = 20_000
DENSE = 500
"""Items up to which all eigenvectors are computed at once."""
STRENGTHS = (100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Values of λ worth trying; 100 to 1,000 are best on rating data."""


@dataclass(frozen=True, slots=True, eq=False)
class Ease:
    """`links` CSR [users, items] of ones, `weights` float32 [items, items]."""

    links: sparse.csr_array
    weights: FloatArray

    @classmethod
    def fit(cls, links: sparse.csr_array, strength: float) -> Ease:
        """From training links [users, items] of ones; `strength` is λ > 0.

        Raises `ValueError` above `MOST_ITEMS` items.
        """
        items = links.shape[1]
        if items > MOST_ITEMS:
            raise ValueError(f"EASE is for at most {MOST_ITEMS} items, these are {items}")
        gram = (links.T @ links).toarray().astype(np.float64, order="F")
        gram[np.diag_indices(items)] += strength
        factor, fault = lapack.dpotrf(gram, lower=1, overwrite_a=1)
        inverse, fault_too = lapack.dpotri(factor, lower=1, overwrite_c=1)
        if fault or fault_too:
            raise ValueError("XᵀX + λI is not positive definite: λ must be above 0")
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        weights = -inverse / np.diag(inverse)
        weights[np.diag_indices(items)] = 0
        return cls(links, weights.astype(np.float32))

    def scores(self, users: IndexArray) -> FloatArray:
        """Scores of all items for each user, float32 [m, items]; -1 is a user without links, who scores 0."""
        found = np.asarray(self.links[np.maximum(users, 0)] @ self.weights, np.float32)
        found[users < 0] = 0
        return found

    def factors(self, rank: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """Vectors of users [users, r] and items [items, r], r ≤ `rank`, whose products are the best such approximation
        of all users' scores: S = XB is projected on the first eigenvectors of SᵀS. `seed` starts the iteration."""
        items = self.links.shape[1]
        if rank >= items or items <= DENSE:
            everyone = np.asarray(self.links @ self.weights, np.float32)
            vectors = np.linalg.eigh(everyone.T @ everyone)[1][:, -rank:]
            return np.asarray(everyone @ vectors, np.float32), np.ascontiguousarray(vectors, np.float32)
        turned = self.links.T.tocsr()

        def product(x: FloatArray) -> FloatArray:
            scores = self.links @ (self.weights @ x.astype(np.float32))
            return np.asarray(self.weights.T @ (turned @ scores), np.float32)

        start = np.random.default_rng(seed).standard_normal(items).astype(np.float32)
        if not product(start).any():  # no item is linked together with another: nothing to iterate on
            return np.zeros((self.links.shape[0], rank), np.float32), np.zeros((items, rank), np.float32)
        operator = LinearOperator((items, items), matvec=product, matmat=product, dtype=np.float32)
        vectors = np.ascontiguousarray(eigsh(operator, k=rank, v0=start, tol=1e-3)[1], np.float32)
        return np.asarray(self.links @ (self.weights @ vectors), np.float32), vectors
