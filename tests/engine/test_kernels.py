"""The sparse kernels against dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ekiden_engine.kernels import EdgeMatrix, aggregate, counting_sort, gather, pair_dot


def random_edges(seed: int = 0) -> tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    """40 edges between 6 rows and 5 columns, duplicates among them: rows, columns, values, dense [6, 5]."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, 6, 40), rng.integers(0, 5, 40)
    values = torch.from_numpy(rng.normal(size=40).astype(np.float32))
    dense = torch.zeros(6, 5)
    dense.index_put_((torch.from_numpy(rows), torch.from_numpy(columns)), values, accumulate=True)
    return rows, columns, values, dense


def test_aggregate_is_the_matrix_product_and_its_backward_the_transposed_product() -> None:
    # GIVEN a sparse matrix with repeated entries, and dense vectors
    rows, columns, values, dense = random_edges()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))

    # WHEN they are multiplied and a loss is taken back through the product
    found = aggregate(EdgeMatrix(rows, columns, values.numpy(), (6, 5)), x)
    (found * weight).sum().backward()  # type: ignore[no-untyped-call]

    # THEN both agree with dense arithmetic
    assert torch.allclose(found, dense @ x, atol=1e-5)
    assert x.grad is not None
    assert torch.allclose(x.grad, dense.T @ weight, atol=1e-5)


def test_hiding_an_edge_hides_only_that_edge_even_among_duplicates_until_it_is_shown() -> None:
    # GIVEN two edges between the same nodes
    edges = EdgeMatrix(np.array([1, 1]), np.array([0, 0]), np.array([2, 5], np.float32), (2, 1))

    # WHEN one of them is hidden
    edges.hide(torch.tensor([0]))

    # THEN the other one remains, in the matrix and in its transpose
    assert aggregate(edges, torch.ones(1, 1)).tolist() == [[0.0], [5.0]]
    assert (edges.transpose @ torch.ones(2, 1)).tolist() == [[5.0]]

    # AND both are back once it is shown
    edges.show(torch.tensor([0]))
    assert aggregate(edges, torch.ones(1, 1)).tolist() == [[0.0], [7.0]]
    assert (edges.transpose @ torch.ones(2, 1)).tolist() == [[7.0]]


@pytest.mark.parametrize("index", [[0, 2, 2, 1, 2], [], [3]])
def test_gather_picks_rows_and_its_backward_adds_up_repeated_ones(index: list[int]) -> None:
    # GIVEN rows picked more than once, once, and never
    x = torch.arange(8.0).reshape(4, 2).requires_grad_()
    picked = torch.tensor(index, dtype=torch.int64)
    weight = torch.arange(1.0, 2 * len(index) + 1).reshape(len(index), 2)

    # WHEN
    found = gather(x, picked)
    (found * weight).sum().backward()  # type: ignore[no-untyped-call]

    # THEN
    assert torch.equal(found, x[picked])
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(4, 2).index_add(0, picked, weight))


def test_dot_products_of_pairs_and_their_gradients_are_those_of_the_plain_formula() -> None:
    # GIVEN more pairs than are multiplied at a time, some of them twice
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 5, generator=generator, dtype=torch.float32).requires_grad_() for n in (40, 30))
    rows, columns = (torch.randint(0, n, (2_500,), generator=generator) for n in (40, 30))
    # WHEN
    found = pair_dot(x, y, rows, columns)
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    gradients = x.grad, y.grad
    # THEN
    x.grad = y.grad = None
    plain = (x[rows] * y[columns]).sum(1)
    plain.square().sum().backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(found, plain, atol=1e-5)
    for mine, expected in zip(gradients, (x.grad, y.grad), strict=True):
        assert mine is not None
        assert expected is not None
        assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-3)


def test_counting_sort_is_the_stable_order() -> None:
    keys = np.random.default_rng(0).integers(0, 7, 500).astype(np.int32)
    order, begins = counting_sort(keys, 9)
    assert np.array_equal(order, np.argsort(keys, kind="stable"))
    assert np.array_equal(begins, np.searchsorted(keys[order], np.arange(10)))
