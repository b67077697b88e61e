"""The mean of many draws as one pair of narrow tables."""

from __future__ import annotations

import numpy as np
import pytest

from ekiden_engine.models.fm_average import PosteriorMean
from ekiden_engine.models.fm_gibbs import Estimate

NODES, COEFFICIENTS, RANK = (30, 25), (6, 4), 3


def make_draws(count: int, noise: float) -> list[Estimate]:
    """Draws around one matrix of rank `RANK`, in bases that turn from draw to draw."""
    rng = np.random.default_rng(0)
    base = [rng.standard_normal((n + m, RANK)) for n, m in zip(NODES, COEFFICIENTS, strict=True)]
    found = []
    for _ in range(count):
        turn, _ = np.linalg.qr(rng.standard_normal((RANK, RANK)))
        tables = []
        for b in base:
            vectors = b @ turn + noise * rng.standard_normal(b.shape)
            tables.append(np.column_stack([vectors, rng.standard_normal(len(b))]).astype(np.float32))
        found.append(Estimate(tables[0], tables[1]))
    return found


def mean_product(draws: list[Estimate]) -> np.ndarray:
    found: np.ndarray = np.mean([d.source[:, :-1] @ d.dest[:, :-1].T for d in draws], axis=0)
    return found


def product(tables: Estimate) -> np.ndarray:
    found: np.ndarray = tables.source[:, :-1] @ tables.dest[:, :-1].T
    return found


def averaged(draws: list[Estimate], width: int) -> Estimate:
    mean = PosteriorMean(NODES, width)
    for draw in draws:
        mean.add(draw)
    return mean.tables()


def test_the_mean_of_draws_is_exact_where_the_width_suffices() -> None:
    draws = make_draws(count=40, noise=0.3)
    tables = averaged(draws, width=64)
    nodes = np.ix_(range(NODES[0]), range(NODES[1]))
    np.testing.assert_allclose(product(tables)[nodes], mean_product(draws)[nodes], atol=2e-3)
    np.testing.assert_allclose(tables.source[:, -1], np.mean([d.source[:, -1] for d in draws], axis=0), atol=1e-5)
    np.testing.assert_allclose(tables.dest[:, -1], np.mean([d.dest[:, -1] for d in draws], axis=0), atol=1e-5)


def test_a_narrow_mean_keeps_what_the_draws_have_in_common() -> None:
    # GIVEN 60 draws whose 180 columns have a common matrix of rank 3
    draws = make_draws(count=60, noise=0.3)

    tables = averaged(draws, width=8)

    assert tables.source.shape == (36, 9)
    exact, found = mean_product(draws), product(tables)
    nodes = np.ix_(range(NODES[0]), range(NODES[1]))
    assert np.linalg.norm((found - exact)[nodes]) < 0.06 * np.linalg.norm(exact[nodes])
    # THEN coefficients follow along: those of one end with the nodes of the other, and with its coefficients
    known, new = (slice(0, NODES[0]), slice(0, NODES[1])), (slice(NODES[0], None), slice(NODES[1], None))
    for part in ((new[0], known[1]), (known[0], new[1]), new):
        assert np.linalg.norm((found - exact)[part]) < 0.15 * np.linalg.norm(exact[part])


def test_draws_without_any_interaction_have_a_mean_of_biases_alone() -> None:
    draws = make_draws(count=3, noise=0)
    for draw in draws:
        draw.source[:, :-1] = 0
    assert not product(averaged(draws, width=4)).any()


def test_a_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no draw"):
        PosteriorMean(NODES, 4).tables()
