"""The main job on the embedded cloud: a graph goes in, scores come out, nobody watches."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import urllib3

from ekiden_cli.errors import CliError
from tests.e2e.support import Embedded, Trained, until


def _objects(embedded: Embedded, uri: str) -> dict[str, int]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    pages = embedded.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {o["Key"].removeprefix(prefix): o["Size"] for page in pages for o in page.get("Contents", [])}


def _read(embedded: Embedded, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(embedded.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def test_a_run_goes_from_graph_to_endpoint_by_itself(trained: Trained) -> None:
    stages = trained.view["stages"]
    assert [stage["name"] for stage in stages] == ["export", "process", "train", "deploy"]
    assert {stage["status"] for stage in stages} == {"SUCCEEDED"}
    assert all(len(stage["attempts"]) == 1 for stage in stages), "nothing was started twice"
    ends = [stage["attempts"][0]["ended_at"] for stage in stages]
    assert ends == sorted(ends)
    assert trained.view["status"] == "SUCCEEDED"
    assert trained.view["error"] is None


def test_show_gives_the_stable_shape(embedded: Embedded, trained: Trained) -> None:
    shown = embedded.ekiden("show", trained.run_id, "--json").json
    assert {"run_id", "status", "stages", "evaluation", "artifacts", "error"} <= shown.keys()
    attempt = shown["stages"][2]["attempts"][0]
    assert {"job", "started_at", "ended_at"} <= attempt.keys()


def test_the_model_beats_both_baselines_on_the_test_edges(trained: Trained) -> None:
    (evaluation,) = trained.view["evaluation"]["targets"]
    figures, baselines = evaluation["metrics"], evaluation["baselines"]
    assert evaluation["evaluated_on"] == "test"
    assert figures["count"] > 1000
    assert figures["rmse"] < baselines["user_item_bias"]["rmse"] < baselines["global_mean"]["rmse"]


def test_every_stage_leaves_its_artefacts(embedded: Embedded, trained: Trained) -> None:
    artifacts = trained.view["artifacts"]
    exported = _objects(embedded, artifacts["export"])
    assert "training-data-configuration.json" in exported
    assert "stats.json" in exported
    assert "edges/%28user%29-rated-%28movie%29.consolidated.csv" in exported
    processed = _objects(embedded, artifacts["process"])
    assert {"graph.json", "features.json", "model-hpo-configuration.json", "manifest.json"} <= processed.keys()
    model = _objects(embedded, artifacts["model"])
    assert {"evaluation.json", "predictions.parquet", "report.html", "manifest.json"} <= model.keys()
    assert not [name for name in model if name.endswith((".pkl", ".pickle", ".pt"))]


def test_predictions_cover_the_test_edges(embedded: Embedded, trained: Trained) -> None:
    table = pq.read_table(io.BytesIO(_read(embedded, trained.view["artifacts"]["predictions"])))
    assert table.num_rows == trained.view["evaluation"]["targets"][0]["metrics"]["count"]


def test_the_report_is_self_contained(embedded: Embedded, trained: Trained) -> None:
    report = _read(embedded, trained.view["artifacts"]["report"]).decode()
    for heading in ("Learning curve", "Predicted against actual", "Error by degree", "Stages"):
        assert heading.lower() in report.lower()
    for outside in ('src="http', "src='http", 'href="http', "@import", "<link"):
        assert outside not in report


def test_logs_of_every_job_can_be_read(embedded: Embedded, trained: Trained) -> None:
    def complete() -> bool:
        logs = embedded.ekiden("logs", trained.run_id, "--json")
        return {"export", "process", "train"} <= {line["stage"] for line in _lines(logs.out)}

    until(complete, "the jobs' logs to arrive")


def _lines(text: str) -> list[dict[str, str]]:
    document = json.loads(text)
    return list(document["lines"])


def test_pairs_in_a_csv_file_are_scored_in_order(embedded: Embedded, trained: Trained, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    wanted = [(f"user-{1 + i % 300}", f"movie-{1 + i % 200}") for i in range(25_000)]
    wanted[7] = ("user-nobody", "movie-1")
    wanted[8] = ("user-1", "movie-nowhere")
    pairs.write_text("source,target\n" + "".join(f"{s},{t}\n" for s, t in wanted))
    out = tmp_path / "scores.csv"
    done = embedded.ekiden("score", "--endpoint", trained.endpoint, "--pairs", pairs, "--out", out, "--json")
    assert done.code == 0, done.err
    table = pc.read_csv(out)
    assert table.column_names == ["source", "target", "score", "status"]
    assert list(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True)) == wanted
    status = table["status"].to_pylist()
    assert status[7] == "fallback_source"
    assert status[8] == "fallback_target"
    assert status.count("scored") >= 24_000
    scores = table["score"].to_pylist()
    assert all(1.0 <= score <= 5.0 for score in scores)
    assert len(set(scores)) > 500


def test_parquet_in_and_parquet_out_give_the_same_scores(embedded: Embedded, trained: Trained, tmp_path: Path) -> None:
    pairs = pc.read_csv(io.BytesIO(b"source,target\nuser-1,movie-1\nuser-2,movie-3\nuser-9,movie-2\n"))
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    pc.write_csv(pairs, tmp_path / "pairs.csv")
    for kind in ("parquet", "csv"):
        done = embedded.ekiden(
            "score", "--endpoint", trained.endpoint, "--pairs", tmp_path / f"pairs.{kind}",
            "--out", tmp_path / f"out.{kind}",
        )  # fmt: skip
        assert done.code == 0, done.err
    parquet, csv = pq.read_table(tmp_path / "out.parquet"), pc.read_csv(tmp_path / "out.csv")
    assert parquet["score"].to_pylist() == parquet["score"].cast(csv["score"].type).to_pylist()
    assert [round(s, 4) for s in parquet["score"].to_pylist()] == [round(s, 4) for s in csv["score"].to_pylist()]


def test_a_score_request_is_answered_once_per_request_id(embedded: Embedded, trained: Trained) -> None:
    client = embedded.api
    first = client.submit_scores(trained.endpoint, pairs=[("user-1", "movie-1")], request_id="same")
    again = client.submit_scores(trained.endpoint, pairs=[("user-1", "movie-1")], request_id="same")
    assert first["request_id"] == again["request_id"] == "same"
    until(lambda: client.get_scores("same")["status"] == "COMPLETED", "the scores")
    assert client.get_scores("same")["pairs"] == {"total": 1, "scored": 1, "fallback": 0, "invalid": 0}
    with pytest.raises(CliError, match="same"):
        client.submit_scores(trained.endpoint, pairs=[("user-2", "movie-1")], request_id="same")


def test_a_spec_dropped_into_the_bucket_starts_a_run(embedded: Embedded, trained: Trained) -> None:
    spec = trained.view["spec"] | {"name": "dropped"}
    spec["model"] = {"name": "rgcn", "hyperparameters": {"num-epochs": 2, "seeds": 1}}
    spec["deploy"] = {"endpoint": trained.endpoint}
    embedded.client("s3").put_object(
        Bucket=embedded.cloud.data_bucket, Key="specs/dropped.yaml", Body=json.dumps(spec).encode()
    )

    def run() -> dict[str, str] | None:
        runs = embedded.ekiden("runs", "--json").json["runs"]
        return next((r for r in runs if r["name"] == "dropped" and r["status"] != "RUNNING"), None)

    ended = until(run, "the dropped spec's run to end", seconds=120)
    assert ended["status"] == "SUCCEEDED"
    sagemaker = embedded.client("sagemaker")
    config = sagemaker.describe_endpoint(EndpointName=trained.endpoint)["EndpointConfigName"]
    shown = embedded.ekiden("show", ended["run_id"], "--json").json
    assert config == shown["stages"][3]["attempts"][0]["job"], "the endpoint was updated to the new model"


def test_pairs_dropped_into_the_bucket_are_scored(embedded: Embedded, trained: Trained) -> None:
    s3 = embedded.client("s3")
    bucket = embedded.cloud.data_bucket
    s3.put_object(Bucket=bucket, Key=f"pairs/{trained.endpoint}/a.csv", Body=b"source,target\nuser-1,movie-2\n")

    def results() -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="scores/pairs-")
        return [o["Key"] for o in listed.get("Contents", []) if "/results/" in o["Key"]]

    (key,) = until(results, "results of the dropped pairs")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert body.startswith(b"source,target,score,status\nuser-1,movie-2,")


def test_an_unsigned_call_is_refused(embedded: Embedded) -> None:
    answer = urllib3.request("GET", f"{embedded.cloud.api_url}/runs")
    assert answer.status == 403
