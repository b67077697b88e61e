"""The network of a node target against its formulas, written out densely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ekiden_engine.models.nodes_network import Design, Network, free_types, kept, reach
from ekiden_engine.models.nodes_problem import NodeProblem, make_node_problem
from ekiden_engine.models.nodes_views import Matrices
from tests.engine.nodes_factories import BOUGHT, make_communities, make_node_graph, make_shoppers

KNOWS = ("user", "knows", "user")


def small_problem() -> NodeProblem:
    rng = np.random.default_rng(0)
    graph = make_node_graph(
        {"user": rng.normal(size=(5, 2)), "item": 3},
        {BOUGHT: ([0, 0, 1, 3, 3], [0, 1, 1, 2, 2]), KNOWS: ([0, 1, 4], [1, 2, 0])},
        np.array([0, 1, 2, 0, 1]),
        np.array([0, 0, 0, 1, 2], np.uint8),
        classes=3,
    )
    return make_node_problem(graph, graph.targets[0])


def mean_over(problem: NodeProblem, at: int) -> npt.NDArray[np.float64]:
    """The dense matrix of the relation at position `at`; two edges between the same nodes count twice."""
    relation = problem.relations[at]
    found = np.zeros((problem.counts[relation.here], problem.counts[relation.there]))
    np.add.at(found, (relation.rows, relation.columns), 1)
    found /= np.maximum(found.sum(1, keepdims=True), 1)
    return found


def array(x: torch.Tensor) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = x.detach().numpy().astype(np.float64)
    return found


@pytest.mark.parametrize("bases", [0, 2])
@pytest.mark.parametrize("self_loop", [True, False])
def test_two_layers_and_a_propagation_are_what_they_say(bases: int, self_loop: bool) -> None:
    problem = small_problem()
    design = Design(2, 3, free=True, width=4, bases=bases, self_loop=self_loop)
    network = Network(problem, Matrices(problem), design, torch.Generator().manual_seed(1))
    hidden = [
        np.maximum(problem.x[t] @ array(network.project[t]) + array(network.shift[t]) + array(network.free[t]), 0)
        for t in (0, 1)
    ]
    for layer in network.layers:
        each, after = array(layer.matrices()), []
        for t in (0, 1):
            value = array(layer.shift) + (hidden[t] @ array(layer.self_loop) if layer.self_loop is not None else 0)
            for at, relation in enumerate(problem.relations):
                if relation.here == t:
                    value = value + mean_over(problem, at) @ hidden[relation.there] @ each[at]
            after.append(np.maximum(value, 0))
        hidden = after
    z = start = np.concatenate(hidden) @ array(network.out) + array(network.out_shift)
    whole = np.eye(8)
    for relation in problem.relations:
        np.add.at(whole, (relation.rows + 5 * relation.here, relation.columns + 5 * relation.there), 1)
    whole /= whole.sum(1, keepdims=True)
    for _ in range(3):
        z = 0.9 * whole @ z + 0.1 * start
    np.testing.assert_allclose(array(network.forward()), z[:5], atol=1e-5)


def test_gradients_are_those_of_the_formulas() -> None:
    problem = small_problem()
    network = Network(
        problem, Matrices(problem), Design(1, 2, False, 3, 0, self_loop=True), torch.Generator().manual_seed(2)
    )
    parameters = network.parameters(0.0)
    network.forward().square().sum().backward()  # type: ignore[no-untyped-call]
    for parameter in parameters:
        assert parameter.value.grad is not None
        flat, slope = parameter.value.detach().view(-1), parameter.value.grad.view(-1)
        at = int(slope.abs().argmax())
        before, losses = float(flat[at]), []
        for step in (1e-2, -1e-2):
            flat[at] = before + step
            with torch.no_grad():
                losses.append(float(network.forward().double().square().sum()))
        flat[at] = before
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(slope[at]), rel=0.05, abs=1e-3)


def test_only_what_the_answer_depends_on_is_computed() -> None:
    problem = small_problem()
    user, both = frozenset({0}), frozenset({0, 1})
    assert reach(problem, Design(2, 0, False, 4, 0, self_loop=True)) == [both, both, user]
    assert reach(problem, Design(0, 0, False, 4, 0, self_loop=True)) == [user]
    assert reach(problem, Design(1, 5, False, 4, 0, self_loop=True)) == [both, both]


def test_free_vectors_are_for_neighbours_without_features_unless_they_are_for_all() -> None:
    bare, rich = make_shoppers(bare_items=True), make_shoppers()
    alone = make_node_graph({"paper": 4}, {("paper", "cites", "paper"): ([0], [1])}, np.array([0, 1, 0, 1]), classes=2)
    for graph, usual, most in (
        (bare, {1}, {0, 1}),
        (rich, set(), {0, 1}),
        (alone, {0}, {0}),
        (make_communities(), set(), {0}),
    ):
        problem = make_node_problem(graph, graph.targets[0])
        assert free_types(problem, everywhere=False) == usual
        assert free_types(problem, everywhere=True) == most


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_dropout_mask_hides_its_share_and_keeps_the_mean(share: float) -> None:
    mask = kept((1000, 37), share, torch.Generator().manual_seed(3))
    assert mask.shape == (1000, 37)
    assert float((mask == 0).float().mean()) == pytest.approx(share, abs=0.01)
    assert float(mask.mean()) == pytest.approx(1, abs=0.05)
    assert len(np.unique(mask.numpy())) == 2
    rows, columns = (mask == 0).float().mean(1), (mask == 0).float().mean(0)
    assert float(rows.std()) < 0.1
    assert float(columns.std()) < 0.04
