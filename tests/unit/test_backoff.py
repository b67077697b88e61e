"""What failed for a passing reason comes again: soon after a hiccup, late enough to outlast an outage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ekiden.contracts.events import Envelope
from ekiden.errors import DependencyUnavailable, LostRace, Permanent, PipelineError
from ekiden.runtime.queue import QueueConsumer, backoff
from tests.fakes import FakeMessages, SeededRandomness
from tests.fakes.events import bus_event, failed, sqs_event
from tests.fakes.faults import Faults, io

EVENT = bus_event("ekiden.ledger", "StageReady", {"data": {}})
MAX_RECEIVES = 5


class FakeWorkQueue:
    """Implements ``ports.WorkQueue``: remembers for how long each message was hidden."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.hidden: dict[str, int] = {}

    @io
    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.WorkQueue.hide``."""
        self.hidden |= dict.fromkeys(receipts, seconds)


@pytest.fixture
def work() -> FakeWorkQueue:
    return FakeWorkQueue()


def received(times: int, *, messages: int = 1) -> dict[str, Any]:
    event = sqs_event(*[EVENT] * messages)
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(times)
    return event


def consume(work: FakeWorkQueue, event: dict[str, Any], *errors: PipelineError | Exception | None) -> Any:
    ends = iter(errors)

    def handle(envelope: Envelope) -> None:
        error = next(ends)
        if error is not None:
            raise error

    return QueueConsumer(FakeMessages(), work, SeededRandomness()).each_event(event, handle)


def test_the_delay_is_drawn_evenly_from_a_window_that_moves_out_with_each_receive() -> None:
    for receives, (low, high) in enumerate([(0, 15), (15, 60), (60, 240)], start=1):
        drawn = [backoff(receives, jitter / 1000) for jitter in range(1000)]
        assert (drawn[0], drawn[-1]) == (low, high - 1)
        assert len(set(drawn)) == high - low
    assert backoff(4, 0.5) is backoff(9, 0.5) is None, "after that, when the queue says"


@pytest.mark.parametrize("visibility", [180, 720, 1800])
def test_an_outage_as_long_as_the_visibility_timeout_parks_nothing(visibility: int) -> None:
    waits = [backoff(receives, 0.0) for receives in range(1, MAX_RECEIVES)]
    assert sum(visibility if wait is None else wait for wait in waits) >= visibility


def test_a_passing_failure_comes_again_by_our_own_backoff(work: FakeWorkQueue) -> None:
    answer = consume(work, received(1, messages=2), LostRace("again"), DependencyUnavailable("down"))

    assert answer == failed(0, 1)
    assert set(work.hidden) == {"handle-0", "handle-1"}
    assert all(0 <= seconds < 15 for seconds in work.hidden.values())


def test_later_receives_wait_as_long_as_the_queue_says(work: FakeWorkQueue) -> None:
    assert consume(work, received(4), DependencyUnavailable("down")) == failed(0)
    assert work.hidden == {}


def test_a_bug_waits_as_long_as_the_queue_says_so_that_it_can_be_mended(work: FakeWorkQueue) -> None:
    assert consume(work, received(1), KeyError("bug")) == failed(0)
    assert work.hidden == {}


def test_what_was_handled_or_parked_is_not_hidden(work: FakeWorkQueue) -> None:
    assert consume(work, received(1, messages=2), None, Permanent("never")) == failed()
    assert work.hidden == {}


def test_that_the_time_cannot_be_changed_is_no_reason_to_fail_otherwise(work: FakeWorkQueue) -> None:
    work.faults.before["FakeWorkQueue.hide"] = DependencyUnavailable("SQS is down")
    assert consume(work, received(1, messages=2), LostRace("a"), LostRace("b")) == failed(0, 1)
    assert work.hidden == {}


def test_without_a_work_queue_the_queue_says_when() -> None:
    def handle(envelope: Envelope) -> None:
        raise LostRace("again")

    assert QueueConsumer(FakeMessages()).each_event(received(1), handle) == failed(0)
