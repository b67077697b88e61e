"""The shipped handlers with their real DynamoDB, S3, SQS, EventBridge and CloudWatch adapters, on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from ekiden.adapters.aws_io import EventBridgeBus, S3Objects, SqsMessages
from ekiden.adapters.cloudwatch_logs import CloudWatchJobLogs
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.adapters.dynamodb_scores import DynamoDBScoreLedger
from ekiden.application.plans import Deployed
from ekiden.contracts.events import EVENTS, DetailType
from ekiden.domain.model import Failure, JobKind, RunStatus, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.errors import ContractViolation
from ekiden.runtime.container import Container
from tests.fakes import FakeClock, World
from tests.fakes.aws import Aws
from tests.fakes.events import SAMPLE_SPEC, bus_event, failed, http_event, sqs_event
from tests.fakes.io import rate_by_length

NOTHING = failed()


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws(None)


class MotoWorld(World):
    """The world with its storage on moto; jobs and endpoints stay fakes."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.table = aws.ledger_table()
        self.bucket = aws.bucket()
        self.queue = aws.queue()
        super().__init__(
            ledger=DynamoDBLedger(self.table),
            score_ledger=DynamoDBScoreLedger(self.table, FakeClock()),
            objects=S3Objects(aws.client("s3")),
            score_queue=SqsMessages(aws.client("sqs"), self.queue),
            bus=EventBridgeBus(aws.client("events"), "default"),
            logs=CloudWatchJobLogs(aws.client("logs")),
            deployed=Deployed(self.bucket),
        )

    def get(self, route: str, **path: str) -> dict[str, Any]:
        """Answer of ``show_status``."""
        reply = self.call("show_status", http_event(route, path=path))
        assert reply["statusCode"] == 200, reply["body"]
        answer: dict[str, Any] = json.loads(reply["body"])
        return answer

    def outbox(self, key: str) -> list[dict[str, Any]]:
        """The partition's outbox items."""
        return self.table.partition(key, "OUTBOX#")


@pytest.fixture
def world(aws: Aws) -> MotoWorld:
    return MotoWorld(aws)


def test_from_a_posted_spec_to_scores(world: MotoWorld) -> None:
    # GIVEN a posted spec
    reply = world.call("submit_run", http_event("POST /runs", {"spec": SAMPLE_SPEC, "request_id": "r1"}))
    assert reply["statusCode"] == 202
    run_id = json.loads(reply["body"])["run_id"]

    # WHEN every stage's job is started, succeeds, and is told of (twice)
    for stage in Stage:
        world.succeed(run_id, stage)
        world.job_event(world.job(run_id, stage), kind="Training" if stage is Stage.TRAIN else "Processing")
    trained = world.jobs.job(world.job(run_id, Stage.TRAIN))
    key = f"runs/{run_id}/train/1/{trained.name}/output/model/evaluation.json"
    world.aws.client("s3").put_object(Bucket=world.bucket, Key=key, Body=b'{"rmse": 0.9}')

    # THEN the run is over, shown, and was told of event by event
    shown = world.get("GET /runs/{run_id}", run_id=run_id)
    assert (shown["status"], shown["evaluation"], shown["error"]) == ("SUCCEEDED", {"rmse": 0.9}, None)
    told = [(item["detail_type"], json.loads(item["detail"])) for item in world.outbox(f"RUN#{run_id}")]
    assert [kind for kind, _ in told] == [
        "RunSubmitted",
        "StageReady",
        *["StageSucceeded", "StageReady"] * 3,
        "StageSucceeded",
        "RunSucceeded",
    ]
    for kind, detail in told:
        EVENTS[DetailType(kind)].model_validate(detail)
    assert len(world.jobs.created) == len(set(world.jobs.created)) == 4

    # AND its endpoint scores
    world.endpoints.models["movielens"] = rate_by_length
    body = {"endpoint": "movielens", "pairs": [["u1", "m1"], ["new", "m2"]], "request_id": "s1"}
    assert world.call("enqueue_scores", http_event("POST /scores", body))["statusCode"] == 202
    (requested,) = world.outbox("SCORE#s1")
    event = bus_event("ekiden.ledger", requested["detail_type"], json.loads(requested["detail"]))
    assert world.call("enqueue_scores", sqs_event(event, event)) == NOTHING
    messages = world.aws.client("sqs").receive_message(QueueUrl=world.queue, MaxNumberOfMessages=10)["Messages"]
    assert world.call("score_pairs", sqs_event(*[m["Body"] for m in messages] * 2)) == NOTHING
    scores = world.get("GET /scores/{request_id}", request_id="s1")
    assert (scores["status"], scores["pairs"]) == (
        "COMPLETED",
        {"total": 2, "scored": 1, "fallback": 1, "invalid": 0},
    )
    result = world.aws.client("s3").get_object(Bucket=world.bucket, Key="scores/s1/results/part-000000.csv")
    assert result["Body"].read() == b"source,target,score,status\nu1,m1,5,scored\nnew,m2,6,fallback_source\n"


def test_a_failed_job_shows_the_end_of_its_log(world: MotoWorld) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    write_log(world.aws, "/aws/sagemaker/TrainingJobs", f"{name}/algo-1-1", [f"epoch {n}\n" for n in range(30)])
    world.jobs.end(name, JobStatus.FAILED, Failure("DIVERGED", "loss is not a number"))

    assert world.job_event(name, status="Failed") == NOTHING

    shown = world.get("GET /runs/{run_id}", run_id=run_id)
    assert shown["status"] == "FAILED"
    assert shown["error"] == {
        "stage": "train",
        "code": "DIVERGED",
        "message": "loss is not a number",
        "log_tail": [f"epoch {n}" for n in range(10, 30)],
    }
    page = world.get("GET /runs/{run_id}/logs", run_id=run_id)
    assert page["lines"] == []


