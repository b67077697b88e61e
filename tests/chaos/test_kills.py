"""Workers die at any moment; no run is lost, no job is started twice, every run ends, and nothing is left running."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.storm import Settings, Storm
from tests.chaos.victims import PROC, Kind

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.skipif(not (PROC / "self/schedstat").exists(), reason="finds its victims by /proc"),
]

# The queues hand a killed worker's messages out again after 6 s instead of 180, and the reconciler is called every 2 s
# besides its schedule: the remedies are those that ship, they only come sooner.
SHORT = Settings(kills=50, seed=6, runners=3, scorers=1, pace=0.35, patience=120.0, visibility={"": 6}, sweep=2.0)


def test_fifty_kills_lose_no_run_and_start_nothing_twice(tmp_path: Path) -> None:
    # GIVEN users who run pipelines and score pairs, WHEN fifty of the processes that work for them are killed
    report = Storm(SHORT, tmp_path).run()
    # THEN
    assert report.violations == []
    assert sum(report.kills.values()) == SHORT.kills
    assert {Kind.WORKER, Kind.SERVICE, Kind.CLI} <= set(report.kills)
    assert report.cut_off > 0, "some of the workers were killed at work"
    assert report.verdict.runs >= SHORT.runners
