"""A cloud to test the command line against: real S3 (MiniStack) and an HTTP server that speaks the API's contract."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from typer.testing import CliRunner, Result

from ekiden_cli.generate import generate
from tests.cli.fake_api import FakeApi

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "ekiden-test-data"
KEYS = {"access_key": "test", "secret_key": "test"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], limit: float, what: str) -> None:
    """Wait until ``condition`` holds, at most ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {limit} s")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MiniStack process of this test run, with an empty data bucket."""
    python = ROOT / ".tools" / "ministack" / "bin" / "python"
    assert python.exists(), "MiniStack is missing: run `make setup`"
    folder, port = tmp_path_factory.mktemp("ministack"), free_port()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "GATEWAY_PORT": str(port)}
    env |= {"BIND_HOST": "127.0.0.1", "LOG_LEVEL": "WARNING", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([python, "-m", "ministack"], env=env, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_for(answers, 30, "MiniStack's start")
        s3_client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def s3_client(url: str) -> Any:
    config = Config(s3={"addressing_style": "path"}, proxies={})
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        config=config,
    )


@pytest.fixture
def s3(s3_url: str) -> Any:
    return s3_client(s3_url)


@pytest.fixture
def api(s3_url: str) -> Iterator[FakeApi]:
    """An API server that knows nothing yet."""
    with FakeApi(s3_client(s3_url), BUCKET, **KEYS) as server:
        yield server


@pytest.fixture
def cloud(api: FakeApi, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a running embedded cloud named ``local``; the current folder is elsewhere."""
    home = tmp_path / "home"
    write_state(home, "local", endpoint_url=s3_url, api_url=api.url)
    monkeypatch.setenv("EKIDEN_HOME", str(home))
    for name in ("EKIDEN_CLOUD", "EKIDEN_STACK", "EKIDEN_API_URL"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return home


def write_state(home: Path, name: str, **changes: Any) -> None:
    state = {"name": name, "region": "us-east-1", "account": "000000000000", "stack": "ekiden"}
    state |= {"data_bucket": BUCKET, **KEYS, **changes}
    (home / name).mkdir(parents=True)
    (home / name / "cloud.json").write_text(json.dumps(state))


@pytest.fixture
def ekiden(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in this process: ``ekiden("runs", "--json")``."""
    monkeypatch.setenv("COLUMNS", "200")
    for module in ("watch", "logs"):
        monkeypatch.setattr(f"ekiden_cli.{module}.interval", lambda client: 0.01)
    from ekiden_cli.main import app

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The spec of a small generated graph."""
    return generate(tmp_path / "graph", users=20, movies=30, ratings=200, seed=5).spec


@pytest.fixture
def shared() -> Path:
    """The folder of published data sets beside the repository; the test is skipped where it is absent."""
    folder = Path(os.environ.get("EKIDEN_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"the published data sets are not here: {folder} (set EKIDEN_SHARED)")
    return folder
