"""A user's own model, as Neptune ML takes them: a training script, a transform script, and what they leave.

Both scripts get SageMaker's SM_* variables and the target in EKIDEN_TARGET. The training script also gets it as
arguments, `--task --model custom --name <task>-custom --target_ntype|--target_etype --property`, with the
hyperparameters. The transform script gets no arguments, because Neptune ML gives it none and one that was written for
it refuses them; it writes the files of `ekiden_engine.custom_results`. See docs/custom-models.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ekiden.contracts.hpo import HpoModel
from ekiden.contracts.hpo_metric import EvalMetric
from ekiden.contracts.hyperparameters import PLATFORM_PREFIX
from ekiden.contracts.tasks import Task
from ekiden_engine.checkpoints import Checkpoints, checkpoints_of
from ekiden_engine.custom_results import read_results
from ekiden_engine.custom_script import MetricReader, install_requirements, run_script
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.hpo import TASK_TYPES, read_hpo
from ekiden_engine.hpo_objective import metric_for, objective_of
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Predictor, Progress, Step
from ekiden_engine.spec_file import read_spec

CHANNEL: Final = "source"
"""The input channel with the user's scripts."""
SCRIPT_TASKS: Final[Mapping[Task, str]] = {**TASK_TYPES, Task.LINK_PREDICTION: "link_predict"}
"""`--task` in the words of Neptune ML's toolkit."""
TARGET_VARIABLE: Final = "EKIDEN_TARGET"
"""Tells both scripts what to train for: JSON with task, target_ntype or target_etype, property."""


