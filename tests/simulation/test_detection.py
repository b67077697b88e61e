"""G4: a lost terminal event is repaired within two minutes, with a thousand active runs, at a bounded rate of calls."""

from __future__ import annotations

import pytest

from tests.simulation.detection import ACTIVE, Detection, detect


@pytest.fixture(scope="module")
def detection() -> Detection:
    """A thousand runs at the same time."""
    return detect()


def test_a_thousand_runs_were_under_way_and_events_were_lost(detection: Detection) -> None:
    assert detection.most_active > ACTIVE * 0.9
    assert detection.lost > ACTIVE / 10
    assert not detection.violations


def test_every_end_is_known_within_two_minutes(detection: Detection) -> None:
    assert detection.latest <= 120


def test_less_than_one_list_or_describe_call_is_made_per_second(detection: Detection) -> None:
    assert detection.calls_per_second <= 1


def test_a_run_costs_at_most_ten_describes(detection: Detection) -> None:
    assert detection.describes_per_run <= 10
