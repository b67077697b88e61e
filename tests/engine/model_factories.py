"""Models, jobs and graphs for the tests of the engine's model side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ekiden.contracts.tasks import Task
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EdgeSet, EdgeType, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.graph_files import FEATURES_FILE
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import CurvePoint, Fit, Step
from tests.engine.factories import make_document, make_encoded_graph

QUICK: Mapping[str, str] = {"num-hidden": "4", "num-epochs": "4", "seeds": "1", "regularization-coef": "1"}


class Recorder:
    """A `Progress` that notes what it is told, and asks to stop after `stop_after` epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[tuple[Step, CurvePoint]] = []
        self.metrics: set[str] = set()
        self.notes: list[str] = []
        self._stop_after = stop_after

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        self.metrics.add(metric)
        self.epochs.append((step, point))

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.epochs) >= self._stop_after


def fit(graph: EncodedGraph, model: str = "rgcn", progress: Recorder | None = None, **changes: str) -> Fit:
    """Train on the graph's first target; keyword `num_epochs="3"` is hyperparameter `num-epochs`."""
    given = {**QUICK, **{name.replace("_", "-"): value for name, value in changes.items()}}
    target = graph.targets[0]
    return make_trainer(model, target.task, given).fit(graph, target, progress or Recorder())


def edges_of(graph: EncodedGraph, split: Split | None = None) -> tuple[Any, Any, Any]:
    """Source, destination and label of all edges of the first target, or of those in a split."""
    target = graph.targets[0]
    assert target.edge is not None
    edges, labels = graph.edge(target.edge), graph.labels(target)
    assert labels.values is not None
    rows = np.arange(len(edges)) if split is None else labels.rows(split)
    return edges.source[rows], edges.dest[rows], labels.values[rows]


def predict(fitted: Fit, graph: EncodedGraph, split: Split | None = None) -> Any:
    """Predictions of all target edges, or those of a split."""
    predictor: Any = fitted.predictor
    return predictor.predict(*edges_of(graph, split)[:2])


def rmse(predicted: Any, graph: EncodedGraph, split: Split = Split.TEST) -> float:
    """RMSE over a split of the first target."""
    return float(np.sqrt(np.mean((predicted - edges_of(graph, split)[2]) ** 2)))


def accuracy(predicted: Any, graph: EncodedGraph, split: Split = Split.TEST) -> float:
    """Share of the edges of a split whose most likely class is theirs."""
    return float((predicted.argmax(1) == edges_of(graph, split)[2]).mean())


def with_labels(graph: EncodedGraph, values: Any, split: Any = None) -> EncodedGraph:
    """The graph with other labels, and another split, on the edges of its first target, the first edge type."""
    edges, labels = graph.edges[0], graph.edges[0].labels[0]
    new = Labels(0, labels.split if split is None else np.asarray(split, np.uint8), values)
    changed = EdgeSet(
        *edges.edge_type, edges.source, edges.dest, edges.features, edges.feature_names, (new, *edges.labels[1:])
    )
    return EncodedGraph(graph.nodes, (changed, *graph.edges[1:]), graph.targets)


def make_graph(
    nodes: Mapping[str, int],
    edges: Mapping[EdgeType, tuple[Any, Any]],
    label: Any,
    split: Any = None,
    features: Mapping[str, Any] | None = None,
    *,
    classes: int = 0,
) -> EncodedGraph:
    """A graph in which the first edge type is the target, labelled with `label`: numbers, or with `classes` indices [E]
    or 0/1 [E, classes]; no features unless given."""
    target = next(iter(edges))
    values = np.asarray(label)
    several = values.ndim == 2
    values = values.astype(np.uint8 if several else np.int32 if classes else np.float32)
    parts = np.zeros(len(values), np.uint8) if split is None else np.asarray(split, np.uint8)
    sets = [
        EdgeSet(
            *edge_type,
            source=np.array(source, np.int32),
            dest=np.array(dest, np.int32),
            labels=(Labels(0, parts, values),) if edge_type == target else (),
        )
        for edge_type, (source, dest) in edges.items()
    ]
    given = {name: np.array(x, np.float32) for name, x in (features or {}).items()}
    return EncodedGraph(
        nodes=tuple(
            NodeSet(
                name,
                pa.array([f"{name[0]}{i}" for i in range(count)], pa.string()),
                given.get(name, np.zeros((count, 0), np.float32)),
                tuple(f"f{i}" for i in range(given[name].shape[1])) if name in given else (),
            )
            for name, count in nodes.items()
        ),
        edges=tuple(sets),
        targets=(
            Target(
                task=Task.EDGE_CLASSIFICATION if classes else Task.EDGE_REGRESSION,
                edge=target,
                property="rating",
                classes=tuple(f"c{i}" for i in range(classes)),
                multi_label=several,
                label_min=None if classes else float(np.nanmin(values)),
                label_max=None if classes else float(np.nanmax(values)),
            ),
        ),
    )


def make_train_job(
    folder: Path,
    graph: EncodedGraph | None = None,
    hyperparameters: Mapping[str, str] = QUICK,
    **changes: Any,
) -> MlRoot:
    """The `/opt/ml` of a training job; `changes` go into the spec."""
    root = MlRoot(folder)
    processed, spec = root.channel("processed"), root.channel("spec")
    processed.mkdir(parents=True)
    FeatureBook(nodes={}).save(processed / FEATURES_FILE)
    (graph or make_encoded_graph()).save(processed)
    spec.mkdir(parents=True)
    (spec / "spec.json").write_text(json.dumps(make_document(**changes)), "utf-8")
    config = folder / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters), "utf-8")
    return root
