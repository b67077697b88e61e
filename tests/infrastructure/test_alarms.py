"""R1, R14: dead letters, stalled work and a silent reconciler are noticed."""

from __future__ import annotations

import pytest

from tests.infrastructure.stack import Resource, transformed

STACK = transformed()
ALARMS = STACK.of_type("AWS::CloudWatch::Alarm")
QUEUES = [q.id for q in STACK.of_type("AWS::SQS::Queue")]
DEAD = [q for q in QUEUES if q.endswith("Dlq")]


def alarms_on(queue: str, metric: str) -> list[Resource]:
    return [
        a
        for a in ALARMS
        if a.properties["MetricName"] == metric
        and a.properties["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    ]


@pytest.mark.parametrize("queue", DEAD)
def test_a_single_dead_letter_raises_an_alarm_and_so_does_an_old_one(queue: str) -> None:
    (depth,) = alarms_on(queue, "ApproximateNumberOfMessagesVisible")
    assert (depth.properties["Threshold"], depth.properties["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    (age,) = alarms_on(queue, "ApproximateAgeOfOldestMessage")
    assert age.properties["Threshold"] < STACK.resources[queue].properties["MessageRetentionPeriod"]


@pytest.mark.parametrize("queue", [q for q in QUEUES if q not in DEAD])
def test_work_that_nobody_takes_raises_an_alarm(queue: str) -> None:
    (age,) = alarms_on(queue, "ApproximateAgeOfOldestMessage")
    assert 0 < age.properties["Threshold"] <= 3600


def test_no_alarm_counts_sent_messages() -> None:
    # Redrive does not increment it: such an alarm would stay silent.
    assert [a.id for a in ALARMS if a.properties["MetricName"] == "NumberOfMessagesSent"] == []


def test_a_reconciler_that_is_silent_or_fails_for_three_minutes_raises_an_alarm() -> None:
    silent, failing = (STACK.resources[i].properties for i in ("ReconcilerSilentAlarm", "ReconcilerFailingAlarm"))
    for alarm in (silent, failing):
        assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "ReconcileJobs"}}]
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 180
    assert (silent["MetricName"], silent["TreatMissingData"]) == ("Invocations", "breaching")
    assert (failing["MetricName"], failing["TreatMissingData"]) == ("Errors", "notBreaching")


@pytest.mark.parametrize("alarm", [a.id for a in ALARMS])
def test_an_alarm_names_its_runbook_and_tells_the_topic(alarm: str) -> None:
    resource = STACK.resources[alarm]
    assert "docs/operations.md, section " in resource.properties["AlarmDescription"]
    assert resource.properties["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"
    assert resource.whole["Condition"] == "WantsAlarms"
