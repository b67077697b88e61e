"""The training job from `/opt/ml` to model folder, its failures, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine.cli import run_command
from ekiden_engine.errors import BadData
from ekiden_engine.graph import Labels, Target
from ekiden_engine.manifest import check_manifest, write_manifest
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import load_model
from ekiden_engine.models.base import CurvePoint, EdgePredictor, Step
from ekiden_engine.termination import StopRequest
from ekiden_engine.train_progress import JobProgress
from tests.engine.factories import EDGE, make_encoded_graph
from tests.engine.model_factories import QUICK, make_graph, make_train_job

FILES = {
    "config.json",
    "features.json",
    "targets/0/edges.safetensors",
    "targets/0/edges.json",
    "mappings/user.parquet",
    "mappings/movie.parquet",
    "learning_curve.json",
    "evaluation.json",
    "predictions.parquet",
    "report.html",
    "embeddings/entity.npy",
    "embeddings/entity.json",
    "eval_metrics_info.json",
    "test_metrics_info.json",
    "infer_instance_recommendation.json",
}


def train(root: MlRoot) -> int:
    return run_command("train", root)


def message(root: MlRoot) -> str:
    return root.failure.read_text("utf-8")


def test_a_training_job_leaves_a_complete_model_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a job with a run id and the stages before it, and a leftover of an earlier try
    root = make_train_job(tmp_path, name="movielens")
    root.model.mkdir()
    (root.model / "half-written.safetensors").write_bytes(b"x")
    stages = [
        {
            "name": "export",
            "status": "SUCCEEDED",
            "started_at": "2026-11-20T10:00:00Z",
            "ended_at": "2026-11-20T10:00:04Z",
        }
    ]
    monkeypatch.setenv("EKIDEN_RUN_ID", "movielens-20261120-100000-abcdef")
    monkeypatch.setenv("EKIDEN_TIMELINE", json.dumps(stages))

    # WHEN
    assert train(root) == 0

    # THEN everything is there and vouched for
    assert check_manifest(root.model).paths() == FILES
    evaluation = json.loads((root.model / "evaluation.json").read_text())
    assert evaluation["run_id"] == "movielens-20261120-100000-abcdef"
    assert {"python", "torch", "numpy"} <= set(evaluation["versions"])
    assert evaluation["environment"]["device"] == "cpu"
    (entry,) = evaluation["targets"]
    assert entry["target"]["name"] == "user-rated-movie.rating"
    assert entry["split"] == {"rule": "random", "rates": [0.8, 0.1, 0.1]}
    assert entry["seeds"] == [0]
    assert entry["hyperparameters"]["num-hidden"] == "4"
    assert entry["training"]["stopped"] is False
    curve = json.loads((root.model / "learning_curve.json").read_text())
    assert [p["epoch"] for p in curve["targets"][0]["members"][0]["points"]] == [1, 2, 3, 4]
    table = pq.read_table(root.model / "predictions.parquet")
    assert table.num_rows == entry["metrics"]["count"] == entry["splits"]["test"]["count"]
    html = (root.model / "report.html").read_text()
    assert "movielens-20261120-100000-abcdef" in html
    assert "<title>export: succeeded, 4 s</title>" in html
    log = capfd.readouterr().out
    assert "epoch 1/4  valid rmse" in log
    assert "test rmse" in log


def test_the_served_model_predicts_what_the_job_wrote_for_the_test_edges(tmp_path: Path) -> None:
    root = make_train_job(tmp_path)
    assert train(root) == 0
    model = load_model(root.model)
    table = pq.read_table(root.model / "predictions.parquet").to_pydict()
    users, movies = model.ids["user"].to_pylist(), model.ids["movie"].to_pylist()
    source = np.array([users.index(u) for u in table["source"]], np.int32)
    dest = np.array([movies.index(m) for m in table["target"]], np.int32)
    (predictor,) = cast(tuple[EdgePredictor], model.predictors)
    assert predictor.predict(source, dest).tolist() == pytest.approx(table["predicted"])


def test_the_same_job_gives_the_same_model(tmp_path: Path) -> None:
    roots = [make_train_job(tmp_path / name) for name in ("a", "b")]
    assert [train(root) for root in roots] == [0, 0]
    for name in ("targets/0/edges.safetensors", "predictions.parquet"):
        first, second = ((root.model / name).read_bytes() for root in roots)
        assert first == second


def test_a_node_type_at_both_ends_has_one_id_file(tmp_path: Path) -> None:
    graph = make_graph(
        {"person": 3}, {("person", "trusts", "person"): ([0, 1, 2], [1, 2, 0])}, [1.0, 2.0, 3.0], [0, 0, 2]
    )
    root = make_train_job(tmp_path, graph, target={"edge": ["person", "trusts", "person"]})
    assert train(root) == 0
    assert load_model(root.model).config.mappings == {"person": "mappings/person.parquet"}


@pytest.mark.parametrize(
    ("hyperparameters", "code", "says"),
    [
        ({"num-hidden": "0"}, "BAD_HYPERPARAMETERS", "num-hidden: must be a whole number from 1 to 1024"),
        ({"depth": "2"}, "BAD_HYPERPARAMETERS", "depth: rgcn has no such hyperparameter"),
    ],
)
def test_bad_hyperparameters_end_the_job_as_bad_data_before_anything_is_trained(
    tmp_path: Path, hyperparameters: dict[str, str], code: str, says: str
) -> None:
    root = make_train_job(tmp_path, hyperparameters=hyperparameters)
    assert train(root) == 65
    assert message(root).startswith(f"{code}: ")
    assert says in message(root)
    assert not root.model.exists()


def test_what_the_spec_sets_and_the_job_was_not_given_is_said_to_be_not_in_force(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a job of a run, which has the spec's hyperparameters, and one run by hand, which has others
    asked: dict[str, Any] = {"model": {"hyperparameters": {"lr": 0.01, "seeds": 2}}}
    given = make_train_job(tmp_path / "run", hyperparameters={**QUICK, "lr": "0.01", "seeds": "x"}, **asked)
    by_hand = make_train_job(tmp_path / "hand", hyperparameters={"seeds": "x"}, **asked)
    # WHEN they begin
    train(given)
    assert "not in force" not in capfd.readouterr().out
    train(by_hand)
    # THEN the second says what is missing
    assert "of the spec's own these are not there, and so not in force: lr\n" in capfd.readouterr().out


def test_a_tampered_encoded_graph_is_refused(tmp_path: Path) -> None:
    root = make_train_job(tmp_path)
    with (root.channel("processed") / "graph.json").open("a") as stream:
        stream.write(" ")
    assert train(root) == 65
    assert message(root).startswith("CORRUPT_ARTIFACT: graph.json has")


def test_a_job_without_spec_or_training_edges_says_what_is_missing(tmp_path: Path) -> None:
    root = make_train_job(tmp_path / "a")
    (root.channel("spec") / "spec.json").unlink()
    assert train(root) == 65
    assert "spec.json" in message(root)

    graph = make_encoded_graph()
    edges = graph.edges[0]
    labels = replace(edges.labels[0], split=np.full(len(edges), 2, np.uint8))
    nothing = replace(graph, edges=(replace(edges, labels=(labels,)),))
    root = make_train_job(tmp_path / "b", nothing)
    assert train(root) == 65
    assert message(root).startswith("EMPTY_TRAINING_SET: ")


def test_sigterm_ends_the_training_after_the_epoch_and_keeps_the_model(tmp_path: Path) -> None:
    # GIVEN a job that would take very long
    graph = make_encoded_graph(users=60, movies=60, edges=3000)
    forever = {**QUICK, "num-epochs": "10000", "enable-early-stop": "false", "seeds": "60", "lr": "0.0001"}
    root = make_train_job(tmp_path, graph, forever)
    job = subprocess.Popen(
        [sys.executable, "-m", "ekiden_engine", "train"],
        env={**os.environ, "EKIDEN_ML_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # WHEN it is told to stop in the middle of its epochs
        assert job.stdout is not None
        for line in job.stdout:
            if "epoch" in line:
                break
        job.send_signal(signal.SIGTERM)
        rest, _ = job.communicate(timeout=30)
    finally:
        job.kill()

    # THEN it ends well, with what it had
    assert job.returncode == 0
    assert "stop requested: keeping the best model so far" in rest
    assert json.loads((root.model / "evaluation.json").read_text())["targets"][0]["training"]["stopped"] is True
    assert load_model(root.model).predictors[0].counts() == {"user": 60, "movie": 60}


def test_a_stop_request_is_a_flag_only_while_entered_and_ignores_other_threads() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not stop.requested and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before

    def elsewhere() -> None:
        with StopRequest() as inner:
            assert not inner.requested

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handful_of_alike_edges_trains_with_a_warning_and_a_report_that_makes_sense(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = make_graph({"user": 2, "movie": 2}, {EDGE: ([0, 1, 1], [0, 0, 1])}, [3.7, 3.7, 3.7], [0, 0, 2])
    root = make_train_job(tmp_path, graph)
    assert train(root) == 0
    assert "WARNING: only 2 labelled edges to train on, 100 or more are advisable" in capfd.readouterr().out
    html = (root.model / "report.html").read_text()
    assert "on 1 test edge. One edge says nothing about a model." in html
    assert "Only 2 labelled edges to train on" in html


def test_progress_lines_say_epoch_error_and_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    progress = JobProgress(StopRequest(), "rgcn")
    step = Step("member 1/2", 1)
    progress.epoch(step, 60, "rmse", CurvePoint(1, 0.95, 0.9123, 0.1))
    progress.epoch(step, 60, "rmse", CurvePoint(2, 0.95, 0.9, 0.1))  # too soon after the one before
    line, *others = capfd.readouterr().out.splitlines()
    assert line.startswith("member 1/2  epoch 1/60  valid rmse 0.9123  ")
    assert line.endswith(" s left")
    assert others == []


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("targets/0/edges.safetensors", "targets/0/edges.safetensors has"),
        ("features.json", "features.json has"),
        ("mappings/user.parquet", "mappings/user.parquet has"),
        ("config.json", "config.json has"),
    ],
)
def test_a_model_whose_files_were_changed_is_not_loaded(tmp_path: Path, file: str, says: str) -> None:
    root = make_train_job(tmp_path)
    assert train(root) == 0
    with (root.model / file).open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(BadData, match=says) as caught:
        load_model(root.model)
    assert caught.value.code == "CORRUPT_ARTIFACT"


def test_a_model_that_contradicts_its_config_is_not_loaded(tmp_path: Path) -> None:
    root = make_train_job(tmp_path)
    assert train(root) == 0
    config = json.loads((root.model / "config.json").read_text())
    (entry,) = config["targets"]
    for change, says in (
        ({"mappings": {}}, "targets/0: node type .user. is not in mappings"),
        ({"mappings": {"user": "../secret", "movie": "x"}}, "../secret is not in manifest.json"),
        ({"targets": [{**entry, "predictor": "tree"}]}, '"tree" is unknown'),
        ({"targets": [{**entry, "folder": "targets/1"}]}, "targets/1/edges.json is not in manifest.json"),
        ({"targets": [{**entry, "target": {**entry["target"], "edge": None}}]}, "needs an edge type"),
        ({"mappings": dict.fromkeys(("user", "movie"), "mappings/user.parquet")}, "30 movie nodes, mappings has 40"),
        ({"version": "ekiden.model.v9"}, "version"),
    ):
        (root.model / "config.json").write_text(json.dumps({**config, **change}))
        write_manifest(root.model)
        with pytest.raises(BadData, match=says):
            load_model(root.model)


def test_a_job_with_several_targets_trains_evaluates_and_keeps_each(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a graph with a rating to predict, and a class of its users that follows from a feature
    graph = make_encoded_graph()
    user = graph.node("user")
    plan = (user.features[:, 0] > 0).astype(np.int32)
    split = np.resize(np.array([0, 0, 0, 1, 2], np.uint8), len(user))
    target = Target(task=Task.NODE_CLASSIFICATION, node="user", property="plan", classes=("free", "paid"))
    users = replace(user, labels=(Labels(1, split, plan),))
    both = replace(graph, nodes=(users, graph.node("movie")), targets=(*graph.targets, target))
    root = make_train_job(tmp_path, both, {"num-hidden": "8", "num-epochs": "30", "seeds": "1"})
    # WHEN
    assert train(root) == 0
    # THEN each has its entry, its predictions, its curves, its predictor and its part of the report
    rating, found = json.loads((root.model / "evaluation.json").read_text())["targets"]
    assert (rating["metric"]["name"], found["metric"]["name"]) == ("rmse", "accuracy")
    assert found["metric"]["value"] > 0.7
    assert found["split"] is None  # the spec does not have this target
    table = pq.read_table(root.model / "predictions-1.parquet")
    assert table.column_names[:3] == ["node", "actual", "predicted"]
    assert len(json.loads((root.model / "learning_curve.json").read_text())["targets"]) == 2
    model = load_model(root.model)
    assert [p.kind for p in model.predictors] == ["edges", "nodes"]
    assert "user.plan" in (root.model / "report.html").read_text()
    log = capfd.readouterr().out
    assert "user-rated-movie.rating: test rmse" in log
    assert "user.plan: test accuracy" in log
