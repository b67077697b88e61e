"""InvokeEndpoint: the body goes through in pieces, to the endpoint's process and back, never whole in memory."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Protocol

from .connections import CHUNK
from .errors import ApiError
from .serving import Server

BODY_LIMIT = 6_291_456
"""Bytes, of request and response alike (the sagemaker-runtime model)."""

_MESSAGE_LIMIT = 4096
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_PASSED_ON = ("Content-Type", "Accept", _ATTRIBUTES, "X-Amzn-SageMaker-Inference-Id")


class ModelFault(Exception):
    """The model answered with an error, or not at all (`status` 0): ModelError, HTTP 424."""

    def __init__(self, status: int, original: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.original = original
        self.message = message


class Source(Protocol):
    """Where the request's body comes from: a buffered reader of the socket."""

    def readinto1(self, buffer: memoryview, /) -> int:
        """Read what is there, at most the buffer's length."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One invocation: `begin(status, headers, length)` starts the answer, `write` sends a piece of it."""

    headers: Message
    length: int
    body: Source
    begin: Callable[[int, dict[str, str], int], None]
    write: Callable[[memoryview], object]


def invoke(find: Callable[[], Server | None], exchange: Exchange, endpoint: str) -> None:
    """Pass an invocation to the endpoint's process and its answer back. Raises ModelFault and ApiError.

    `find` gives the server that is in service now. It is asked a second time where the first one's process cannot
    be reached, for an update may just have replaced it: nothing of the body has been read by then.
    """
    for _ in range(2):
        server = find()
        connections = server.connections if server is not None else None
        if server is None or connections is None:
            continue
        try:
            with connections.borrow() as connection:
                _pass_through(connection, exchange, server.deployment["variant"]["VariantName"], endpoint)
                return
        except ConnectionRefusedError:
            continue
    raise ApiError("ServiceUnavailable", f"Endpoint {endpoint} is restarting its serving process. Try again.", 503)


def _pass_through(connection: http.client.HTTPConnection, exchange: Exchange, variant: str, endpoint: str) -> None:
    buffer = memoryview(bytearray(min(CHUNK, max(exchange.length, 16 * 1024))))
    try:
        answer = _ask(connection, exchange, buffer)
    except TimeoutError as error:
        text = (
            "Your invocation timed out while waiting for a response from container primary. Review the latency "
            "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
        )
        raise ModelFault(0, text, f'Received server error (0) from primary with message "{text}"') from error
    except (ConnectionError, http.client.HTTPException) as error:
        if isinstance(error, ConnectionRefusedError | _ClientGone):
            raise
        text = f"The container closed the connection ({type(error).__name__})"
        raise ModelFault(0, text, f'Received server error (0) from primary with message "{text}"') from error
    if not 200 <= answer.status < 300:
        original = answer.read(_MESSAGE_LIMIT).decode(errors="replace")
        _finish_reading(answer, connection)
        side = "client" if 400 <= answer.status < 500 else "server"
        raise ModelFault(
            answer.status,
            original,
            f'Received {side} error ({answer.status}) from primary with message "{original}". '
            f"See the log group /aws/sagemaker/Endpoints/{endpoint} for more information.",
        )
    length = answer.length
    whole = b""
    if length is None:  # chunked, or until the connection's end: the length is only known afterwards
        whole = answer.read(BODY_LIMIT + 1)
        length = len(whole)
    if length > BODY_LIMIT:
        connection.close()
        text = f"The model's response is longer than {BODY_LIMIT} bytes"
        raise ModelFault(answer.status, text, f'Received server error (0) from primary with message "{text}"')
    headers = {name: value for name in ("Content-Type", _ATTRIBUTES) if (value := answer.headers.get(name))}
    exchange.begin(200, {**headers, "x-Amzn-Invoked-Production-Variant": variant}, length)
    if whole:
        exchange.write(memoryview(whole))
    else:
        while length and (count := answer.readinto(buffer)):
            exchange.write(buffer[:count])
            length -= count
        if length:
            raise _ClientGone("the model's answer ended early")
    _finish_reading(answer, connection)


def _ask(connection: http.client.HTTPConnection, exchange: Exchange, buffer: memoryview) -> http.client.HTTPResponse:
    connection.putrequest("POST", "/invocations", skip_accept_encoding=True)
    for name in _PASSED_ON:
        value = exchange.headers.get(name)
        if value is not None:
            connection.putheader(name, value)
    connection.putheader("Content-Length", str(exchange.length))
    connection.endheaders()
    left = exchange.length
    while left:
        count = exchange.body.readinto1(buffer[: min(left, len(buffer))])
        if not count:
            raise _ClientGone("the caller closed the connection within its request")
        left -= count
        try:
            connection.send(buffer[:count])
        except BrokenPipeError:
            # The model answered early, e.g. refused the body; its answer is still there to be read.
            _skip(exchange.body, left, buffer)
            break
    return connection.getresponse()


def _finish_reading(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
    """Leave the connection ready for the next request, or close it."""
    if (not answer.isclosed() and answer.read(1)) or answer.will_close:
        connection.close()


def _skip(body: Source, left: int, buffer: memoryview) -> None:
    while left and (count := body.readinto1(buffer[: min(left, len(buffer))])):
        left -= count


class _ClientGone(ConnectionError):
    """One of the two ends vanished in mid-message: nobody is left to answer."""
