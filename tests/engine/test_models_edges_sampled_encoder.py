"""Encodings from samples of neighbours are those from all neighbours, where the samples are all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.edges_sampled_encoder import Asked, SampledEncoder
from ekiden_engine.models.encoder import Encoder, Neighbours
from ekiden_engine.models.sampled_tables import Distinct

WIDTH, NODES, CITIES, EDGES = 4, 14, 5, 300
LIKES, LIVES = ("person", "likes", "person"), ("person", "lives-in", "city")


def make_neighbours(*, labelled: bool) -> list[Neighbours]:
    """People who like people, some themselves; the last two like nobody, and one of them is alone in the last city."""
    random = np.random.default_rng(3)
    source, dest = (random.integers(0, NODES - 2, EDGES).astype(np.int32) for _ in range(2))
    residual = random.normal(size=EDGES).astype(np.float32) if labelled else None
    city = np.append(random.integers(0, CITIES - 1, NODES - 1), CITIES - 1).astype(np.int32)
    features = random.normal(size=(CITIES, 2)).astype(np.float32)
    return [
        Neighbours((LIKES, True), source, dest, NODES, True, residual),
        Neighbours((LIKES, False), dest, source, NODES, True, residual),
        Neighbours((LIVES, True), np.arange(NODES, dtype=np.int32), city, CITIES, features=features),
    ]


def make_encoders(folder: Path, *, labelled: bool, outputs: int) -> tuple[SampledEncoder, Encoder]:
    """Two with the same parameters, which have moved since the first one remembered its sums."""
    random = np.random.default_rng(4)
    neighbours = make_neighbours(labelled=labelled)
    degree = np.bincount(neighbours[0].rows, minlength=NODES).astype(np.float32)
    features: FloatArray = random.normal(size=(NODES, 3)).astype(np.float32)
    starts: FloatArray = random.normal(size=(NODES, outputs)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    few = SampledEncoder(degree, starts, features, neighbours, WIDTH, generator, folder)
    few.encode_all()
    for values in [table.values for table in few.tables()] + [p.value.detach() for p in few.dense()]:
        values.add_(torch.randn(values.shape, generator=generator))
    plain = [replace(given, weights=None) for given in neighbours]
    given = [*plain[:2], *(neighbours[:2] if labelled else []), plain[2]]
    whole = Encoder(degree, features, given, WIDTH, generator, outputs)
    free, *messages = (table.values.clone() for table in few.tables())
    whole.free = free
    whole.messages = [messages[i] for i in ((0, 2, 1, 3, 4) if labelled else (0, 1, 2))]
    whole.project, projection = (p.value.detach().clone() for p in few.dense())
    whole.project_message[-1] = projection
    return few, whole


@pytest.mark.parametrize(("labelled", "outputs"), [(True, 1), (False, 3)])
def test_samples_of_all_neighbours_give_the_encodings_and_gradients_of_all_neighbours(
    tmp_path: Path, labelled: bool, outputs: int
) -> None:
    # GIVEN the same parameters in both encoders, and a batch of edges
    few, whole = make_encoders(tmp_path, labelled=labelled, outputs=outputs)
    rows = make_neighbours(labelled=labelled)[0].rows.astype(np.int32)
    random = np.random.default_rng(5)
    batch = np.sort(random.permutation(EDGES)[:50]).astype(np.int32)
    nodes, place = Distinct(NODES)(rows[batch])
    visible = np.ones(EDGES, np.float32)
    visible[batch] = 0
    asked = Asked(nodes, np.bincount(place).astype(np.float32), batch, visible if labelled else None)
    # WHEN their nodes are encoded, with as many neighbours sampled as any node has
    found, used = few.encode(asked, EDGES, random)
    whole.parameters(1.0)
    with whole.hiding(torch.from_numpy(batch).long()):
        wanted = whole.encode()[nodes]
        pull = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
        (wanted * pull).sum().backward()  # type: ignore[no-untyped-call]
    (found * pull).sum().backward()  # type: ignore[no-untyped-call]
    # THEN encodings are the same, with the batch's labels hidden in either direction, and so is what is learnt
    assert torch.allclose(found, wanted, atol=1e-4)
    order = (0, 1, 3, 2, 4, 5) if labelled else (0, 1, 2, 3)
    tables = [whole.free, *whole.messages]
    for one, at in zip(used, order, strict=True):
        gradient = tables[at].grad
        assert gradient is not None
        assert one.values.grad is not None
        assert torch.allclose(one.values.grad, gradient[one.rows], atol=1e-4)
    # THEN penalties are in proportion to the batch
    assert float(used[0].penalty.sum()) == 50
    assert float(used[1].penalty.sum()) == pytest.approx(50, rel=1e-5)


@pytest.mark.parametrize(("labelled", "outputs"), [(True, 1), (False, 3)])
def test_what_stays_of_the_encoder_is_what_stays_with_all_neighbours(
    tmp_path: Path, labelled: bool, outputs: int
) -> None:
    few, whole = make_encoders(tmp_path, labelled=labelled, outputs=outputs)
    with torch.no_grad():
        found, wanted = few.state(few.encode_all()), whole.state()
    assert torch.allclose(found.encoded, wanted.encoded, atol=1e-4)
    assert torch.allclose(found.usual, wanted.usual, atol=1e-4)
    assert [m[:2] for m in found.messages] == [m[:2] for m in wanted.messages]
    assert all(torch.allclose(f[2], w[2]) for f, w in zip(found.messages, wanted.messages, strict=True))


def test_what_no_training_edge_reaches_starts_from_nothing(tmp_path: Path) -> None:
    few = SampledEncoder(
        np.array([2, 1, 0], np.float32),
        np.zeros((3, 1), np.float32),
        np.zeros((3, 0), np.float32),
        [Neighbours((LIVES, True), np.arange(3, dtype=np.int32), np.array([0, 0, 1], np.int32), 2)],
        WIDTH,
        torch.Generator().manual_seed(0),
        tmp_path,
    )
    free, messages = (table.values for table in few.tables())
    assert not free[2].any()
    assert messages[0, :WIDTH].all()
    assert not messages[1].any()
