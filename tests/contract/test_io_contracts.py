"""What every ``ports.Objects``, ``ports.Messages`` and ``ports.EventBus`` keeps."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest

from ekiden.adapters.aws_io import EventBridgeBus, S3Objects, SqsMessages
from ekiden.errors import ContractViolation, NotFound, Permanent
from ekiden.ports import EventBus, Messages, Objects, OutboxItem
from tests.fakes import FakeBus, FakeMessages, FakeObjects
from tests.fakes.aws import Aws


@pytest.fixture
def objects(aws: Aws | None) -> Objects:
    return FakeObjects() if aws is None else S3Objects(aws.client("s3"))


@pytest.fixture
def bucket(aws: Aws | None) -> str:
    return "bucket" if aws is None else aws.bucket()


def test_an_object_that_is_not_there_is_none(objects: Objects, bucket: str) -> None:
    assert objects.get(bucket, "a/none.csv", limit=10) is None
    assert objects.head(bucket, "a/none.csv") is None
    with pytest.raises(NotFound):
        objects.read_range(bucket, "a/none.csv", '"e"', 0, 10)
    with pytest.raises(NotFound):
        list(objects.chunks(bucket, "a/none.csv", '"e"', 0))


def test_an_object_is_read_as_it_was_written(objects: Objects, bucket: str) -> None:
    stored = objects.put(bucket, "a/b c+ü.csv", b"source,target\n", "text/csv")

    assert objects.get(bucket, "a/b c+ü.csv", limit=14) == b"source,target\n"
    assert objects.head(bucket, "a/b c+ü.csv") == stored
    assert stored.size == 14


def test_a_large_object_is_not_read(objects: Objects, bucket: str) -> None:
    objects.put(bucket, "large", b"x" * 1001, "text/csv")
    with pytest.raises(ContractViolation, match="1,001 bytes"):
        objects.get(bucket, "large", limit=1000)


def test_an_empty_object_is_empty_and_has_no_range(objects: Objects, bucket: str) -> None:
    objects.put(bucket, "empty", b"", "text/csv")

    assert objects.get(bucket, "empty", limit=10) == b""
    found = objects.head(bucket, "empty")
    assert found is not None
    assert found.size == 0
    with pytest.raises(Permanent):
        objects.read_range(bucket, "empty", found.etag, 0, 10)


def test_a_range_ends_before_its_end_and_with_the_object(objects: Objects, bucket: str) -> None:
    etag = objects.put(bucket, "digits", b"0123456789", "text/plain").etag

    assert objects.read_range(bucket, "digits", etag, 0, 1) == b"0"
    assert objects.read_range(bucket, "digits", etag, 3, 6) == b"345"
    assert objects.read_range(bucket, "digits", etag, 8, 999) == b"89"
    with pytest.raises(Permanent):
        objects.read_range(bucket, "digits", etag, 10, 11)


def test_an_object_that_was_replaced_is_not_read_in_place_of_the_first(objects: Objects, bucket: str) -> None:
    first = objects.put(bucket, "pairs", b"first", "text/csv")
    again = objects.put(bucket, "pairs", b"first", "text/csv")
    assert objects.read_range(bucket, "pairs", first.etag, 0, 99) == b"first"
    assert again == first

    objects.put(bucket, "pairs", b"second", "text/csv")

    with pytest.raises(ContractViolation, match="replaced"):
        objects.read_range(bucket, "pairs", first.etag, 0, 99)
    with pytest.raises(ContractViolation, match="replaced"):
        list(objects.chunks(bucket, "pairs", first.etag, 2))


def test_chunks_are_the_object_from_a_place_on(objects: Objects, bucket: str) -> None:
    body = b"0123456789" * 150_000
    etag = objects.put(bucket, "many", body, "text/csv").etag

    pieces = list(objects.chunks(bucket, "many", etag, 7))

    assert b"".join(pieces) == body[7:]
    assert max(map(len, pieces)) <= 1 << 20


def test_what_is_created_is_created_once(objects: Objects, bucket: str) -> None:
    assert objects.create(bucket, "results/part-000000.csv", b"first", "text/csv")
    assert not objects.create(bucket, "results/part-000000.csv", b"second", "text/csv")
    assert objects.get(bucket, "results/part-000000.csv", limit=99) == b"first"


@pytest.fixture
def queue(aws: Aws | None) -> tuple[Messages, Callable[[], list[str]]]:
    if aws is None:
        fake = FakeMessages()
        return fake, lambda: list(fake.bodies)
    client, url = aws.client("sqs"), aws.queue()

    def receive() -> list[str]:
        bodies: list[str] = []
        while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in found]
        return bodies

    return SqsMessages(client, url), receive


@pytest.mark.parametrize("count", [0, 1, 10, 23])
def test_every_message_is_sent(queue: tuple[Messages, Callable[[], list[str]]], count: int) -> None:
    messages, receive = queue
    bodies = [json.dumps({"part": number}) for number in range(count)]

    messages.send(bodies)

    assert sorted(receive()) == sorted(bodies)


@pytest.fixture
def bus(aws: Aws | None) -> tuple[EventBus, Callable[[int], list[tuple[str, str]]]]:
    if aws is None:
        fake = FakeBus()
        return fake, lambda count: [(item.detail_type, item.detail) for item in fake.published]
    name = f"bus-{uuid.uuid4().hex[:8]}"
    events, sqs, url = aws.client("events"), aws.client("sqs"), aws.queue()
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name=name)
    events.put_rule(Name=f"{name}-all", EventBusName=name, EventPattern='{"source": ["ekiden.ledger"]}')
    events.put_targets(Rule=f"{name}-all", EventBusName=name, Targets=[{"Id": "all", "Arn": arn}])

    def receive(count: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while len(found) < count:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5)
            if "Messages" not in answer:
                break
            for message in answer["Messages"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                found.append((event["detail-type"], json.dumps(event["detail"])))
        return found

    return EventBridgeBus(events, name), receive


def test_every_event_is_published_with_our_source(
    bus: tuple[EventBus, Callable[[int], list[tuple[str, str]]]],
) -> None:
    port, receive = bus
    items = [OutboxItem("StageReady", json.dumps({"meta": {}, "data": {"attempt": n}})) for n in range(12)]

    port.publish([])
    port.publish(items)

    assert sorted(receive(12)) == sorted((item.detail_type, item.detail) for item in items)
