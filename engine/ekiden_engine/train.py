"""The job `train`: an encoded graph and a spec go in, a model folder comes out.

Files of `/opt/ml/model`: those of `ekiden_engine.model_folder`, and learning_curve.json, evaluation.json,
predictions.parquet (of further targets predictions-<i>.parquet), report.html, manifest.json.

A job that was interrupted, and has its folder of checkpoints again, goes on where it was: see docs/checkpoints.md.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ekiden.contracts.spec_targets import Target as SpecTarget
from ekiden.contracts.tasks import Task
from ekiden_engine.checkpoint_fits import load_fit, save_fit
from ekiden_engine.checkpoints import Checkpoints, fingerprint_of, open_checkpoints
from ekiden_engine.errors import BadData, Temporary
from ekiden_engine.evaluation import (
    EVALUATION_FILE,
    FEW_EDGES,
    PREDICTIONS_FILE,
    VERSION,
    TargetEvaluation,
    environment,
    evaluate,
    few_rows_warning,
    headline,
    split_rule,
    write_predictions,
)
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.graph_files import FEATURES_FILE
from ekiden_engine.hpo_training import Training, plan_training
from ekiden_engine.log import log
from ekiden_engine.manifest import MANIFEST, write_manifest
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import RUN_VARIABLE, save_model
from ekiden_engine.models.base import Fit
from ekiden_engine.neptune_files import write_model_files
from ekiden_engine.report import REPORT_FILE, ReportData, render_report
from ekiden_engine.report_timeline import TIMELINE_VARIABLE, StageSpan, read_timeline
from ekiden_engine.spec_file import read_spec
from ekiden_engine.termination import StopRequest
from ekiden_engine.train_progress import JobProgress, curve_document

CURVE_FILE = "learning_curve.json"
FINISHED = "fit"
"""A finished target among its checkpoints."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One target: how it was fitted in `seconds`, and how good it is."""

    target: Target
    fit: Fit
    seconds: float
    evaluation: TargetEvaluation

    def entry(self, asked: SpecTarget | None) -> dict[str, Any]:
        """Its entry in evaluation.json; `asked`: the target in the spec, if it is from there."""
        fit = self.fit
        return {
            **self.evaluation.document(),
            "split": None if asked is None else split_rule(asked),
            "hyperparameters": dict(fit.hyperparameters),
            "seeds": [curve.seed for curve in fit.curves if curve.kept],
            "training": {"seconds": round(self.seconds, 3), "stopped": fit.stopped, "threads": fit.threads},
            "trials": [dict(trial) for trial in fit.trials],
        }


