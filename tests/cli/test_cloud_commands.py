"""``up``, ``down`` and ``doctor`` speak for the supervisor: what it finds and what it cannot do."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_doctor_reports_each_check_and_fails_exactly_if_one_does(ekiden: Ekiden) -> None:
    done = ekiden("doctor", "--json")

    report = json.loads(done.stdout)
    assert {"name", "status", "detail", "remedy"} <= report["checks"][0].keys()
    assert report["ok"] is all(check["status"] != "fail" for check in report["checks"])
    assert done.exit_code == (0 if report["ok"] else 1)
    assert all(check["remedy"] for check in report["checks"] if check["status"] == "fail")
    assert report["checks"][0]["name"] in ekiden("doctor").stdout


def test_down_without_a_cloud_says_so_and_is_no_error(ekiden: Ekiden) -> None:
    assert json.loads(ekiden("down", "--json").stdout) == {"name": "local", "stopped": False, "purged": False}
    done = ekiden("down", "--name", "other")
    assert (done.exit_code, done.stdout) == (0, "cloud other was not running\n")


def test_up_on_a_port_that_is_taken_fails_with_the_supervisors_remedy(ekiden: Ekiden, empty_home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        port = taken.getsockname()[1]
        done = ekiden("up", "--port", port, "--json")

    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "CLOUD"
    assert str(port) in error["message"]
    assert error["hint"]
    assert not list(empty_home.glob("*/cloud.json"))


@pytest.mark.parametrize("command", ["up", "down", "doctor", "demo"])
def test_a_name_that_cannot_be_a_folders_is_wrong_usage(ekiden: Ekiden, command: str) -> None:
    done = ekiden(command, "--name", "../x")

    assert done.exit_code == 2
    assert "lower-case letters" in done.stderr
