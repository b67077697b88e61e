"""Trainings that are interrupted, in this process and in others, for the tests of checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ekiden.contracts.tasks import Task
from ekiden_engine.checkpoints import SECONDS_VARIABLE, Checkpoints, open_checkpoints
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import CurvePoint, Fit, Step
from tests.engine.factories import make_encoded_graph
from tests.engine.links_factories import make_ring_graph, make_taste_graph
from tests.engine.model_factories import make_train_job
from tests.engine.nodes_factories import make_node_graph

FINGERPRINT = "0123456789abcdef" * 4


class Interruption:
    """A `Progress` with checkpoints; SIGTERM comes after `stop_after` epochs that are not merely told again."""

    def __init__(self, folder: Path, stop_after: int | None = None, fingerprint: str = FINGERPRINT) -> None:
        folder.mkdir(exist_ok=True)
        self.epochs: list[int] = []
        self.told_again = 0
        self.notes: list[str] = []
        self._stop_after = stop_after
        self.checkpoints: Checkpoints = open_checkpoints(folder, fingerprint, self.stop_requested).within("target-0")

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        if point.epoch <= step.resumed:
            self.told_again += 1
        else:
            self.epochs.append(point.epoch)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.epochs) >= self._stop_after

    @property
    def resumed(self) -> str:
        """The line that says from where."""
        return next((line for line in self.notes if line.startswith("resumed")), "")


def fit_first(graph: EncodedGraph, model: str, hyperparameters: Mapping[str, str], progress: Interruption) -> Fit:
    target = graph.targets[0]
    return make_trainer(model, target.task, hyperparameters).fit(graph, target, progress)


def saved_bytes(fit: Fit, folder: Path) -> dict[str, str]:
    """SHA-256 of the predictor's files."""
    folder.mkdir()
    fit.predictor.save(folder)
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_class_graph(users: int = 60, items: int = 40) -> EncodedGraph:
    """Users of three classes, which their features and items tell."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, users)
    source = np.repeat(np.arange(users), 4)
    dest = (rng.integers(0, items // 3, len(source)) * 3 + kind[source]) % items
    features = np.eye(3, dtype=np.float32)[kind] + rng.normal(scale=1.0, size=(users, 3)).astype(np.float32)
    return make_node_graph(
        {"user": features, "item": items}, {("user", "bought", "item"): (source, dest)}, kind, classes=3
    )


def make_choice_graph() -> EncodedGraph:
    """Ratings as three classes."""
    graph = make_encoded_graph()
    edges = graph.edges[0]
    values = np.digitize(np.asarray(edges.labels[0].values), [3.0, 4.0]).astype(np.int32)
    target = Target(
        task=Task.EDGE_CLASSIFICATION, edge=edges.edge_type, property="rating", classes=("bad", "fair", "good")
    )
    labels = (replace(edges.labels[0], values=values),)
    return replace(graph, edges=(replace(edges, labels=labels),), targets=(target,))


JOBS: Mapping[str, tuple[Callable[[], EncodedGraph], str, Mapping[str, str]]] = {
    "fm": (make_encoded_graph, "fm", {"num-hidden": "8", "num-epochs": "60", "burn-in": "5", "mean-rank": "16"}),
    "distmult": (
        make_ring_graph,
        "distmult",
        {"num-hidden": "16", "num-epochs": "12", "batch-size": "16", "enable-early-stop": "false"},
    ),
    "rotate": (make_ring_graph, "rotate", {"num-hidden": "8", "num-epochs": "8", "loss": "contrastive"}),
    "links": (make_taste_graph, "rgcn", {"num-hidden": "8", "num-epochs": "10", "enable-early-stop": "false"}),
    "edges": (make_encoded_graph, "rgcn", {"num-hidden": "4", "num-epochs": "8", "seeds": "4"}),
    "choices": (make_choice_graph, "rgcn", {"num-hidden": "4", "num-epochs": "8", "seeds": "3"}),
    "nodes": (make_class_graph, "rgcn", {"num-hidden": "8", "num-epochs": "20", "seeds": "3", "num-layer": "1"}),
}
"""Name to a graph, a model and hyperparameters with which it takes a second at most."""

MEMBERS = {"edges", "choices", "nodes"}
"""Jobs whose models are ensembles."""


def make_job(folder: Path, name: str, **longer: str) -> MlRoot:
    """The `/opt/ml` of one of `JOBS`, with a folder for checkpoints."""
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    first = graph.targets[0]
    changes: dict[str, Any] = {"model": {"name": model}}
    if first.task is Task.LINK_PREDICTION:
        changes["targets"] = [{"edge": list(first.edge), "type": "link_prediction"}] if first.edge else []
    elif first.node is not None:
        changes["targets"] = [{"node": first.node, "property": first.property, "type": "classification"}]
    given = {**hyperparameters, **{name.replace("_", "-"): value for name, value in longer.items()}}
    root = make_train_job(folder, graph, given, **changes)
    root.checkpoints.mkdir()
    return root


def start_job(root: MlRoot) -> subprocess.Popen[str]:
    """A training process that saves its state as often as it may."""
    return subprocess.Popen(
        [sys.executable, "-m", "ekiden_engine", "train"],
        env={**os.environ, "EKIDEN_ML_ROOT": str(root.root), "OMP_NUM_THREADS": "1", SECONDS_VARIABLE: "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def interrupt(root: MlRoot, number: signal.Signals, state: str, times: int = 2) -> tuple[int, str]:
    """Start the job, and send it the signal once its state `state` was seen to be new so often; exit code and log."""
    seen: set[int] = set()

    def ready() -> bool:
        for path in root.checkpoints.glob(f"*/target-0/{state}.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.stat().st_mtime_ns)
        return len(seen) >= times

    return interrupt_when(root, number, ready)


def interrupt_when(root: MlRoot, number: signal.Signals, ready: Callable[[], bool]) -> tuple[int, str]:
    """Start the job, and send it the signal once it is `ready`; exit code and log."""
    job = start_job(root)
    try:
        deadline = time.monotonic() + 60
        while not ready() and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert job.poll() is None, job.communicate()[0]
        job.send_signal(number)
        log, _ = job.communicate(timeout=60)
    finally:
        job.kill()
    return job.returncode, log


def evaluation_of(root: MlRoot) -> dict[str, Any]:
    """The figures of the first target."""
    found: dict[str, Any] = json.loads((root.model / "evaluation.json").read_text())["targets"][0]
    return found
