"""What decides whether neighbours are sampled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden_engine import memory
from ekiden_engine.models import fanout
from ekiden_engine.models.fanout import choose_fanout
from tests.engine.model_factories import Recorder


@pytest.mark.parametrize(("available", "chosen"), [(1 << 30, 32), (2 << 30, 0), (None, 0)])
def test_what_does_not_fit_into_memory_is_sampled(
    monkeypatch: pytest.MonkeyPatch, available: int | None, chosen: int
) -> None:
    # GIVEN an estimate of 1 GiB
    monkeypatch.setattr(fanout, "available_bytes", lambda: available)
    progress = Recorder()
    # WHEN nothing is said, THEN memory decides, and the log says why
    assert choose_fanout(None, 1 << 30, progress) == chosen
    assert len(progress.notes) == (1 if chosen else 0)
    # WHEN it is said, THEN that holds
    assert choose_fanout(5, 1 << 30, progress) == 5
    assert choose_fanout(0, 1 << 40, progress) == 0


def test_memory_is_what_machine_and_container_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    monkeypatch.setattr(memory, "MEMINFO", info)
    monkeypatch.setattr(memory, "GROUPS", ((limit, used),))
    assert memory.available_bytes() is None
    info.write_text("MemTotal:  9 kB\nMemAvailable:       100 kB\n")
    assert memory.available_bytes() == 100 << 10
    limit.write_text("max\n")
    assert memory.available_bytes() == 100 << 10
    limit.write_text("5000\n")
    used.write_text("2000\n")
    assert memory.available_bytes() == 3000
