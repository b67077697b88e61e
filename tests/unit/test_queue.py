"""The consumer: what becomes of a message follows from what it ended with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ekiden.contracts.events import Envelope, PairsRange, ScorePairs
from ekiden.errors import (
    AlreadyDone,
    Conflict,
    ContractViolation,
    DependencyUnavailable,
    LostRace,
    NotFound,
    NotReadyYet,
    Permanent,
    StageRejected,
)
from ekiden.runtime.queue import QueueConsumer, one_of
from tests.fakes import FakeMessages
from tests.fakes.events import bus_event, failed, sqs_event
from tests.fakes.faults import Crash

EVENT = bus_event("ekiden.ledger", "StageReady", {"data": {}})
NOTHING = failed()


@pytest.fixture
def dead_letters() -> FakeMessages:
    return FakeMessages()


@pytest.fixture
def consumer(dead_letters: FakeMessages) -> QueueConsumer:
    return QueueConsumer(dead_letters)


def ends_with(*errors: BaseException | None) -> Callable[[Envelope], None]:
    """Handles one message after the other, each with its own end."""
    ends = iter(errors)

    def handle(envelope: Envelope) -> None:
        error = next(ends)
        if error is not None:
            raise error

    return handle


def test_a_handled_message_is_deleted(consumer: QueueConsumer, dead_letters: FakeMessages) -> None:
    seen: list[Envelope] = []
    assert consumer.each_event(sqs_event(EVENT, EVENT), seen.append) == NOTHING
    assert [envelope.detail_type for envelope in seen] == ["StageReady", "StageReady"]
    assert len(dead_letters) == 0


def test_a_duplicate_is_acknowledged(consumer: QueueConsumer, dead_letters: FakeMessages) -> None:
    assert consumer.each_event(sqs_event(EVENT), ends_with(AlreadyDone("before"))) == NOTHING
    assert len(dead_letters) == 0


@pytest.mark.parametrize(
    "error",
    [
        Permanent("no", code="NO"),
        ContractViolation("no", code="NO", faults=(("data.stage", "is missing"),)),
        NotFound("no", code="NO"),
        Conflict("no", code="NO"),
        StageRejected("no", code="NO"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_permanent_error_parks_the_message_with_its_reason_and_acknowledges_it(
    consumer: QueueConsumer, dead_letters: FakeMessages, error: Permanent
) -> None:
    assert consumer.each_event(sqs_event(EVENT), ends_with(error)) == NOTHING

    (parked,) = [json.loads(body) for body in dead_letters.bodies]
    assert parked["error"]["code"] == "NO"
    assert parked["error"]["message"] == "no"
    assert parked["error"]["faults"] == [list(fault) for fault in getattr(error, "faults", ())]
    assert parked["message_id"] == "message-0"
    assert parked["attributes"]["ApproximateReceiveCount"] == "1"
    assert json.loads(parked["body"]) == EVENT


@pytest.mark.parametrize(
    "error",
    [DependencyUnavailable("no"), NotReadyYet("no"), LostRace("no"), KeyError("bug"), ZeroDivisionError()],
    ids=lambda error: type(error).__name__,
)
def test_a_transient_or_unforeseen_error_gives_the_message_back(
    consumer: QueueConsumer, dead_letters: FakeMessages, error: Exception
) -> None:
    assert consumer.each_event(sqs_event(EVENT), ends_with(error)) == failed(0)
    assert len(dead_letters) == 0


def test_one_message_does_not_fail_the_others(consumer: QueueConsumer, dead_letters: FakeMessages) -> None:
    ends = [None, ValueError("bug"), Permanent("never"), None, LostRace("again"), AlreadyDone("before")]

    answer = consumer.each_event(sqs_event(*[EVENT] * 6), ends_with(*ends))

    assert answer == failed(1, 4)
    assert len(dead_letters) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"source": "x"}',
        '{"source": 1, "detail-type": "x", "detail": []}',
        "\x00",
        "\ud800",
    ],
    ids=ascii,
)
def test_a_malformed_body_is_parked_and_the_others_are_handled(
    consumer: QueueConsumer, dead_letters: FakeMessages, body: str
) -> None:
    seen: list[Envelope] = []

    assert consumer.each_event(sqs_event(body, EVENT), seen.append) == NOTHING

    assert len(seen) == 1
    (parked,) = [json.loads(letter) for letter in dead_letters.bodies]
    assert parked["error"]["code"] == "MALFORMED"
    assert parked["body"] == body
    assert len(parked["error"]["message"]) < 600


def test_a_message_that_cannot_be_parked_is_given_back(consumer: QueueConsumer, dead_letters: FakeMessages) -> None:
    dead_letters.faults.throttled = True
    assert consumer.each_event(sqs_event(EVENT), ends_with(Permanent("never"))) == failed(0)


def test_a_worker_that_dies_acknowledges_nothing(consumer: QueueConsumer) -> None:
    with pytest.raises(Crash):
        consumer.each_event(sqs_event(EVENT), ends_with(Crash()))


def command(part: int = 0) -> dict[str, Any]:
    pairs = PairsRange(bucket="b", key="k", etag="e", start=0, end=9)
    return ScorePairs(request_id="r", endpoint="e", part=part, rows=1, pairs=pairs).model_dump(mode="json")


def test_a_batch_is_handled_at_once_and_its_errors_are_told_apart(
    consumer: QueueConsumer, dead_letters: FakeMessages
) -> None:
    def handle(messages: Mapping[str, ScorePairs]) -> dict[str, BaseException]:
        assert [message.part for message in messages.values()] == [0, 1, 2]
        return {"message-0": LostRace("again"), "message-2": Permanent("never")}

    answer = consumer.batch(sqs_event(command(0), command(1), command(2), "{}"), ScorePairs, handle)

    assert answer == failed(0)
    assert len(dead_letters) == 2


def test_a_handler_that_breaks_gives_all_of_its_batch_back(consumer: QueueConsumer, dead_letters: FakeMessages) -> None:
    def handle(messages: Mapping[str, ScorePairs]) -> dict[str, BaseException]:
        raise RuntimeError("bug")

    answer = consumer.batch(sqs_event(command(0), "{}", command(1)), ScorePairs, handle)

    assert sorted(item["itemIdentifier"] for item in answer["batchItemFailures"]) == ["message-0", "message-2"]
    assert len(dead_letters) == 1


@pytest.mark.parametrize("ends", [[None], [Permanent("x")], [LostRace("x")], [AlreadyDone("x")], [KeyError("x")]])
def test_the_answer_always_is_a_partial_batch_response(consumer: QueueConsumer, ends: list[Exception | None]) -> None:
    answer = consumer.each_event(sqs_event(EVENT), ends_with(*ends))
    assert set(answer) == {"batchItemFailures"}
    assert consumer.each_event({"Records": []}, ends_with()) == NOTHING


@pytest.mark.parametrize("event", [{}, {"Records": None}, {"Records": [{}]}, {"Records": [{"messageId": "1"}]}, EVENT])
def test_what_is_no_sqs_event_is_refused_with_what_to_do(consumer: QueueConsumer, event: dict[str, Any]) -> None:
    with pytest.raises(ContractViolation, match="events/lambda/ has samples") as error:
        consumer.each_event(event, ends_with())
    assert error.value.code == "NOT_AN_SQS_EVENT"


def test_an_event_that_nobody_handles_is_refused() -> None:
    with pytest.raises(ContractViolation, match="'StageReady' is no event for this function") as error:
        one_of({"Object Created": print}, Envelope.model_validate(EVENT))
    assert error.value.code == "UNKNOWN_EVENT"


def test_consumers_ignore_fields_that_a_newer_producer_adds() -> None:
    newer = command() | {"priority": 5}
    newer["pairs"]["checksum"] = "abc"
    assert ScorePairs.model_validate(newer).rows == 1


@pytest.mark.parametrize(("start", "end"), [(5, 5), (5, 4), (-1, 4)])
def test_a_range_holds_something(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"start must lie before end|greater than"):
        PairsRange(bucket="b", key="k", etag="e", start=start, end=end)
