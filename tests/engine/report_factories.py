"""Reports to look at: evaluations of every task, and what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ekiden.contracts.tasks import Task
from ekiden_engine import report_charts as charts
from ekiden_engine.evaluation import TargetEvaluation, evaluate
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.base import Curve, CurvePoint, Predictor
from ekiden_engine.report import ReportData
from ekiden_engine.report_timeline import StageSpan
from tests.engine.evaluation_factories import (
    EDGE,
    KnownEdges,
    KnownNodes,
    edge_class_graph,
    link_graph,
    make_edges,
    make_labels,
    make_nodes,
    own_kind,
    paper_graph,
    rating_graph,
    softmax,
)

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
NASTY = '<script>alert("x")</script>&\'"'


def make_curves(metric: str = "rmse") -> tuple[Curve, ...]:
    points = tuple(CurvePoint(i, 1 - i / 30, 1 - i / 40 + (i > 6) * (i - 6) / 25, i / 10) for i in range(1, 11))
    higher = metric not in charts.ERRORS
    return (Curve(0, metric, higher, 6, True, points), Curve(0, metric, higher, 2, False, points))


def make_entry(evaluation: TargetEvaluation, **changes: Any) -> dict[str, Any]:
    """A target's entry in evaluation.json; `changes` replace parts of it."""
    return {
        **evaluation.document(),
        "hyperparameters": {"num-hidden": "32"},
        "seeds": [0, 1],
        "training": {"seconds": 12.3, "stopped": False, "threads": 1},
        **changes,
    }


def make_data(*evaluations: TargetEvaluation, **changes: Any) -> ReportData:
    """A report's input; `changes` replace entries of the document, but `name`, `timeline`, `curves` and `entry`."""
    evaluations = evaluations or (good_ratings(),)
    entry = changes.pop("entry", {})
    curves = changes.pop("curves", make_curves())
    return ReportData(
        name=changes.pop("name", "movielens"),
        evaluations=evaluations,
        curves=[curves] * len(evaluations),
        timeline=changes.pop("timeline", [StageSpan("export", "SUCCEEDED", START, START + timedelta(seconds=3))]),
        document={
            "version": "ekiden.evaluation.v2",
            "run_id": "movielens-20261120-100000-abcdef",
            "model": "rgcn",
            "versions": {"torch": "2.13.0"},
            "environment": {"cpu": "A processor", "cores": 2},
            "targets": [make_entry(evaluation, **entry) for evaluation in evaluations],
            **changes,
        },
    )


def evaluate_first(graph: EncodedGraph, predictor: Predictor) -> TargetEvaluation:
    return evaluate(graph, graph.targets[0], predictor)


def ratings(
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray], graph: EncodedGraph | None = None
) -> TargetEvaluation:
    return evaluate_first(graph or rating_graph(), KnownEdges(answer))


def good_ratings(scale: float = 0.4) -> TargetEvaluation:
    """A model whose errors are like noise of the given scale."""
    graph = rating_graph()
    edges, rng = graph.edges[0], np.random.default_rng(0)
    values = edges.labels[0].values
    assert values is not None
    table = dict(zip(zip(edges.source.tolist(), edges.dest.tolist(), strict=True), values.tolist(), strict=True))

    def answer(source: np.ndarray, dest: np.ndarray) -> np.ndarray:
        right = np.array([table[pair] for pair in zip(source.tolist(), dest.tolist(), strict=True)])
        return right + rng.normal(scale=scale, size=len(right))

    return ratings(answer, graph)


def constant(count: int, value: float = 3.0, split: Split = Split.TEST) -> TargetEvaluation:
    """`count` held-out edges, all with the same value, and as many predictions that are right; four to train on."""
    pairs = [(i, i % 7) for i in range(count + 4)]
    labels = make_labels([0] * 4 + [split] * count, np.full(count + 4, value, np.float32))
    target = Target(task=Task.EDGE_REGRESSION, edge=EDGE, property="rating", label_min=value, label_max=value)
    nodes = (make_nodes("user", count + 4), make_nodes("movie", 7))
    graph = EncodedGraph(nodes, (make_edges(EDGE, pairs, (labels,)),), (target,))
    return ratings(lambda s, d: np.full(len(s), value), graph)


def every_task() -> dict[str, TargetEvaluation]:
    """A small evaluation of every task."""
    rng = np.random.default_rng(0)
    classes, several = edge_class_graph(), edge_class_graph(multi_label=True)
    papers, numbers, links = paper_graph(), paper_graph(Task.NODE_REGRESSION), link_graph(relations=2)
    return {
        "edge regression": good_ratings(),
        "edge classification": evaluate_first(
            classes, KnownEdges(lambda s, d: softmax(rng.normal(size=(len(s), 3)) * 2))
        ),
        "edge classes": evaluate_first(several, KnownEdges(lambda s, d: rng.random((len(s), 3)))),
        "node classification": evaluate_first(papers, KnownNodes(softmax(2 * papers.nodes[0].features))),
        "node regression": evaluate_first(numbers, KnownNodes(numbers.nodes[0].features @ [0, 1, 2])),
        "links": evaluate_first(links, own_kind(links)),
    }
