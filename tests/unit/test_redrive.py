"""Redrive: parked messages get back to where they came from, at least once, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from ekiden.application.redrive import HIDDEN_SECONDS, Redrive, ToBus, ToQueue, WayBack
from ekiden.contracts.api import QueueRedriven, RedriveReport
from ekiden.contracts.events import PairsRange, ScorePairs
from ekiden.domain.model import Stage
from ekiden.errors import DependencyUnavailable, NotFound
from ekiden.ports import OutboxItem, ParkedMessage, StreamSpan
from tests.fakes import NOW, FakeBus, FakeClock, FakeMessages, World
from tests.fakes.events import bus_event
from tests.fakes.faults import Crash, Faults, io

EARLIER = NOW - timedelta(hours=1)
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/ledger/stream/2026-11-20T00:00:00.000"
SHARD = "shardId-00000001573689847184-864758bb"


@dataclass
class Letter:
    """What lies in a dead-letter queue."""

    message_id: str
    body: str
    parked_at: datetime
    hidden_until: datetime
    receipt: str = ""


class FakeDeadLetters:
    """Implements ``ports.DeadLetterQueue``. ``seconds_a_take`` is how long one takes."""

    def __init__(self, clock: FakeClock, faults: Faults | None = None, seconds_a_take: float = 0.0) -> None:
        self.faults = faults or Faults()
        self.letters: list[Letter] = []
        self.taken: list[str] = []
        self._clock, self._seconds = clock, seconds_a_take
        self._ids, self._receipts = count(), count()

    def park(self, *bodies: str, at: datetime | None = None) -> None:
        """Somebody parks messages."""
        for body in bodies:
            name = f"message-{next(self._ids)}"
            self.letters.append(Letter(name, body, at or self._clock.now(), self._clock.now()))

    def visible(self) -> list[Letter]:
        """Those that can be taken."""
        return [letter for letter in self.letters if letter.hidden_until <= self._clock.now()]

    @io
    def waiting(self) -> int:
        """See ``ports.DeadLetterQueue.waiting``."""
        return len(self.visible())

    @io
    def take(self, *, seconds: int, wait: int) -> list[ParkedMessage]:
        """See ``ports.DeadLetterQueue.take``."""
        self._clock.advance(seconds=self._seconds)
        found = self.visible()[:10]
        for letter in found:
            letter.hidden_until = self._clock.now() + timedelta(seconds=seconds)
            letter.receipt = f"receipt-{next(self._receipts)}"
            self.taken.append(letter.message_id)
        return [ParkedMessage(x.message_id, x.receipt, x.parked_at, x.body) for x in found]

    @io
    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.DeadLetterQueue.hide``."""
        for letter in self.letters:
            if letter.receipt in receipts:
                letter.hidden_until = self._clock.now() + timedelta(seconds=seconds)

    @io
    def delete(self, receipts: Sequence[str]) -> None:
        """See ``ports.DeadLetterQueue.delete``."""
        self.letters = [letter for letter in self.letters if letter.receipt not in receipts]


@dataclass
class FakeStream:
    """Implements ``ports.LedgerStream``: events by the first sequence number of their stretch."""

    faults: Faults = field(default_factory=Faults)
    kept: dict[str, list[OutboxItem]] = field(default_factory=dict)

    @io
    def outbox(self, span: StreamSpan) -> list[OutboxItem]:
        """See ``ports.LedgerStream.outbox``."""
        if span.first not in self.kept:
            raise NotFound("the stream keeps its records for 24 hours; these are gone", code="TRIMMED")
        return self.kept[span.first]


