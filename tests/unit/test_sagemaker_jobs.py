"""What we say to SageMaker, and what we make of its refusals. Requests are checked against botocore's own model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ekiden.adapters.sagemaker_jobs import MAX_PAGES, TUNING, SageMakerJobs
from ekiden.adapters.sagemaker_requests import (
    SageMakerSettings,
    fingerprint_of,
    model_request,
    processing_request,
    training_request,
)
from ekiden.domain import naming
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.errors import DependencyUnavailable, NotReadyYet, Permanent, StageRejected
from ekiden.ports import Deployment, Job
from tests.fakes import NOW

RUN = "movielens-20261120-120000-mfrggz"
SETTINGS = SageMakerSettings("ekiden-engine:local", "arn:aws:iam::000000000000:role/ekiden-JobRole")
MISSING = "Could not find it"


def job(stage: Stage = Stage.EXPORT, **changes: Any) -> Job:
    plain: dict[str, Any] = {
        "name": naming.job_name(RUN, stage, 1),
        "stage": stage,
        "run_id": RUN,
        "inputs": {"graph": "s3://bucket/graph/", "spec": f"s3://bucket/runs/{RUN}/spec/"},
        "instance_type": "ml.m5.xlarge",
        "max_runtime_seconds": 3600,
        "output": f"s3://bucket/runs/{RUN}/{stage}/1/",
    }
    return Job(**plain | changes)


DEPLOYMENT = Deployment(
    name=naming.job_name(RUN, Stage.DEPLOY, 1),
    run_id=RUN,
    endpoint="movielens",
    model=f"s3://bucket/runs/{RUN}/train/1/job/output/model/",
    instance_type="ml.m5.large",
    instance_count=2,
)


def attempt(stage: Stage, status: AttemptStatus = AttemptStatus.RUNNING) -> Attempt:
    name = naming.job_name(RUN, stage, 1)
    kind = {Stage.DEPLOY: JobKind.ENDPOINT, Stage.TRAIN: JobKind.TRAINING}.get(stage, JobKind.PROCESSING)
    return Attempt(
        stage=stage,
        number=1,
        job=name,
        ref=JobRef(kind, "movielens" if stage is Stage.DEPLOY else name),
        status=status,
        created_at=NOW,
        deadline=NOW + timedelta(hours=1),
        output="",
        next_check_at=NOW,
    )


class Script:
    """What SageMaker answers, call by call."""

    def __init__(self, stub: Stubber) -> None:
        self._stub = stub

    def answers(self, operation: str, **answer: Any) -> Script:
        self._stub.add_response(operation, answer)
        return self

    def expects(self, operation: str, asked: dict[str, Any], **answer: Any) -> Script:
        self._stub.add_response(operation, answer, asked)
        return self

    def refuses(self, operation: str, code: str, message: str = "no") -> Script:
        self._stub.add_client_error(operation, code, message)
        return self


@pytest.fixture
def client() -> Any:
    return boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def says(client: Any) -> Iterator[Script]:
    with Stubber(client) as stub:
        yield Script(stub)
        stub.assert_no_pending_responses()


@pytest.fixture
def jobs(client: Any) -> SageMakerJobs:
    return SageMakerJobs(client, SETTINGS)


def processing(job: Job, status: str = "InProgress", **changes: Any) -> dict[str, Any]:
    request = processing_request(job, SETTINGS)
    kept = ("ProcessingJobName", "ProcessingResources", "AppSpecification", "Environment")
    return {
        **{name: request[name] for name in kept},
        "ProcessingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{job.name}",
        "ProcessingJobStatus": status,
        "CreationTime": NOW,
        **changes,
    }


def endpoint(status: str, config: str = DEPLOYMENT.name, **more: Any) -> dict[str, Any]:
    return {
        "EndpointName": "movielens",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:000000000000:endpoint/movielens",
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": NOW,
        "LastModifiedTime": NOW,
        **more,
    }


def model(deployment: Deployment = DEPLOYMENT) -> dict[str, Any]:
    request = model_request(deployment, SETTINGS)
    return {
        "ModelName": deployment.name,
        "ModelArn": f"arn:aws:sagemaker:us-east-1:000000000000:model/{deployment.name}",
        "PrimaryContainer": request["PrimaryContainer"],
        "CreationTime": NOW,
    }


CONFIG = {
    "EndpointConfigName": DEPLOYMENT.name,
    "EndpointConfigArn": f"arn:aws:sagemaker:us-east-1:000000000000:endpoint-config/{DEPLOYMENT.name}",
    "ProductionVariants": [{"VariantName": "AllTraffic"}],
    "CreationTime": NOW,
}
ENDPOINT_ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint/movielens"


def test_the_requests_say_what_the_engine_relies_on() -> None:
    request = processing_request(job(), SETTINGS)
    app = request["AppSpecification"]
    assert app["ContainerEntrypoint"] + app.get("ContainerArguments", []) == ["ekiden-engine", "export"]
    paths = {item["InputName"]: item["S3Input"]["LocalPath"] for item in request["ProcessingInputs"]}
    assert paths == {"graph": "/opt/ml/processing/input/graph", "spec": "/opt/ml/processing/input/spec"}
    (output,) = request["ProcessingOutputConfig"]["Outputs"]
    assert output["S3Output"]["LocalPath"] == "/opt/ml/processing/output/export"
    (processed,) = processing_request(job(Stage.PROCESS), SETTINGS)["ProcessingOutputConfig"]["Outputs"]
    assert processed["S3Output"]["LocalPath"] == "/opt/ml/processing/output/processed"
    train = training_request(job(Stage.TRAIN, hyperparameters={"lr": "0.01"}), SETTINGS)
    assert train["OutputDataConfig"]["CompressionType"] == "NONE"
    assert train["HyperParameters"] == {"lr": "0.01"}
    assert [channel["ChannelName"] for channel in train["InputDataConfig"]] == ["graph", "spec"]
    for made in (request, train):
        assert made["Environment"]["EKIDEN_RUN_ID"] == RUN
        assert made["StoppingCondition"]["MaxRuntimeInSeconds"] == 3600
        assert {"Key": "ekiden:run", "Value": RUN} in made["Tags"]


def test_attempts_of_a_training_share_their_checkpoints_and_spot_has_one_limit_for_waiting_and_running() -> None:
    first = training_request(job(Stage.TRAIN, output="s3://data/runs/r/train/1/"), SETTINGS)
    second = training_request(job(Stage.TRAIN, output="s3://data/runs/r/train/2/", spot=True), SETTINGS)
    where = {"S3Uri": "s3://data/runs/r/train/checkpoints/", "LocalPath": "/opt/ml/checkpoints"}
    assert first["CheckpointConfig"] == second["CheckpointConfig"] == where
    assert "EnableManagedSpotTraining" not in first
    assert "MaxWaitTimeInSeconds" not in first["StoppingCondition"]
    assert second["EnableManagedSpotTraining"] is True
    assert second["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}
    # AND versions that know no spot still adopt what has none
    assert fingerprint_of(job()) == fingerprint_of(job(spot=False)) != fingerprint_of(job(spot=True))


def test_a_fingerprint_tells_jobs_of_one_name_apart() -> None:
    prints = {fingerprint_of(content) for content in (job(), job(output="s3://other/"), job(inputs={}), DEPLOYMENT)}
    assert len(prints) == 4
    assert fingerprint_of(job()) == fingerprint_of(job())


@pytest.mark.parametrize(
    ("stage", "operation", "answer"),
    [
        (Stage.EXPORT, "create_processing_job", {"ProcessingJobArn": "arn:aws:sagemaker:::processing-job/x"}),
        (Stage.PROCESS, "create_processing_job", {"ProcessingJobArn": "arn:aws:sagemaker:::processing-job/x"}),
        (Stage.TRAIN, "create_training_job", {"TrainingJobArn": "arn:aws:sagemaker:::training-job/x"}),
    ],
)
def test_a_job_is_created(
    jobs: SageMakerJobs, says: Script, stage: Stage, operation: str, answer: dict[str, str]
) -> None:
    says.answers(operation, **answer)
    jobs.start(job(stage))


def test_our_own_job_of_that_name_is_adopted_even_if_it_is_over(jobs: SageMakerJobs, says: Script) -> None:
    for status in ("InProgress", "Failed"):
        says.refuses("create_processing_job", "ResourceInUse")
        says.answers("describe_processing_job", **processing(job(), status))
        jobs.start(job())


@pytest.mark.parametrize("environment", [{}, {"EKIDEN_FINGERPRINT": "other"}])
def test_another_job_of_that_name_is_left_alone(jobs: SageMakerJobs, says: Script, environment: dict[str, str]) -> None:
    says.refuses("create_processing_job", "ResourceInUse")
    says.answers("describe_processing_job", **processing(job(), Environment=environment))
    with pytest.raises(StageRejected) as error:
        jobs.start(job())
    assert error.value.code == "NAME_TAKEN"


def test_a_name_in_use_that_cannot_be_described_yet_is_tried_again(jobs: SageMakerJobs, says: Script) -> None:
    says.refuses("create_processing_job", "ResourceInUse")
    says.refuses("describe_processing_job", "ResourceNotFound")
    with pytest.raises(NotReadyYet):
        jobs.start(job())


@pytest.mark.parametrize("code", ["ThrottlingException", "ResourceLimitExceeded", "InternalFailure", "ExpiredToken"])
def test_a_busy_platform_is_transient(jobs: SageMakerJobs, says: Script, code: str) -> None:
    says.refuses("create_training_job", code)
    with pytest.raises(DependencyUnavailable, match=code):
        jobs.start(job(Stage.TRAIN))


@pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException", "ResourceNotFound"])
def test_a_refusal_ends_the_stage_with_its_words(jobs: SageMakerJobs, says: Script, code: str) -> None:
    says.refuses("create_training_job", code, "instance type ml.x9 is not supported")
    with pytest.raises(StageRejected, match=r"ml\.x9 is not supported") as error:
        jobs.start(job(Stage.TRAIN))
    assert error.value.code == "START_REFUSED"


def test_describe_reports_our_own_job_only(jobs: SageMakerJobs, says: Script) -> None:
    says.answers("describe_processing_job", **processing(job(), "Completed"))
    report = jobs.describe(attempt(Stage.EXPORT))
    assert report is not None
    assert report.status is JobStatus.SUCCEEDED

    foreign = processing(job(), Environment={"EKIDEN_RUN_ID": "another-run"})
    says.answers("describe_processing_job", **foreign)
    assert jobs.describe(attempt(Stage.EXPORT)) is None
    says.answers("describe_processing_job", **processing(job(), Environment={}))
    assert jobs.describe(attempt(Stage.EXPORT)) is None


@pytest.mark.parametrize(
    ("stage", "operation", "code"),
    [
        (Stage.EXPORT, "describe_processing_job", "ResourceNotFound"),
        (Stage.EXPORT, "describe_processing_job", "ValidationException"),
        (Stage.TRAIN, "describe_training_job", "ValidationException"),
        (Stage.DEPLOY, "describe_endpoint", "ValidationException"),
    ],
)
def test_a_job_that_is_not_there_is_none(
    jobs: SageMakerJobs, says: Script, stage: Stage, operation: str, code: str
) -> None:
    says.refuses(operation, code, MISSING)
    assert jobs.describe(attempt(stage)) is None


def test_an_answer_that_was_denied_is_not_taken_for_absence(jobs: SageMakerJobs, says: Script) -> None:
    says.refuses("describe_endpoint", "AccessDeniedException")
    with pytest.raises(Permanent):
        jobs.endpoint_in_service("movielens")
    says.refuses("describe_endpoint", "ThrottlingException")
    with pytest.raises(DependencyUnavailable):
        jobs.endpoint_in_service("movielens")


@pytest.mark.parametrize(("status", "expected"), [("InService", True), ("Updating", True), ("Creating", False)])
def test_an_endpoint_answers_or_does_not(jobs: SageMakerJobs, says: Script, status: str, expected: bool) -> None:
    says.answers("describe_endpoint", **endpoint(status))
    assert jobs.endpoint_in_service("movielens") is expected


def test_stopping_what_is_over_or_unknown_is_no_error(jobs: SageMakerJobs, says: Script) -> None:
    says.answers("stop_processing_job").refuses("stop_training_job", "ValidationException", "not in progress")
    says.refuses("stop_processing_job", "ResourceNotFound")
    says.refuses("delete_endpoint", "ValidationException", "Could not find endpoint")
    says.refuses("stop_training_job", "ThrottlingException")
    for stage in (Stage.EXPORT, Stage.TRAIN, Stage.PROCESS, Stage.DEPLOY):
        jobs.stop(attempt(stage).ref)
    with pytest.raises(DependencyUnavailable):
        jobs.stop(attempt(Stage.TRAIN).ref)


def test_an_endpoint_is_stopped_by_deleting_it_and_left_alone_while_it_is_updated(
    jobs: SageMakerJobs, says: Script
) -> None:
    says.answers("delete_endpoint")
    says.refuses("delete_endpoint", "ValidationException", "Cannot update in-progress endpoint")
    jobs.stop(attempt(Stage.DEPLOY).ref)
    jobs.stop(attempt(Stage.DEPLOY).ref)


@pytest.mark.parametrize("status", ["Creating", "Updating", "InService"])
def test_a_described_endpoint_says_when_it_came_to_be(jobs: SageMakerJobs, says: Script, status: str) -> None:
    says.answers("describe_endpoint", **endpoint(status))
    report = jobs.describe(attempt(Stage.DEPLOY))
    assert report is not None
    assert report.created_at == NOW


def test_of_an_endpoint_that_is_being_stopped_only_its_own_configuration_counts(
    jobs: SageMakerJobs, says: Script
) -> None:
    stopping = replace(attempt(Stage.DEPLOY), stopping_since=NOW)
    says.answers("describe_endpoint", **endpoint("InService", "another-runs"))
    assert jobs.describe(stopping) is None


def summary(kind: str, name: str, status: str) -> dict[str, Any]:
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:{kind.lower()}/{name}"
    return {f"{kind}Name": name, f"{kind}Arn": arn, "CreationTime": NOW, f"{kind}Status": status}


def listed(
    says: Script,
    processing: list[list[tuple[str, str]]],
    training: list[list[tuple[str, str]]],
    tuning: list[tuple[str, str]],
    endpoints: list[tuple[str, str]],
) -> None:
    """Pages of names and statuses."""
    for operation, kind, key, pages in (
        ("list_processing_jobs", "ProcessingJob", "ProcessingJobSummaries", processing),
        ("list_training_jobs", "TrainingJob", "TrainingJobSummaries", training),
    ):
        for number, page in enumerate(pages, 1):
            more = {"NextToken": f"{kind}-{number}"} if number < len(pages) else {}
            asked = {"LastModifiedTimeAfter": NOW, "MaxResults": 100, "SortBy": "CreationTime"}
            asked |= {"SortOrder": "Ascending"} | ({"NextToken": f"{kind}-{number - 1}"} if number > 1 else {})
            says.expects(operation, asked, **{key: [summary(kind, *entry) for entry in page]}, **more)
    counters = {"Strategy": "Bayesian", "TrainingJobStatusCounters": {}, "ObjectiveStatusCounters": {}}
    found = [summary(TUNING, *entry) | counters for entry in tuning]
    says.answers("list_hyper_parameter_tuning_jobs", **{f"{TUNING}Summaries": found})
    found = [summary("Endpoint", *entry) | {"LastModifiedTime": NOW} for entry in endpoints]
    says.answers("list_endpoints", Endpoints=found)


def test_what_ended_lately_is_listed_page_by_page_for_every_kind(jobs: SageMakerJobs, says: Script) -> None:
    listed(
        says,
        processing=[[("p1", "Completed"), ("p2", "InProgress")], [("p3", "Failed"), ("p4", "Stopping")]],
        training=[[("t1", "Stopped"), ("t2", "Deleting"), ("t3", "SomethingNew")]],
        tuning=[("h1", "Completed"), ("h2", "InProgress")],
        endpoints=[("e1", "InService"), ("e2", "Updating"), ("e3", "Failed"), ("e4", "Creating")],
    )

    ended = jobs.ended_since(NOW)

    assert {str(ref) for ref in ended} == {
        *("processing/p1", "processing/p3", "training/t1", "tuning/h1"),
        *("endpoint/e1", "endpoint/e3"),
    }


def test_a_list_that_has_no_end_is_not_read_to_its_end(jobs: SageMakerJobs, says: Script) -> None:
    for number in range(MAX_PAGES):
        found = [summary("ProcessingJob", f"p{number}", "Completed")]
        says.answers("list_processing_jobs", ProcessingJobSummaries=found, NextToken=f"after-{number}")
    says.answers("list_training_jobs", TrainingJobSummaries=[])
    says.answers("list_hyper_parameter_tuning_jobs", HyperParameterTuningJobSummaries=[])
    says.answers("list_endpoints", Endpoints=[])
    assert len(jobs.ended_since(NOW)) == MAX_PAGES


LISTS = {
    "list_processing_jobs": "ProcessingJobSummaries",
    "list_training_jobs": "TrainingJobSummaries",
    "list_hyper_parameter_tuning_jobs": f"{TUNING}Summaries",
    "list_endpoints": "Endpoints",
}


@pytest.mark.parametrize("operation", list(LISTS))
def test_a_throttled_list_is_transient(jobs: SageMakerJobs, says: Script, operation: str) -> None:
    for earlier, key in list(LISTS.items())[: list(LISTS).index(operation)]:
        says.answers(earlier, **{key: []})
    says.refuses(operation, "ThrottlingException", "Rate exceeded")
    with pytest.raises(DependencyUnavailable, match="Rate exceeded"):
        jobs.ended_since(NOW)


def nothing_there(says: Script) -> Script:
    """Model and configuration are made."""
    return (
        says.refuses("describe_model", "ValidationException", MISSING)
        .answers("create_model", ModelArn="arn:aws:sagemaker:::model/x")
        .refuses("describe_endpoint_config", "ValidationException", MISSING)
        .answers("create_endpoint_config", EndpointConfigArn="arn:aws:sagemaker:::endpoint-config/x")
    )


def all_there(says: Script) -> Script:
    """Model and configuration were made before."""
    return says.answers("describe_model", **model()).answers("describe_endpoint_config", **CONFIG)


def test_a_first_deployment_makes_model_configuration_and_endpoint(jobs: SageMakerJobs, says: Script) -> None:
    nothing_there(says).refuses("describe_endpoint", "ValidationException", MISSING)
    says.answers("create_endpoint", EndpointArn=ENDPOINT_ARN)
    jobs.deploy(DEPLOYMENT)


def test_a_later_deployment_updates_the_endpoint_in_service(jobs: SageMakerJobs, says: Script) -> None:
    nothing_there(says).answers("describe_endpoint", **endpoint("InService", "old"))
    says.answers("update_endpoint", EndpointArn=ENDPOINT_ARN)
    jobs.deploy(DEPLOYMENT)


@pytest.mark.parametrize(
    "found",
    [
        endpoint("Creating"),
        endpoint("InService"),
        endpoint("Failed"),
        endpoint("Updating", "old", PendingDeploymentSummary={"EndpointConfigName": DEPLOYMENT.name}),
    ],
    ids=lambda found: str(found["EndpointStatus"]),
)
def test_repeating_a_deployment_changes_nothing(jobs: SageMakerJobs, says: Script, found: dict[str, Any]) -> None:
    all_there(says).answers("describe_endpoint", **found)
    jobs.deploy(DEPLOYMENT)


@pytest.mark.parametrize(
    "status", ["Creating", "Updating", "SystemUpdating", "Deleting", "RollingBack", "OutOfService"]
)
def test_an_endpoint_that_moves_is_waited_for(jobs: SageMakerJobs, says: Script, status: str) -> None:
    all_there(says).answers("describe_endpoint", **endpoint(status, "old"))
    with pytest.raises(NotReadyYet, match=status):
        jobs.deploy(DEPLOYMENT)


def test_a_failed_endpoint_of_another_deployment_is_deleted_first(jobs: SageMakerJobs, says: Script) -> None:
    all_there(says).answers("describe_endpoint", **endpoint("Failed", "old")).answers("delete_endpoint")
    with pytest.raises(NotReadyYet, match="being deleted"):
        jobs.deploy(DEPLOYMENT)


def test_of_two_who_deploy_at_once_the_slower_finds_it_done(jobs: SageMakerJobs, says: Script) -> None:
    says.refuses("describe_model", "ValidationException", MISSING)
    says.refuses("create_model", "ValidationException", "Cannot create already existing model")
    says.answers("describe_model", **model())
    says.refuses("describe_endpoint_config", "ValidationException", MISSING)
    says.refuses(
        "create_endpoint_config", "ValidationException", "Cannot create already existing endpoint configuration"
    )
    says.answers("describe_endpoint_config", **CONFIG)
    says.refuses("describe_endpoint", "ValidationException", MISSING)
    says.refuses("create_endpoint", "ValidationException", "Cannot create already existing endpoint")
    says.answers("describe_endpoint", **endpoint("Creating"))
    jobs.deploy(DEPLOYMENT)


def test_an_endpoint_that_somebody_else_moved_meanwhile_is_waited_for(jobs: SageMakerJobs, says: Script) -> None:
    all_there(says).answers("describe_endpoint", **endpoint("InService", "old"))
    says.refuses("update_endpoint", "ValidationException", "Cannot update in-progress endpoint")
    says.answers("describe_endpoint", **endpoint("Updating", "old"))
    with pytest.raises(NotReadyYet):
        jobs.deploy(DEPLOYMENT)


def test_a_configuration_that_sagemaker_does_not_see_yet_is_tried_again(jobs: SageMakerJobs, says: Script) -> None:
    nothing_there(says).refuses("describe_endpoint", "ValidationException", MISSING)
    says.refuses("create_endpoint", "ValidationException", "Could not find endpoint configuration")
    says.refuses("describe_endpoint", "ValidationException", MISSING)
    with pytest.raises(NotReadyYet):
        jobs.deploy(DEPLOYMENT)


def test_a_refused_endpoint_ends_the_stage(jobs: SageMakerJobs, says: Script) -> None:
    all_there(says).refuses("describe_endpoint", "ValidationException", MISSING)
    says.refuses("create_endpoint", "ValidationException", "not enough GPUs")
    says.refuses("describe_endpoint", "ValidationException", MISSING)
    with pytest.raises(StageRejected, match="not enough GPUs"):
        jobs.deploy(DEPLOYMENT)


def test_a_refused_model_ends_the_stage(jobs: SageMakerJobs, says: Script) -> None:
    says.refuses("describe_model", "ValidationException", MISSING)
    says.refuses("create_model", "ValidationException", "Could not access model data")
    says.refuses("describe_model", "ValidationException", MISSING)
    with pytest.raises(StageRejected, match="Could not access model data"):
        jobs.deploy(DEPLOYMENT)


def test_a_model_of_that_name_that_is_another_is_left_alone(jobs: SageMakerJobs, says: Script) -> None:
    other = model()
    other["PrimaryContainer"] = {**other["PrimaryContainer"], "Environment": {}}
    says.answers("describe_model", **other)
    with pytest.raises(StageRejected) as error:
        jobs.deploy(DEPLOYMENT)
    assert error.value.code == "NAME_TAKEN"


@pytest.mark.parametrize("operation", ["describe_model", "describe_endpoint_config", "create_endpoint"])
def test_throttling_anywhere_in_a_deployment_is_transient(jobs: SageMakerJobs, says: Script, operation: str) -> None:
    if operation == "describe_endpoint_config":
        says.answers("describe_model", **model())
    elif operation == "create_endpoint":
        all_there(says).refuses("describe_endpoint", "ValidationException", MISSING)
    says.refuses(operation, "ThrottlingException")
    if operation == "create_endpoint":
        says.refuses("describe_endpoint", "ValidationException", MISSING)
    with pytest.raises(DependencyUnavailable):
        jobs.deploy(DEPLOYMENT)
