"""R1-R3: a queue behind every rule, dead letters everywhere, partial batches, nothing deleted unseen."""

from __future__ import annotations

import json

import pytest

from tests.infrastructure.stack import Resource, Stack, as_list, text, transformed

STACK: Stack = transformed()
FED = {
    source: (mapping, function)
    for mapping, function, source in STACK.mappings()
    if STACK.resources[source].type == "AWS::SQS::Queue"
}
QUEUES = STACK.of_type("AWS::SQS::Queue")
RULES = STACK.of_type("AWS::Events::Rule")
STREAM_MAPPINGS = [m for m, _, source in STACK.mappings() if STACK.resources[source].type == "AWS::DynamoDB::Table"]


def dead_letters_of(queue: Resource) -> str:
    return str(queue.properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0])


def test_every_queue_is_work_or_dead_letters() -> None:
    dead = {dead_letters_of(STACK.resources[queue]) for queue in FED} | {"LedgerPublishDlq"}
    assert {q.id for q in QUEUES} == set(FED) | dead
    assert len(dead) == len(FED) + 1, "every queue has dead letters of its own"


@pytest.mark.parametrize("queue", FED)
def test_a_message_stays_hidden_six_times_as_long_as_the_function_may_take(queue: str) -> None:
    _, function = FED[queue]
    assert STACK.resources[queue].properties["VisibilityTimeout"] == 6 * function.properties["Timeout"]


@pytest.mark.parametrize("queue", FED)
def test_a_message_is_parked_after_five_receives_and_outlives_the_queue(queue: str) -> None:
    work = STACK.resources[queue]
    dead = STACK.resources[dead_letters_of(work)]
    assert work.properties["RedrivePolicy"]["maxReceiveCount"] == 5
    assert dead.properties["MessageRetentionPeriod"] == 14 * 86400
    assert dead.properties["MessageRetentionPeriod"] > work.properties["MessageRetentionPeriod"]


@pytest.mark.parametrize("queue", [q.id for q in QUEUES])
def test_a_queue_is_encrypted(queue: str) -> None:
    assert STACK.resources[queue].properties["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("queue", FED)
def test_a_mapping_reports_single_failures_is_bounded_and_filters_nothing(queue: str) -> None:
    mapping, _ = FED[queue]
    assert mapping.properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping.properties["ScalingConfig"]["MaximumConcurrency"]
    # A filter on a queue deletes what does not match: an unknown message must be parked, not lost.
    assert "FilterCriteria" not in mapping.properties


def test_score_workers_are_as_many_as_the_parameter_says() -> None:
    mapping, _ = FED["Scores"]
    assert mapping.properties["BatchSize"] == 10
    chosen = mapping.properties["ScalingConfig"]["MaximumConcurrency"]
    assert chosen == {"Fn::FindInMap": ["ScoreWorkers", {"Ref": "ScoreConcurrency"}, "Number"]}
    allowed = STACK.document["Parameters"]["ScoreConcurrency"]["AllowedValues"]
    workers = STACK.document["Mappings"]["ScoreWorkers"]
    assert {value: workers[value]["Number"] for value in allowed} == {value: int(value) for value in workers}


@pytest.mark.parametrize("rule", [r.id for r in RULES])
def test_a_rule_leads_to_a_queue_and_its_failures_to_dead_letters(rule: str) -> None:
    (target,) = STACK.resources[rule].properties["Targets"]
    queue = target["Arn"]["Fn::GetAtt"][0]
    assert queue in FED
    assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] == dead_letters_of(STACK.resources[queue])
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    # With a role on an SQS target, delivery to an encrypted queue can fail.
    assert "RoleArn" not in target


def test_a_queue_accepts_messages_from_its_own_rules_and_account_only() -> None:
    # GIVEN which rules lead to which queue
    leading: dict[str, set[str]] = {}
    for rule in RULES:
        leading.setdefault(rule.properties["Targets"][0]["Arn"]["Fn::GetAtt"][0], set()).add(rule.id)
    # WHEN the queue policies are read
    allowed: dict[str, set[str]] = {}
    for policy in STACK.of_type("AWS::SQS::QueuePolicy"):
        (statement,) = policy.properties["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Action"] == "sqs:SendMessage"
        assert text(statement["Condition"]["StringEquals"]) == "{aws:SourceAccount: ${AWS::AccountId}}"
        queue, dead = (ref["Ref"] for ref in policy.properties["Queues"])
        assert dead == dead_letters_of(STACK.resources[queue])
        assert text(statement["Resource"]) == f"[${{{queue}.Arn}}, ${{{dead}.Arn}}]"
        sources = as_list(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        allowed[queue] = {source["Fn::GetAtt"][0] for source in sources}
    # THEN they agree, and the score queue, which no rule feeds, has none.
    assert allowed == leading
    assert set(FED) - set(allowed) == {"Scores"}


@pytest.mark.parametrize("stage", ["export", "process", "train", "deploy"])
def test_a_stage_that_is_ready_wakes_exactly_one_queue(stage: str) -> None:
    woken = [r for r in RULES if r.properties["EventPattern"].get("detail", {}).get("data", {}).get("stage") == [stage]]
    assert [r.properties["EventPattern"]["source"] for r in woken] == [["ekiden.ledger"]]
    assert woken[0].properties["EventPattern"]["detail-type"] == ["StageReady"]
    assert woken[0].properties["EventBusName"] == {"Ref": "EventBus"}


def test_job_events_come_from_the_sources_of_the_parameter() -> None:
    rule = STACK.resources["JobEventsRule"]
    assert rule.properties["EventPattern"]["source"] == {"Ref": "JobEventSources"}
    assert "EventBusName" not in rule.properties, "AWS services publish to the default bus"
    assert STACK.document["Parameters"]["JobEventSources"]["Default"] == "aws.sagemaker,aws.batch"


@pytest.mark.parametrize(("rule", "prefix"), [("SpecUploadsRule", "specs/"), ("PairsUploadsRule", "pairs/")])
def test_uploads_wake_by_prefix_of_our_bucket_only(rule: str, prefix: str) -> None:
    detail = STACK.resources[rule].properties["EventPattern"]["detail"]
    assert detail == {"bucket": {"name": [{"Ref": "DataBucket"}]}, "object": {"key": [{"prefix": prefix}]}}


def test_the_ledgers_stream_lets_only_the_outbox_through_and_never_blocks_for_good() -> None:
    (mapping,) = STREAM_MAPPINGS
    (pattern,) = mapping.properties["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"sk": {"S": [{"prefix": "OUTBOX#"}]}}},
    }
    assert mapping.properties["StartingPosition"] == "TRIM_HORIZON"
    assert mapping.properties["BisectBatchOnFunctionError"] is True
    assert 0 < mapping.properties["MaximumRetryAttempts"] <= 100
    assert 0 < mapping.properties["MaximumRecordAgeInSeconds"] < 86400, "a stream keeps its records for a day"
    assert mapping.properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert text(mapping.properties["DestinationConfig"]["OnFailure"]["Destination"]) == "${LedgerPublishDlq.Arn}"


def test_the_reconciler_sweeps_every_minute_and_is_never_queued_up() -> None:
    (schedule,) = STACK.of_type("AWS::Scheduler::Schedule")
    assert schedule.properties["ScheduleExpression"] == "rate(1 minute)"
    assert text(schedule.properties["Target"]["Arn"]) == "${ReconcileJobs.Arn}"
    assert schedule.properties["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    (invoke,) = STACK.of_type("AWS::Lambda::EventInvokeConfig")
    assert invoke.properties["MaximumRetryAttempts"] == 0
