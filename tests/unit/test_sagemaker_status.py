"""Every status SageMaker knows is one that we know, and its reasons become codes and messages."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest

from ekiden.adapters import sagemaker_status as status
from ekiden.domain.model import Failure
from ekiden.domain.transitions import JobStatus
from ekiden.runtime import container

MODEL = botocore.session.get_session().get_service_model("sagemaker")
MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def enum(shape: str) -> list[str]:
    return list(MODEL.shape_for(shape).enum)  # type: ignore[attr-defined]


JOB_ENUMS = ("ProcessingJobStatus", "TrainingJobStatus", "HyperParameterTuningJobStatus", "TransformJobStatus")
ENDING = {"Completed", "Failed", "Stopped", "DeleteFailed"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in JOB_ENUMS for value in enum(name)])
def test_every_job_status_is_mapped_and_those_that_are_no_end_count_as_running(name: str, value: str) -> None:
    assert (status.JOB_STATUS[value] is not JobStatus.RUNNING) == (value in ENDING), name


@pytest.mark.parametrize("value", ["InProgress", "Completed", "Failed", "Stopping", "Stopped", "Creating", "InService"])
def test_neptune_mls_statuses_mean_what_sagemakers_of_the_same_name_mean(value: str) -> None:
    """Its API has no enumeration (plain strings); these are the values that are documented or seen."""
    assert value in status.JOB_STATUS | status.ENDPOINT_STATUS


SECONDARY_UNDERWAY = {
    *("Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack", "DownloadingTrainingImage"),
    *("Downloading", "Training", "Uploading", "Updating", "Restarting", "Stopping", "Interrupted"),
}
"""``Interrupted`` is a spot interruption: the job goes on, or its primary status says that it does not."""


@pytest.mark.parametrize("value", enum("SecondaryStatus"))
def test_every_secondary_status_is_one_that_somebody_has_thought_of(value: str) -> None:
    assert value in SECONDARY_UNDERWAY | status.TIME_WAS_UP | {"Completed", "Failed", "Stopped"}
    stopped = status.of_training({"TrainingJobStatus": "Stopped", "SecondaryStatus": value})
    assert stopped.status is (JobStatus.TIMED_OUT if value in status.TIME_WAS_UP else JobStatus.STOPPED)


def test_a_service_that_runs_jobs_for_us_brings_its_statuses_along() -> None:
    """Batch and Neptune have job statuses too. Whoever lets the Lambdas talk to them adds a table, and a test here."""
    clients = set(re.findall(r'_client\("([a-z-]+)"\)|boto3\.client\("([a-z-]+)"', inspect.getsource(container)))
    services = {name for pair in clients for name in pair if name}
    assert services & {"batch", "neptunedata", "neptune", "emr", "glue", "stepfunctions"} == set()
    assert "sagemaker" in services


@pytest.mark.parametrize("value", enum("EndpointStatus"))
def test_every_endpoint_status_is_mapped_and_has_a_next_step(value: str) -> None:
    assert value in status.ENDPOINT_STATUS
    answer = {"EndpointStatus": value, "EndpointConfigName": "other"}
    expected = {"InService": "update", "Failed": "delete"}.get(value, "wait")
    assert status.next_step(answer, "mine") == expected


def test_the_tables_hold_nothing_that_sagemaker_does_not_know() -> None:
    assert set(status.JOB_STATUS) == {value for name in JOB_ENUMS for value in enum(name)}
    assert set(status.ENDPOINT_STATUS) == set(enum("EndpointStatus"))
    assert set(enum("EndpointStatus")) >= status.SERVES
    assert set(enum("SecondaryStatus")) >= status.TIME_WAS_UP | SECONDARY_UNDERWAY


@pytest.mark.parametrize("value", ["Paused", "", "COMPLETED"])
def test_a_status_nobody_knows_counts_as_running(value: str) -> None:
    assert status.of_processing({"ProcessingJobStatus": value}).status is JobStatus.RUNNING
    assert status.of_training({"TrainingJobStatus": value}).status is JobStatus.RUNNING


def test_times_are_taken_over() -> None:
    answer = {"TrainingJobStatus": "Completed", "TrainingStartTime": MOMENT, "TrainingEndTime": MOMENT}
    report = status.of_training(answer)
    assert (report.status, report.started_at, report.ended_at) == (JobStatus.SUCCEEDED, MOMENT, MOMENT)
    assert status.of_training({"TrainingJobStatus": "InProgress"}).started_at is None


def test_a_training_job_that_ran_too_long_timed_out() -> None:
    answer = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}
    assert status.of_training(answer).status is JobStatus.TIMED_OUT
    stopping = {"TrainingJobStatus": "Stopping", "SecondaryStatus": "MaxRuntimeExceeded"}
    assert status.of_training(stopping).status is JobStatus.RUNNING


def test_a_processing_job_that_ran_too_long_timed_out() -> None:
    reason = "MaxRuntimeExceeded: the job ran longer than StoppingCondition.MaxRuntimeInSeconds (60 s)"
    report = status.of_processing({"ProcessingJobStatus": "Stopped", "FailureReason": reason})
    assert report.status is JobStatus.TIMED_OUT
    assert report.failure is not None
    assert report.failure.message.endswith("(60 s)")


def test_a_job_that_was_stopped_is_told_from_one_that_failed() -> None:
    assert status.of_processing({"ProcessingJobStatus": "Stopped"}).status is JobStatus.STOPPED
    crashed = {"ProcessingJobStatus": "Stopped", "FailureReason": "ClientError: out of disk"}
    assert status.of_processing(crashed).status is JobStatus.FAILED


REASONS: list[tuple[str | None, str | None, Failure | None, bool]] = [
    (
        "AlgorithmError: EMPTY_GRAPH: there are no edges, exit code: 65",
        None,
        Failure("EMPTY_GRAPH", "there are no edges"),
        False,
    ),
    ("AlgorithmError: OUT_OF_SPACE: disk full, exit code: 75", None, Failure("OUT_OF_SPACE", "disk full"), True),
    ("AlgorithmError: , exit code: 75", "OUT_OF_SPACE: disk full", Failure("OUT_OF_SPACE", "disk full"), True),
    (
        "AlgorithmError: See job logs, exit code: 65",
        'NOT_A_NUMBER: edges/a.csv:7 "good"',
        Failure("NOT_A_NUMBER", 'edges/a.csv:7 "good"'),
        False,
    ),
    (
        "AlgorithmError: , exit code: 139",
        None,
        Failure("ALGORITHM_ERROR", "the container ended with exit code 139 and gave no reason"),
        False,
    ),
    (
        "AlgorithmError: , exit code: 137",
        None,
        Failure("CONTAINER_KILLED", "the container was killed (exit code 137), as happens when its memory runs out"),
        True,
    ),
    (
        "AlgorithmError: WARNING: epoch 3, exit code: 143",
        None,
        Failure(
            "CONTAINER_KILLED",
            "the container was killed (exit code 143), as happens when its memory runs out; "
            "its last words: WARNING: epoch 3",
        ),
        True,
    ),
    ("exit code: 75", None, Failure("JOB_FAILED", "the container ended with exit code 75 and gave no reason"), True),
    (
        "AlgorithmError: Traceback: KeyError: 'x', exit code: 1",
        None,
        Failure("ALGORITHM_ERROR", "Traceback: KeyError: 'x'"),
        False,
    ),
    ("AlgorithmError: two\nlines, exit code: 1", None, Failure("ALGORITHM_ERROR", "two\nlines"), False),
    ("ClientError: no such bucket", None, Failure("CLIENT_ERROR", "no such bucket"), False),
    (
        "InternalServerError: We encountered an internal error. Please try again.",
        None,
        Failure("INTERNAL_SERVER_ERROR", "We encountered an internal error. Please try again."),
        True,
    ),
    ("CapacityError: no ml.m5.xlarge", None, Failure("CAPACITY_ERROR", "no ml.m5.xlarge"), True),
    ("something else", None, Failure("JOB_FAILED", "something else"), False),
    (None, None, None, False),
]


@pytest.mark.parametrize(("reason", "message", "failure", "transient"), REASONS)
def test_a_failure_reason_becomes_code_message_and_whether_to_try_again(
    reason: str | None, message: str | None, failure: Failure | None, transient: bool
) -> None:
    answer: dict[str, Any] = {"ProcessingJobStatus": "Failed"}
    answer |= {"FailureReason": reason} if reason else {}
    answer |= {"ExitMessage": message} if message else {}

    report = status.of_processing(answer)

    assert (report.status, report.failure, report.transient) == (JobStatus.FAILED, failure, transient)
    if message is None:
        training = status.of_training({**answer, "TrainingJobStatus": "Failed"})
        assert (training.failure, training.transient) == (failure, transient)


def test_a_job_that_succeeded_has_no_failure_whatever_it_said() -> None:
    report = status.of_processing({"ProcessingJobStatus": "Completed", "ExitMessage": "all good, exit code: 75"})
    assert (report.failure, report.transient) == (None, False)


def endpoint(value: str, config: str = "mine", **more: Any) -> dict[str, Any]:
    return {"EndpointStatus": value, "EndpointConfigName": config, "LastModifiedTime": MOMENT, **more}


PENDING = {"PendingDeploymentSummary": {"EndpointConfigName": "mine"}}


@pytest.mark.parametrize(
    ("answer", "not_begun", "expected"),
    [
        (endpoint("Creating"), True, JobStatus.RUNNING),
        (endpoint("Updating", "old", **PENDING), True, JobStatus.RUNNING),
        (endpoint("Updating", "old"), True, None),
        (endpoint("Updating", "old"), False, JobStatus.RUNNING),
        (endpoint("InService"), True, JobStatus.SUCCEEDED),
        (endpoint("InService"), False, JobStatus.SUCCEEDED),
        (endpoint("InService", "old"), True, None),
        (endpoint("InService", "old"), False, JobStatus.FAILED),
        (endpoint("Failed"), False, JobStatus.FAILED),
        (endpoint("Failed", "old"), True, None),
        (endpoint("OutOfService"), False, JobStatus.FAILED),
        (endpoint("UpdateRollbackFailed", "old"), False, JobStatus.FAILED),
        (endpoint("RollingBack"), False, JobStatus.RUNNING),
        (endpoint("Deleting"), False, JobStatus.RUNNING),
    ],
)
def test_an_endpoint_succeeds_with_the_attempts_own_configuration_only(
    answer: dict[str, Any], not_begun: bool, expected: JobStatus | None
) -> None:
    report = status.of_endpoint(answer, config="mine", not_begun=not_begun)
    assert (report.status if report else None) == expected


def test_a_failed_endpoint_says_why() -> None:
    report = status.of_endpoint(endpoint("Failed", FailureReason="no ping"), config="mine", not_begun=False)
    assert report is not None
    assert report.failure == Failure("ENDPOINT_FAILED", "no ping")
    other = status.of_endpoint(endpoint("InService", "old"), config="mine", not_begun=False)
    assert other is not None
    assert other.failure == Failure("ENDPOINT_FAILED", "endpoint is InService with old")


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        (endpoint("InService"), "adopt"),
        (endpoint("Creating"), "adopt"),
        (endpoint("Updating", "old", **PENDING), "adopt"),
        (endpoint("Failed"), "adopt"),
        (endpoint("Failed", "old"), "delete"),
        (endpoint("InService", "old"), "update"),
        (endpoint("Updating", "old"), "wait"),
        (endpoint("Deleting"), "wait"),
    ],
)
def test_the_next_step_follows_from_what_is_there(answer: dict[str, Any], step: str) -> None:
    assert status.next_step(answer, "mine") == step


def test_an_endpoint_answers_while_it_is_updated() -> None:
    assert status.serves(endpoint("Updating"))
    assert not status.serves(endpoint("Creating"))
