"""What the engine's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets beside the repository (`EKIDEN_SHARED`, else `../shared`); without them the test is skipped."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("EKIDEN_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip("no shared data sets: set EKIDEN_SHARED to the folder that holds data/")
    return folder
