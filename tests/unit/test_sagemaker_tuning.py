"""Tuning jobs: what we ask for, what we make of the answers. Requests are checked against botocore's own model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings, fingerprint_of
from ekiden.adapters.sagemaker_tuning import tuning_request
from ekiden.contracts.hpo_metric import OBJECTIVE_LINE, OBJECTIVE_REGEX
from ekiden.domain import naming
from ekiden.domain.model import Attempt, AttemptStatus, Failure, JobKind, JobRef, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.errors import StageRejected
from ekiden.ports import Job, JobReport, Range, Tuning
from tests.fakes import NOW

RUN = "movielens-20261120-120000-mfrggz"
NAME = naming.job_name(RUN, Stage.TRAIN, 1)
SETTINGS = SageMakerSettings("ekiden-engine:local", "arn:aws:iam::000000000000:role/ekiden-JobRole")
ARN = f"arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/{NAME}"
TUNING = Tuning(
    ranges=(
        Range("lr", "continuous", "0.0005", "0.02", logarithmic=True),
        Range("num-layer", "integer", "1", "3"),
        Range("num-hidden", "categorical", values=("16", "32", "64")),
    ),
    objective="objective",
    maximize=False,
    metrics={"objective": OBJECTIVE_REGEX},
    jobs=20,
    parallel=2,
    max_seconds=7200,
)
TRAINING = Job(
    name=NAME,
    stage=Stage.TRAIN,
    run_id=RUN,
    inputs={"processed": "s3://bucket/p/", "spec": "s3://bucket/s/"},
    instance_type="ml.m5.xlarge",
    max_runtime_seconds=3600,
    output=f"s3://bucket/runs/{RUN}/train/1/",
    environment={"EKIDEN_TIMELINE": "[]"},
    hyperparameters={"seed": "0"},
)
JOB = replace(TRAINING, tuning=TUNING)
ATTEMPT = Attempt(
    stage=Stage.TRAIN,
    number=1,
    job=NAME,
    ref=JobRef(JobKind.TUNING, NAME),
    status=AttemptStatus.RUNNING,
    created_at=NOW,
    deadline=NOW + timedelta(hours=1),
    output=JOB.output,
    next_check_at=NOW,
)
BEST = {
    "TrainingJobName": f"{NAME}-007-0123abcd",
    "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{NAME}-007-0123abcd",
    "TrainingJobStatus": "Completed",
    "CreationTime": NOW,
    "TunedHyperParameters": {"lr": "0.01"},
}


def described(status: str, job: Job = JOB, **more: Any) -> dict[str, Any]:
    request = tuning_request(job, TUNING, SETTINGS)
    return {
        **{name: value for name, value in request.items() if name != "Tags"},
        "HyperParameterTuningJobArn": ARN,
        "HyperParameterTuningJobStatus": status,
        "CreationTime": NOW,
        "TrainingJobStatusCounters": {"Completed": 7},
        "ObjectiveStatusCounters": {"Succeeded": 7},
        **more,
    }


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client: Any = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def jobs(stub: Stubber) -> SageMakerJobs:
    client: Any = stub.client
    return SageMakerJobs(client, SETTINGS)


def test_the_request_names_what_varies_what_does_not_and_how_long(stub: Stubber, jobs: SageMakerJobs) -> None:
    request = tuning_request(JOB, TUNING, SETTINGS)
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "0.0005", "MaxValue": "0.02", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "num-layer", "MinValue": "1", "MaxValue": "3", "ScalingType": "Linear"}],
        "CategoricalParameterRanges": [{"Name": "num-hidden", "Values": ["16", "32", "64"]}],
    }
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "objective"}
    assert config["ResourceLimits"]["MaxRuntimeInSeconds"] == 7200
    assert definition["StaticHyperParameters"] == {"seed": "0"}
    assert definition["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert definition["OutputDataConfig"]["CompressionType"] == "NONE"
    assert definition["Environment"]["EKIDEN_RUN_ID"] == RUN
    # WHEN it is sent, botocore's model accepts it
    stub.add_response("create_hyper_parameter_tuning_job", {"HyperParameterTuningJobArn": ARN}, request)
    jobs.start(JOB)


def test_our_job_names_are_short_enough_for_tuning_jobs_at_any_attempt() -> None:
    assert len(naming.job_name(RUN, Stage.TRAIN, 99_999)) <= 32


@pytest.mark.parametrize("value", [0.5, 12345.678, 1e-7, -3.25, 0.0])
def test_the_engines_last_line_is_found_by_the_expression_we_give_sagemaker(value: float) -> None:
    found = re.search(OBJECTIVE_REGEX, OBJECTIVE_LINE.format(value=value, metric="rmse"))
    assert found is not None
    assert float(found[1]) == pytest.approx(value, rel=1e-6)


def test_a_name_in_use_is_adopted_if_it_is_the_same_search_and_refused_if_not(
    stub: Stubber, jobs: SageMakerJobs
) -> None:
    stub.add_client_error("create_hyper_parameter_tuning_job", "ResourceInUse", "in use")
    stub.add_response("describe_hyper_parameter_tuning_job", described("InProgress"))
    jobs.start(JOB)
    other = replace(JOB, tuning=replace(TUNING, jobs=21))
    stub.add_client_error("create_hyper_parameter_tuning_job", "ResourceInUse", "in use")
    stub.add_response("describe_hyper_parameter_tuning_job", described("InProgress", other))
    with pytest.raises(StageRejected) as caught:
        jobs.start(JOB)
    assert caught.value.code == "NAME_TAKEN"


def test_jobs_without_tuning_are_told_apart_as_versions_did_that_knew_none() -> None:
    # A job that such a version started is adopted, not refused. Its digest is pinned here.
    assert fingerprint_of(TRAINING) == "df3df928b386e5ba779997495bea2e8dd638e9356505f65e931ed919308ffda1"
    assert fingerprint_of(JOB) != fingerprint_of(TRAINING)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (described("InProgress"), (JobStatus.RUNNING, None)),
        (described("Stopping"), (JobStatus.RUNNING, None)),
        (described("Completed", BestTrainingJob=BEST), (JobStatus.SUCCEEDED, BEST["TrainingJobName"])),
        (described("Stopped"), (JobStatus.STOPPED, None)),
        (described("Stopped", BestTrainingJob=BEST), (JobStatus.STOPPED, None)),
        # the limit was ours: what was found until then counts
        (
            described("Stopped", BestTrainingJob=BEST, ConsumedResources={"RuntimeInSeconds": 7201}),
            (JobStatus.SUCCEEDED, BEST["TrainingJobName"]),
        ),
    ],
)
def test_a_described_search_says_how_it_stands_and_which_model_is_best(
    stub: Stubber, jobs: SageMakerJobs, answer: dict[str, Any], expected: tuple[JobStatus, str | None]
) -> None:
    stub.add_response("describe_hyper_parameter_tuning_job", answer)
    report = jobs.describe(ATTEMPT)
    assert report is not None
    assert (report.status, report.best_job) == expected
    assert report.started_at == NOW


def failed_child(stub: Stubber, reason: str | None) -> None:
    child = {**BEST, "TrainingJobStatus": "Failed"} | ({"FailureReason": reason} if reason else {})
    expected = {
        "HyperParameterTuningJobName": NAME,
        "StatusEquals": "Failed",
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "MaxResults": 1,
    }
    stub.add_response("list_training_jobs_for_hyper_parameter_tuning_job", {"TrainingJobSummaries": [child]}, expected)


@pytest.mark.parametrize(
    ("reason", "failure", "transient"),
    [
        ("AlgorithmError: BAD_GRAPH: no edges, exit code: 65", Failure("BAD_GRAPH", "no edges"), False),
        ("AlgorithmError: STOPPED: spot, exit code: 75", Failure("STOPPED", "spot"), True),
        ("CapacityError: none left", Failure("CAPACITY_ERROR", "none left"), True),
        (None, Failure("TUNING_FAILED", "All training jobs failed."), False),
    ],
)
def test_a_failed_search_gives_the_reason_of_a_training_job_that_failed(
    stub: Stubber, jobs: SageMakerJobs, reason: str | None, failure: Failure, transient: bool
) -> None:
    stub.add_response(
        "describe_hyper_parameter_tuning_job", described("Failed", FailureReason="All training jobs failed.")
    )
    failed_child(stub, reason)
    assert jobs.describe(ATTEMPT) == JobReport(JobStatus.FAILED, failure, transient, started_at=NOW)


def test_a_search_that_completed_without_a_model_has_failed(stub: Stubber, jobs: SageMakerJobs) -> None:
    stub.add_response("describe_hyper_parameter_tuning_job", described("Completed"))
    stub.add_response("list_training_jobs_for_hyper_parameter_tuning_job", {"TrainingJobSummaries": []})
    report = jobs.describe(ATTEMPT)
    assert report is not None
    assert report.failure == Failure("TUNING_FAILED", "no training job of the search gave a model")


def test_another_runs_search_of_that_name_is_not_the_attempts(stub: Stubber, jobs: SageMakerJobs) -> None:
    stub.add_response("describe_hyper_parameter_tuning_job", described("InProgress", replace(JOB, run_id="other")))
    assert jobs.describe(ATTEMPT) is None


def test_the_trials_of_a_search_are_listed_with_what_they_were_given_and_came_to(
    stub: Stubber, jobs: SageMakerJobs
) -> None:
    asked = {"HyperParameterTuningJobName": NAME, "SortBy": "CreationTime", "SortOrder": "Ascending", "MaxResults": 100}
    metric = {"MetricName": "objective", "Value": 0.5}
    done = {**BEST, "FinalHyperParameterTuningJobObjectiveMetric": metric, "TrainingStartTime": NOW}
    call = "list_training_jobs_for_hyper_parameter_tuning_job"
    stub.add_response(call, {"TrainingJobSummaries": [done], "NextToken": "more"}, asked)
    stub.add_response(call, {"TrainingJobSummaries": [BEST]}, {**asked, "NextToken": "more"})
    first, second = jobs.trials(NAME)
    assert (first.job, first.hyperparameters, first.value) == (BEST["TrainingJobName"], {"lr": "0.01"}, 0.5)
    assert (first.started_at, second.value) == (NOW, None)


def test_a_search_is_stopped_and_one_that_is_unknown_or_over_is_left_alone(stub: Stubber, jobs: SageMakerJobs) -> None:
    asked = {"HyperParameterTuningJobName": NAME}
    stub.add_response("stop_hyper_parameter_tuning_job", {}, asked)
    jobs.stop(ATTEMPT.ref)
    stub.add_client_error("stop_hyper_parameter_tuning_job", "ResourceNotFound", "no such job")
    jobs.stop(ATTEMPT.ref)
    stub.add_client_error("stop_hyper_parameter_tuning_job", "ValidationException", "it is in status Completed")
    jobs.stop(ATTEMPT.ref)
