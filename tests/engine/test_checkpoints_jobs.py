"""Real training jobs that are killed or told to stop, and started again on the same folder."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.spec import parse_spec
from ekiden.contracts.tasks import Task
from ekiden_engine.cli import run_command
from ekiden_engine.graph import Labels, Target
from ekiden_engine.hpo_training import plan_training
from ekiden_engine.mlroot import MlRoot
from tests.engine.checkpoint_factories import Interruption, digests, evaluation_of, interrupt, make_job, saved_bytes
from tests.engine.factories import make_encoded_graph
from tests.engine.model_factories import make_train_job
from tests.engine.search_factories import make_param, make_ratings
from tests.engine.test_hpo_training import QUICK, make_spec, put

LONGER: dict[str, dict[str, str]] = {
    "fm": {"num_epochs": "1500", "burn_in": "20"},
    "distmult": {"num_epochs": "1000"},
    "links": {"num_epochs": "60"},
    "nodes": {"seeds": "20"},
}
STATE = {"fm": "sampling", "distmult": "training", "links": "encoder", "nodes": "member-*"}
"""Names of the states of each."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MlRoot]:
    found = {}
    for name, longer in LONGER.items():
        root = make_job(tmp_path_factory.mktemp(name), name, **longer)
        assert run_command("train", root) == 0
        found[name] = root
    return found


def figures(root: MlRoot) -> dict[str, Any]:
    """What must be the same after an interruption."""
    evaluation = evaluation_of(root)
    return {
        "model": digests(root.model / "targets"),
        "predictions": digests(root.model).get("predictions.parquet"),
        **{name: evaluation[name] for name in ("metric", "metrics", "seeds", "hyperparameters")},
    }


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fm", signal.SIGKILL),
        ("fm", signal.SIGTERM),
        ("distmult", signal.SIGKILL),
        ("links", signal.SIGKILL),
        ("nodes", signal.SIGTERM),
    ],
)
def test_a_job_that_was_ended_goes_on_where_it_was(
    name: str,
    number: signal.Signals,
    tmp_path: Path,
    uninterrupted: dict[str, MlRoot],
    capfd: pytest.CaptureFixture[str],
) -> None:
    # GIVEN a job that was ended in the middle
    root = make_job(tmp_path, name, **LONGER[name])
    code, log = interrupt(root, number, STATE[name], 20 if name == "distmult" else 2)  # of that one several per epoch
    if number == signal.SIGTERM:  # then it leaves the best so far, as a stopped job should
        assert code == 0, log
        assert evaluation_of(root)["training"]["stopped"] is True
        assert "started again with these checkpoints, the job goes on from here" in log
    else:
        assert code == -signal.SIGKILL
        assert not (root.model / "evaluation.json").exists()

    # WHEN it is started again
    capfd.readouterr()
    assert run_command("train", root) == 0
    log = capfd.readouterr().out

    # THEN it says from where it goes on, and ends as if nothing had happened
    assert "resumed" in log
    if found := re.search(r"resumed after (?:iteration|epoch) (\d+)/(\d+)", log):
        assert 0 < int(found[1]) <= int(found[2])
        assert found[1] == found[2] or f"epoch {int(found[1]) + 1}/" in log
        assert name == "nodes" or "epoch 1/" not in log  # its later members begin so
    assert evaluation_of(root)["training"]["stopped"] is False
    assert figures(root) == figures(uninterrupted[name])
    # AND nothing of the checkpoints is left
    assert list(root.checkpoints.iterdir()) == []