def run(root: MlRoot) -> None:
    """Train, evaluate, report. SIGTERM ends the training after the current epoch and keeps the best so far; what a
    restarted job needs to go on from there is in the checkpoints.

    Raises `BadData`: bad spec, hyperparameters, model name or artefact; no target; no training rows.
    `Temporary` STOPPED if the platform asked to stop before there was anything to keep.
    """
    started_at = datetime.now(UTC)
    spec = read_spec(root.channel("spec"))
    processed = root.channel("processed")
    given = root.hyperparameters()
    if unused := [name for name in spec.model.hyperparameters if name not in given]:
        # A job of a run is given them all: here someone runs the command by hand.
        log(
            "note: hyperparameters are read from input/config/hyperparameters.json; of the spec's own these are not "
            f"there, and so not in force: {', '.join(unused)[:200]}"
        )
    training = plan_training(spec, given, processed)
    graph = EncodedGraph.load(processed)
    if not graph.targets:
        raise BadData("NO_TARGET", "graph.json of the processed data names no target to train for")
    features = FeatureBook.load(processed / FEATURES_FILE)
    with StopRequest() as stop:
        key = fingerprint(spec.model.model_dump(mode="json"), given, processed)
        checkpoints = open_checkpoints(root.checkpoints, key, lambda: stop.requested)
        trained = [
            _train(training, graph, target, stop, checkpoints.within(f"target-{position}"))
            for position, target in enumerate(graph.targets)
        ]
        folder = _empty(root.model)
        save_model(folder, graph, [(one.target, one.fit) for one in trained], training.model, features)
        for position, one in enumerate(trained):
            write_predictions(folder / predictions_file(position), graph, one.target, one.evaluation)
        asked = {(t.node or t.edge, t.property or ""): t for t in spec.predicts}
        document = {
            "version": VERSION,
            "run_id": os.environ.get(RUN_VARIABLE),
            "model": training.model,
            "versions": _versions(),
            "environment": environment(max(one.fit.threads for one in trained), trained[0].fit.device),
            "targets": [
                one.entry(asked.get((one.target.node or one.target.edge, one.target.property))) for one in trained
            ],
        }
        _write_json(folder / CURVE_FILE, curve_document([(one.target.name, one.fit.curves) for one in trained]))
        _write_json(folder / EVALUATION_FILE, document)
        own = StageSpan("train", "RUNNING", started_at, datetime.now(UTC))
        timeline = [*read_timeline(os.environ.get(TIMELINE_VARIABLE, "")), own]
        curves, evaluations = [one.fit.curves for one in trained], [one.evaluation for one in trained]
        report = render_report(ReportData(spec.name, document, curves, evaluations, timeline))
        (folder / REPORT_FILE).write_text(report, "utf-8")
        predictors = [(one.target, one.fit.predictor) for one in trained]
        write_model_files(folder, graph, predictors, trained[0].evaluation.splits)
        write_manifest(folder)
        if not stop.requested:
            checkpoints.clear()
    for one in trained:
        log(f"{one.target.name}: {headline(one.evaluation)}")
    if (line := training.objective_line(trained[0].fit, graph, trained[0].target)) is not None:
        log(line)


def predictions_file(position: int) -> str:
    """The file of the predictions for the target at `position`."""
    return PREDICTIONS_FILE if not position else f"predictions-{position}.parquet"


def fingerprint(model: Mapping[str, Any], hyperparameters: Mapping[str, str], processed: Path) -> str:
    """Of everything that decides a training: `model` of the spec, the hyperparameters, the processed data (as its
    manifest says; targets and splits are part of it), and the versions that compute it."""
    unimportant = {"instance_type", "spot"}
    return fingerprint_of(
        {
            "model": {name: value for name, value in model.items() if name not in unimportant},
            "hyperparameters": dict(hyperparameters),
            "processed": (processed / MANIFEST).read_text("utf-8"),
            "versions": _versions(),
        }
    )


def _train(
    training: Training, graph: EncodedGraph, target: Target, stop: StopRequest, checkpoints: Checkpoints
) -> Trained:
    links = target.task is Task.LINK_PREDICTION
    labels = [known for _, known in graph.link_labels(target)] if links else [graph.labels(target)]
    count = sum(int((known.split == Split.TRAIN).sum()) for known in labels)
    log(f"training {training.model} on {target.name}: {count} training rows")
    if 0 < count < FEW_EDGES:
        log(f"WARNING: {few_rows_warning(target, count)}")
    fit = load_fit(checkpoints, FINISHED)
    if fit is not None:
        log(f"resumed: {target.name} was trained before the job was interrupted")
        return Trained(target, fit, checkpoints.seconds, evaluate(graph, target, fit.predictor))
    fit = training.fit(graph, target, JobProgress(stop, training.model, checkpoints))
    if not stop.requested:
        save_fit(checkpoints, FINISHED, fit)
        checkpoints.clear(keep=[FINISHED])
    if stop.requested:
        if not fit.curves:
            raise Temporary("STOPPED", "the platform stopped the job before the first epoch")
        log("stop requested: keeping the best model so far")
        if checkpoints.kept:
            log("started again with these checkpoints, the job goes on from here")
    return Trained(target, fit, checkpoints.seconds, evaluate(graph, target, fit.predictor))


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
    for package in ("torch", "numpy", "pyarrow", "numba", "ekiden"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
