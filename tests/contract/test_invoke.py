"""``tools/invoke.py`` calls a shipped handler with the environment of the deployed function."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ekiden_local.state import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY, Cloud, Home, write_cloud
from tests.fakes.aws import Aws
from tests.fakes.functions import FUNCTIONS, ROOT
from tools import invoke

GET_RUNS = str(ROOT / "events/lambda/show_status/get-runs.json")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ekiden.runtime.container._container", None)
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def _restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def recorded(home: Path, endpoint_url: str) -> None:
    """A cloud that is known of."""
    values: dict[str, Any] = {field.name: "" for field in fields(Cloud)}
    values |= {
        "name": "local",
        "endpoint_url": endpoint_url,
        "sagemaker_url": endpoint_url,
        "region": REGION,
        "account": ACCOUNT,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "stack": "ekiden",
        "auth": False,
        "pids": {},
        "ports": {},
    }
    write_cloud(Home(home, "local"), Cloud(**values))


def deployed(aws: Aws, function: str, variables: dict[str, str]) -> None:
    """A function as a deployment leaves it."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("handler.py", "def handler(event, context): return None")
    aws.client("lambda").create_function(
        FunctionName=function,
        Runtime="python3.11",
        Role=f"arn:aws:iam::{ACCOUNT}:role/any",
        Handler="handler.handler",
        Code={"ZipFile": package.getvalue()},
        Environment={"Variables": variables},
    )


@pytest.mark.usefixtures("_restored_environment")
def test_a_handler_answers_with_the_environment_of_the_embedded_cloud(
    ministack: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ministack.endpoint_url is not None
    recorded(tmp_path, ministack.endpoint_url)
    table = ministack.ledger_table()
    deployed(ministack, "ekiden-show-status", {"LEDGER_TABLE": table.name, "DATA_BUCKET": ministack.bucket()})

    assert invoke.main(["ShowStatus", GET_RUNS]) == 0

    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"runs": []}
    assert "show_status: " in err


@pytest.mark.usefixtures("_restored_environment")
def test_a_cloud_that_does_not_answer_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, "http://127.0.0.1:9")
    assert invoke.main(["ShowStatus", GET_RUNS]) == 2
    assert "Start it with `ekiden up`" in capsys.readouterr().err


@pytest.mark.usefixtures("_restored_environment")
def test_without_a_cloud_the_missing_variables_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEDGER_TABLE", raising=False)
    assert invoke.main(["show_status", GET_RUNS]) == 1
    err = capsys.readouterr().err
    assert "LEDGER_TABLE" in err
    assert "`ekiden up`" in err


@pytest.mark.parametrize(
    ("name", "folder"),
    [("RecordJobState", "record_job_state"), ("record_job_state", "record_job_state"), ("submit-run", "submit_run")],
)
def test_a_function_goes_by_any_of_its_names(name: str, folder: str) -> None:
    assert invoke.folder_of(name) == folder
    assert folder in FUNCTIONS


@pytest.mark.parametrize(
    ("function", "event", "message"),
    [
        ("Nope", GET_RUNS, "there is no function 'Nope'; one of change_run, deploy_endpoint"),
        ("../tools", GET_RUNS, "there is no function"),
        ("ShowStatus", "no/such/file.json", "events/lambda/ has samples"),
        ("ShowStatus", str(ROOT / "README.md"), "is not JSON"),
    ],
)
def test_wrong_usage_says_what_to_do(
    function: str, event: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke.main([function, event]) == 2
    assert message in capsys.readouterr().err
