"""Training jobs of users' scripts: several targets, searches, interruptions, and where a script keeps its state."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from ekiden.contracts.hpo import HPO_FILE
from ekiden.contracts.tasks import Task
from ekiden_engine.cli import run_command
from ekiden_engine.graph import Target
from ekiden_engine.mlroot import ROOT_VARIABLE, MlRoot
from tests.engine.checkpoint_factories import digests, interrupt_when, start_job
from tests.engine.model_factories import make_train_job
from tests.engine.search_factories import RATED, make_configuration, make_param, make_ratings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-model"
RATING, STARS = (
    Target(task=Task.EDGE_REGRESSION, edge=RATED, property=name, label_min=1.0, label_max=5.0)
    for name in ("rating", "stars")
)
TRANSFORM = """
import os
import numpy as np
os.makedirs(os.environ["SM_OUTPUT_DIR"] + "/embeddings")
np.savez(os.environ["SM_OUTPUT_DIR"] + "/embeddings/entity.npz", user=np.ones((60, 2)), movie=np.ones((40, 2)))
"""
TELL_STATE = """
import json, os
folder = os.environ["SM_CHECKPOINT_DIR"]
with open(os.environ["EKIDEN_ML_ROOT"] + "/told.jsonl", "a") as file:
    file.write(json.dumps([folder, os.listdir(folder), json.loads(os.environ["EKIDEN_TARGET"])]) + "\\n")
open(folder + "/factors.npz", "w").write("mine")
"""
STEPS = """
import argparse, os, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr")
lr = parser.parse_known_args()[0].lr
state = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"], "step")
begin = int(state.read_text()) if state.exists() else 0
print(f"lr {lr} begins at {begin}")
for step in range(begin + 1, 13):
    time.sleep(0.04)
    print("step", step)
    state.with_suffix(".new").write_text(str(step))
    state.with_suffix(".new").rename(state)
