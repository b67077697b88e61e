"""Where the ports' contracts are checked: in memory, on moto, and on MiniStack."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from ekiden.adapters.dynamodb_client import Table
from ekiden_local import daemon
from ekiden_local import ministack as local
from ekiden_local.state import ACCESS_KEY, REGION, SECRET_KEY, Home
from tests.fakes.functions import ROOT
from tests.fakes.template import table_definition

BACKENDS = ("fake", "moto", "ministack")


@dataclass(frozen=True)
class Aws:
    """An AWS to put resources into."""

    endpoint_url: str | None
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: Any) -> Any:
        """A client that talks to it and to nothing else."""
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint_url,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                config=Config(retries={"mode": "standard", "total_max_attempts": 2}),
            )
        return self.clients[service]

    def ledger_table(self) -> Table:
        """A new table, defined as the template defines the ledger."""
        client, name = self.client("dynamodb"), f"ledger-{uuid.uuid4().hex[:12]}"
        client.create_table(TableName=name, **table_definition())
        return Table(client, name)

    def bucket(self) -> str:
        """A new bucket with versions, as the data bucket has."""
        client, name = self.client("s3"), f"bucket-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def queue(self) -> str:
        """The URL of a new queue."""
        return str(self.client("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex[:12]}")["QueueUrl"])


@pytest.fixture(scope="session")
def _ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (ROOT / ".tools" / "ministack").is_dir():
        pytest.skip("MiniStack is not installed (.tools/ministack): run `make setup`")
    home = Home(tmp_path_factory.mktemp("cloud"), "contract")
    port, unused = _free_port(), _free_port()
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
