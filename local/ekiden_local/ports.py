"""TCP ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Collection

from .state import CloudError

DEFAULT_PORT = 4566  # the port that AWS emulators share, so existing tools find it
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(wanted: int | None, start: int, taken: Collection[int] = ()) -> int:
    """`wanted` if given and free, else the first free port from `start` on that is not in `taken`.

    Raises CloudError when the wanted port is in use, or when no port is free.
    """
    if wanted is not None:
        if wanted in taken or not is_free(wanted):
            raise CloudError(
                f"Port {wanted} is in use by another program.",
                "Choose another port, or leave it out and the next free one is taken.",
            )
        return wanted
    for port in range(start, min(start + _TRIES, 65536)):
        if port not in taken and is_free(port):
            return port
    raise CloudError(f"No port from {start} to {start + _TRIES - 1} is free.", "Stop some servers, or choose a port.")
