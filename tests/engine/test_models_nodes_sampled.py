"""Node models trained on samples of neighbours: what a batch sees, and that the model is that of the full batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ekiden_engine.models import nodes_sampled_lists, sampler
from ekiden_engine.models.nodes_labels import propagate_labels
from ekiden_engine.models.nodes_network import Design, Network
from ekiden_engine.models.nodes_problem import NodeProblem, Relation, make_node_problem
from ekiden_engine.models.nodes_result import make_predictor
from ekiden_engine.models.nodes_sampled import FreeVectors, epochs_for, full_batch_bytes
from ekiden_engine.models.nodes_sampled_batch import MOST_EDGES, MOST_NODES, Batch, Sampler, batch_size
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.nodes_views import Matrices
from ekiden_engine.models.optimizer import Adam, Parameter
from tests.engine.nodes_factories import make_node_graph

BOUGHT = ("user", "bought", "item")
KNOWS = ("user", "knows", "user")
DESIGNS = [
    Design(2, 0, free=False, width=4, bases=0, self_loop=True),
    Design(2, 0, free=True, width=4, bases=2, self_loop=False),
    Design(1, 3, free=True, width=2, bases=0, self_loop=True),
    Design(0, 3, free=False, width=4, bases=0, self_loop=True),
    Design(0, 0, free=False, width=4, bases=0, self_loop=True),
]


def make_problem(users: int = 90, items: int = 30, edges: int = 400) -> NodeProblem:
    """Two node types and two edge types; the last ten users know nobody, and the last five have bought nothing."""
    rng = np.random.default_rng(0)
    buyers, knowing = users - 5, users - 10
    graph = make_node_graph(
        {"user": rng.normal(size=(users, 2)), "item": items, "shop": 0},
        {
            BOUGHT: (np.minimum(rng.geometric(0.03, edges) - 1, buyers - 1), rng.integers(items, size=edges)),
            KNOWS: tuple(rng.integers(knowing, size=(2, edges))),
        },
        np.arange(users) % 3,
        classes=3,
    )
    return make_node_problem(graph, graph.targets[0])


class Whole:
    """Tables of free vectors as they are."""

    def __init__(self, network: Network) -> None:
        self._free = network.free

    def use(self, t: int, rows: torch.Tensor) -> torch.Tensor:
        return self._free[t].index_select(0, rows)


@pytest.fixture
def _in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten nodes and a hundred edges at a time, and whatever is as large as a kilobyte on disk."""
    monkeypatch.setattr(nodes_sampled_lists, "BLOCK", 10)
    monkeypatch.setattr(nodes_sampled_lists, "LARGE", 1024)
    monkeypatch.setattr(sampler, "CHUNK", 100)


def networks(design: Design, folder: Path) -> tuple[Network, Network, Lists]:
    """The same network twice: with the graph in memory, and on disk."""
    problem = make_problem()
    lists = Lists(problem, folder)
    return (
        Network(problem, Matrices(problem), design, torch.Generator().manual_seed(1)),
        Network(problem, lists, design, torch.Generator().manual_seed(1)),
        lists,
    )


@pytest.mark.usefixtures("_in_small_blocks")
@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.words)
def test_answers_with_the_graph_on_disk_are_those_with_it_in_memory(tmp_path: Path, design: Design) -> None:
    # GIVEN the same network over both
    memory, disk, _ = networks(design, tmp_path)
    with torch.no_grad():
        # THEN all states and outputs are the same
        for here, there in zip(memory.hidden(), disk.hidden(), strict=True):
            assert here.keys() == there.keys()
            for t in here:
                torch.testing.assert_close(there[t], here[t], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(disk.forward(), memory.forward(), atol=1e-5, rtol=1e-5)
    # AND what is made of them
    problem = memory.problem
    target = make_node_graph({"user": 3}, {}, np.arange(3) % 3, classes=3).targets[0]
    first, second = (make_predictor(problem, design, [n, n], target).tensors for n in (memory, disk))
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=2e-3, err_msg=name)
    # AND no file of states is left beside the lists
    assert {path.name.rsplit("-", 1)[1] for path in tmp_path.iterdir()} == {"columns", "edges"}


