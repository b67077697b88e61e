"""``POST /redrive`` from the handler inwards, on SQS, DynamoDB, its stream and EventBridge as moto has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from ekiden.adapters.aws_io import BATCH_BYTES, EventBridgeBus, SqsMessages
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.adapters.dynamodb_streams import DynamoDBStream
from ekiden.adapters.sqs_queues import SqsDeadLetters, SqsWorkQueue
from ekiden.adapters.system import SystemClock
from ekiden.application.redrive import Redrive, ToBus, ToQueue, WayBack
from ekiden.domain.model import Stage, StageStatus
from ekiden.errors import DependencyUnavailable, NotFound
from ekiden.ports import OutboxItem, StreamSpan
from ekiden.runtime.container import Container
from ekiden.runtime.settings import MisconfiguredFunction, RedriveSettings
from tests.fakes import NOW, FakeBus, FakeMessages, World
from tests.fakes.aws import Aws
from tests.fakes.events import bus_event, http_event, sqs_event
from tests.unit.test_redrive import FakeDeadLetters

ADA = "arn:aws:iam::000000000000:user/ada"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    # moto does not know the hosts of an account's own streams.
    monkeypatch.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")
    with mock_aws():
        yield Aws(None)


class Operated:
    """A world whose ledger, queues, stream and bus are moto's, and whose clock is the machine's."""

    def __init__(self, aws: Aws) -> None:
        self.aws, self.table = aws, aws.ledger_table()
        sqs = aws.client("sqs")
        self.queue, self.parked, self.given_up = aws.queue(), aws.queue(), aws.queue()
        self.dead_letters = SqsDeadLetters(sqs, self.parked)
        bus = EventBridgeBus(aws.client("events"), "default")
        ways_back = (
            WayBack("TrainWork", self.dead_letters, ToQueue(SqsMessages(sqs, self.queue))),
            WayBack(
                "LedgerPublish",
                SqsDeadLetters(sqs, self.given_up),
                ToBus(DynamoDBStream(aws.client("dynamodbstreams")), bus),
            ),
        )
        self.world = World(ledger=DynamoDBLedger(self.table), bus=bus, clock=SystemClock(), ways_back=ways_back)

    def post(self, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Answer to ``POST /redrive``."""
        reply = self.world.call("redrive_messages", http_event("POST /redrive", {} if body is None else body))
        return reply["statusCode"], json.loads(reply["body"])

    def park(self, *bodies: str, queue: str | None = None) -> None:
        """Put messages into a dead-letter queue."""
        SqsMessages(self.aws.client("sqs"), queue or self.parked).send(bodies)

    def bodies(self, queue: str) -> list[str]:
        """Take everything a queue has."""
        found: list[str] = []
        while some := SqsDeadLetters(self.aws.client("sqs"), queue).take(seconds=60, wait=0):
            found += [message.body for message in some]
        return found


@pytest.fixture
def operated(aws: Aws) -> Operated:
    return Operated(aws)


def stage_ready(run_id: str, stage: Stage = Stage.TRAIN) -> str:
    detail = {
        "meta": {
            "event_id": f"RUN#{run_id}/4/1",
            "run_id": run_id,
            "sequence": 4,
            "causation_id": "test",
            "schema_version": 1,
            "occurred_at": NOW.isoformat(),
        },
        "data": {"stage": stage.value, "attempt": 1, "job": "job"},
    }
    return json.dumps(bus_event("ekiden.ledger", "StageReady", detail))


# The handler


def test_parked_messages_are_in_their_queue_again_and_the_run_tells_who_did_it(operated: Operated) -> None:
    run_id = operated.world.submit()
    operated.park(stage_ready(run_id), "hello")

    status, answer = operated.post({"queue": "TrainWork", "reason": "mended"})

    assert status == 200
    (queue,) = answer["queues"]
    assert {name: queue[name] for name in ("redriven", "kept", "later", "remaining")} == {
        "redriven": 1,
        "kept": 1,
        "later": 0,
        "remaining": 0,
    }
    assert operated.bodies(operated.queue) == [stage_ready(run_id)]
    assert operated.bodies(operated.parked) == ["hello"], "it is there again at once"
    entry = operated.world.parts.ledger.history(run_id)[-1]
    assert (entry.actor, entry.what) == (ADA, "redrive of TrainWork: 'StageReady' sent to its queue again: mended")
    reply = operated.world.call("show_status", http_event("GET /runs/{run_id}/history", path={"run_id": run_id}))
    assert [line["what"] for line in json.loads(reply["body"])["history"]] == ["submitted", entry.what]


