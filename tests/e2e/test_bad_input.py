"""Bad input, end to end: a precise error, and what succeeded before stays usable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ekiden_cli.errors import CliError
from tests.e2e.support import Answer, Embedded, Trained

USERS = "~id,~label,age:Int\nu1,user,30\nu2,user,40\nu3,user,25\n"
MOVIES = "~id,~label,year:Int\nm1,movie,1990\nm2,movie,1995\n"
RATED = "~id,~from,~to,~label,rating:Double\ne1,u1,m1,rated,3\ne2,u2,m2,rated,4\ne3,u3,m1,rated,5\n"


def _run(
    embedded: Embedded,
    folder: Path,
    *,
    users: str = USERS,
    movies: str = MOVIES,
    rated: str = RATED,
    change: Callable[[dict[str, object]], object] | None = None,
) -> Answer:
    (folder / "users.csv").write_text(users)
    (folder / "movies.csv").write_text(movies)
    (folder / "rated.csv").write_text(rated)
    # Uploaded here rather than by `ekiden run`, which would find some of the faults before anything is sent.
    prefix = f"graphs/{folder.name}/"
    for file in folder.glob("*.csv"):
        embedded.client("s3").put_object(
            Bucket=embedded.cloud.data_bucket, Key=prefix + file.name, Body=file.read_bytes()
        )
    spec: dict[str, object] = {
        "version": 1,
        "name": "bad",
        "graph": {"source": f"s3://{embedded.cloud.data_bucket}/{prefix}"},
        "targets": [{"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}],
        "features": [{"node": "user", "property": "age", "type": "numerical", "imputer": "median"}],
    }
    if change:
        change(spec)
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return embedded.ekiden("run", path, "--watch", "--json")


@pytest.mark.parametrize(
    ("name", "users", "rated", "stage", "code", "says"),
    [
        ("dangling", USERS, RATED + "e4,u9,m1,rated,2\n", "export", "DANGLING_EDGE", "u9"),
        ("twice", USERS + "u1,user,31\n", RATED, "export", "DUPLICATE_ID", "u1"),
        ("words", USERS, RATED + "e4,u1,m2,rated,great\n", "export", "NOT_A_NUMBER", "great"),
        ("empty", "~id,~label\n", RATED.splitlines()[0] + "\n", "export", "EMPTY_GRAPH", ""),
    ],
)
def test_a_graph_that_cannot_be_used_fails_the_run_with_stage_code_and_place(
    embedded: Embedded, tmp_path: Path, name: str, users: str, rated: str, stage: str, code: str, says: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    answer = _run(embedded, folder, users=users, movies=users if name == "empty" else MOVIES, rated=rated)
    assert answer.code == 1
    error = answer.json["error"]
    assert (error["stage"], error["code"]) == (stage, code)
    assert says in error["message"]
    assert error["log_tail"], "the end of the job's log is part of the answer"


def test_an_unknown_property_is_named_with_those_there_are(embedded: Embedded, tmp_path: Path) -> None:
    folder = tmp_path / "unknown-property"
    folder.mkdir()

    def change(spec: dict[str, object]) -> None:
        spec["targets"] = [{"edge": ["user", "rated", "movie"], "property": "ratng", "type": "regression"}]

    error = _run(embedded, folder, change=change).json["error"]
    assert error["code"] == "UNKNOWN_PROPERTY"
    assert "ratng" in error["message"]
    assert "rating" in error["message"]


def test_a_missing_bucket_fails_the_export_stage(embedded: Embedded, tmp_path: Path) -> None:
    folder = tmp_path / "missing-bucket"
    folder.mkdir()

    def change(spec: dict[str, object]) -> None:
        spec["graph"] = {"source": "s3://no-such-bucket-anywhere/graph/"}

    answer = _run(embedded, folder, change=change)
    assert answer.code == 1
    assert answer.json["error"]["stage"] == "export"
    assert "no-such-bucket-anywhere" in answer.json["error"]["message"]


def test_a_broken_spec_is_refused_with_every_fault_and_its_path(embedded: Embedded, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "version: 1\nname: Bad Name\ngraph: {source: 's3://bucket/x/'}\n"
        "targets: [{edge: [user, rated, movie], property: rating, type: regression, split_rate: [0.7, 0.2, 0.1]}]\n"
    )
    answer = embedded.ekiden("run", spec)
    assert answer.code == 2
    assert "targets[0].split_rate" in answer.err
    assert "write [0.7, 0.20000000000000004, 0.1]" in answer.err
    assert "name" in answer.err


def test_an_unknown_run_says_where_to_look(embedded: Embedded) -> None:
    answer = embedded.ekiden("show", "nothing-20260101-000000-aaaaaa")
    assert answer.code in {1, 2}
    assert "ekiden runs" in answer.err


def test_an_unknown_endpoint_is_refused_before_anything_is_queued(embedded: Embedded, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("source,target\nu1,m1\n")
    answer = embedded.ekiden("score", "--endpoint", "nowhere", "--pairs", pairs, "--out", tmp_path / "out.csv")
    assert answer.code in {1, 2}
    assert "nowhere" in answer.err
    assert not (tmp_path / "out.csv").exists()


def test_an_oversized_body_is_refused(embedded: Embedded) -> None:
    with pytest.raises(CliError, match="65,536"):
        embedded.api.submit_run({"name": "x" * 70_000})


def test_a_malformed_event_is_parked_with_its_reason(embedded: Embedded) -> None:
    sqs = embedded.client("sqs")
    urls = sqs.list_queues()["QueueUrls"]
    (dead_letters,) = [url for url in urls if "JobEventsDlq" in url]
    (queue,) = [url for url in urls if "JobEvents" in url and "Dlq" not in url]
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"source": "ekiden.local", "detail": {}}))
    message = sqs.receive_message(QueueUrl=dead_letters, WaitTimeSeconds=20)["Messages"][0]
    parked = json.loads(message["Body"])
    assert parked["error"]["code"] == "MALFORMED"
    assert "detail-type" in parked["error"]["message"]
    assert json.loads(parked["body"]) == {"source": "ekiden.local", "detail": {}}


def test_what_succeeded_before_a_failure_stays_usable(embedded: Embedded, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "unprocessable"
    folder.mkdir()

    def change(spec: dict[str, object]) -> None:
        spec["features"] = [{"node": "user", "property": "age", "type": "numerical", "norm": "none"}]
        spec["deploy"] = {"endpoint": trained.endpoint}

    view = _run(embedded, folder, users=f"{USERS}u4,user,\n", change=change).json
    assert view["status"] == "FAILED"
    assert view["error"]["stage"] == "process"
    assert "user.age (features[0] of the spec)" in view["error"]["message"]
    assert "export" in view["artifacts"]
    endpoint = embedded.client("sagemaker").describe_endpoint(EndpointName=trained.endpoint)
    assert endpoint["EndpointStatus"] == "InService"
