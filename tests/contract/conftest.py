"""Where the ports' contracts are checked: in memory, on moto, and on MiniStack."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from ekiden_local import daemon
from ekiden_local import ministack as local
from ekiden_local.state import Home
from tests.fakes.aws import Aws, free_port
from tests.fakes.functions import ROOT

BACKENDS = ("fake", "moto", "ministack")


@pytest.fixture(scope="session")
def _ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (ROOT / ".tools" / "ministack").is_dir():
        pytest.skip("MiniStack is not installed (.tools/ministack): run `make setup`")
    home = Home(tmp_path_factory.mktemp("cloud"), "contract")
    port, unused = free_port(), free_port()
    folder = home.ministack
    (folder / "tmp").mkdir(parents=True)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(local.interpreter(ROOT)), "-m", "ministack"],
            env=local.environment(home, port, unused, auth=False) | {"PERSIST_STATE": "0", "S3_PERSIST": "0"},
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = local.url(port)
        daemon.await_healthy("MiniStack", process.pid, f"{url}/_ministack/health", Path(log), limit=30)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # nothing of it is worth saving
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ministack(_ministack_url: str) -> Aws:
    """MiniStack, for what is not of a port but of AWS."""
    return Aws(_ministack_url)


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Where this round of the contract runs."""
    return str(request.param)


@pytest.fixture(scope="session")
def aws(backend: str, request: pytest.FixtureRequest) -> Iterator[Aws | None]:
    """The AWS of this round; ``None`` in memory."""
    if backend == "fake":
        yield None
    elif backend == "moto":
        with mock_aws():
            yield Aws(None)
    else:
        yield Aws(request.getfixturevalue("_ministack_url"))
