"""The earlier version in a process of its own, and a run to try it with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ekiden.domain.model import Stage
from ekiden.domain.transitions import JobStatus
from tests.upgrade.driving import seed_with
from tests.upgrade.versions import Earlier


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earlier]:
    version = Earlier(tmp_path_factory.mktemp("earlier"))
    yield version
    version.close()


@pytest.fixture(scope="session")
def eventful() -> int:
    """A seed whose run stumbles once and then succeeds."""
    good, bad = JobStatus.SUCCEEDED, JobStatus.FAILED
    return seed_with(
        (Stage.EXPORT, good), (Stage.PROCESS, bad), (Stage.PROCESS, good), (Stage.TRAIN, good), (Stage.DEPLOY, good)
    )