def test_a_later_call_of_the_act_goes_on_by_its_beginning(operated: Operated) -> None:
    _, first = operated.post()
    operated.park(stage_ready("x"))
    status, answer = operated.post({"before": first["before"]})
    assert (status, answer["before"], answer["queues"][0]["later"]) == (200, first["before"], 1)
    assert operated.post({})[1]["queues"][0]["redriven"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"queue": "Nope"}, 404, "UNKNOWN_QUEUE"),
        ({"queue": ""}, 400, "MALFORMED"),
        ({"reason": "x" * 501}, 400, "MALFORMED"),
        ({"reason": "a\nb"}, 400, "MALFORMED"),
        ({"before": "2026-11-20T12:00:00"}, 400, "MALFORMED"),
        ({"quue": "TrainWork"}, 400, "MALFORMED"),
    ],
)
def test_what_is_no_redrive_is_refused(operated: Operated, body: Any, status: int, code: str) -> None:
    operated.park(stage_ready("x"))
    found, answer = operated.post(body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert operated.bodies(operated.queue) == []


def test_the_ledgers_events_are_published_again_from_their_stretch_of_the_stream(operated: Operated) -> None:
    # GIVEN two runs, and that the publisher gave up the second one's events
    operated.world.submit()
    run_id = operated.world.submit(name="second")
    streams = operated.aws.client("dynamodbstreams")
    described = operated.aws.client("dynamodb").describe_table(TableName=operated.table.name)["Table"]
    arn = described["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    begin = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    records = streams.get_records(ShardIterator=begin)["Records"]
    numbers = [
        record["dynamodb"]["SequenceNumber"]
        for record in records
        if record["dynamodb"]["Keys"]["pk"]["S"] == f"RUN#{run_id}"
    ]
    span = StreamSpan(arn, shard["ShardId"], numbers[0], numbers[-1])

    # WHEN the stretch is read, THEN it has that run's events and no other item
    events = DynamoDBStream(streams).outbox(span)
    assert [item.detail_type for item in events] == ["RunSubmitted", "StageReady"]
    assert {json.loads(item.detail)["meta"]["run_id"] for item in events} == {run_id}

    # AND a redrive publishes them and says so
    batch = {"shardId": span.shard, "startSequenceNumber": span.first, "endSequenceNumber": span.last}
    failure = json.dumps({"version": "1.0", "DDBStreamBatchInfo": batch | {"streamArn": arn, "batchSize": 2}})
    operated.park(failure, queue=operated.given_up)
    assert operated.post({"queue": "LedgerPublish"})[1]["queues"][0]["redriven"] == 1
    assert "redrive of LedgerPublish" in operated.world.parts.ledger.history(run_id)[-1].what


# The adapters


class Pages:
    """A client of DynamoDB Streams that gives these pages, one a call."""

    def __init__(self, *pages: list[int], code: str = "") -> None:
        self.pages, self.code = list(pages), code
        self.asked: list[dict[str, Any]] = []

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, "GetShardIterator")
        return {"ShardIterator": "0"}

    def get_records(self, ShardIterator: str) -> dict[str, Any]:
        page = self.pages[int(ShardIterator)] if int(ShardIterator) < len(self.pages) else []
        return {"Records": [outbox_record(n) for n in page], "NextShardIterator": str(int(ShardIterator) + 1)}


def outbox_record(number: int) -> dict[str, Any]:
    image = {"detail_type": {"S": f"event-{number}"}, "detail": {"S": "{}"}}
    change = "MODIFY" if number % 10 == 7 else "INSERT"
    return {"eventName": change, "dynamodb": {"SequenceNumber": f"{number:021}", "NewImage": image}}


def test_a_stretch_of_the_stream_is_read_over_pages_empty_ones_too_and_not_beyond_its_end() -> None:
    client = Pages([5, 6, 7], [], [], [8, 9], [10, 11], [12])
    events = DynamoDBStream(client).outbox(StreamSpan("arn", "shard", f"{5:021}", f"{10:021}"))
    assert events == [OutboxItem(f"event-{number}", "{}") for number in (5, 6, 8, 9, 10)]
    assert client.asked[0]["ShardIteratorType"] == "AT_SEQUENCE_NUMBER"


def test_a_stretch_that_the_stream_does_not_have_is_not_looked_for_for_ever() -> None:
    with pytest.raises(NotFound, match="does not reach to 99"):
        DynamoDBStream(Pages([5])).outbox(StreamSpan("arn", "shard", "5", "99"))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TrimmedDataAccessException", NotFound),
        ("ResourceNotFoundException", NotFound),
        ("LimitExceededException", DependencyUnavailable),
    ],
)
def test_a_stream_that_refuses_says_whether_it_can_pass(code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        DynamoDBStream(Pages(code=code)).outbox(StreamSpan("arn", "shard", "1", "2"))


def test_dead_letters_are_taken_hidden_given_back_and_deleted(operated: Operated) -> None:
    operated.park(*[f"body-{number}" for number in range(25)])
    letters = operated.dead_letters
    assert letters.waiting() == 25

    taken = [message for _ in range(3) for message in letters.take(seconds=60, wait=0)]
    assert {message.body for message in taken} == {f"body-{number}" for number in range(25)}
    assert abs(taken[0].parked_at - datetime.now(UTC)) < timedelta(seconds=10)
    assert (letters.waiting(), letters.take(seconds=60, wait=0)) == (0, [])

    letters.delete([message.receipt for message in taken[:22]])
    letters.hide([message.receipt for message in taken[22:]], 0)
    again = letters.take(seconds=60, wait=0)
    assert {message.message_id for message in again} == {message.message_id for message in taken[22:]}


def test_a_message_of_a_work_queue_comes_again_when_its_reader_says(operated: Operated) -> None:
    sqs = operated.aws.client("sqs")
    SqsMessages(sqs, operated.queue).send(["a"])
    (message,) = sqs.receive_message(QueueUrl=operated.queue, VisibilityTimeout=600)["Messages"]
    assert operated.bodies(operated.queue) == []

    SqsWorkQueue(sqs, operated.queue).hide([message["ReceiptHandle"]], 0)

    assert operated.bodies(operated.queue) == ["a"]


def test_large_messages_are_sent_in_calls_that_sqs_takes(operated: Operated) -> None:
    bodies = [f"{number}" + "ä" * (BATCH_BYTES // 5) for number in range(10)]
    operated.park(*bodies)
    assert sorted(operated.bodies(operated.parked)) == bodies


def test_a_note_stands_behind_the_transition_it_follows_once_and_by_time(operated: Operated) -> None:
    ledger, run_id = operated.world.parts.ledger, operated.world.submit()
    now = datetime.now(UTC)

    for key, what, minutes in (("b", "first", 1), ("a", "second", 2), ("b", "again", 3)):
        ledger.note(run_id, key=f"redrive-{key}", actor="ada", what=what, at=now + timedelta(minutes=minutes))
    ledger.note("nobody", key="redrive-a", actor="ada", what="x", at=now)
    version = operated.world.run(run_id).version
    operated.world.ready(run_id, Stage.EXPORT)
    ledger.note(run_id, key="redrive-a", actor="ada", what="again", at=now)

    history = ledger.history(run_id)
    assert [line.what for line in history[:-1]] == ["submitted", "first", "second"]
    assert history[-1].what.startswith("export started as")
    assert [line.sequence for line in history] == [version, version, version, version + 1]
    assert operated.world.run(run_id).stage(Stage.EXPORT).status is StageStatus.RUNNING
    assert ledger.load("nobody") is None


def test_a_container_reads_the_ways_back_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"Scores": {"parked": "http://q/d", "work": "http://q/w"}, "LedgerPublish": {"parked": "http://q/l"}}
    monkeypatch.setenv("REDRIVE_QUEUES", json.dumps(urls))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    scores, ledger = Container(bus=FakeBus()).ways_back
    assert (scores.name, type(scores.way), ledger.name, type(ledger.way)) == ("Scores", ToQueue, "LedgerPublish", ToBus)
    monkeypatch.delenv("WORK_QUEUE_URL", raising=False)
    assert Container().work_queue is None
    monkeypatch.setenv("WORK_QUEUE_URL", "http://q/w")
    assert isinstance(Container().work_queue, SqsWorkQueue)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', '{"a": {}}', '{"a": {"parked": 1}}', "{"])
def test_a_map_of_queues_that_is_none_is_a_misconfiguration(text: str) -> None:
    with pytest.raises(MisconfiguredFunction, match="REDRIVE_QUEUES"):
        RedriveSettings(text).ways()


# G9


def test_redriving_ten_thousand_messages_twice_changes_nothing() -> None:
    """G9: whatever was parked, and however often it is delivered, the runs are where they were."""
    # GIVEN 50 runs that went on without the events that were parked: at every stage, and over
    world = World()
    runs = [world.submit(name=f"run-{number}") for number in range(50)]
    for number, run_id in enumerate(runs):
        for stage in list(Stage)[: number % 5]:
            world.succeed(run_id, stage)
    parked, work = FakeDeadLetters(world.clock), FakeMessages()
    bodies = [stage_ready(run_id, Stage.EXPORT) for run_id in runs]
    redrive = Redrive(world.parts.ledger, world.clock, (WayBack("ExportWork", parked, ToQueue(work)),))

    def deliver_all() -> None:
        parked.park(*(bodies * 200)[:10_000])
        world.clock.advance(seconds=1)
        assert redrive(None, reason="", actor=ADA, before=None, seconds=15).queues[0].redriven == 10_000
        for start in range(0, len(work.bodies), 10):
            answer = world.call("export_graph", sqs_event(*work.bodies[start : start + 10]))
            assert answer == {"batchItemFailures": []}
        work.bodies.clear()

    # WHEN all are redriven and delivered; it starts what had not been started
    deliver_all()
    started = sum(world.run(run_id).stage(Stage.EXPORT).status is StageStatus.RUNNING for run_id in runs)
    assert started == 10
    before = {run_id: world.run(run_id) for run_id in runs}
    jobs, moves = list(world.jobs.created), len(world.ledger.transitions)
    assert len(jobs) == len(set(jobs))

    # THEN doing it all again changes nothing but the line that says who did it
    deliver_all()
    assert {run_id: world.run(run_id) for run_id in runs} == before
    assert len(world.ledger.transitions) == moves
    assert world.jobs.created == jobs
    assert [line.actor for line in world.ledger.history(runs[4])].count(ADA) == 2
