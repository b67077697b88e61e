"""S-1, S-4: one role per function, exact resources, no confused deputy."""

from __future__ import annotations

import pytest

from tests.infrastructure.iam_snapshot import SNAPSHOT, render
from tests.infrastructure.stack import Statement, roles, statements, text, transformed, written

SAGEMAKER = "arn:${AWS::Partition}:sagemaker:${AWS::Region}:${AWS::AccountId}"

# The only statements on "*", each because AWS offers no narrower resource for the action.
ON_EVERYTHING = {
    ("PublishLedgerRole", ("dynamodb:ListStreams",)),
    ("JobRole", ("cloudwatch:PutMetricData",)),
    ("JobRole", ("ecr:GetAuthorizationToken",)),
    (
        "ReconcileJobsRole",
        (
            "sagemaker:ListProcessingJobs",
            "sagemaker:ListTrainingJobs",
            "sagemaker:ListHyperParameterTuningJobs",
            "sagemaker:ListEndpoints",
        ),
    ),
}
# Endpoint names are chosen by users; everything else is named by us, down to the stage.
ENDPOINTS = f"{SAGEMAKER}:endpoint/*"
FUNCTION_ROLES = [f.properties["Role"]["Fn::GetAtt"][0] for f in transformed().of_type("AWS::Lambda::Function")]


def all_statements() -> list[Statement]:
    return [statement for role in roles(transformed()) for statement in statements(role)]


def test_what_roles_may_do_is_what_was_reviewed() -> None:
    # GIVEN the reviewed text; WHEN the template is rendered; THEN they agree.
    assert render() == SNAPSHOT.read_text(encoding="utf-8"), (
        "Permissions changed. Run `python -m tests.infrastructure.iam_snapshot` and review the diff."
    )


def test_every_function_has_a_role_of_its_own() -> None:
    assert len(FUNCTION_ROLES) == 13
    assert len(set(FUNCTION_ROLES)) == 13


def test_sam_adds_no_role_and_no_managed_policy() -> None:
    assert {r.id for r in roles(transformed())} == {r.id for r in roles(written())}
    assert [r.id for r in roles(transformed()) if "ManagedPolicyArns" in r.properties] == []


def test_no_statement_has_a_wildcard_action() -> None:
    assert [s for s in all_statements() for a in s.actions if "*" in a] == []


def test_only_listed_statements_are_on_every_resource() -> None:
    assert {(s.role, s.actions) for s in all_statements() if "*" in s.resources} == ON_EVERYTHING


def test_sagemaker_resources_are_named_by_stage_except_endpoints() -> None:
    on_sagemaker = {r for s in all_statements() for r in s.resources if ":sagemaker:" in r}
    assert on_sagemaker - {ENDPOINTS} == {
        f"{SAGEMAKER}:processing-job/*-export-*",
        f"{SAGEMAKER}:processing-job/*-process-*",
        f"{SAGEMAKER}:training-job/*-train-*",
        f"{SAGEMAKER}:hyper-parameter-tuning-job/*-train-*",
        f"{SAGEMAKER}:model/*-deploy-*",
        f"{SAGEMAKER}:endpoint-config/*-deploy-*",
    }


def test_passing_a_role_is_limited_to_the_job_role_and_to_sagemaker() -> None:
    passing = [s for s in all_statements() if "iam:PassRole" in s.actions]
    assert {s.role for s in passing} == {
        "ExportGraphRole",
        "ProcessDataRole",
        "TrainModelRole",
        "DeployEndpointRole",
        "ReconcileJobsRole",
    }
    for statement in passing:
        assert statement.resources == ("${JobRole.Arn}",)
        assert statement.condition == "{StringEquals: {iam:PassedToService: sagemaker.amazonaws.com}}"


@pytest.mark.parametrize("role", [r.id for r in roles(transformed())])
def test_a_role_is_assumed_by_one_service_and_for_this_account_only(role: str) -> None:
    # Lambda passes no source account when it assumes an execution role; nobody but the account can configure one.
    (trust,) = transformed().resources[role].properties["AssumeRolePolicyDocument"]["Statement"]
    expected = {"JobRole": "sagemaker.amazonaws.com", "ReconcileJobsScheduleRole": "scheduler.amazonaws.com"}
    assert trust["Principal"] == {"Service": expected.get(role, "lambda.amazonaws.com")}
    if role in expected:
        assert text(trust["Condition"]["StringEquals"]) == "{aws:SourceAccount: ${AWS::AccountId}}"


