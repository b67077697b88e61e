"""``report`` and ``env``, and how commands say which cloud they use and how to go on in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ekiden_local.state import CloudError, home_of
from tests.cli.conftest import BUCKET, write_state
from tests.cli.fake_api import FakeApi, failure, run_view, success

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]
RUN = "demo-20261120-100000-abcdef"


def test_report_fetches_the_file(ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="runs/x/report.html", Body=b"<html>")
    files = {"report": f"s3://{BUCKET}/runs/x/report.html"}
    api.runs[RUN] = [run_view(RUN, *["SUCCEEDED"] * 4, status="SUCCEEDED", artifacts=files)]

    assert ekiden("report", "latest").stdout == f"{RUN}.html\n"
    assert json.loads(ekiden("report", RUN, "--out", "a/r.html", "--json").stdout)["out"] == "a/r.html"
    assert Path("a/r.html").read_bytes() == Path(f"{RUN}.html").read_bytes() == b"<html>"
    assert ekiden("report", RUN, "--out", "a/r.html/x").exit_code == 2


def test_a_run_without_a_report_says_so(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)[-1:]

    done = ekiden("report", RUN)

    assert done.exit_code == 1
    assert "is FAILED and has no report" in done.stderr


def test_env_makes_a_shell_talk_to_the_cloud(ekiden: Ekiden, cloud: Path, api: FakeApi, s3_url: str) -> None:
    script = ekiden("env").stdout + 'echo "$AWS_ENDPOINT_URL $AWS_ACCESS_KEY_ID ${AWS_PROFILE-none} $EKIDEN_CLOUD"'

    shell = subprocess.run(["sh", "-c", script], env={"AWS_PROFILE": "p"}, capture_output=True, text=True, check=True)

    assert shell.stdout == f"{s3_url} test none local\n"
    assert json.loads(ekiden("env", "--json").stdout)["env"]["AWS_ENDPOINT_URL"] == s3_url


def test_the_name_aws_is_reserved(ekiden: Ekiden, tmp_path: Path) -> None:
    assert ekiden("up", "--name", "aws").exit_code == 2
    with pytest.raises(CloudError, match="cannot be the name of an embedded cloud"):
        home_of("aws", tmp_path)


def test_up_with_one_port_for_both_services_says_so(ekiden: Ekiden) -> None:
    assert "are both 4999" in ekiden("up", "--port", 4999, "--jobs-port", 4999).stderr


def test_hints_keep_the_cloud_and_the_cloud_is_named_before_something_starts(
    ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path, s3_url: str
) -> None:
    write_state(cloud, "second", endpoint_url=s3_url, api_url=api.url)
    with (graph.parent / "edges-rated.csv").open("a") as edges:
        edges.write("rated-own,user-1,movie-1,rated,5,0\n")  # a content, hence an address in S3, of its own

    plain, watched = ekiden("run", graph, "--cloud", "second"), ekiden("run", graph, "--cloud", "second", "--watch")

    assert f"cloud  second ({s3_url})" in plain.stderr
    assert f"next  ekiden watch {RUN} --cloud second" in plain.stderr
    assert f"run    {RUN}\n" in watched.stderr
    assert "--out scores.csv --cloud second" in watched.stderr


def test_an_empty_name_in_the_environment_is_none(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_CLOUD", "")

    assert ekiden("runs").exit_code == 0


def test_runs_are_listed_whole_however_narrow_the_terminal(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.runs[RUN] = success(RUN)[-1:]
    monkeypatch.setenv("COLUMNS", "40")
    from ekiden_cli import console

    console.out.cache_clear()
    try:
        shown = ekiden("runs").stdout
    finally:
        console.out.cache_clear()

    assert RUN in shown
    assert "SUCCEEDED" in shown


def test_a_failure_is_told_once_and_a_stage_without_log_is_not_waited_for(
    ekiden: Ekiden, cloud: Path, api: FakeApi
) -> None:
    api.runs[RUN] = failure(RUN)

    done = ekiden("watch", RUN)

    assert done.stderr.count("rating is 'five'") == 1
    assert "10:00:09 process  FAILED" in done.stderr, "stamped with when it ended, not with now"
    assert ekiden("logs", RUN, "--stage", "export").stderr == "no log lines of stage export\n"
    assert ekiden("show", "").exit_code == 2


def test_an_interrupted_log_has_the_exit_code_of_an_interrupted_watch(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    api.runs[RUN] = success(RUN)
    monkeypatch.setattr("ekiden_cli.logs.time.sleep", interrupt)

    assert ekiden("logs", RUN, "--follow").exit_code == 130