class Desk:
    """A world with one dead-letter queue of a work queue, and the stream's."""

    def __init__(self, seconds_a_take: float = 0.0) -> None:
        self.world = World()
        self.clock, faults = self.world.clock, self.world.faults
        self.parked = FakeDeadLetters(self.clock, faults, seconds_a_take)
        self.work = FakeMessages(faults)
        self.given_up = FakeDeadLetters(self.clock, faults)
        self.stream, self.bus = FakeStream(faults), FakeBus(faults)
        ways_back = (
            WayBack("TrainWork", self.parked, ToQueue(self.work)),
            WayBack("LedgerPublish", self.given_up, ToBus(self.stream, self.bus)),
        )
        self.redrive = Redrive(self.world.ledger, self.clock, ways_back)

    def act(
        self, queue: str | None = None, *, before: datetime | None = None, reason: str = "it is mended"
    ) -> RedriveReport:
        """One call."""
        return self.redrive(queue, reason=reason, actor="arn:ada", before=before, seconds=15)

    def of(self, report: RedriveReport, name: str = "TrainWork") -> QueueRedriven:
        """What a report says of a queue."""
        return next(queue for queue in report.queues if queue.queue == name)

    def told(self, run_id: str) -> list[tuple[str, str]]:
        """Actor and text of the redrives in a run's history."""
        lines = self.world.ledger.history(run_id)
        return [(line.actor, line.what) for line in lines if line.what.startswith("redrive")]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def event(run_id: Any = "movielens-20261120-120000-mfrggz") -> str:
    return json.dumps(bus_event("ekiden.ledger", "StageReady", {"meta": {"run_id": run_id}, "data": {}}))


def letter(body: str) -> str:
    error = {"code": "UNKNOWN_RUN", "message": "there is no run x", "faults": []}
    return json.dumps({"error": error, "message_id": "m", "attributes": {}, "body": body})


def command() -> str:
    pairs = PairsRange(bucket="b", key="k", etag="e", start=0, end=9)
    return ScorePairs(request_id="r", endpoint="e", part=0, rows=1, pairs=pairs).model_dump_json()


# What is sent again


@pytest.mark.parametrize(
    ("parked", "sent"),
    [
        pytest.param(letter(event()), event(), id="parked by a function: the body inside"),
        pytest.param(letter("{ not json"), "{ not json", id="parked as malformed: judged again by its reader"),
        pytest.param(event(), event(), id="moved by SQS, or not delivered by EventBridge: as it is"),
        pytest.param(command(), command(), id="a command: as it is"),
    ],
)
def test_a_parked_message_is_sent_as_its_queue_would_have_got_it(desk: Desk, parked: str, sent: str) -> None:
    desk.parked.park(parked, at=EARLIER)

    report = desk.act()

    assert desk.work.bodies == [sent]
    assert desk.parked.letters == []
    assert desk.of(report).model_dump() == {
        "queue": "TrainWork",
        "redriven": 1,
        "kept": 0,
        "later": 0,
        "remaining": 0,
        "reasons": [],
    }


@pytest.mark.parametrize("body", ["", "hello", "[]", "null", "{}", '{"error": {}, "body": "x"}', "\x00", "9" * 5000])
def test_what_is_no_message_of_ours_stays_and_is_there_again_at_once(desk: Desk, body: str) -> None:
    desk.parked.park(body, event(), body, at=EARLIER)

    found = desk.of(desk.act())

    assert (found.redriven, found.kept, found.remaining) == (1, 2, 0)
    assert found.reasons[0] == "message-0: it is no message of Ekiden: neither an event nor a command"
    assert [x.body for x in desk.parked.visible()] == [body, body]
    assert desk.work.bodies == [event()]


def test_only_a_few_reasons_are_given(desk: Desk) -> None:
    desk.parked.park(*["hello"] * 30, at=EARLIER)
    found = desk.of(desk.act())
    assert (found.kept, len(found.reasons)) == (30, 5)


def test_a_queue_goes_by_its_name_in_any_case_and_by_its_dead_letter_queues(desk: Desk) -> None:
    for name in ("TrainWork", "trainwork", "TrainWorkDlq"):
        desk.parked.park(event(), at=EARLIER)
        assert [queue.queue for queue in desk.act(name).queues] == ["TrainWork"]
    assert len(desk.work) == 3
    with pytest.raises(NotFound, match="no queue 'Nope'; one of TrainWork, LedgerPublish") as error:
        desk.act("Nope")
    assert error.value.code == "UNKNOWN_QUEUE"


# At least once