def test_the_reconciler_finds_its_work_through_the_index(world: MotoWorld) -> None:
    run_id = world.submit()
    world.clock.advance(seconds=61)
    assert world.call("reconcile_jobs", {})["moved"] == 1
    world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)
    world.clock.advance(seconds=61)
    assert world.call("reconcile_jobs", {})["moved"] == 1
    assert world.run(run_id).stage(Stage.PROCESS).status == "STARTING"
    world.clock.advance(seconds=61)
    assert world.call("reconcile_jobs", {})["moved"] == 1
    world.clock.advance(minutes=31)
    swept = {"live": 1, "looked_at": 1, "moved": 0, "postponed": 0, "troubles": ()}
    assert world.call("reconcile_jobs", {}) == swept
    assert world.call("reconcile_jobs", {}) == swept | {"looked_at": 0}, "who was looked at waits for a later sweep"


def test_the_stream_record_of_an_outbox_item_becomes_an_event(world: MotoWorld) -> None:
    run_id = world.submit()
    client, events = world.aws.client("sqs"), world.aws.client("events")
    arn = client.get_queue_attributes(QueueUrl=world.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventPattern='{"source": ["ekiden.ledger"], "detail-type": ["StageReady"]}')
    events.put_targets(Rule="all", Targets=[{"Id": "all", "Arn": arn}])
    key = {"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": "OUTBOX#000000#1"}}
    image = world.aws.client("dynamodb").get_item(TableName=world.table.name, Key=key)["Item"]

    record = {"eventName": "INSERT", "dynamodb": {"Keys": key, "NewImage": image}}
    assert world.call("publish_ledger", {"Records": [record]}) == NOTHING

    (message,) = client.receive_message(QueueUrl=world.queue)["Messages"]
    assert world.call("export_graph", sqs_event(message["Body"])) == NOTHING
    assert world.run(run_id).stage(Stage.EXPORT).status == "RUNNING"


def write_log(aws: Aws, group: str, stream: str, lines: list[str]) -> None:
    logs = aws.client("logs")
    known = [found["logGroupName"] for found in logs.describe_log_groups()["logGroups"]]
    if group not in known:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now = 1_795_176_000_000
    events = [{"timestamp": now + n, "message": line} for n, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def test_logs_are_read_stream_by_stream_to_the_end(aws: Aws) -> None:
    group = "/aws/sagemaker/ProcessingJobs"
    write_log(aws, group, "abc-export-1/algo-1-1", [f"one {n}" for n in range(25)])
    write_log(aws, group, "abc-export-1/algo-2-1", ["two"])
    write_log(aws, group, "other-export-1/algo-1-1", ["not ours"])
    logs = CloudWatchJobLogs(aws.client("logs"))

    seen: list[str] = []
    token: str | None = None
    for _ in range(20):
        page, token = logs.read(JobKind.PROCESSING, "abc-export-1", 10, token)
        seen += [line.message for line in page]
        if token is None:
            break

    assert token is None
    assert seen == [*(f"one {n}" for n in range(25)), "two"]
    assert [line.message for line in logs.tail(JobKind.PROCESSING, "other-export-1", 5)] == ["not ours"]


def test_a_tuning_jobs_log_is_that_of_all_its_training_jobs_and_of_no_others(aws: Aws) -> None:
    group = "/aws/sagemaker/TrainingJobs"
    for number in range(1, 61):  # more than CloudWatch names in one answer
        write_log(aws, group, f"abc-train-1-{number:03d}-0123abcd/algo-1-1", [f"trial {number}"])
    write_log(aws, group, "abc-train-10-001-0123abcd/algo-1-1", ["another attempt's"])
    logs = CloudWatchJobLogs(aws.client("logs"))

    seen: list[str] = []
    token: str | None = None
    for _ in range(70):
        page, token = logs.read(JobKind.TUNING, "abc-train-1", 10, token)
        seen += [line.message for line in page]
        if token is None:
            break

    assert seen == [f"trial {number}" for number in range(1, 61)]
    assert len(logs.tail(JobKind.TUNING, "abc-train-1", 5)) == 1


@pytest.mark.parametrize("token", ["x|y", "|", "-1|", "٣|", "9999999|"])
def test_a_log_token_that_is_none_of_ours_is_refused(aws: Aws, token: str) -> None:
    with pytest.raises(ContractViolation, match="next_token"):
        CloudWatchJobLogs(aws.client("logs")).read(JobKind.PROCESSING, "abc", 10, token)


def test_a_function_wires_itself_from_its_environment(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    table, bucket = aws.ledger_table(), aws.bucket()
    environment = {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "LEDGER_TABLE": table.name,
        "DATA_BUCKET": bucket,
        "DEAD_LETTER_QUEUE_URL": aws.queue(),
        "SCORE_QUEUE_URL": aws.queue(),
        "EVENT_BUS_NAME": "default",
        "ENGINE_IMAGE_URI": "image",
        "JOB_ROLE_ARN": "arn",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parts = Container()

    run_id = parts.submit_run(SAMPLE_SPEC, request_id=None, actor="test")

    assert parts.show_status.run(run_id).status is RunStatus.RUNNING
    for name in ("start_stage", "reconcile_jobs", "accept_scores", "split_scores", "score_parts", "consumer", "bus"):
        assert getattr(parts, name) is not None
