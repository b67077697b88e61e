"""The sparse kernels against dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ekiden_engine.kernels import EdgeMatrix, aggregate, gather


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
