"""Kept-alive connections to a served process."""

from __future__ import annotations

import http.client
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_IDLE = 32
CHUNK = 256 * 1024


class Connections:
    """A pool of HTTP connections to one port of this machine; `timeout` seconds for each wait for the process."""

    def __init__(self, port: int, timeout: float) -> None:
        self._port = port
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._busy = 0
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self) -> Iterator[http.client.HTTPConnection]:
        """A connected connection. It goes back only when the block ends without an error and keeps it open."""
        with self._changed:
            self._busy += 1
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is not None and not _usable(connection):
                connection.close()
                connection = None
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout, blocksize=CHUNK)
                connection.connect()
            yield connection
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        else:
            with self._changed:
                if connection.sock is not None and len(self._idle) < _IDLE:
                    self._idle.append(connection)
                    connection = None
            if connection is not None:
                connection.close()
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def drain(self, timeout: float) -> None:
        """Wait until nothing is borrowed, at most `timeout` seconds; close what is idle."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, max(0.0, deadline - time.monotonic()))
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def _usable(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has left an idle connection open: there is nothing to read on it, not even its end."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)
