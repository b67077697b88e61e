"""The job `train`: an encoded graph and a spec go in, a model folder comes out.

Files of `/opt/ml/model`: config.json (what the model is), model.safetensors, mappings/ (node ids in index
order, Parquet), learning_curve.json, evaluation.json, predictions.parquet, report.html, manifest.json.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ekiden_engine.errors import BadData, Temporary
from ekiden_engine.evaluation import (
    EVALUATION_FILE,
    FEW_EDGES,
    Evaluation,
    evaluate,
    few_edges_warning,
    write_predictions,
)
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.log import log
from ekiden_engine.manifest import write_manifest
from ekiden_engine.mapping import file_stems, write_mapping
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import CONFIG_FILE, ModelConfig
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Step
from ekiden_engine.report import REPORT_FILE, ReportData, render_report
from ekiden_engine.report_timeline import TIMELINE_VARIABLE, StageSpan, read_timeline
from ekiden_engine.spec_file import read_spec
from ekiden_engine.termination import StopRequest

CURVE_FILE = "learning_curve.json"
RUN_VARIABLE = "EKIDEN_RUN_ID"
USUAL_EPOCHS = 16
"""Epochs until early stopping, on rating graphs: the first guess for the time left."""
LOG_EVERY_S = 0.5
"""Seconds between progress lines; the last epoch of each member is always logged."""


def run(root: MlRoot) -> None:
    """Train, evaluate, report. SIGTERM ends the training after the current epoch and keeps the best so far.

    Raises `BadData`: bad spec, hyperparameters, model name or artefact; no target; no training edge.
    `Temporary` STOPPED if the platform asked to stop before there was anything to keep.
    """
    started_at, started = datetime.now(UTC), time.perf_counter()
    spec = read_spec(root.channel("spec"))
    hyperparameters = root.hyperparameters()
    trainer = make_trainer(spec.model.name, hyperparameters)
    graph = EncodedGraph.load(root.channel("processed"))
    if not graph.targets:
        raise BadData("NO_TARGET", "graph.json of the processed data names no target to train for")
    target = graph.targets[0]
    edges = graph.edge(target.edge)
    log(f"training {spec.model.name} on {'-'.join(target.edge)}.{target.property}: {len(edges)} edges")
    count = int((edges.split == Split.TRAIN).sum())
    if 0 < count < FEW_EDGES:
        log(f"WARNING: {few_edges_warning(count)}")
    with StopRequest() as stop:
        progress = JobProgress(stop)
        fit = trainer.fit(graph, target, progress)
        if stop.requested and not fit.curves:
            raise Temporary("STOPPED", "the platform stopped the job before the first epoch")
        if stop.requested:
            log("stop requested: keeping the best model so far")
        seconds = time.perf_counter() - started
        evaluation = evaluate(graph, target, fit.predictor)
        folder = _empty(root.model)
        document = {
            **evaluation.document(),
            "run_id": os.environ.get(RUN_VARIABLE),
            "model": spec.model.name,
            "target": {"edge": list(target.edge), "property": target.property, "type": target.type},
            "hyperparameters": dict(fit.hyperparameters),
            "seeds": [curve.seed for curve in fit.curves if curve.kept],
            "training": {"seconds": round(seconds, 3), "stopped": fit.stopped, "threads": fit.threads},
            "versions": _versions(),
        }
        _write_model(folder, graph, target, fit, spec.model.name)
        write_predictions(folder, graph, target, evaluation.held_out)
        _write_json(folder / CURVE_FILE, curve_document(fit.curves))
        _write_json(folder / EVALUATION_FILE, document)
        own = StageSpan("train", "RUNNING", started_at, datetime.now(UTC))
        timeline = [*read_timeline(os.environ.get(TIMELINE_VARIABLE, "")), own]
        report = render_report(ReportData(spec.name, document, fit.curves, evaluation.held_out, timeline))
        (folder / REPORT_FILE).write_text(report, "utf-8")
        write_manifest(folder)
    _log_result(evaluation)


class JobProgress:
    """Progress lines in the log, at most one per `LOG_EVERY_S`."""

    def __init__(self, stop: StopRequest) -> None:
        """`stop`: asked after every epoch."""
        self._stop = stop
        self._started = self._last = time.perf_counter()
        self._done = 0.0
        self._step: Step | None = None
        self._lengths: list[int] = []

    def epoch(self, step: Step, epochs: int, point: CurvePoint) -> None:
        """Log `member 2/6  epoch 12/60  valid rmse 0.912  3.2 s left`; the time assumes steps like those
        before."""
        now = time.perf_counter()
        if step is not self._step:
            self._step = step
            self._lengths.append(0)
        self._lengths[-1] = point.epoch
        finished = self._lengths[:-1]
        typical = sum(finished) / len(finished) if finished else min(epochs, USUAL_EPOCHS)
        left = max(typical - point.epoch, 0) + typical * step.left
        pace = (now - self._started) / sum(self._lengths)
        if now - self._last >= LOG_EVERY_S or point.epoch in (1, epochs):
            self._last = now
            log(
                f"{step.words}  epoch {point.epoch}/{epochs}  "
                f"valid rmse {point.valid_rmse:.4f}  {left * pace:.1f} s left"
            )

    def note(self, message: str) -> None:
        """Log one line."""
        log(message)

    def stop_requested(self) -> bool:
        """Whether SIGTERM came."""
        return self._stop.requested


def curve_document(curves: tuple[Curve, ...]) -> dict[str, Any]:
    """`learning_curve.json`: RMSE in label units per epoch of every member, lost trials included."""
    return {
        "version": "ekiden.learning_curve.v1",
        "metric": "rmse",
        "members": [
            {**asdict(curve), "best_valid_rmse": curve.best_valid_rmse, "points": [asdict(p) for p in curve.points]}
            for curve in curves
        ],
    }


def _write_model(folder: Path, graph: EncodedGraph, target: Target, fit: Fit, name: str) -> None:
    fit.predictor.save(folder)
    (folder / "mappings").mkdir()
    labels = list(dict.fromkeys((target.edge[0], target.edge[2])))
    mappings = {}
    for label, stem in zip(labels, file_stems(labels), strict=True):
        mappings[label] = f"mappings/{stem}.parquet"
        write_mapping(folder / mappings[label], graph.node(label).ids)
    config = ModelConfig(
        model=name,
        predictor=fit.predictor.kind,
        edge=target.edge,
        property=target.property,
        mappings=mappings,
        hyperparameters=dict(fit.hyperparameters),
        run_id=os.environ.get(RUN_VARIABLE),
    )
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=1) + "\n", "utf-8")


def _empty(folder: Path) -> Path:
    """The folder, without what an earlier try left in it (the folder itself may be a mount)."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return folder


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "pyarrow", "ekiden"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def _log_result(evaluation: Evaluation) -> None:
    rmse = evaluation.metrics.rmse
    if rmse is None or not math.isfinite(rmse):
        return
    others = ", ".join(
        f"{name.replace('_', ' ')} {metrics.rmse:.4f}"
        for name, metrics in evaluation.baselines.items()
        if metrics.rmse is not None
    )
    log(f"{evaluation.held_out.split} rmse {rmse:.4f} on {evaluation.metrics.count} edges ({others})")
