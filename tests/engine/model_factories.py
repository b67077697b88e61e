"""Models, jobs and graphs for the tests of the engine's model side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EdgeSet, EncodedGraph, NodeSet, Split, Target
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
        self.notes: list[str] = []
        self._stop_after = stop_after

    def epoch(self, step: Step, epochs: int, point: CurvePoint) -> None:
        self.epochs.append((step, point))

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.epochs) >= self._stop_after


def fit(graph: EncodedGraph, model: str = "rgcn", progress: Recorder | None = None, **changes: str) -> Fit:
    """Train on the graph's first target; keyword `num_epochs="3"` is hyperparameter `num-epochs`."""
    given = {**QUICK, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return make_trainer(model, given).fit(graph, graph.targets[0], progress or Recorder())


def predict(fitted: Fit, graph: EncodedGraph, split: Split | None = None) -> np.ndarray:
    """Predictions of all target edges, or those of a split."""
    edges = graph.edge(graph.targets[0].edge)
    rows = np.arange(len(edges)) if split is None else edges.rows(split)
    return fitted.predictor.predict(edges.source[rows], edges.dest[rows])


def rmse(predicted: np.ndarray, graph: EncodedGraph, split: Split = Split.TEST) -> float:
    """RMSE over a split of the first target."""
    edges = graph.edge(graph.targets[0].edge)
    assert edges.label is not None
    return float(np.sqrt(np.mean((predicted - edges.label[edges.rows(split)]) ** 2)))


def make_graph(
    nodes: Mapping[str, int],
    edges: Mapping[tuple[str, str, str], tuple[list[int], list[int]]],
    label: list[float],
    split: list[int] | None = None,
    features: Mapping[str, Any] | None = None,
) -> EncodedGraph:
    """A graph in which the first edge type is the target, labelled with `label`; no features unless given."""
    target = next(iter(edges))
    sets = []
    for edge_type, (source, dest) in edges.items():
        mine = edge_type == target
        sets.append(
            EdgeSet(
                *edge_type,
                source=np.array(source, np.int32),
                dest=np.array(dest, np.int32),
                split=np.array(split if split is not None else [0] * len(source), np.uint8)
                if mine
                else np.full(len(source), Split.NONE, np.uint8),
                label=np.array(label, np.float32) if mine else None,
            )
        )
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
            Target(edge=target, property="rating", type="regression", label_min=min(label), label_max=max(label)),
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
