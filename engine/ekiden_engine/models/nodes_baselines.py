"""What a model of a node property has to beat: the frequencies of the classes or the mean, label propagation, and a
linear model of the node's own features."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.memory import available_bytes
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.fanout import COMFORTABLE
from ekiden_engine.models.nodes_labels import LABEL_BYTES, label_answers, propagate_labels
from ekiden_engine.models.nodes_problem import NodeProblem, RowArray, make_node_problem
from ekiden_engine.models.nodes_sampled_lists import Lists

STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1)
"""L2 strengths per training row that the linear model chooses from on the validation rows."""
MOST_ROWS: Final = 100_000
"""Training rows that the linear model takes, a random sample of more: more hardly move so few coefficients."""
ITERATIONS: Final = 100

DoubleArray = npt.NDArray[np.float64]


def node_baselines(graph: EncodedGraph, target: Target) -> dict[str, FloatArray]:
    """Predictions for all nodes of the target's type: float32 [n], or class probabilities float32 [n, k].

    `majority_class` or `mean`; `label_propagation`, if there are edges; `logistic_regression` or `ridge_regression` of
    the features, if there are any. Test labels are never looked at. Raises `BadData` EMPTY_TRAINING_SET.
    """
    problem = make_node_problem(graph, target)
    known = problem.values[problem.train].astype(np.float64)
    constant = np.repeat(known.mean(0, keepdims=True), problem.counts[problem.target], 0)
    found = {"mean" if problem.regression else "majority_class": constant}
    if problem.relations:
        found["label_propagation"] = label_propagation(problem)
    features = problem.inputs[problem.target].features
    if features:
        x = problem.x[problem.target][:, :features]
        found["ridge_regression" if problem.regression else "logistic_regression"] = linear_model(problem, x)
    return {name: _finished(problem, values) for name, values in found.items()}


def label_propagation(problem: NodeProblem) -> DoubleArray:
    """See `propagate_labels`; nodes that no label reaches have the training mean, [n, k]. A graph that is too large for
    memory is read from disk."""
    mean = problem.values[problem.train].astype(np.float64).mean(0, keepdims=True)
    available = available_bytes()
    if available is None or problem.edge_count * LABEL_BYTES <= COMFORTABLE * available:
        told = propagate_labels(problem)
    else:
        with tempfile.TemporaryDirectory(prefix="ekiden-labels-") as scratch:
            told = propagate_labels(problem, Lists(problem, Path(scratch)).around)
    return label_answers(told[problem.target], mean)


def linear_model(problem: NodeProblem, x: FloatArray) -> DoubleArray:
    """Multinomial logistic regression (one per class where rows have several), or ridge regression, on `x` [n, f]:
    probabilities or numbers of unit variance [n, k]. The strength is the one with the least validation loss."""
    train = problem.train
    if len(train) > MOST_ROWS:
        train = np.sort(np.random.default_rng(0).choice(train, MOST_ROWS, replace=False))
    check = problem.valid if len(problem.valid) else train
    best, found = np.inf, np.zeros((len(x), problem.outputs))
    design = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1).astype(np.float64)
    coefficients = np.zeros((design.shape[1], problem.outputs))
    for strength in sorted(STRENGTHS, reverse=True):
        coefficients = _fit_linear(problem, design, train, strength, coefficients)
        said = design @ coefficients
        loss, _ = _loss(problem)(said[check], problem.values[check].astype(np.float64))
        if loss < best:
            best, found = loss, said
    return _probabilities(problem, found)


def _fit_linear(
    problem: NodeProblem, design: DoubleArray, train: RowArray, strength: float, start: DoubleArray
) -> DoubleArray:
    """L-BFGS; the intercept, in the last row, is not shrunk."""
    x, wanted = design[train], problem.values[train].astype(np.float64)
    loss_of = _loss(problem)
    shrunk = np.ones((x.shape[1], 1))
    shrunk[-1] = 0

    def objective(flat: DoubleArray) -> tuple[float, DoubleArray]:
        w = flat.reshape(start.shape)
        loss, slope = loss_of(x @ w, wanted)
        return loss + 0.5 * strength * float((shrunk * w**2).sum()), (x.T @ slope + strength * shrunk * w).ravel()

    solved = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    found: DoubleArray = solved.x.reshape(start.shape)
    return found


def _loss(problem: NodeProblem) -> Callable[[DoubleArray, DoubleArray], tuple[float, DoubleArray]]:
    """Mean loss over rows, and its derivative by what is said, [m, k]."""

    def squared(said: DoubleArray, wanted: DoubleArray) -> tuple[float, DoubleArray]:
        return 0.5 * float(((said - wanted) ** 2).mean()), (said - wanted) / len(said)

    def entropy(said: DoubleArray, wanted: DoubleArray) -> tuple[float, DoubleArray]:
        likely = _probabilities(problem, said)
        each = wanted * np.log(np.maximum(likely, 1e-300))
        if problem.multi_label:
            each = each + (1 - wanted) * np.log(np.maximum(1 - likely, 1e-300))
        return -float(each.sum() / len(said)), (likely - wanted) / len(said)

    return squared if problem.regression else entropy


def _probabilities(problem: NodeProblem, said: DoubleArray) -> DoubleArray:
    if problem.regression:
        return said
    if problem.multi_label:
        logistic: DoubleArray = 0.5 * (1 + np.tanh(0.5 * said))
        return logistic
    powers = np.exp(said - said.max(1, keepdims=True))
    found: DoubleArray = powers / powers.sum(1, keepdims=True)
    return found


def _finished(problem: NodeProblem, values: DoubleArray) -> FloatArray:
    """In label units, and within the range of the training labels."""
    if not problem.regression:
        return values.astype(np.float32)
    known = problem.values[problem.train, 0]
    held = np.clip(values[:, 0], known.min(), known.max()) * problem.scale + problem.mean
    found: FloatArray = held.astype(np.float32)
    return found
