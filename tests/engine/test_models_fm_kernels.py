"""The sampler's two loops against the formulas, solved densely."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ekiden_engine.models.fm_kernels import padded, sample_coefficients, sample_nodes

D = 5


def make_edges(nodes: int, others: int, per_node: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 2 * per_node, nodes)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    other = rng.integers(0, others, pointers[-1]).astype(np.int32)
    return pointers, other, rng.standard_normal(pointers[-1]).astype(np.float32)


def make_table(others: int, seed: int = 1) -> np.ndarray:
    table = np.zeros((others, padded(D)), np.float32)
    table[:, : D - 1] = np.random.default_rng(seed).standard_normal((others, D - 1))
    table[:, D - 1] = 1
    return table


def draw(
    pointers: np.ndarray, other: np.ndarray, label: np.ndarray, noise: np.ndarray, parts: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = len(pointers) - 1
    table, offset = make_table(12), np.linspace(-1, 1, 12, dtype=np.float32)
    prior = np.random.default_rng(3).standard_normal((nodes, D)).astype(np.float32)
    precision = np.arange(1, D + 1, dtype=np.float32)
    mean, drawn = np.zeros((nodes, D), np.float32), np.zeros((nodes, D), np.float32)
    squares = np.zeros(nodes, np.float32)
    bounds = np.linspace(0, nodes, parts + 1).astype(int)
    for start, stop in pairwise(bounds):
        sample_nodes(
            pointers, other, label, table, offset, prior, precision, noise, np.float32(2.5),
            mean, drawn, squares, start, stop,
        )  # fmt: skip
    return mean, drawn, squares


def conditional(i: int, pointers: np.ndarray, other: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision matrix of node i by the formula."""
    edges = slice(pointers[i], pointers[i + 1])
    z = make_table(12)[other[edges], :D].astype(np.float64)
    offset = np.linspace(-1, 1, 12)[other[edges]]
    prior = np.random.default_rng(3).standard_normal((len(pointers) - 1, D)).astype(np.float32)[i]
    own = np.diag(np.arange(1, D + 1, dtype=np.float64))
    precision = 2.5 * z.T @ z + own
    return np.linalg.solve(precision, 2.5 * z.T @ (label[edges] - offset) + own @ prior), precision


def test_the_mean_of_a_node_is_its_ridge_regression_on_the_other_end() -> None:
    pointers, other, label = make_edges(nodes=9, others=12, per_node=7)
    mean, drawn, squares = draw(pointers, other, label, np.zeros((9, D), np.float32))
    for i in range(9):
        expected, _ = conditional(i, pointers, other, label)
        np.testing.assert_allclose(mean[i], expected, atol=2e-5)
        edges = slice(pointers[i], pointers[i + 1])
        residual = label[edges] - np.linspace(-1, 1, 12)[other[edges]] - make_table(12)[other[edges], :D] @ drawn[i]
        assert squares[i] == pytest.approx(np.sum(residual**2), rel=1e-4, abs=1e-5)
    np.testing.assert_array_equal(mean, drawn)


def test_draws_of_a_node_have_the_covariance_of_its_conditional_distribution() -> None:
    # GIVEN one node with nine edges, many times over
    copies, (_, other, label) = 30_000, make_edges(nodes=1, others=12, per_node=12, seed=5)
    other, label = other[:9], label[:9]
    pointers = np.arange(copies + 1, dtype=np.int64) * 9
    noise = np.random.default_rng(7).standard_normal((copies, D)).astype(np.float32)

    mean, drawn, _ = draw(pointers, np.tile(other, copies), np.tile(label, copies), noise)

    _, precision = conditional(0, pointers, np.tile(other, copies), np.tile(label, copies))
    np.testing.assert_allclose(np.cov((drawn - mean).T), np.linalg.inv(precision), atol=0.01)


def test_nodes_drawn_in_parts_are_those_drawn_at_once() -> None:
    pointers, other, label = make_edges(nodes=20, others=12, per_node=6)
    noise = np.random.default_rng(2).standard_normal((20, D)).astype(np.float32)
    whole, parts = draw(pointers, other, label, noise), draw(pointers, other, label, noise, parts=3)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def coefficients_after(sweeps: int, noise_scale: float, halves: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients after some sweeps, and the ridge solution that they belong to."""
    rng = np.random.default_rng(0)
    matrix = np.where(rng.random((40, 6)) < 0.4, rng.standard_normal((40, 6)), 0).astype(np.float32)
    matrix[:, 4] = 0  # a column without entries
    vectors = rng.standard_normal((40, D)).astype(np.float32)
    group = np.array([0, 0, 1, 1, 1, 1], np.int32)
    precision = np.array([[1] * D, [6] * D], np.float32)
    own = np.arange(2, D + 2, dtype=np.float32)
    columns = [np.flatnonzero(matrix[:, j]) for j in range(6)]
    pointers = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    values = np.concatenate([matrix[c, j] for j, c in enumerate(columns)])
    residual, coefficients = vectors.copy(), np.zeros((6, D), np.float32)
    for _ in range(sweeps):
        noise = (rng.standard_normal((6, D)) * noise_scale).astype(np.float32)
        for start, stop in ((0, 2), (2, D)) if halves else ((0, D),):
            sample_coefficients(
                pointers, np.concatenate(columns).astype(np.int32), values, (matrix**2).sum(0), group,
                own, precision, noise, residual, coefficients, start, stop,
            )  # fmt: skip
    np.testing.assert_allclose(residual, vectors - matrix @ coefficients, atol=1e-4)
    solved = np.stack(
        [
            np.linalg.solve(
                own[f] * matrix.T @ matrix + np.diag(precision[group, f]), own[f] * matrix.T @ vectors[:, f]
            )
            for f in range(D)
        ],
        axis=1,
    )
    return coefficients, solved


def test_sweeps_without_noise_end_at_the_ridge_regression_of_the_vectors() -> None:
    found, solved = coefficients_after(sweeps=100, noise_scale=0)
    np.testing.assert_allclose(found, solved, atol=1e-4)


def test_coefficients_of_a_column_without_entries_are_left_alone() -> None:
    found, _ = coefficients_after(sweeps=3, noise_scale=1)
    assert not found[4].any()
    assert found[[0, 1, 2, 3, 5]].all()


def test_dimensions_swept_apart_are_those_swept_together() -> None:
    np.testing.assert_array_equal(
        coefficients_after(sweeps=5, noise_scale=1)[0], coefficients_after(sweeps=5, noise_scale=1, halves=True)[0]
    )
