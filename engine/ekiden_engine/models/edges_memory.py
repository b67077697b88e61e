"""What training an edge model on all neighbours would hold in memory; the figures are measured peaks (Linux, CPU)."""

from __future__ import annotations

from typing import Final

from ekiden_engine.models.edges_problem import EdgeProblem

FLOAT: Final = 4
PER_EDGE: Final = 30
"""Bytes per training edge: its ends as int64, its label, its place in the batches."""
PER_ENTRY: Final = 40
"""Bytes per edge of a relation, the target's or another: `EdgeMatrix`, with its transpose and places."""
BATCHES: Final = 16
"""An epoch has so many batches where nothing else is said."""
VECTORS, OUTPUTS = 11, 22
"""How many vectors, and how many outputs, a step for classes holds per edge of its batch, gradients included; the dot
products for numbers hold none."""
COPIES: Final = 8
"""Of each parameter: value, gradient, two moments, the encoding and its gradient, what is kept, and work on it."""


def full_batch_bytes(problem: EdgeProblem, width: int, members: int = 1) -> int:
    """An estimate of what it would hold at its peak, in bytes, the last of so many `members` included."""
    number, columns = problem.kind == "number", width + problem.outputs
    ways = 2 if problem.ends[0] == problem.ends[1] else 1
    tables = ways * (2 if number else 1) if problem.relational else 0
    each = PER_EDGE + 2 * tables * PER_ENTRY
    if not number:
        each += FLOAT * (VECTORS * width + OUTPUTS * problem.outputs) // BATCHES
    edges, rows = each * len(problem.train), 0
    for end in (0, 1):
        _, extra = problem.known(end)
        edges += PER_ENTRY * sum(len(given.rows) for given in extra)
        rows += problem.counts[end] + tables * problem.counts[1 - end] + sum(given.count for given in extra)
    return edges + rows * columns * FLOAT * (COPIES + members - 1)
