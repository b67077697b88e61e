"""What operators do, and what happens by itself when a job fails: cancel, retry, another try, and who did what."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ekiden_local import daemon, supervisor
from tests.e2e.support import Embedded, Trained, until

RECONCILER = "ekiden-reconcile-jobs"


def spec_file(folder: Path, trained: Trained, name: str, **hyperparameters: Any) -> Path:
    """The main job's spec under another name, with an endpoint of its own."""
    spec = {key: value for key, value in trained.view["spec"].items() if key != "model"}
    spec |= {"name": name, "deploy": {"endpoint": name}}
    spec["model"] = {"name": "rgcn", "hyperparameters": {"seeds": 1, **hyperparameters}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def attempts(view: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    (found,) = [s["attempts"] for s in view["stages"] if s["name"] == stage]
    return list(found)


def statuses(view: dict[str, Any], stage: str) -> list[str]:
    return [attempt["status"] for attempt in attempts(view, stage)]


def program_of(embedded: Embedded, job: str) -> int | None:
    """The pid of a training job's program, once it runs."""
    record = Path(embedded.cloud.home) / "jobs/jobs/training" / job / "control/process.json"
    return int(json.loads(record.read_text())["pid"]) if record.exists() else None


# ── One run: cancelled while it trains, its export tampered with and mended, and let go on ───────────────────────────


@pytest.fixture(scope="module")
def cancelled(
    embedded: Embedded, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], int]:
    """The view of a run that was cancelled during its training, and the pid that trained."""
    epochs = {"num-epochs": 150, "enable-early-stop": False}
    spec = spec_file(tmp_path_factory.mktemp("operated"), trained, "operated", **epochs)
    run_id = embedded.ekiden("run", spec, "--json").json["run_id"]

    def training() -> int | None:
        view: Any = embedded.api.get_run(run_id)
        assert view["status"] == "RUNNING", view["error"]
        return program_of(embedded, found[0]["job"]) if (found := attempts(view, "train")) else None

    pid = until(training, "the training to begin", seconds=120)
    done = embedded.ekiden("cancel", run_id, "--reason", "wrong graph", "--wait", "--json")
    assert done.code == 0, done.err
    return embedded.ekiden("show", run_id, "--json").json, pid


def test_a_cancel_ends_the_jobs_process_before_the_run_is_cancelled(
    embedded: Embedded, cancelled: tuple[dict[str, Any], int]
) -> None:
    view, pid = cancelled
    assert view["status"] == "CANCELLED"
    assert not daemon.alive(pid)
    assert statuses(view, "train") == ["CANCELLED"]
    assert statuses(view, "deploy") == []
    job = attempts(view, "train")[0]["job"]
    found = embedded.client("sagemaker").describe_training_job(TrainingJobName=job)
    assert found["TrainingJobStatus"] == "Stopped"


def test_a_second_cancel_changes_nothing_and_says_so(embedded: Embedded, cancelled: tuple[dict[str, Any], int]) -> None:
    again = embedded.ekiden("cancel", cancelled[0]["run_id"], "--json")
    view = embedded.ekiden("show", cancelled[0]["run_id"], "--json").json
    assert (again.code, again.json["status"]) == (0, "CANCELLED")
    assert view == cancelled[0]


def test_a_retry_is_refused_while_an_earlier_output_is_not_what_was_left(
    embedded: Embedded, cancelled: tuple[dict[str, Any], int]
) -> None:
    # GIVEN an export whose manifest somebody has changed
    view = cancelled[0]
    bucket, _, prefix = attempts(view, "export")[0]["output"].removeprefix("s3://").partition("/")
    s3 = embedded.client("s3")
    manifest = s3.get_object(Bucket=bucket, Key=f"{prefix}manifest.json")["Body"].read()
    s3.put_object(Bucket=bucket, Key=f"{prefix}manifest.json", Body=manifest + b"\n")
    # WHEN
    refused = embedded.ekiden("retry", view["run_id"], "--from", "train", "--json")
    # THEN
    assert refused.code != 0
    assert refused.json["error"]["code"] == "OUTPUT_CHANGED"
    assert "retry with --from export" in refused.json["error"]["message"]
    assert embedded.ekiden("show", view["run_id"], "--json").json == view
    s3.put_object(Bucket=bucket, Key=f"{prefix}manifest.json", Body=manifest)


def test_a_retry_reuses_what_succeeded_and_brings_the_run_to_its_end(
    embedded: Embedded, cancelled: tuple[dict[str, Any], int]
) -> None:
    before = cancelled[0]
    run_id = before["run_id"]
    done = embedded.ekiden("retry", run_id, "--from", "train", "--reason", "it was right", "--watch", "--json")
    assert done.code == 0, done.err
    after = done.json
    assert after["status"] == "SUCCEEDED"
    for stage in ("export", "process"):
        assert attempts(after, stage) == attempts(before, stage), "neither ran again"
    assert statuses(after, "train") == ["CANCELLED", "SUCCEEDED"]
    assert attempts(after, "train")[0] == attempts(before, "train")[0]
    assert statuses(after, "deploy") == ["SUCCEEDED"]
    assert after["evaluation"]["targets"][0]["evaluated_on"] == "test"
    # AND a run that has succeeded is not retried by mistake
    assert embedded.ekiden("retry", run_id).code != 0

    # AND the history tells who did what and why, and what happened by itself
    told = embedded.ekiden("show", run_id, "--history", "--json").json["history"]
    assert [line["sequence"] for line in told] == list(range(len(told)))
    asked = {line["what"]: line["actor"] for line in told if " asked for" in line["what"]}
    assert list(asked) == ["cancel asked for: wrong graph", "retry from train asked for: it was right"]
    caller = f"arn:aws:iam::{embedded.cloud.account}:root"
    assert set(asked.values()) == {told[0]["actor"]} == {caller}
    job = attempts(after, "deploy")[0]["job"]
    assert [line["what"] for line in told[-2:]] == [f"deploy started as {job}", "deploy succeeded"]
    assert caller not in {line["actor"] for line in told[-2:]}
    table = embedded.ekiden("show", run_id, "--history").out
    (line,) = [line for line in table.splitlines() if "cancel asked for" in line]
    assert line.split()[2:] == ["root", "cancel", "asked", "for:", "wrong", "graph"]


# ── Trouble that passes, and trouble that does not ────────────────────────────────────────────────────────────────────


@pytest.fixture
def moody(embedded: Embedded, tmp_path: Path) -> Iterator[None]:
    """The job service with an engine that fails at first; afterwards, with the engine again."""
    table = {"ekiden-engine:*": [sys.executable, str(Path(__file__).with_name("moody_engine.py"))]}
    home = Path(embedded.env["EKIDEN_HOME"])
    images = tmp_path / "images.json"
    for content in (table, {}):
        images.write_text(json.dumps({"images": content}))
        supervisor.up(embedded.cloud.name, home=home, images=images)
        if content:
            yield


@pytest.mark.usefixtures("moody")
def test_a_job_that_meets_a_passing_trouble_is_tried_again(
    embedded: Embedded, trained: Trained, tmp_path: Path
) -> None:
    # GIVEN a run whose first job ends with exit code 75
    spec = spec_file(tmp_path, trained, "moody", **{"num-epochs": 2})
    run_id = embedded.ekiden("run", spec, "--json").json["run_id"]
    functions = embedded.client("lambda")

    def over() -> dict[str, Any] | None:
        # The reconciler starts the second attempt once its back-off, up to 30 s, is over; it is called here as its
        # schedule would, only oftener.
        functions.invoke(FunctionName=RECONCILER, Payload=b"{}")
        view: Any = embedded.api.get_run(run_id)
        return view if view["status"] != "RUNNING" else None

    view = until(over, "the run's end", seconds=180, pause=1)
    # THEN the second attempt did it, and the first says why it could not
    assert view["status"] == "SUCCEEDED", view["error"]
    assert statuses(view, "export") == ["FAILED", "SUCCEEDED"]
    first = attempts(view, "export")[0]
    assert first["error"] == {"code": "NO_SPACE", "message": "the disk is full just now"}
    reason = embedded.client("sagemaker").describe_processing_job(ProcessingJobName=first["job"])["FailureReason"]
    assert reason.endswith("exit code: 75")
    history = embedded.ekiden("show", run_id, "--history", "--json").json["history"]
    second = f"export started as {attempts(view, 'export')[1]['job']}"
    assert [line["actor"] for line in history if line["what"] == second] == ["reconciler"]


def test_bad_data_is_not_tried_again(embedded: Embedded, trained: Trained, tmp_path: Path) -> None:
    # GIVEN an edge whose node is missing
    prefix = "graphs/bad-data/"
    for name, text in {
        "users.csv": "~id,~label,age:Int\nu1,user,30\n",
        "movies.csv": "~id,~label\nm1,movie\n",
        "rated.csv": "~id,~from,~to,~label,rating:Double\ne1,u9,m1,rated,3\n",
    }.items():
        embedded.client("s3").put_object(Bucket=embedded.cloud.data_bucket, Key=prefix + name, Body=text.encode())
    target = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
    source = {"source": f"s3://{embedded.cloud.data_bucket}/{prefix}"}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "name": "bad-data", "graph": source, "targets": [target]}))
    # WHEN
    ended = embedded.ekiden("run", path, "--watch", "--json")
    # THEN one attempt was enough, and no sweep makes another
    assert ended.json["error"]["code"] == "DANGLING_EDGE"
    embedded.client("lambda").invoke(FunctionName=RECONCILER, Payload=b"{}")
    view = embedded.ekiden("show", ended.json["run_id"], "--json").json
    assert (view["status"], statuses(view, "export")) == ("FAILED", ["FAILED"])
    job = attempts(view, "export")[0]["job"]
    reason = embedded.client("sagemaker").describe_processing_job(ProcessingJobName=job)["FailureReason"]
    assert reason.endswith("exit code: 65")
