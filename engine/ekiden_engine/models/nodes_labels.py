"""What the labels around a node say, and how much of the answer is theirs.

A network that learns from features and structure alone does not see the labels themselves, and where neighbours of
neighbours are alike those say most. So answers are mixed with label propagation (Zhou et al. 2004), in the proportion
that validates best; the labels of validation rows are not propagated, so they tell how the mixture does on new rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.nodes_problem import NodeProblem
from ekiden_engine.models.nodes_structure import Scale

KEEP: Final = 0.1
"""Share of its own label that a node keeps in each step of label propagation."""
STEPS: Final = 50
LEAST_REACHED: Final = 1e-9
SHARES: Final = tuple(i / 10 for i in range(11))
LEAST_GAIN: Final = 0.01
"""Relative gain in validation loss from which on labels are mixed in."""
SMALLEST: Final = 1e-7
LABEL_BYTES: Final = 72
"""What a propagation in memory takes per edge and direction; measured."""

DoubleArray = npt.NDArray[np.float64]


Around = Callable[[Sequence[DoubleArray]], list[DoubleArray]]
"""From values per node type, [n, k], to the mean over the neighbours of each node under all relations; 0 for none."""


def propagate_labels(problem: NodeProblem, around: Around | None = None) -> list[DoubleArray]:
    """Per node type [n, k + 1]: the labels that reached each node, and in the last column how much of them.

    Every node takes the mean of its neighbours over all edge types, labelled nodes also their own label:
    F <- (1 - a) P F + a Y with a row-normalised P. `around` is P where the graph is not to be held in memory.
    """
    known = problem.values[problem.train].astype(np.float64)
    own = [np.zeros((count, known.shape[1] + 1)) for count in problem.counts]
    own[problem.target][problem.train] = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    if not problem.relations:
        return own
    if around is not None:
        value = own
        for _ in range(STEPS):
            value = [(1 - KEEP) * told + KEEP * y for told, y in zip(around(value), own, strict=True)]
        return value
    from scipy import sparse  # serving imports this module, and does without

    offsets = np.concatenate([[0], np.cumsum(problem.counts)])
    rows = np.concatenate([r.rows + offsets[r.here] for r in problem.relations])
    columns = np.concatenate([r.columns + offsets[r.there] for r in problem.relations])
    degree = np.maximum(np.bincount(rows, minlength=offsets[-1]), 1)
    matrix = sparse.csr_array((1 / degree[rows], (rows, columns)), shape=(offsets[-1], offsets[-1]))
    start = whole = np.concatenate(own)
    for _ in range(STEPS):
        whole = (1 - KEEP) * (matrix @ whole) + KEEP * start
    return np.split(whole, offsets[1:-1])


def label_answers(told: npt.NDArray[Any], otherwise: npt.NDArray[Any]) -> DoubleArray:
    """What labels that reached nodes [n, k + 1] say, [n, k]; `otherwise` [1, k] where none did."""
    reached = told[:, -1:].astype(np.float64)
    found: DoubleArray = np.where(reached > LEAST_REACHED, told[:, :-1] / np.maximum(reached, 1e-300), otherwise)
    return found


def as_answers(problem: NodeProblem, scale: Scale, values: npt.NDArray[Any]) -> FloatArray:
    """Values [n, k] of the problem in the form of the model's answers: [n, k], or [n] in units of the labels."""
    if problem.regression:
        return scale.answers(values[None].astype(np.float32))
    return values.astype(np.float32)


def best_share(problem: NodeProblem, scale: Scale, answers: FloatArray, by_labels: FloatArray) -> float:
    """The share of label propagation that validates best; 0 without validation rows or a clear gain."""
    rows = problem.valid
    if not len(rows) or not problem.relations:
        return 0.0
    wanted = as_answers(problem, scale, problem.values[rows]) if problem.regression else problem.values[rows]
    losses = [_loss(problem, mixed(answers[rows], by_labels[rows], share), wanted) for share in SHARES]
    best = int(np.argmin(losses))
    return SHARES[best] if losses[best] < losses[0] * (1 - LEAST_GAIN) else 0.0


def mixed(answers: FloatArray, by_labels: FloatArray, share: float) -> FloatArray:
    """The mean of both, `share` being the weight of the second."""
    found: FloatArray = (answers * np.float32(1 - share) + by_labels * np.float32(share)).astype(np.float32)
    return found


def labels_around(
    told: Mapping[int, npt.NDArray[Any]],
    neighbours: Sequence[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]],
    count: int,
) -> DoubleArray:
    """What reaches `count` new nodes, [count, k + 1]: the sum over (type, new node, neighbour) of `told`."""
    width = next(iter(told.values())).shape[1] if told else 1
    found = np.zeros((count, width))
    for there, owner, neighbour in neighbours:
        np.add.at(found, owner, told[there][neighbour].astype(np.float64))
    return found


def _loss(problem: NodeProblem, said: FloatArray, wanted: npt.NDArray[Any]) -> float:
    if problem.regression:
        return float(np.mean((said.astype(np.float64) - wanted) ** 2))
    likely = np.clip(said.astype(np.float64), SMALLEST, 1 - SMALLEST)
    each = wanted * np.log(likely)
    return -float((each + (1 - wanted) * np.log(1 - likely) if problem.multi_label else each).mean())
