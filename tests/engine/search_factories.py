"""Trainers and configurations for the tests of the search: models whose quality is a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.hpo import HpoModel, parse_hpo
from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Predictor, Progress, Step

Error = Callable[[Mapping[str, str]], float]


def make_configuration(*tiers: list[dict[str, Any]], metric: str = "rmse", **changes: Any) -> dict[str, Any]:
    """A configuration with these tiers; the rest is empty."""
    model = {"model": "rgcn", "task_type": "edge_regression", "eval_metric": {"metric": metric}}
    groups = [*tiers, [], [], [], []][:4]
    names = ("1-tier-param", "2-tier-param", "3-tier-param", "fixed-param")
    return {"models": [{**model, **dict(zip(names, groups, strict=True)), **changes}]}


def make_param(name: str = "lr", **changes: Any) -> dict[str, Any]:
    """A float on [0, 1]."""
    return {"param": name, "type": "float", "default": 0.5, "range": [0.0, 1.0], "inc_strategy": "linear", **changes}


def make_space(*tiers: list[dict[str, Any]], **changes: Any) -> HpoModel:
    """`make_configuration`, parsed."""
    return parse_hpo(make_configuration(*tiers, **changes))


class OffBy:
    """An edge predictor that is wrong by the same amount everywhere."""

    kind = "off-by"
    files = ()

    def __init__(self, graph: EncodedGraph, error: float) -> None:
        self.error = error
        labels = graph.labels(graph.targets[0])
        edges = graph.edge(graph.targets[0].edge or ("", "", ""))
        assert labels.values is not None
        truth = zip(edges.source.tolist(), edges.dest.tolist(), labels.values.tolist(), strict=True)
        self._truth = {(s, d): value for s, d, value in truth}

    def predict(self, source: Any, dest: Any) -> npt.NDArray[np.float32]:
        found = [self._truth[s, d] + self.error for s, d in zip(source.tolist(), dest.tolist(), strict=True)]
        return np.array(found, np.float32)


class Formula:
    """A trainer whose validation error after the last of ten epochs is a formula of its hyperparameters."""

    fitted: list[Mapping[str, str]]

    def __init__(self, hyperparameters: Mapping[str, str], error: Error, fitted: list[Mapping[str, str]]) -> None:
        self._given, self._error = dict(hyperparameters), error
        self.fitted = fitted

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        error, points = self._error(self._given), []
        step = Step("member 1/1", 0)
        self.fitted.append(self._given)
        for epoch in range(1, 11):
            points.append(CurvePoint(epoch, error, error * (11 - epoch), 0.01 * epoch))
            progress.epoch(step, 10, "rmse", points[-1])
            if progress.stop_requested():
                break
        curve = Curve(0, "rmse", False, len(points), True, tuple(points))
        return Fit(cast(Predictor, OffBy(graph, error)), (curve,), self._given, len(points) < 10, 1)


def maker(error: Error, fitted: list[Mapping[str, str]] | None = None) -> Callable[[Mapping[str, str]], Formula]:
    """What `search` makes trainers with; `fitted` collects what they were given."""
    seen: list[Mapping[str, str]] = [] if fitted is None else fitted
    return lambda given: Formula(given, error, seen)


RATED = ("user", "rated", "movie")


def make_ratings(users: int = 12, movies: int = 8, edges: int = 60, *targets: Target, seed: int = 0) -> EncodedGraph:
    """A rating graph with edges in all three parts and an occupation per user.

    Without `targets` its one target is the rating; those of other tasks get labels that follow from the nodes.
    """
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * movies, size=edges, replace=False)
    source, dest = (pairs // movies).astype(np.int32), (pairs % movies).astype(np.int32)
    taste, kind = rng.normal(size=users).astype(np.float32), rng.normal(size=movies).astype(np.float32)
    rating = (3 + taste[source] * kind[dest]).astype(np.float32)
    chosen = targets or (
        Target(task=Task.EDGE_REGRESSION, edge=RATED, property="rating", label_min=1.0, label_max=5.0),
    )
    node_labels: list[Labels] = []
    edge_labels: list[Labels] = []
    for position, target in enumerate(chosen):
        rows = users if target.node is not None else edges
        split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], p=[0.6, 0.2, 0.2], size=rows).astype(np.uint8)
        split[:3] = (Split.TRAIN, Split.VALID, Split.TEST)
        number = taste if target.node is not None else rating
        values: Any = None
        if target.is_regression:
            values = number
        elif target.is_classification:
            values = (number > np.median(number)).astype(np.int32)
        (node_labels if target.node is not None else edge_labels).append(Labels(position, split, values))
    return EncodedGraph(
        nodes=(
            NodeSet("user", pa.array([f"u{i}" for i in range(users)]), taste[:, None], ("taste",), tuple(node_labels)),
            NodeSet("movie", pa.array([f"m{i}" for i in range(movies)]), kind[:, None], ("kind",)),
        ),
        edges=(EdgeSet(*RATED, source=source, dest=dest, labels=tuple(edge_labels)),),
        targets=chosen,
    )
