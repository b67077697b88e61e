"""The embedded cloud as a user meets it, and bounded waiting."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest

from ekiden_cli.api import ApiClient
from ekiden_cli.target import Target, resolve
from ekiden_local.state import Cloud

COMMAND_SECONDS = 240

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


class Embedded:
    """The cloud as a user meets it: by the CLI, and by boto3."""

    def __init__(self, cloud: Cloud, home: Path) -> None:
        self.cloud = cloud
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "EKIDEN_HOME": str(home),
            "EKIDEN_CLOUD": cloud.name,
            "COLUMNS": "160",
        }

    def ekiden(self, *words: str | Path) -> Answer:
        """Run the CLI in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "ekiden_cli", *map(str, words)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def client(self, service: str) -> Any:
        """A plain boto3 client."""
        session: Any = self._session
        return session.client(service, endpoint_url=self._url(service))

    @cached_property
    def api(self) -> ApiClient:
        """A client of the HTTP API."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EKIDEN_HOME", self.env["EKIDEN_HOME"])
            target: Target = resolve(self.cloud.name)
        return ApiClient(target)

    def _url(self, service: str) -> str:
        return self.cloud.sagemaker_url if service.startswith("sagemaker") else self.cloud.endpoint_url

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=self.cloud.access_key,
            aws_secret_access_key=self.cloud.secret_key,
            region_name=self.cloud.region,
        )


@dataclass(frozen=True)
class Trained:
    """A run that reached its endpoint, and the graph folder it came from."""

    run_id: str
    view: dict[str, Any]
    graph: Path
    endpoint: str


def until(look: Callable[[], T | None], what: str, *, seconds: float = 60.0, pause: float = 0.25) -> T:
    """The first truthy answer of ``look``.

    Raises:
        AssertionError: none came within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(pause)
    return found