@pytest.mark.usefixtures("_in_small_blocks")
def test_labels_propagate_from_lists_on_disk_as_they_do_in_memory(tmp_path: Path) -> None:
    problem = make_problem()
    for here, there in zip(
        propagate_labels(problem), propagate_labels(problem, Lists(problem, tmp_path).around), strict=True
    ):
        np.testing.assert_allclose(there, here, atol=1e-12)


@pytest.mark.parametrize("design", [d for d in DESIGNS if not d.steps], ids=lambda design: design.words)
def test_a_batch_with_all_neighbours_is_told_what_the_full_batch_is_told(tmp_path: Path, design: Design) -> None:
    memory, disk, lists = networks(design, tmp_path)
    random = np.random.default_rng(0)
    # GIVEN users in any order, among them some without neighbours, and more samples than anybody has neighbours
    asked = random.permutation(90)[:40]
    batch = Batch(Sampler(disk, lists, 10_000), asked, Whole(disk), random)
    # THEN answers are the same, and so are the gradients
    gradients = []
    for network in (memory, disk):
        parameters = network.parameters(0.0)
        said = network.forward()[asked] if network is memory else network.forward(view=batch)
        said.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append((said.detach(), *(p.value.grad for p in parameters)))
    for here, there in zip(*gradients, strict=True):
        torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


def test_a_batch_of_one_that_has_nobody_is_told_what_it_is_itself(tmp_path: Path) -> None:
    memory, disk, lists = networks(DESIGNS[0], tmp_path)
    batch = Batch(Sampler(disk, lists, 4), np.array([89]), Whole(disk), np.random.default_rng(0))
    with torch.no_grad():
        torch.testing.assert_close(disk.forward(view=batch), memory.forward()[[89]])


def test_a_sample_has_the_mean_of_all_neighbours_as_its_expectation(tmp_path: Path) -> None:
    # GIVEN one layer, linear where everything is positive
    memory, disk, lists = networks(Design(1, 0, free=True, width=4, bases=0, self_loop=True), tmp_path)
    for network in (memory, disk):
        for tensor in (*network.project.values(), *network.shift.values(), *network.free.values()):
            tensor.abs_()
        network.layers[0].mixing.abs_()
    random, asked = np.random.default_rng(1), np.arange(5)  # those with the longest lists
    tables, draws = Sampler(disk, lists, 3), []
    with torch.no_grad():
        # WHEN three of their neighbours are drawn, often
        for _ in range(600):
            draws.append(disk.hidden(view=Batch(tables, asked, Whole(disk), random))[1][0].numpy())
        whole = memory.hidden()[1][0][:5].numpy()
    # THEN the mean of the draws is what all neighbours give, though the draws differ
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert error.max() > 0
    linear = whole > 0.5
    assert linear.sum() > 5
    np.testing.assert_array_less(np.abs(np.mean(draws, axis=0) - whole)[linear], 4.5 * error[linear] + 1e-5)


@pytest.mark.parametrize("steps", [1, 4])
def test_walks_end_where_the_propagation_takes_its_answer_from(tmp_path: Path, steps: int) -> None:
    # GIVEN a propagation without layers
    design = Design(0, steps, free=False, width=4, bases=0, self_loop=True, teleport=0.3)
    memory, disk, lists = networks(design, tmp_path)
    random, asked, draws = np.random.default_rng(2), np.array([0, 7, 40, 82, 89]), []
    # WHEN walks are drawn, often
    with torch.no_grad():
        for _ in range(300):
            draws.append(disk.forward(view=Batch(Sampler(disk, lists, 8), asked, Whole(disk), random)).numpy())
        whole = memory.forward()[asked].numpy()
    # THEN their mean is the propagation's answer, term by term
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    np.testing.assert_array_less(np.abs(np.mean(draws, axis=0) - whole), 4.5 * error + 1e-5)
    # AND who has no neighbours walks nowhere
    np.testing.assert_allclose(draws[0][-1], whole[-1], atol=1e-5)


