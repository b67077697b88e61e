"""Graphs with a node property to predict, and trainings on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeSet, EdgeType, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import CurvePoint, Fit, Step

Pairs = tuple[npt.ArrayLike, npt.ArrayLike]
QUICK: Mapping[str, str] = {"num-hidden": "16", "seeds": "1", "window-for-early-stop": "20"}
LIGHT: Mapping[str, object] = {"dropout": 0.1, "weight_decay": 0.0005, "concat_node_embed": False}
PROPAGATION: Mapping[str, object] = {
    "num_layer": 0,
    "propagation_steps": 10,
    "concat_node_embed": False,
    "dropout": 0.5,
    "weight_decay": 0.005,
}
"""Nothing left to try."""
LAYERS: Mapping[str, object] = {**LIGHT, "num_layer": 2, "propagation_steps": 0}
BOUGHT: EdgeType = ("user", "bought", "item")


class Watcher:
    """A `Progress` that notes what it is told, and asks to stop after `stop_after` epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[str] = []
        self.metrics: set[str] = set()
        self.notes: list[str] = []
        self._left = stop_after

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        if not self.steps or self.steps[-1] != step.words:
            self.steps.append(step.words)
        self.metrics.add(metric)
        if self._left is not None:
            self._left -= 1

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._left is not None and self._left <= 0


def fit_nodes(
    graph: EncodedGraph, settings: Mapping[str, object] = {}, *, progress: Watcher | None = None, **changes: object
) -> Fit:
    """Train `rgcn` on the first target; `num_layer` in `settings` or as a keyword is hyperparameter `num-layer`."""
    asked = {**settings, **changes}
    given = {**QUICK, **{name.replace("_", "-"): str(value).lower() for name, value in asked.items()}}
    target = graph.targets[0]
    return make_trainer("rgcn", target.task, given).fit(graph, target, progress or Watcher())


def all_answers(fit: Fit, graph: EncodedGraph) -> npt.NDArray[np.float32]:
    """Predictions of every node of the first target's type."""
    predictor: Any = fit.predictor
    found: npt.NDArray[np.float32] = predictor.predict(np.arange(len(labels_of(graph).split), dtype=np.int32))
    return found


def labels_of(graph: EncodedGraph) -> Labels:
    return graph.labels(graph.targets[0])


def accuracy(answers: npt.NDArray[np.float32], graph: EncodedGraph, split: Split = Split.TEST) -> float:
    labels = labels_of(graph)
    rows = labels.rows(split)
    assert labels.values is not None
    return float((answers[rows].argmax(1) == labels.values[rows]).mean())


def make_node_graph(
    nodes: Mapping[str, int | npt.NDArray[Any]],
    edges: Mapping[EdgeType, Pairs],
    values: npt.NDArray[Any],
    split: npt.NDArray[np.uint8] | None = None,
    *,
    classes: int = 0,
    edge_features: Mapping[EdgeType, npt.NDArray[Any]] | None = None,
) -> EncodedGraph:
    """A graph whose first node type is the target. A type is its count, or its features.

    `values` [n] or [n, k]; `classes` 0 is a regression. Without `split`: 60 % train, 20 % valid, 20 % test.
    """
    label = next(iter(nodes))
    count = len(values)
    if split is None:
        split = np.random.default_rng(9).choice([0, 1, 2], p=[0.6, 0.2, 0.2], size=count).astype(np.uint8)
    several = classes > 0 and values.ndim == 2
    known = values[split == Split.TRAIN]
    target = Target(
        task=Task.NODE_CLASSIFICATION if classes else Task.NODE_REGRESSION,
        node=label,
        property="topic",
        classes=tuple(f"c{i}" for i in range(classes)),
        multi_label=several,
        label_min=None if classes else float(known.min()),
        label_max=None if classes else float(known.max()),
    )
    stored = values.astype(np.uint8 if several else np.int32 if classes else np.float32)
    sets = []
    for name, given in nodes.items():
        x = np.zeros((given, 0), np.float32) if isinstance(given, int) else np.asarray(given, np.float32)
        ids = pa.array([f"{name}{i}" for i in range(len(x))], pa.string())
        mine = (Labels(0, split, stored),) if name == label else ()
        sets.append(NodeSet(name, ids, x, tuple(f"x{i}" for i in range(x.shape[1])), mine))
    found = []
    for edge_type, (source, dest) in edges.items():
        extra = (edge_features or {}).get(edge_type)
        found.append(
            EdgeSet(
                *edge_type,
                source=np.asarray(source, np.int32),
                dest=np.asarray(dest, np.int32),
                features=None if extra is None else extra.astype(np.float32),
                feature_names=() if extra is None else tuple(f"e{i}" for i in range(extra.shape[1])),
            )
        )
    return EncodedGraph(tuple(sets), tuple(found), (target,))


def make_communities(count: int = 240, classes: int = 3, seed: int = 0, *, labelled: float = 0.1) -> EncodedGraph:
    """Papers that cite within their topic four times of five, with words that hint at it; few are labelled."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(classes, size=count)
    pairs = []
    for paper in range(count):
        for _ in range(3):
            near = rng.random() < 0.8
            pool = np.flatnonzero(topic == topic[paper]) if near else np.arange(count)
            pairs.append((paper, rng.choice(pool)))
    source, dest = np.array(pairs).T
    words = rng.normal(size=(count, 8)) + 1.0 * np.eye(classes, 8)[topic]
    split = rng.choice([0, 1, 2], p=[labelled, 0.3, 0.7 - labelled], size=count).astype(np.uint8)
    return make_node_graph(
        {"paper": words}, {("paper", "cites", "paper"): (source, dest)}, topic, split, classes=classes
    )


def make_shoppers(users: int = 200, items: int = 60, seed: int = 0, *, bare_items: bool = False) -> EncodedGraph:
    """Users of whom nothing is known but what they bought; the class of a user is the kind of most of their items.

    Items have features that tell their kind, or with `bare_items` nothing at all.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=items)
    taste = rng.integers(2, size=users)
    pairs = []
    for user in range(users):
        for _ in range(5):
            pool = np.flatnonzero(kind == taste[user]) if rng.random() < 0.85 else np.arange(items)
            pairs.append((user, rng.choice(pool)))
    source, dest = np.array(pairs).T
    x = np.stack([kind + rng.normal(scale=0.3, size=items), rng.normal(size=items)], 1)
    return make_node_graph(
        {"user": users, "item": items if bare_items else x}, {BOUGHT: (source, dest)}, taste, classes=2
    )


def make_raters(users: int = 240, items: int = 60, seed: int = 0) -> EncodedGraph:
    """Users whose class shows only in which items they like and which they dislike: as many of a kind either way."""
    rng = np.random.default_rng(seed)
    kind = np.arange(items) % 2
    taste = rng.integers(2, size=users)
    likes, dislikes = [], []
    for user in range(users):
        for _ in range(4):
            likes.append((user, rng.choice(np.flatnonzero(kind == taste[user]))))
            dislikes.append((user, rng.choice(np.flatnonzero(kind != taste[user]))))
    x = kind[:, None] + rng.normal(scale=0.2, size=(items, 1))
    edges = {
        ("user", "likes", "item"): tuple(np.array(likes).T),
        ("user", "dislikes", "item"): tuple(np.array(dislikes).T),
    }
    return make_node_graph({"user": users, "item": x}, edges, taste, classes=2)
