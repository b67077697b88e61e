"""G7: a thousand cancels at random times, in any weather. Two sweeps later nothing of those runs is running."""

from __future__ import annotations

from tests.simulation.figures import cancels
from tests.simulation.runner import retell

CANCELS = 1_000


def test_a_thousand_cancels_leave_no_job_running() -> None:
    # That no job of a cancelled run runs on after two sweeps is one of the invariants of every sweep.
    taken, failing = cancels(CANCELS)
    assert taken >= CANCELS
    assert not failing, retell(failing[0])