class CustomModel:
    """Runs the scripts of the job's `source` channel; every fit has folders of its own."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """All hyperparameters are the script's own. Raises `BadData` BAD_HYPERPARAMETERS for a name that no command
        line can have."""
        self._given = {
            name: text.strip('"') for name, text in hyperparameters.items() if not name.startswith(PLATFORM_PREFIX)
        }
        for name in self._given:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name):
                raise BadData("BAD_HYPERPARAMETERS", f"{quoted(name)} cannot be an argument --name of a script")
        self._root = MlRoot.from_environment()

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData`: CUSTOM_SOURCE_MISSING, REQUIREMENTS_NOT_INSTALLED, CUSTOM_SCRIPT_FAILED,
        BAD_CUSTOM_OUTPUT."""
        source = self._root.channel(CHANNEL)
        training, transform = self._scripts(source)
        packages = self._root.root / "custom" / "packages"
        install_requirements(source, packages)
        work = Path(tempfile.mkdtemp(dir=_made(self._root.root / "custom"), prefix="fit-"))
        try:
            metric = metric_for(_metric(source, self._root.channel("processed")), target)
            folders = {name: _made(work / name) for name in ("model", "output", "results")}
            state = _state_folder(checkpoints_of(progress), _arguments(target, self._given)) or work / "state"
            if state.is_dir() and any(state.iterdir()):
                progress.note(f"resumed: {training.name} finds in SM_CHECKPOINT_DIR what an earlier start of it kept")
            folders["state"] = _made(state)
            environment = self._environment(source, packages, folders, target)
            watch = _Watch(progress, metric, self._given)
            progress.note(f"running {training.name}")
            ended = run_script(
                training,
                _arguments(target, self._given),
                folder=source,
                environment={**environment, "SM_OUTPUT_DIR": str(folders["output"])},
                on_line=watch.line,
                stop_requested=progress.stop_requested,
            )
            progress.note(f"running {transform.name}")
            transformed = {"SM_DATA_DIR": environment["SM_CHANNEL_TRAIN"], "SM_OUTPUT_DIR": str(folders["results"])}
            run_script(transform, (), folder=source, environment={**environment, **transformed})
            predictor = read_results(folders["results"], graph, target, folders["model"])
            shutil.rmtree(work / "state", ignore_errors=True)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        weakref.finalize(predictor, shutil.rmtree, work, ignore_errors=True)
        return _fit(predictor, watch, self._given, graph, target, metric, stopped=not ended)

    def _scripts(self, source: Path) -> tuple[Path, Path]:
        names = read_spec(self._root.channel("spec")).model.scripts
        there = sorted(p.name for p in source.iterdir())[:10] if source.is_dir() else []
        for name in names:
            if not (source / name).is_file():
                shown = ", ".join(map(quoted, there)) or "nothing"
                message = f"model.source has no {name}; it has {shown}. Name the scripts in model.*_entry_point"
                raise BadData("CUSTOM_SOURCE_MISSING", message)
        return source / names[0], source / names[1]

    def _environment(self, source: Path, packages: Path, folders: Mapping[str, Path], target: Target) -> dict[str, str]:
        """What the SageMaker training toolkit gives to scripts (https://github.com/aws/sagemaker-training-toolkit)."""
        root, given = self._root.root, self._given
        processed = str(self._root.channel("processed"))
        python_path = [str(packages), str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
        cpus = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        standing = {
            "SM_NUM_CPUS": cpus,
            "SM_NUM_GPUS": "0",
            "SM_HOSTS": '["algo-1"]',
            "SM_CURRENT_HOST": "algo-1",
            "SM_NETWORK_INTERFACE_NAME": "lo",
            "SM_LOG_LEVEL": "20",
        }
        return {
            **{name: os.environ.get(name, value) for name, value in standing.items()},
            "PYTHONPATH": os.pathsep.join(python_path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SM_CHANNELS": '["train"]',
            "SM_CHANNEL_TRAIN": processed,
            "SM_MODEL_DIR": str(folders["model"]),
            "SM_OUTPUT_DATA_DIR": str(_made(root / "output" / "data")),
            "SM_INPUT_DIR": str(root / "input"),
            "SM_INPUT_CONFIG_DIR": str(root / "input" / "config"),
            "SM_CHECKPOINT_DIR": str(folders["state"]),
            TARGET_VARIABLE: json.dumps(_about(target), ensure_ascii=False),
            "SM_MODULE_DIR": str(source),
            "SM_HPS": json.dumps(given),
            "SM_USER_ARGS": json.dumps(_hyperparameter_arguments(given)),
            **{f"SM_HP_{re.sub(r'[^A-Z0-9_]', '_', name.upper())}": value for name, value in given.items()},
        }


class _Watch:
    """Turns the script's own objective into epochs of a learning curve."""

    def __init__(self, progress: Progress, metric: EvalMetric, given: Mapping[str, str]) -> None:
        self._progress, self._metric = progress, metric
        self._reader = MetricReader(metric.regexes)
        self._step, self._started = Step("script", 0), time.perf_counter()
        epochs = next((given[name] for name in ("num-epochs", "num_epochs", "epochs") if name in given), "")
        self._epochs = int(epochs) if epochs.isdecimal() and len(epochs) < 8 else 0
        self.points: list[CurvePoint] = []

    def line(self, line: str) -> None:
        """One line of the script; may raise what the progress raises."""
        for name, value in self._reader.read(line):
            if name == self._metric.name:
                number = len(self.points) + 1
                seconds = round(time.perf_counter() - self._started, 3)
                self.points.append(CurvePoint(number, value, value, seconds))
                self._progress.epoch(self._step, max(self._epochs, number), name, self.points[-1])


def _fit(
    predictor: Predictor,
    watch: _Watch,
    given: Mapping[str, str],
    graph: EncodedGraph,
    target: Target,
    metric: EvalMetric,
    *,
    stopped: bool,
) -> Fit:
    """The learning curve is what the script printed, of which SageMaker takes the last value; without such lines one
    point, the objective on the validation rows, if there are any."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fit = Fit(predictor, (), dict(given), stopped, threads)
    seed = given.get("seed", "0")
    number = int(seed) if seed.isdecimal() and len(seed) < 11 else 0
    points, name, higher = tuple(watch.points), metric.name, metric.higher_is_better
    if not points:
        try:
            found = objective_of(fit, graph, target, EvalMetric() if metric.is_scripts_own else metric)
        except BadData:
            return fit
        points, name = (CurvePoint(1, found.value, found.value, 0.0),), found.name
        higher = found.higher_is_better
    return replace(fit, curves=(Curve(number, name, higher, len(points), True, points),))


def _about(target: Target) -> dict[str, Any]:
    """The target by the names of the arguments that tell it."""
    about: dict[str, Any] = {"task": SCRIPT_TASKS[target.task]}
    if target.node is not None:
        about["target_ntype"] = target.node
    elif target.edge is not None:
        about["target_etype"] = list(target.edge)
    if target.property:
        about["property"] = target.property
    return about


def _arguments(target: Target, given: Mapping[str, str]) -> list[str]:
    about = _about(target)
    task = about.pop("task")
    words = ["--task", task, "--model", "custom", "--name", f"{task}-custom"]
    for name, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        words += [f"--{name}", text]
    return words + _hyperparameter_arguments(given)


def _state_folder(checkpoints: Checkpoints, arguments: Sequence[str]) -> Path | None:
    """Where the script may keep its state: below the level of this target and trial, so that it is cleared with them;
    None where nothing is kept. Named after the arguments: a search whose finished trials cannot be read begins again,
    and a script that is not deterministic may then lead it to other settings under the same number."""
    digest = hashlib.sha256(json.dumps(list(arguments)).encode()).hexdigest()
    return checkpoints.folder(f"script-{digest[:8]}")


def _hyperparameter_arguments(given: Mapping[str, str]) -> list[str]:
    return [word for name, text in given.items() for word in (f"--{name}", text)]


def _metric(source: Path, processed: Path) -> EvalMetric:
    """Of the configuration that the user ships with the scripts, else of the one beside the data."""
    found: HpoModel | None = read_hpo(source) or read_hpo(processed)
    return found.metric if found is not None else EvalMetric()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
