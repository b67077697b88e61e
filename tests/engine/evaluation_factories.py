"""Graphs with targets of every task, and predictors whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target

EDGE = ("user", "rated", "movie")
TRAIN, VALID, TEST, NONE = Split.TRAIN, Split.VALID, Split.TEST, Split.NONE
CLASSES = ("bad", "fair", "good")


class Known:
    """What all of the predictors share: nothing to save, every node known but those in `unseen`."""

    kind: ClassVar[str] = "known"
    files: ClassVar[tuple[str, ...]] = ()

    def save(self, folder: Path) -> None:
        """Nothing to write."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError

    def embeddings(self, label: str) -> np.ndarray | None:
        return None

    def counts(self) -> Mapping[str, int]:
        return {}


class KnownEdges(Known):
    """An `EdgePredictor` that is a function; sources in `unseen` are not known."""

    def __init__(self, answer: Callable[[np.ndarray, np.ndarray], np.ndarray], unseen: tuple[int, ...] = ()) -> None:
        self._answer, self._unseen = answer, unseen

    def predict(self, source: np.ndarray, dest: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._answer(source, dest).astype(np.float32)
        return found

    def known(self, source: np.ndarray, dest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ~np.isin(source, self._unseen), np.ones(len(dest), bool)


class KnownNodes(Known):
    """A `NodePredictor` that looks its answers up, float32 [n] or [n, k]."""

    def __init__(self, answers: np.ndarray, unseen: tuple[int, ...] = ()) -> None:
        self._answers, self._unseen = answers.astype(np.float32), unseen

    def predict(self, nodes: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._answers[nodes]
        return found

    def known(self, nodes: np.ndarray) -> np.ndarray:
        found: np.ndarray = ~np.isin(nodes, self._unseen)
        return found


class KnownLinks(Known):
    """A `LinkPredictor` with a score matrix per edge type: queries are unit vectors times the matrix."""

    def __init__(self, scores: Mapping[tuple[str, str, str], np.ndarray]) -> None:
        self._scores = [matrix.astype(np.float32) for matrix in scores.values()]
        self.edge_types = tuple(scores)

    def queries(self, edge_type: int, direction: str, nodes: np.ndarray) -> np.ndarray:
        matrix = self._scores[edge_type] if direction == "tail" else self._scores[edge_type].T
        found: np.ndarray = matrix[nodes]
        return found

    def items(self, edge_type: int, direction: str) -> np.ndarray:
        matrix = self._scores[edge_type]
        return np.eye(matrix.shape[1] if direction == "tail" else matrix.shape[0], dtype=np.float32)

    def known(self, label: str, nodes: np.ndarray) -> np.ndarray:
        return np.ones(len(nodes), bool)


def make_nodes(label: str, count: int, labels: tuple[Labels, ...] = ()) -> NodeSet:
    """Nodes without features; ids are the label's first letter and the index."""
    ids = pa.array([f"{label[0]}{i}" for i in range(count)], pa.string())
    return NodeSet(label, ids, np.zeros((count, 0), np.float32), (), labels)


def make_edges(
    edge_type: tuple[str, str, str], pairs: list[tuple[int, int]], labels: tuple[Labels, ...] = ()
) -> EdgeSet:
    """Edges from (source, destination) pairs."""
    ends = np.array(pairs, np.int32).reshape(-1, 2)
    return EdgeSet(*edge_type, source=ends[:, 0].copy(), dest=ends[:, 1].copy(), labels=labels)


def make_labels(split: list[int] | np.ndarray, values: Any = None, target: int = 0) -> Labels:
    """Labels of one target."""
    return Labels(target, np.array(split, np.uint8), values)


def rating_graph(users: int = 60, movies: int = 40, count: int = 1200, seed: int = 0) -> EncodedGraph:
    """Ratings 1 to 5, of bias and noise; 80/10/10."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * movies, count, replace=False)
    source, dest = pairs // movies, pairs % movies
    bias = rng.normal(scale=0.7, size=users)[source] + rng.normal(scale=0.7, size=movies)[dest]
    label = np.clip(np.round(3.5 + bias + rng.normal(scale=0.5, size=count)), 1, 5).astype(np.float32)
    split = rng.choice([TRAIN, VALID, TEST], count, p=[0.8, 0.1, 0.1])
    target = Target(task=Task.EDGE_REGRESSION, edge=EDGE, property="rating", label_min=1.0, label_max=5.0)
    edges = make_edges(EDGE, list(zip(source.tolist(), dest.tolist(), strict=True)), (make_labels(split, label),))
    return EncodedGraph((make_nodes("user", users), make_nodes("movie", movies)), (edges,), (target,))


def edge_class_graph(seed: int = 0, *, multi_label: bool = False) -> EncodedGraph:
    """The same edges with one class out of three (bad ≤ 2, fair 3, good ≥ 4), or with the set of those at most."""
    graph = rating_graph(seed=seed)
    edges = graph.edges[0]
    rating = edges.labels[0].values
    assert rating is not None
    one = np.digitize(rating, [2.5, 3.5]).astype(np.int32)
    values = (np.arange(3)[None, :] <= one[:, None]).astype(np.uint8) if multi_label else one
    labels = make_labels(edges.labels[0].split, values)
    target = Target(
        task=Task.EDGE_CLASSIFICATION, edge=EDGE, property="verdict", classes=CLASSES, multi_label=multi_label
    )
    pairs = list(zip(edges.source.tolist(), edges.dest.tolist(), strict=True))
    return EncodedGraph(graph.nodes, (make_edges(EDGE, pairs, (labels,)),), (target,))


def paper_graph(task: Task = Task.NODE_CLASSIFICATION, *, multi_label: bool = False, seed: int = 0) -> EncodedGraph:
    """Papers that cite papers of their own kind; topic, or a number, of the kind. 50/20/30."""
    rng = np.random.default_rng(seed)
    count, kinds = 300, 3
    kind = np.arange(count) % kinds
    source = rng.integers(0, count, 1500)
    same = rng.random(1500) < 0.85
    dest = np.where(same, (rng.integers(0, count // kinds, 1500) * kinds + kind[source]), rng.integers(0, count, 1500))
    features = (np.eye(kinds)[kind] + rng.normal(scale=0.8, size=(count, kinds))).astype(np.float32)
    split = rng.choice([TRAIN, VALID, TEST], count, p=[0.5, 0.2, 0.3])
    values: Any
    if task is Task.NODE_REGRESSION:
        values = (kind + rng.normal(scale=0.3, size=count)).astype(np.float32)
        target = Target(task=task, node="paper", property="year", label_min=-1.0, label_max=4.0)
    else:
        values = kind.astype(np.int32)
        if multi_label:
            values = (np.eye(kinds, dtype=np.uint8)[kind] | (rng.random((count, kinds)) < 0.2)).astype(np.uint8)
        target = Target(
            task=task, node="paper", property="topic", classes=("art", "bio", "chem"), multi_label=multi_label
        )
    ids = pa.array([f"p{i}" for i in range(count)], pa.string())
    nodes = NodeSet("paper", ids, features, ("x", "y", "z"), (make_labels(split, values),))
    edges = make_edges(("paper", "cites", "paper"), list(zip(source.tolist(), dest.tolist(), strict=True)))
    return EncodedGraph((nodes,), (edges,), (target,))


def link_graph(seed: int = 0, *, relations: int = 1) -> EncodedGraph:
    """Users who take movies of their own kind; with more `relations` a target over all edge types."""
    rng = np.random.default_rng(seed)
    users, movies = 50, 40
    sets = []
    for number in range(relations):
        pairs = [
            (u, m) for u in range(users) for m in range(movies) if (u + m + number) % 4 == 0 and rng.random() < 0.8
        ]
        split = rng.choice([TRAIN, VALID, TEST], len(pairs), p=[0.7, 0.1, 0.2])
        relation = "took" if number == 0 else f"took{number}"
        sets.append(make_edges(("user", relation, "movie"), pairs, (make_labels(split),)))
    target = Target(task=Task.LINK_PREDICTION, edge=sets[0].edge_type if relations == 1 else None)
    return EncodedGraph((make_nodes("user", users), make_nodes("movie", movies)), tuple(sets), (target,))


def own_kind(graph: EncodedGraph, noise: float = 0.3, seed: int = 0) -> KnownLinks:
    """A predictor that knows the rule of `link_graph`, but for noise."""
    rng = np.random.default_rng(seed)
    rule = (np.arange(50)[:, None] + np.arange(40)[None, :]) % 4
    return KnownLinks(
        {e.edge_type: (rule == (-i) % 4) + rng.normal(scale=noise, size=rule.shape) for i, e in enumerate(graph.edges)}
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities, rows summing to 1."""
    power = np.exp(scores - scores.max(1, keepdims=True))
    found: np.ndarray = power / power.sum(1, keepdims=True)
    return found
