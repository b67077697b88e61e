"""Unit tests reach nothing outside their process: sockets are off."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_sockets(socket_disabled: None) -> None:
    """The plug is pulled for each test."""
