"""Model `mf`: biased matrix factorisation, the plain thing that a graph model should beat.

The same loop as `rgcn` with no relations and no features.
"""

from __future__ import annotations

from typing import ClassVar

from ekiden_engine.models.rgcn import Rgcn


class MatrixFactorization(Rgcn):
    """`rgcn` without messages and features; the same hyperparameters."""

    model: ClassVar[str] = "mf"
    relational: ClassVar[bool] = False