def test_a_crash_after_the_sending_sends_again_and_loses_nothing(desk: Desk) -> None:
    desk.parked.park(event(), letter(command()), at=EARLIER)
    desk.world.faults.after["FakeMessages.send"] = Crash()

    with pytest.raises(Crash):
        desk.act()
    assert desk.of(desk.act()).redriven == 0, "they are hidden, for a while"
    desk.clock.advance(seconds=HIDDEN_SECONDS)

    assert desk.of(desk.act()).redriven == 2
    assert desk.work.bodies == [event(), command()] * 2
    assert desk.parked.letters == []


@pytest.mark.parametrize("call", ["InMemoryLedger.note", "FakeMessages.send"])
def test_nothing_is_deleted_that_was_not_sent(desk: Desk, call: str) -> None:
    run_id = desk.world.submit()
    desk.parked.park(event(run_id), at=EARLIER)
    for error in (DependencyUnavailable("down"), Crash()):
        desk.world.faults.before[call] = error
        with pytest.raises(type(error)):
            desk.act()
        assert len(desk.parked.letters) == 1
        assert len(desk.work) == 0
        desk.clock.advance(seconds=HIDDEN_SECONDS)
    assert desk.of(desk.act()).redriven == 1


def test_giving_back_what_stays_is_not_worth_an_error(desk: Desk) -> None:
    desk.parked.park("hello", event(), at=EARLIER)
    desk.world.faults.before["FakeDeadLetters.hide"] = DependencyUnavailable("down")

    assert desk.of(desk.act()).redriven == 1
    desk.clock.advance(seconds=HIDDEN_SECONDS)
    assert len(desk.parked.visible()) == 1


# No ball game


def test_what_is_parked_again_meanwhile_is_left_for_the_next_redrive(desk: Desk) -> None:
    # GIVEN a reader that parks whatever it is sent, at once
    desk.parked.park(*[letter("{")] * 25, at=EARLIER)
    send = desk.work.send

    def parks_it_again(bodies: Sequence[str]) -> None:
        send(bodies)
        desk.parked.park(*map(letter, bodies))

    desk.work.send = parks_it_again  # type: ignore[method-assign]

    # WHEN they are redriven, THEN each is sent once; those parked again stay, and are there at once
    report = desk.act("TrainWork")
    assert desk.of(report).model_dump(include={"redriven", "later", "remaining"}) == {
        "redriven": 25,
        "later": 25,
        "remaining": 0,
    }
    assert len(desk.work) == 25
    assert len(desk.parked.visible()) == 25

    # AND a later call of the same act leaves them too, another act does not
    desk.clock.advance(minutes=1)
    assert desk.of(desk.act("TrainWork", before=report.before)).redriven == 0
    assert desk.of(desk.act("TrainWork")).redriven == 25


def test_a_call_sees_no_message_twice(desk: Desk) -> None:
    desk = Desk(seconds_a_take=1)
    desk.parked.park(*["hello"] * 100, at=EARLIER)
    desk.act("TrainWork")
    assert len(desk.parked.taken) == len(set(desk.parked.taken)) == 100


def test_an_act_begins_when_it_is_asked_for_and_not_in_the_future(desk: Desk) -> None:
    assert desk.act(before=NOW + timedelta(days=1)).before == NOW
    assert desk.act(before=EARLIER).before == EARLIER


# Bounded by time


def test_a_call_ends_in_time_and_the_next_one_goes_on(desk: Desk) -> None:
    # GIVEN more than a call has time for: 15 s at 1 s for ten
    desk = Desk(seconds_a_take=1)
    bodies = [event(f"run-{number}") for number in range(400)]
    desk.parked.park(*bodies, at=EARLIER)
    desk.given_up.park("hello", at=EARLIER)

    # WHEN the caller calls until nothing remains
    reports = [desk.act()]
    assert desk.clock.now() <= NOW + timedelta(seconds=16)
    while any(queue.remaining for queue in reports[-1].queues):
        reports.append(desk.act(before=reports[0].before))

    # THEN each message was sent once
    assert [desk.of(report).redriven for report in reports] == [150, 150, 100]
    assert [desk.of(report).remaining for report in reports] == [250, 100, 0]
    assert [desk.of(report, "LedgerPublish").remaining for report in reports] == [1, 1, 0]
    assert desk.work.bodies == bodies


