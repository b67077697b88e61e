"""Worker processes are shared by the tests of the simulator, and end with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.runner import dismiss


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    dismiss()
