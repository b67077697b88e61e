"""``run``, ``runs``, ``show``, ``watch`` and ``logs``: what they print, where, and their exit codes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.conftest import BUCKET
from tests.cli.fake_api import BEGAN, EVALUATION, FakeApi, at, failure, success

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]
RUN = "demo-20261120-100000-abcdef"


def test_run_uploads_the_graph_once_and_submits_its_address(
    ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any, graph: Path
) -> None:
    first, second = ekiden("run", graph, "--json"), ekiden("run", graph)

    assert json.loads(first.stdout) == {"run_id": RUN, "status": "RUNNING"}
    assert "(3 of 3 files" in first.stderr
    assert "(nothing new" in second.stderr
    assert second.stdout == f"{RUN}\n"
    source = api.submitted[0]["spec"]["graph"]["source"]
    assert source.startswith(f"s3://{BUCKET}/graphs/demo-")
    assert api.submitted[1]["spec"] == api.submitted[0]["spec"]
    assert api.submitted[1]["request_id"] != api.submitted[0]["request_id"]
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=source.removeprefix(f"s3://{BUCKET}/"))["Contents"]
    assert [o["Key"].rpartition("/")[2] for o in listed] == [
        "edges-rated.csv",
        "vertices-movie.csv",
        "vertices-user.csv",
    ]


def test_run_with_a_request_id_sends_it_so_that_a_repeat_is_the_same_request(
    ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path
) -> None:
    for _ in range(2):
        assert ekiden("run", graph, "--request-id", "nightly:2026-11-21").exit_code == 0

    first, second = api.submitted
    assert first == second
    assert first["request_id"] == "nightly:2026-11-21"


@pytest.mark.parametrize("request_id", ["", "-x", "a b", "../x", "a" * 129])
def test_a_request_id_that_is_none_is_wrong_usage(
    ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path, request_id: str
) -> None:
    done = ekiden("run", graph, f"--request-id={request_id}")

    assert done.exit_code == 2
    assert "letters, digits" in done.stderr
    assert api.submitted == []


def test_another_content_goes_to_another_address(ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path) -> None:
    ekiden("run", graph)
    with (graph.parent / "edges-rated.csv").open("a") as edges:
        edges.write("rated-x,user-1,movie-1,rated,5,0\n")
    ekiden("run", graph)

    first, second = (body["spec"]["graph"]["source"] for body in api.submitted)
    assert first != second


def test_run_with_watch_follows_to_the_evaluation(ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path) -> None:
    api.lines[RUN] = [line("train", 1, "epoch 1/60  valid rmse 1.01")]

    done = ekiden("run", graph, "--watch")

    assert done.exit_code == 0
    for said in ("export   RUNNING", "export   SUCCEEDED  4.0 s  0123456789abcdef-export-1", "train    epoch 1/60"):
        assert said in done.stderr
    table = [row.split() for row in done.stdout.splitlines()]
    assert ["model", "0.9012", "0.7101", "0.4100"] in table
    assert ["user", "and", "item", "biases", "0.9891", "0.7800", "0.2600"] in table
    assert any(row[:1] == ["report"] for row in table)
    assert "ekiden score --endpoint movielens" in done.stderr


def test_who_predicts_of_nodes_is_not_told_to_score_pairs(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = views = success(RUN)
    evaluation: dict[str, Any] = copy.deepcopy(EVALUATION)
    evaluation["targets"][0]["target"] = {"name": "paper.topic", "task": "node_classification"}
    views[-1] = {**views[-1], "evaluation": evaluation}

    done = ekiden("watch", RUN)

    assert done.exit_code == 0, done.stderr
    assert "ekiden score" not in done.stderr


def test_a_failed_run_ends_with_stage_code_message_and_log(
    ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path
) -> None:
    api.on_submit = failure

    done = ekiden("run", graph, "--watch")

    assert done.exit_code == 1
    assert "failed in process: NOT_A_NUMBER: edges-rated.csv, row 7: rating is 'five'" in done.stderr
    assert "row 7 is bad" in done.stderr
    assert f"ekiden logs {RUN} --stage process" in done.stderr


def test_watch_as_json_prints_the_last_view_and_nothing_else(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)

    done = ekiden("watch", RUN, "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "NOT_A_NUMBER"


def test_interrupting_leaves_the_run_and_says_how_to_come_back(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.runs[RUN] = success(RUN)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ekiden_cli.watch.time.sleep", interrupt)
    done = ekiden("watch", RUN)

    assert done.exit_code == 130
    assert f"the run goes on without you; watch it again with `ekiden watch {RUN}`" in done.stderr


def test_the_live_view_shows_stages_jobs_and_the_last_line(cloud: Path, api: FakeApi) -> None:
    from rich.console import Console

    from ekiden_cli.api import ApiClient
    from ekiden_cli.target import resolve
    from ekiden_cli.watch import follow

    api.runs[RUN] = success(RUN)
    api.lines[RUN] = [line("train", 1, "epoch 9/60")]
    console = Console(force_terminal=True, width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115

    final = follow(ApiClient(resolve(None)), RUN, pause=0.2, console=console)

    shown = console.export_text()
    assert final["status"] == "SUCCEEDED"
    assert "epoch 9/60" in shown
    assert "0123456789abcdef-deploy-1" in shown


def test_show_as_json_is_what_the_api_says(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)[-1:]

    shown = json.loads(ekiden("show", RUN, "--json").stdout)

    assert shown == api.view(RUN)
    assert {"run_id", "status", "stages", "evaluation", "artifacts", "error"} <= shown.keys()


def test_show_and_latest_draw_a_panel(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)[-1:]

    shown = ekiden("show", "latest").stdout

    for said in (RUN, "FAILED", "process failed: NOT_A_NUMBER", "0123456789abcdef-export-1", "took 20.0 s"):
        assert said in shown


def test_runs_lists_and_filters(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)

    assert RUN in ekiden("runs").stdout
    assert json.loads(ekiden("runs", "--status", "succeeded", "--json").stdout)["runs"][0]["run_id"] == RUN
    assert "no runs with status FAILED" in ekiden("runs", "--status", "failed").stderr


def test_an_unknown_run_is_wrong_input_and_a_stopped_cloud_a_failure(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.runs[RUN] = success(RUN)
    unknown = ekiden("show", RUN + "x")
    assert unknown.exit_code == 2
    assert f"did you mean {RUN}?" in unknown.stderr

    monkeypatch.setenv("EKIDEN_HOME", str(cloud / "empty"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    nowhere = ekiden("runs", "--json")
    assert nowhere.exit_code == 1
    assert json.loads(nowhere.stdout)["error"]["code"] == "NO_CLOUD"
    assert "run `ekiden up`" in nowhere.stderr or "with `ekiden up`" in nowhere.stderr


def test_logs_are_read_over_all_pages(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)[-1:]
    api.lines[RUN] = [line("train", k, f"epoch {k}") for k in range(5)] + [line("export", 9, "rows")]

    plain = ekiden("logs", RUN, "--stage", "train")
    document = json.loads(ekiden("logs", RUN, "--json").stdout)

    assert plain.stdout.splitlines() == [f"10:00:0{k} train    epoch {k}" for k in range(5)]
    assert [x["message"] for x in document["lines"]] == [f"epoch {k}" for k in range(5)] + ["rows"]
    assert ekiden("logs", RUN, "--stage", "cook").exit_code == 2


def test_logs_are_followed_until_the_run_ends_without_repeating_a_line(
    ekiden: Ekiden, cloud: Path, api: FakeApi
) -> None:
    # GIVEN a run that writes one more line at each look at it
    api.runs[RUN] = success(RUN)
    api.lines[RUN] = [line("export", 0, "line 0")]
    view = api.view

    def look(run_id: str) -> dict[str, Any]:
        api.lines[RUN].append(line("export", len(api.lines[RUN]), f"line {len(api.lines[RUN])}"))
        return view(run_id)

    api.view = look  # type: ignore[method-assign]

    # WHEN its log is followed
    done = ekiden("logs", RUN, "--follow", "--json")

    # THEN each line came once, one document a line
    assert [json.loads(x)["message"] for x in done.stdout.splitlines()] == [f"line {k}" for k in range(6)]


def line(stage: str, second: int, message: str) -> dict[str, Any]:
    assert BEGAN.second == 0
    return {"timestamp": at(second), "stage": stage, "attempt": 1, "message": message}
