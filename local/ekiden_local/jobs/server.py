"""The HTTP side: AWS JSON 1.1 for `sagemaker`, REST for `sagemaker-runtime`, and /health.

The standard library's threading server was chosen by measurement (docs/job-service.md): with bodies that pass
through in pieces it moves more bytes per second than asyncio servers, in half the memory, without a dependency.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from .connections import CHUNK
from .errors import ApiError, clip
from .proxy import BODY_LIMIT, Exchange, ModelFault, Source, invoke
from .serving import Server

_API_LIMIT = 4 * 1024 * 1024
_SKIP_LIMIT = 64 * 1024 * 1024
_INVOCATIONS = re.compile(r"/endpoints/([^/]+)/invocations/?")
_log = logging.getLogger(__name__)

Call = Callable[[str, dict[str, Any]], dict[str, Any] | None]
"""``(operation, request) → answer``; raises ApiError."""

Find = Callable[[str], Server | None]
"""The server behind an endpoint's name; None while its process restarts. Raises ApiError for an unknown endpoint."""


class JobServer(ThreadingHTTPServer):
    """Listens; a thread per connection, which boto3 keeps open for many requests."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, address: tuple[str, int], call: Call, find: Find, health: Callable[[], dict[str, Any]]) -> None:
        super().__init__(address, _Handler)
        self.call = call
        self.find = find
        self.health = health


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120  # s without a byte, between requests and within one
    server_version = "ekiden-jobs"
    sys_version = ""
    server: JobServer

    def do_GET(self) -> None:
        """/health."""
        if urlsplit(self.path).path == "/health":
            self._json(200, self.server.health())
        else:
            self._error(ApiError("UnknownOperationException", f"GET {clip(self.path)} is not served here", 404))

    def do_POST(self) -> None:
        """An API call, or an invocation."""
        length = self._length()
        if length is None:
            return
        found = _INVOCATIONS.fullmatch(urlsplit(self.path).path)
        if found:
            self._invoke(unquote(found[1]), length)
        else:
            self._api(length)

    def _api(self, length: int) -> None:
        if length > _API_LIMIT:
            self._skip(length)
            self._error(ApiError("RequestEntityTooLargeException", f"The request exceeds {_API_LIMIT} bytes", 413))
            return
        body = self.rfile.read(length)
        try:
            answer = self.server.call(self._operation(), _parse(body))
        except ApiError as error:
            self._error(error)
        except Exception:  # noqa: BLE001 - the caller gets an answer whatever happened
            _log.exception("%s", clip(self.headers.get("X-Amz-Target", self.path)))
            self._error(ApiError("InternalFailure", "The local job service failed; see its log.", 500))
        else:
            self._json(200, answer)

    def _operation(self) -> str:
        service, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
        if service != "SageMaker" or not operation:
            raise ApiError(
                "UnknownOperationException",
                f"POST {clip(self.path)} without 'X-Amz-Target: SageMaker.<Operation>' is not served here",
                404,
            )
        return operation

    def _invoke(self, endpoint: str, length: int) -> None:
        sent = False

        def begin(status: int, headers: dict[str, str], size: int) -> None:
            nonlocal sent
            sent = True
            self._head(status, headers, size)

        try:
            if length > BODY_LIMIT:
                self._skip(length)
                self._json(413, {"message": f"HTTP content length exceeded {BODY_LIMIT} bytes."})
                return
            self.server.find(endpoint)  # an unknown endpoint is told of before anything else
            exchange = Exchange(self.headers, length, cast(Source, self.rfile), begin, self.wfile.write)
            invoke(lambda: self.server.find(endpoint), exchange, endpoint)
        except ApiError as error:
            self._skip(length)
            self._error(error, key="Message")
        except ModelFault as fault:
            self._model_error(endpoint, fault)
        except OSError:
            # The caller is gone, or the model broke off within its answer, which cannot be taken back.
            self.close_connection = True
        except Exception:  # noqa: BLE001 - likewise
            _log.exception("invocation of %s", clip(endpoint))
            self.close_connection = True
            if not sent:
                self._error(ApiError("InternalFailure", "The local job service failed; see its log.", 500), "Message")

    def _model_error(self, endpoint: str, fault: ModelFault) -> None:
        if fault.status == 0:
            self.close_connection = True  # part of the request's body may still be unread
        body = {
            "ErrorCode": "CLIENT_ERROR_FROM_MODEL" if 400 <= fault.status < 500 else "INTERNAL_FAILURE_FROM_MODEL",
            "LogStreamArn": f"/aws/sagemaker/Endpoints/{endpoint}",
            "Message": fault.message,
            "OriginalMessage": fault.original,
            "OriginalStatusCode": fault.status,
        }
        self._json(424, body, {"x-amzn-ErrorType": "ModelError"})

    def _length(self) -> int | None:
        text = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not text.isdecimal():
            self.close_connection = True
            self._error(ApiError("MissingContentLength", "A valid Content-Length header is required", 411))
            return None
        return int(text)

    def _skip(self, length: int) -> None:
        """Read and drop a body, so that the caller gets to read the answer. Far too long ones are cut off instead."""
        if length > _SKIP_LIMIT:
            self.close_connection = True
            return
        while length and (piece := self.rfile.read(min(length, CHUNK))):
            length -= len(piece)

    def _json(self, status: int, value: dict[str, Any] | None, headers: dict[str, str] | None = None) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self._head(status, {"Content-Type": "application/x-amz-json-1.1", **(headers or {})}, len(body))
        self.wfile.write(body)

    def _error(self, error: ApiError, key: str = "message") -> None:
        body = {"__type": error.code, key: error.message}
        self._json(error.status, body, {"x-amzn-ErrorType": error.code})

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests at debug level only: a poller would fill the log."""
        _log.debug(format, *args)

    def handle(self) -> None:
        """A caller that hangs up is no error."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", "The request's body is not JSON") from error
    if not isinstance(value, dict):
        raise ApiError("SerializationException", "The request's body is not a JSON object")
    return value
