"""Graphs of links with a pattern that can be learnt, for the tests of link prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EdgeSet, EdgeType, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import CurvePoint, Fit, LinkPredictor, Step

LIKES = ("user", "likes", "item")


class Recorder:
    """A `Progress` that notes what it is told, and asks to stop after `stop_after` epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[tuple[Step, CurvePoint]] = []
        self.notes: list[str] = []
        self._stop_after = stop_after

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        self.epochs.append((step, point))

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.epochs) >= self._stop_after


def make_links(
    nodes: Mapping[str, int],
    links: Mapping[EdgeType, tuple[list[int], list[int]]],
    split: Sequence[int] | None = None,
    *,
    edge: EdgeType | None = None,
    features: Mapping[str, np.ndarray] | None = None,
) -> EncodedGraph:
    """Links of one or all edge types are the target (`edge`); `split` is of the first edge type, others train."""
    sets = []
    for index, (edge_type, (source, dest)) in enumerate(links.items()):
        own = np.array(split if split is not None and not index else [0] * len(source), np.uint8)
        labels = (Labels(0, own),) if edge in (None, edge_type) else ()
        sets.append(EdgeSet(*edge_type, np.array(source, np.int32), np.array(dest, np.int32), labels=labels))
    given = features or {}
    return EncodedGraph(
        tuple(
            NodeSet(
                name,
                pa.array([f"{name[0]}{i}" for i in range(count)], pa.string()),
                given.get(name, np.zeros((count, 0), np.float32)),
                tuple(f"f{i}" for i in range(given[name].shape[1])) if name in given else (),
            )
            for name, count in nodes.items()
        ),
        tuple(sets),
        (Target(task=Task.LINK_PREDICTION, edge=edge),),
    )


def make_taste_graph(users: int = 40, items: int = 30, groups: int = 3, seed: int = 0) -> EncodedGraph:
    """Users like most items of their group and no other; 10 % of the links validate, 10 % test."""
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(users) for i in range(items) if u % groups == i % groups and rng.random() < 0.8]
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], p=[0.8, 0.1, 0.1], size=len(pairs))
    source, dest = ([p[end] for p in pairs] for end in (0, 1))
    return make_links({"user": users, "item": items}, {LIKES: (source, dest)}, split.tolist(), edge=LIKES)


def make_ring_graph(count: int = 40, seed: int = 0) -> EncodedGraph:
    """Places on a ring with relations `next` and `far` (7 on), both known forwards; a tenth of `next` is held out."""
    here = np.arange(count)
    rng = np.random.default_rng(seed)
    split = np.zeros(count, np.uint8)
    split[rng.choice(count, count // 5, replace=False)] = [Split.VALID, Split.TEST] * (count // 10)
    links = {
        ("place", "next", "place"): (here.tolist(), ((here + 1) % count).tolist()),
        ("place", "after_next", "place"): (here.tolist(), ((here + 2) % count).tolist()),
        ("place", "back", "place"): (((here + 1) % count).tolist(), here.tolist()),
    }
    return make_links({"place": count}, links, split.tolist())


def fit_links(graph: EncodedGraph, model: str, progress: Recorder | None = None, /, **given: str) -> Fit:
    """Train on the graph's first target; keyword `num_epochs="3"` is hyperparameter `num-epochs`."""
    trainer = make_trainer(model, Task.LINK_PREDICTION, {name.replace("_", "-"): text for name, text in given.items()})
    return trainer.fit(graph, graph.targets[0], progress or Recorder())


def links_of(fitted: Fit) -> LinkPredictor:
    """The predictor, as what it is."""
    predictor: LinkPredictor = fitted.predictor  # type: ignore[assignment]
    return predictor


def ranks_of(graph: EncodedGraph, predictor: LinkPredictor, split: Split = Split.TEST) -> np.ndarray:
    """Rank of the destination of each link of the first edge type in `split`, training links left out."""
    edges, labels = graph.link_labels(graph.targets[0])[0]
    rows, train = labels.rows(split), labels.rows(Split.TRAIN)
    scores = predictor.queries(0, "tail", edges.source[rows]) @ predictor.items(0, "tail").T
    found = []
    for line, source, dest in zip(scores, edges.source[rows], edges.dest[rows], strict=True):
        others = line.copy()
        others[edges.dest[train][edges.source[train] == source]] = -np.inf
        found.append(1 + (others > line[dest]).sum())
    return np.array(found)
