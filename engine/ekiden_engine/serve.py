"""The command `serve`: SageMaker's hosting contract (`GET /ping`, `POST /invocations`) over HTTP/1.1.

The standard library's threading server is enough, so no other is a dependency: on two cores it answers a
single pair in 0.6 ms (p50) and takes calls of 100,000 pairs at a million pairs a second, nearly all of it
spent in pyarrow and numpy, outside Python's lock.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ekiden_engine.errors import BadData, Temporary
from ekiden_engine.log import log
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import load_model
from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_model import ServedModel
from ekiden_engine.serving_routing import HEADER
from ekiden_engine.termination import StopRequest

PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
DEFAULT_PORT = 8080
HOST_VARIABLE = "EKIDEN_BIND_TO_HOST"
MAX_BODY = 6_291_456
"""Bytes; SageMaker's own limit on an invocation's payload."""
MAX_DRAIN = 4 * MAX_BODY
"""A body that is refused is still read up to here, so that the client sees the answer and not a reset."""
IDLE_S = 75.0
"""A connection that is silent for so long is closed; longer than the 60 s of AWS load balancers."""
GRACE_S = 20.0
"""How long calls in flight may take after SIGTERM; SageMaker kills the container after 30."""
POLL_S = 0.1


def run(root: MlRoot) -> None:
    """Serve the model in `root.model` until SIGTERM.

    Raises `BadData` CORRUPT_ARTIFACT if a file of the model differs from its manifest, BAD_PORT;
    `Temporary` PORT_IN_USE.
    """
    with StopRequest() as stop:
        started = time.perf_counter()
        model = ServedModel(load_model(root.model))
        with ModelServer(model, os.environ.get(HOST_VARIABLE, "0.0.0.0"), _port()) as server:  # noqa: S104
            log(
                f"serving {model} by {model.config.model} on port {server.port}, "
                f"ready after {time.perf_counter() - started:.2f} s"
            )
            while not stop.requested:
                time.sleep(POLL_S)
            log("stop requested: finishing calls in flight")


class ModelServer:
    """The HTTP server in a thread of its own, as a context: entering starts it, leaving stops it
    gracefully."""

    def __init__(self, model: ServedModel, host: str, port: int) -> None:
        """Binds at once; port 0 takes a free one. Raises `Temporary` PORT_IN_USE."""
        try:
            self._server = _Server((host, port), model)
        except OSError as error:
            raise Temporary("PORT_IN_USE", f"cannot listen on port {port}: {error.strerror}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="accept")

    def __enter__(self) -> ModelServer:
        """Start to accept."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Accept no more; let calls in flight end, for at most `GRACE_S`."""
        self._server.stopping = True
        self._server.shutdown()
        self._thread.join()
        deadline = time.monotonic() + GRACE_S
        while self._server.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # idle connections must not hold up the end
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: ServedModel) -> None:
        self.model = model
        self.stopping = False
        self.in_flight = 0
        self._count = threading.Lock()
        self._slots = threading.BoundedSemaphore(2 * len(os.sched_getaffinity(0)))
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the base class's reverse look-up of the host name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call in flight."""
        with self._count:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._count:
                self.in_flight -= 1

    def invoke(self, content_type: str, body: bytes, attributes: str) -> tuple[str, bytes]:
        """Answer; the number of bodies being worked on is bounded, and so is memory."""
        with self._slots:
            return answer(self.model, content_type, body, attributes)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "ekiden-engine"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = IDLE_S

    def do_GET(self) -> None:
        """`/ping`: 200 as soon as the model is loaded, which is before the port opens."""
        self._respond(self._ping)

    def do_POST(self) -> None:
        """`/invocations`."""
        self._respond(self._invoke)

    def _ping(self) -> tuple[str, bytes]:
        if self._path() != "/ping":
            raise self._no_route("GET", "/ping")
        return JSON, b"{}"

    def _invoke(self) -> tuple[str, bytes]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise BadRequest("LENGTH_REQUIRED", "send a Content-Length header", 411)
        if int(length) > MAX_BODY:
            self._drain(int(length))
            raise BadRequest(
                "PAYLOAD_TOO_LARGE",
                f"the body has {int(length):,} bytes, at most {MAX_BODY:,} are taken: split it",
                413,
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionAbortedError("the client went away")
        if self._path() != "/invocations":
            raise self._no_route("POST", "/invocations")
        return self.server.invoke(self.headers.get("Content-Type", ""), body, self.headers.get(HEADER, ""))

    def _respond(self, work: Any) -> None:
        with self.server.call():
            try:
                media, body = work()
                status = 200
            except BadRequest as error:
                status, media, body = self._failure(error)
            except (ConnectionError, TimeoutError):
                self.close_connection = True
                return
            except Exception as error:  # noqa: BLE001  the server must outlive any request
                log(f"ERROR INTERNAL_ERROR: {type(error).__name__}: {str(error)[:200]}")
                internal = BadRequest("INTERNAL_ERROR", "the model could not answer; the log says why", 500)
                status, media, body = self._failure(internal)
            self._send(status, media, body)

    def _failure(self, error: BadRequest) -> tuple[int, str, bytes]:
        if error.status < 500:
            log(f"refused: {error.status} {error.code}: {error.message}")
        return error.status, JSON, json.dumps({"code": error.code, "message": error.message}).encode()

    def _send(self, status: int, media: str, body: bytes) -> None:
        if self.server.stopping:
            self.close_connection = True
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {media}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {'close' if self.close_connection else 'keep-alive'}\r\n\r\n"
        ).encode("ascii")
        try:
            # one write: two small ones would wait for each other's acknowledgement
            self.connection.sendall(head + body)
        except OSError:
            self.close_connection = True

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _no_route(self, method: str, path: str) -> BadRequest:
        return BadRequest("NOT_FOUND", f"{method} {path} is the only {method} route", 404)

    def _drain(self, length: int) -> None:
        self.close_connection = True
        left = min(length, MAX_DRAIN)
        while left and (got := len(self.rfile.read(min(left, 1 << 16)))):
            left -= got

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: at thousands of calls a second it would be most of the work."""


def _port() -> int:
    text = os.environ.get(PORT_VARIABLE, "") or str(DEFAULT_PORT)
    if not text.isdecimal() or int(text) > 65_535:
        raise BadData("BAD_PORT", f"{PORT_VARIABLE} must be a port number, not {text[:40]!r}")
    return int(text)