def test_a_row_that_was_not_drawn_is_shrunk_later_as_often() -> None:
    # GIVEN a table of which one row is drawn in every step, and one in the first and the fourth
    values = torch.ones(3, 2)
    tables = FreeVectors({0: values}, decay=0.25)
    penalties = []
    for rows in ([0, 1], [0], [0], [0, 1]):
        tables.begin()
        used = tables.use(0, torch.tensor(rows))
        used.sum().backward()  # type: ignore[no-untyped-call]
        penalties.append(tables._used[0].penalty.tolist())
        tables.step(0.01, len(penalties))
    # THEN the second row makes up for the steps between
    assert penalties == [[0.25, 0.25], [0.25], [0.25], [0.25, 0.75]]
    # AND what is never drawn stays
    assert values[2].tolist() == [1, 1]
    assert float(values[0, 0]) < float(values[1, 0]) < 1


def test_a_table_of_which_all_is_drawn_moves_as_in_the_full_batch() -> None:
    table = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    other = table.clone().requires_grad_()
    tables = FreeVectors({0: table}, decay=0.1)
    adam = Adam([Parameter(other, 0.1)], 0.02)
    for _ in range(5):
        tables.begin()
        tables.use(0, torch.arange(4)).pow(3).sum().backward()  # type: ignore[no-untyped-call]
        other.pow(3).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        tables.step(0.02, adam.steps)
    torch.testing.assert_close(table, other.detach())


def test_batches_are_as_large_as_what_is_drawn_for_them_allows() -> None:
    problem = make_problem()
    sizes = [batch_size(problem, design, 32) for design in (DESIGNS[4], DESIGNS[3], DESIGNS[0])]
    assert sizes == [MOST_NODES, MOST_NODES, MOST_NODES]
    # GIVEN half a million users, of whom each knows forty
    edges = np.zeros(20_000_000, np.int32)
    huge = replace(
        problem,
        counts=(500_000, 1, 0),
        relations=(Relation((KNOWS, True), 0, 0, edges, edges), Relation((KNOWS, False), 0, 0, edges, edges)),
    )
    # THEN two layers of ten neighbours each way are 20 + 21 * 20 a user, and one of them 20
    assert batch_size(huge, DESIGNS[0], 10) == 1024
    assert batch_size(huge, DESIGNS[0], 32) == 128
    assert 128 * (64 + 65 * 64) <= MOST_EDGES < 256 * (64 + 65 * 64)
    # AND a graph of few nodes is drawn from once
    few = replace(huge, counts=(1000, 1, 0))
    assert batch_size(few, DESIGNS[0], 32) == MOST_NODES


def test_an_epoch_of_many_steps_needs_fewer_epochs() -> None:
    problem = make_problem()
    count = len(problem.train)
    assert epochs_for(problem, DESIGNS[0], 8, count, (300, 50)) == (300, 50)
    assert epochs_for(problem, DESIGNS[0], 8, -(-count // 9), (300, 50)) == (100, 16)
    assert epochs_for(problem, DESIGNS[0], 8, 1, (300, 50)) == (30, 5)
    assert epochs_for(problem, DESIGNS[0], 8, 1, (10, 2)) == (10, 2)


def test_the_estimate_of_memory_counts_edges_layers_vectors_and_members() -> None:
    small, large = make_problem(), make_problem(edges=40_000)
    layers, spread, free, alone = DESIGNS[0], DESIGNS[3], DESIGNS[1], DESIGNS[4]
    more = large.edge_count - small.edge_count
    # a matrix of each relation; and one of all of them together
    assert full_batch_bytes(large, [layers], 1) - full_batch_bytes(small, [layers], 1) == (44 + 32) * more
    assert full_batch_bytes(large, [layers, spread], 1) - full_batch_bytes(large, [layers], 1) >= 44 * large.edge_count
    assert full_batch_bytes(small, [free], 1) > full_batch_bytes(small, [alone], 1)
    assert full_batch_bytes(small, [layers], 30) > full_batch_bytes(small, [layers], 1)
    # one layer has its input, its output and means of 90 users under four relations, before and after dropout
    single = Design(1, 0, free=False, width=64, bases=0, self_loop=True)
    assert full_batch_bytes(small, [single], 1) > 64 * 4 * 90 * 8
