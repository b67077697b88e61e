"""Labels of other nodes in the answer: where they say more than features and structure do."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.models.base import NewEdge, NewNode
from ekiden_engine.models.nodes_baselines import node_baselines
from ekiden_engine.models.nodes_predictor import NodeTablePredictor
from tests.engine.nodes_factories import BOUGHT, PROPAGATION, accuracy, all_answers, fit_nodes

KINDS = 4


def make_shop(users: int = 150, items: int = 120, bought: int = 12, seed: int = 0) -> EncodedGraph:
    """Items of kinds that users keep to; nothing is known of either, so only labels two edges away tell."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, items)
    source = np.repeat(np.arange(users, dtype=np.int32), bought)
    taste = rng.integers(0, KINDS, users)[source]
    own = rng.random(len(source)) < 0.75
    by_kind = [np.flatnonzero(kind == k) for k in range(KINDS)]
    dest = np.where(own, [rng.choice(by_kind[t]) for t in taste], rng.integers(0, items, len(source))).astype(np.int32)
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], items, p=[0.5, 0.25, 0.25]).astype(np.uint8)
    target = Target(
        task=Task.NODE_CLASSIFICATION, node="item", property="kind", classes=tuple(f"k{i}" for i in range(KINDS))
    )
    return EncodedGraph(
        nodes=(
            NodeSet("user", pa.array([f"u{i}" for i in range(users)]), np.zeros((users, 0), np.float32), ()),
            NodeSet(
                "item",
                pa.array([f"i{i}" for i in range(items)]),
                np.zeros((items, 0), np.float32),
                (),
                (Labels(0, split, kind.astype(np.int32)),),
            ),
        ),
        edges=(EdgeSet(*BOUGHT, source=source, dest=dest),),
        targets=(target,),
    )


def test_a_model_is_not_worse_than_label_propagation_where_only_labels_tell() -> None:
    # GIVEN a graph without features, and a model without vectors of its own for the nodes: structure says nothing
    graph = make_shop()
    baseline = node_baselines(graph, graph.targets[0])["label_propagation"]
    # WHEN trained
    fit = fit_nodes(graph, PROPAGATION, num_epochs=20)
    # THEN the labels are in the answer
    predictor = cast(NodeTablePredictor, fit.predictor)
    assert predictor.structure.label_share > 0.5
    assert accuracy(all_answers(fit, graph), graph) >= accuracy(baseline, graph) - 0.05 > 1 / KINDS


def test_a_new_node_is_told_the_labels_around_its_neighbours(tmp_path: Any) -> None:
    # GIVEN such a model, saved and loaded
    graph = make_shop()
    fit_nodes(graph, PROPAGATION, num_epochs=20).predictor.save(tmp_path)
    predictor = NodeTablePredictor.load(tmp_path)
    # WHEN new items come with the buyers of a known one each
    (edges,) = graph.edges
    items = np.arange(30, dtype=np.int32)
    new = [NewNode(None, tuple(NewEdge(BOUGHT, False, int(u)) for u in edges.source[edges.dest == i])) for i in items]
    # THEN they are mostly given the kind that the known one is given
    said = predictor.predict_new(new)
    assert np.mean(said.argmax(1) == predictor.predict(items).argmax(1)) > 0.7
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-3)
