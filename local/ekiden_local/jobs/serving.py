"""One deployment of an endpoint: its model files, its `serve` process, its health, its restarts."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import mlroot
from .atomic import read_json, write_json
from .config import Settings
from .connections import Connections
from .errors import JobFailure
from .logs import LogShipper
from .process import Child, end_leftover
from .s3 import Store, extract

_PING_INTERVAL = 0.025
_PING_TIMEOUT = 2.0  # SageMaker's own
_QUICK_DEATHS = 3  # a program that ends this often before it is healthy is not started again
_SHORT_LIFE, _LONGEST_PAUSE = 10.0, 5.0  # s: restarts of a program that keeps ending come slower and slower
_log = logging.getLogger(__name__)


class Server:
    """A served model. `deployment` is a plain dict, as kept in the endpoint's record.

    ``{"config", "variant", "image", "environment", "model": {"uri", "archive"} | None, "role", "stream", "at"}``
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        deployment: dict[str, Any],
        settings: Settings,
        logs: LogShipper,
        on_death: Callable[[Server, str], None],
    ) -> None:
        self.deployment = deployment
        self.given_up = False
        self._endpoint = endpoint
        self._folder = folder
        self._settings = settings
        self._logs = logs
        self._on_death = on_death
        self._root = folder / "ml"
        self._log_file = folder / "log"
        self._child: Child | None = None
        self._closing = threading.Event()
        self._short_lives = 0
        self._connections: Connections | None = None

    @property
    def connections(self) -> Connections | None:
        """The way to the healthy process, None while there is none."""
        return self._connections

    def fetch(self, store: Store) -> None:
        """Lay out the root and download the model. Raises JobFailure."""
        end_leftover(self._folder / "control")
        mlroot.make_root(self._root, "model")
        model = self.deployment["model"]
        if model is None:
            return
        if not model["archive"]:
            store.fetch_prefix(model["uri"], self._root / "model", role=self.deployment["role"])
            return
        archive = self._root / "model.tar.gz"
        store.fetch_object(model["uri"], archive, role=self.deployment["role"])
        extract(archive, self._root / "model")
        archive.unlink()

    def start(self, *, adopt: bool = False) -> None:
        """Bring a process up, or take over the one that runs already; returns once it is healthy. Raises JobFailure."""
        deadline = time.monotonic() + self._health_timeout()
        self._logs.follow(self._log_file, f"/aws/sagemaker/Endpoints/{self._endpoint}", self.deployment["stream"])
        child: Child | None = None
        deaths = 0
        while not self._closing.is_set() and deaths < _QUICK_DEATHS and time.monotonic() < deadline:
            child, port = (self._adopt() if adopt else None) or self._spawn()
            adopt = False
            self._child = child
            if self._await_health(child, port, deadline):
                self._connections = Connections(port, self._settings.invocation_timeout)
                threading.Thread(target=self._guard, args=(child,), name=f"guard {self._endpoint}", daemon=True).start()
                return
            deaths = _QUICK_DEATHS if child.exit is not None and child.exit.error else deaths + 1
        reason = self._unhealthy(child)
        self._end_process(0.0)
        raise JobFailure(reason)

    def stop(self, grace: float) -> None:
        """End the process for good: SIGTERM, after `grace` seconds SIGKILL. Waits for its end."""
        self._closing.set()
        self._end_process(grace)

    def _end_process(self, grace: float) -> None:
        self._connections = None
        child = self._child
        if child is None:
            end_leftover(self._folder / "control")
        else:
            if grace:
                child.terminate()
            if child.wait(grace) is None:
                child.kill()
                child.wait(10.0)
        self._logs.finish(self._log_file)

    def drain(self, timeout: float) -> None:
        """Wait until no request is on its way."""
        connections = self._connections
        if connections is not None:
            connections.drain(timeout)

    def discard(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _adopt(self) -> tuple[Child, int] | None:
        known = read_json(self._folder / "server.json")
        child = Child.adopt(self._folder / "control") if known is not None else None
        # The end of a process that is gone already shows within a moment.
        if child is None or child.wait(0.05) is not None:
            return None
        return child, int(known["port"])

    def _spawn(self) -> tuple[Child, int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        # The port is known before the process is: a service that finds the process also finds its port.
        write_json(self._folder / "server.json", {"port": port})
        argv = self._settings.images.argv(self.deployment["image"], [], ["serve"])
        child = Child.spawn(
            self._folder / "control",
            [word.replace("{port}", str(port)) for word in argv],
            env=mlroot.environment(
                self._root,
                endpoint_url=self._settings.endpoint_url,
                region=self._settings.region,
                own={"SM_MODEL_DIR": str(self._root / "model"), "SM_NUM_CPUS": str(os.cpu_count() or 1)},
                user=self.deployment["environment"],
            )
            # Only the service itself calls it.
            | {"SAGEMAKER_BIND_TO_PORT": str(port), "EKIDEN_BIND_TO_HOST": "127.0.0.1"},
            cwd=self._root,
            log=self._log_file,
        )
        return child, port

    def _guard(self, child: Child) -> None:
        """Restart a healthy process that ends by itself."""
        born = time.monotonic()
        ended = child.wait()
        if self._closing.is_set():
            return
        self._connections = None
        self._short_lives = self._short_lives + 1 if time.monotonic() - born < _SHORT_LIFE else 0
        code = ended.code if ended is not None else None
        _log.warning("endpoint %s: the serving process ended with code %s and is started again", self._endpoint, code)
        self._closing.wait(min(_LONGEST_PAUSE, 0.05 * 2**self._short_lives - 0.05))
        try:
            self.start()
        except JobFailure as failure:
            if not self._closing.is_set():
                self.given_up = True
                self._on_death(self, failure.reason)

    def _await_health(self, child: Child, port: int, deadline: float) -> bool:
        while not self._closing.is_set() and child.exit is None and time.monotonic() < deadline:
            if ping(port):
                return True
            child.wait(_PING_INTERVAL)
        return False

    def _health_timeout(self) -> float:
        asked = self.deployment["variant"].get("ContainerStartupHealthCheckTimeoutInSeconds")
        return float(asked) if asked else self._settings.health_timeout

    def _unhealthy(self, child: Child | None) -> str:
        name = self.deployment["variant"]["VariantName"]
        text = f"The primary container for production variant {name} did not pass the ping health check. "
        ended = child.exit if child is not None else None
        if ended is not None and ended.error:
            text += f"Its program cannot be started: {ended.error}"
        elif ended is not None:
            text += f"Its program ended with code {ended.code}: {mlroot.last_line(self._log_file)}"
        else:
            text += (
                f"Its program does not answer GET /ping with 200 within {self._health_timeout():g} s; last line of its "
                f"log: {mlroot.last_line(self._log_file)}"
            )
        return text[:1024]


def ping(port: int) -> bool:
    """Whether GET /ping answers 200 within two seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PING_TIMEOUT)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/ping")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200