def test_a_finished_target_is_not_trained_again_and_other_settings_begin_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a job of two targets that was killed during the second
    graph = make_encoded_graph(users=200, movies=60, edges=4000)
    user = graph.node("user")
    values = (user.features[:, 0] > 0).astype(np.int32)
    split = np.resize(np.array([0, 0, 0, 1, 2], np.uint8), len(user))
    target = Target(task=Task.NODE_CLASSIFICATION, node="user", property="plan", classes=("free", "paid"))
    both = replace(
        graph,
        nodes=(replace(user, labels=(Labels(1, split, values),)), graph.node("movie")),
        targets=(*graph.targets, target),
    )
    given = {"num-hidden": "4", "num-epochs": "30", "seeds": "3", "regularization-coef": "1"}
    whole, root, other = (
        make_train_job(tmp_path / name, both, {**given, "lr": lr})
        for name, lr in (("a", "0.01"), ("b", "0.01"), ("c", "0.02"))
    )
    assert run_command("train", whole) == 0
    root.checkpoints.mkdir()
    code, _ = interrupt(root, signal.SIGKILL, "../target-1/member-*")
    assert code == -signal.SIGKILL
    left = {path.name for path in root.checkpoints.glob("*/target-0/*")}
    assert left == {"fit"}  # of a finished target nothing else is kept

    # WHEN a job with another learning rate gets the same folder
    root.checkpoints.rename(other.checkpoints)
    capfd.readouterr()
    assert run_command("train", other) == 0
    log = capfd.readouterr().out
    # THEN it takes nothing from there
    assert "checkpoints of 1 other training ignored" in log
    assert "resumed" not in log

    # WHEN the job itself is started again
    other.checkpoints.rename(root.checkpoints)
    assert run_command("train", root) == 0
    log = capfd.readouterr().out
    # THEN it trains only what is missing
    assert "resumed: user-rated-movie.rating was trained before the job was interrupted" in log
    assert figures(root) == figures(whole)
    ours, theirs = (json.loads((r.model / "learning_curve.json").read_text()) for r in (root, whole))
    for one, same in zip(ours["targets"], theirs["targets"], strict=True):
        assert [m["best_valid"] for m in one["members"]] == [m["best_valid"] for m in same["members"]]
    assert evaluation_of(root)["training"]["seconds"] > 0


def test_finished_trials_of_a_search_are_not_trained_again(tmp_path: Path) -> None:
    graph = make_ratings()
    rates = make_param("lr", default=0.01, range=[0.001, 0.1], inc_strategy="log")
    widths = make_param("num-hidden", type="int", default=4, range=[2, 16])
    spec = parse_spec(make_spec(name="rgcn", search={"jobs": 6}).model_dump(mode="json", by_alias=True))
    given = {"num-epochs": "6", "seeds": "2", "regularization-coef": "1"}
    training = plan_training(spec, given, put(tmp_path / "processed", [rates, widths], metric="mse"))
    whole = Interruption(tmp_path / "a")
    expected = training.fit(graph, graph.targets[0], whole)

    # WHEN the search is interrupted in its fourth trial or so
    stopped = training.fit(graph, graph.targets[0], Interruption(tmp_path / "b", 20))
    assert len(stopped.trials) < 6
    found = training.fit(graph, graph.targets[0], last := Interruption(tmp_path / "b"))

    # THEN the same trials are made, with the same outcome, and the first ones not again
    told = re.search(r"resumed: (\d) of 6 trials were finished before", " ".join(last.notes))
    assert told is not None
    assert int(told[1]) >= 2
    assert len(last.epochs) < len(whole.epochs)

    def essence(fit: Any) -> list[dict[str, object]]:
        return [{name: value for name, value in trial.items() if name != "seconds"} for trial in fit.trials]

    assert essence(found) == essence(expected)
    assert saved_bytes(found, tmp_path / "found") == saved_bytes(expected, tmp_path / "expected")
    assert QUICK["seeds"] == "1"


def test_a_torn_checkpoint_is_ignored_and_the_job_begins_anew(
    tmp_path: Path, uninterrupted: dict[str, MlRoot], capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_job(tmp_path, "fm", **LONGER["fm"])
    interrupt(root, signal.SIGKILL, "sampling")
    (file,) = root.checkpoints.glob("*/target-0/sampling.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    capfd.readouterr()
    assert run_command("train", root) == 0
    log = capfd.readouterr().out
    assert "checkpoint target-0/sampling ignored: " in log
    assert "epoch 1/1500" in log
    assert figures(root) == figures(uninterrupted["fm"])