@pytest.mark.parametrize("role", FUNCTION_ROLES)
def test_a_function_writes_its_own_log_and_no_other(role: str) -> None:
    function = next(f for f in transformed().of_type("AWS::Lambda::Function") if role in text(f.properties["Role"]))
    group = function.properties["LoggingConfig"]["LogGroup"]["Ref"]
    writing = [s for s in statements(transformed().resources[role]) if "logs:PutLogEvents" in s.actions]
    assert [s.resources for s in writing] == [(f"${{{group}.Arn}}",)]


def test_nobody_deletes_data_but_a_training_job_its_checkpoints() -> None:
    checkpoints = ("JobRole", ("${DataBucket.Arn}/runs/*/train/checkpoints/*",))
    deleting = {a for s in all_statements() if (s.role, s.resources) != checkpoints for a in s.actions if "Delete" in a}
    assert deleting == {"sqs:DeleteMessage", "sqs:DeleteMessageBatch", "sagemaker:DeleteEndpoint"}


def test_only_the_publisher_and_the_redrive_of_what_it_gave_up_may_publish_events() -> None:
    publishing = {s.role for s in all_statements() if "events:PutEvents" in s.actions}
    assert publishing == {"PublishLedgerRole", "RedriveMessagesRole"}


def test_who_watches_jobs_may_stop_them_and_read_what_they_left() -> None:
    # An attempt that is being stopped is told so by whoever looks at it, until it has stopped.
    watching = {s.role for s in all_statements() if "sagemaker:DescribeTrainingJob" in s.actions}
    watching -= {"TrainModelRole"}
    assert watching == {"RecordJobStateRole", "ReconcileJobsRole", "ChangeRunRole"}
    for role in watching:
        allowed = {a for s in statements(transformed().resources[role]) for a in s.actions}
        stopping = ("StopProcessingJob", "StopTrainingJob", "StopHyperParameterTuningJob", "DeleteEndpoint")
        assert {f"sagemaker:{action}" for action in stopping} <= allowed
        tuning = ("DescribeHyperParameterTuningJob", "ListTrainingJobsForHyperParameterTuningJob")
        assert {f"sagemaker:{action}" for action in tuning} <= allowed
        reading = [s for s in statements(transformed().resources[role]) if "s3:GetObject" in s.actions]
        assert [s.resources for s in reading] == [("${DataBucket.Arn}/runs/*",)]


def test_a_redrive_takes_from_dead_letter_queues_and_sends_to_work_queues() -> None:
    queues = {q.id for q in transformed().of_type("AWS::SQS::Queue")}
    dead = {q for q in queues if q.endswith("Dlq")}
    on_queues = [s for s in statements(transformed().resources["RedriveMessagesRole"]) if "sqs:" in s.actions[0]]
    taking, sending = on_queues
    assert set(taking.resources) == {f"${{{q}.Arn}}" for q in dead}
    assert set(sending.resources) == {f"${{{q}.Arn}}" for q in queues - dead}
    assert sending.actions == ("sqs:SendMessage", "sqs:SendMessageBatch")


def test_a_queue_fed_function_takes_from_its_queue_only() -> None:
    taken = {s.role: s.resources for s in all_statements() if "sqs:ReceiveMessage" in s.actions}
    del taken["RedriveMessagesRole"]
    fed = {
        text(function.properties["Role"])[2:-5]: (f"${{{source}.Arn}}",)
        for _, function, source in transformed().mappings()
        if transformed().resources[source].type == "AWS::SQS::Queue"
    }
    assert taken == fed


def test_lambda_permissions_name_their_caller() -> None:
    for permission in transformed().of_type("AWS::Lambda::Permission"):
        assert permission.properties["SourceAccount"] == {"Ref": "AWS::AccountId"}
        assert "${Api}/$default/" in text(permission.properties["SourceArn"])