# Who, what and why


def test_the_runs_history_tells_once_who_redrove_what_and_why(desk: Desk) -> None:
    run_id, other = desk.world.submit(), desk.world.submit(name="other")
    desk.parked.park(letter(event(run_id)), event(run_id), at=EARLIER)

    report = desk.act(reason="the role is mended")
    desk.parked.park(event(run_id), at=EARLIER)
    desk.act(reason="the role is mended", before=report.before)

    said = "redrive of TrainWork: 'StageReady', parked for 'UNKNOWN_RUN', sent to its queue again: the role is mended"
    assert desk.told(run_id) == [("arn:ada", said)]
    assert desk.told(other) == []

    desk.clock.advance(minutes=5)
    desk.parked.park(event(run_id), at=EARLIER)
    desk.act(reason="")
    assert desk.told(run_id)[1:] == [("arn:ada", "redrive of TrainWork: 'StageReady' sent to its queue again")]


@pytest.mark.parametrize("run_id", ["nobody-20261120-120000-mfrggz", None, 7, {}, "", "x" * 3000, "RUN#x", "ä"])
def test_a_message_that_names_no_run_is_redriven_without_a_line(desk: Desk, run_id: Any) -> None:
    desk.parked.park(event(run_id), at=EARLIER)
    assert desk.of(desk.act()).redriven == 1
    assert len(desk.world.ledger) == 0


def test_the_line_is_written_before_the_message_is_sent(desk: Desk) -> None:
    run_id = desk.world.submit()
    desk.parked.park(event(run_id), at=EARLIER)
    desk.world.faults.before["FakeMessages.send"] = Crash()
    with pytest.raises(Crash):
        desk.act()
    assert len(desk.told(run_id)) == 1


# The stream's


def failure(first: str = "100", **changes: Any) -> str:
    batch = {
        "shardId": SHARD,
        "startSequenceNumber": first,
        "endSequenceNumber": "300",
        "streamArn": ARN,
        "batchSize": 2,
    }
    return json.dumps(
        {"requestContext": {"condition": "RetryAttemptsExhausted"}, "DDBStreamBatchInfo": batch | changes}
    )


def test_events_that_could_not_be_published_are_read_from_the_stream_and_published(desk: Desk) -> None:
    run_id = desk.world.submit()
    desk.stream.kept["100"] = list(desk.world.ledger.outbox)
    desk.given_up.park(failure(), at=EARLIER)

    found = desk.of(desk.act(), "LedgerPublish")

    assert (found.redriven, found.kept) == (1, 0)
    assert [item.detail_type for item in desk.bus.published] == ["RunSubmitted", "StageReady"]
    said = "redrive of LedgerPublish: events of the ledger published again: it is mended"
    assert desk.told(run_id) == [("arn:ada", said)]
    assert desk.world.run(run_id).stage(Stage.EXPORT).attempt == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (failure("7"), "the stream keeps its records for 24 hours; these are gone"),
        ("hello", "it is no record of a stream batch that Lambda gave up"),
        (event(), "it is no record of a stream batch that Lambda gave up"),
        (failure("1' OR"), "it is no record of a stream batch that Lambda gave up"),
        (failure(shardId="x"), "it is no record of a stream batch that Lambda gave up"),
    ],
)
def test_positions_whose_records_are_gone_are_kept_and_said_so(desk: Desk, body: str, why: str) -> None:
    desk.given_up.park(body, at=EARLIER)

    found = desk.of(desk.act(), "LedgerPublish")

    assert (found.redriven, found.kept, found.reasons) == (0, 1, [f"message-0: {why}"])
    assert len(desk.given_up.visible()) == 1
    assert len(desk.bus) == 0


def test_a_stream_that_does_not_answer_costs_no_position(desk: Desk) -> None:
    desk.given_up.park(failure(), at=EARLIER)
    desk.world.faults.before["FakeStream.outbox"] = DependencyUnavailable("throttled")
    with pytest.raises(DependencyUnavailable):
        desk.act()
    assert len(desk.given_up.letters) == 1