"""


def make_job(folder: Path, *targets: Target, given: dict[str, str] | None = None, **scripts: str) -> MlRoot:
    """The `/opt/ml` of a custom model's training: the example's scripts, or `training` and `transform`; with `space`, a
    configuration, a search of three trials."""
    graph = make_ratings(60, 40, 1400, *targets)
    model: dict[str, Any] = {"name": "custom", "source": "s3://bucket/scripts/"}
    space = scripts.pop("space", None)
    asked = [{"edge": list(RATED), "property": target.property, "type": "regression"} for target in targets]
    searched = {} if space is None else {"search": {"jobs": 3}}
    root = make_train_job(folder, graph, given or {}, targets=asked, model=model | searched)
    if space is not None:
        (root.channel("processed") / HPO_FILE).write_text(space, "utf-8")
    shutil.copytree(EXAMPLE, root.channel("source"), ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in scripts.items():
        (root.channel("source") / f"{name}.py").write_text(text, "utf-8")
        (root.channel("source") / HPO_FILE).unlink(missing_ok=True)
    root.checkpoints.mkdir()
    return root


def make_space() -> str:
    """A search for the learning rate, judged by the engine."""
    lr = make_param("lr", default=0.5)
    return json.dumps(make_configuration([lr], model="custom"))


def restart(root: MlRoot) -> str:
    """Start the job again, to its end; the log."""
    job = start_job(root)
    try:
        log, _ = job.communicate(timeout=120)
    finally:
        job.kill()
    assert job.returncode == 0, log
    return log


def kept(root: MlRoot, pattern: str) -> list[Path]:
    return sorted(root.checkpoints.glob(f"*/{pattern}"))


def figures(root: MlRoot) -> dict[str, Any]:
    """What must be the same after an interruption."""
    curve = json.loads((root.model / "learning_curve.json").read_text())["targets"][0]
    (entry,) = json.loads((root.model / "evaluation.json").read_text())["targets"]
    points = [[point["valid"] for point in member["points"]] for member in curve["members"]]
    return {"model": digests(root.model / "targets"), "metrics": entry["metrics"], "curve": points}


def slow_example(folder: Path) -> MlRoot:
    """The example, which takes its time for a pass and says that it computed it."""
    training = (EXAMPLE / "training.py").read_text()
    saved = "        save(checkpoint, state)\n"
    assert training.count(saved) == 1
    wait = "        __import__('time').sleep(0.05)\n        print('a pass was computed')\n"
    given = {"num-epochs": "12", "num-factors": "2"}
    return make_job(folder, RATING, given=given, training=training.replace(saved, saved + wait))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = slow_example(tmp_path_factory.mktemp("whole"))
    assert restart(root).count("a pass was computed") == 12
    return figures(root)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_script_goes_on_from_its_state_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, number: signal.Signals, uninterrupted: dict[str, Any]
) -> None:
    root = slow_example(tmp_path / "ml")

    # WHEN it is ended in the middle, and started again
    def ready() -> bool:
        return bool(kept(root, "target-0/script-*/state.npz"))

    code, _ = interrupt_when(root, number, ready)
    assert code == (0 if number == signal.SIGTERM else -number)
    log = restart(root)

    # THEN it computes what was missing only, and the model and its curve are the same
    assert "resumed: training.py finds in SM_CHECKPOINT_DIR what an earlier start of it kept" in log
    assert 0 < log.count("a pass was computed") < 12
    assert figures(root) == uninterrupted
    # AND nothing of the checkpoints is left
    assert list(root.checkpoints.iterdir()) == []


def test_an_interrupted_search_goes_on_within_the_trial_that_was_running(tmp_path: Path) -> None:
    root = make_job(tmp_path / "ml", RATING, training=STEPS, transform=TRANSFORM, space=make_space())

    def ready() -> bool:
        return any(int(path.read_text()) > 3 for path in kept(root, "target-0/trial-1/script-*/step"))

    code, log = interrupt_when(root, signal.SIGKILL, ready)
    assert code == -signal.SIGKILL
    begun = re.findall(r"lr (\S+) begins at (\d+)", log)
    assert [step for _, step in begun] == ["0", "0"]
    # of the trial that is done its state is gone
    assert kept(root, "target-0/trial-0*") == kept(root, "target-0/trial-0.safetensors")

    again = re.findall(r"lr (\S+) begins at (\d+)", restart(root))

    lr, step = again[0]
    assert lr == begun[1][0]
    assert int(step) > 3
    assert [step for _, step in again[1:]] == ["0"]
    assert list(root.checkpoints.iterdir()) == []


def test_no_target_and_no_trial_finds_what_another_kept_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a search for two targets, by a script that always uses one file name, which is there already
    root = make_job(tmp_path / "ml", RATING, STARS, training=TELL_STATE, transform=TRANSFORM, space=make_space())
    planted = root.checkpoints / "factors.npz"
    planted.write_text("of an earlier version")
    monkeypatch.setenv(ROOT_VARIABLE, str(root.root))

    assert run_command("train", root) == 0

    # THEN each run has an empty folder of its own, below the level of its target and trial
    told = [json.loads(line) for line in (root.root / "told.jsonl").read_text().splitlines()]
    places = [Path(folder).relative_to(root.checkpoints).as_posix() for folder, _, _ in told]
    levels = [f"target-{target}/trial-{trial}" for target in range(2) for trial in range(3)]
    assert [re.sub(r"^[0-9a-f]{16}/(.*)/script-[0-9a-f]{8}$", r"\1", place) for place in places] == levels
    assert [found for _, found, _ in told] == [[]] * 6
    assert [about["property"] for _, _, about in told] == ["rating"] * 3 + ["stars"] * 3
    # AND nothing of the training is left, while what it never wrote is
    assert list(root.checkpoints.iterdir()) == [planted]


def test_the_example_is_trained_for_two_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_job(tmp_path / "ml", RATING, STARS, given={"num-factors": "4", "num-epochs": "6"})
    monkeypatch.setenv(ROOT_VARIABLE, str(root.root))

    assert run_command("train", root) == 0

    entries = json.loads((root.model / "evaluation.json").read_text())["targets"]
    assert [entry["target"]["property"] for entry in entries] == ["rating", "stars"]
    for entry in entries:
        assert entry["metrics"]["rmse"] < 0.8 * entry["baselines"]["global_mean"]["rmse"]
