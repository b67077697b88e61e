"""SageMaker: processing and training jobs, models and endpoints.

SageMaker has no client tokens: a job's deterministic name is its idempotency key. A name that exists already is
described and adopted only if it carries the same fingerprint of its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ekiden.adapters import sagemaker_status, sagemaker_tuning
from ekiden.adapters.aws_errors import THROTTLED_OR_DOWN, code_of, message_of, translated
from ekiden.adapters.sagemaker_requests import (
    FINGERPRINT,
    RUN_ID,
    RUN_TAG,
    SageMakerSettings,
    fingerprint_of,
    model_request,
    processing_request,
    tags_of,
    training_request,
)
from ekiden.adapters.sagemaker_status import ENDPOINT_STATUS, JOB_STATUS
from ekiden.domain import naming
from ekiden.domain.decisions import JobStatus
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef
from ekiden.errors import NotReadyYet, StageRejected
from ekiden.ports import Deployment, Job, JobReport, Trial

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

PAGE = 100
MAX_PAGES = 5
"""Per kind of job and sweep: with four kinds at most 20 calls, for 500 changes of each kind."""
UNKNOWN = frozenset({"ValidationException", "ResourceNotFound"})
"""How SageMaker says that a name is not known: endpoints, models and training jobs by a ValidationException
("Could not find …", "Requested resource not found"), processing and tuning jobs by ResourceNotFound. The names'
patterns were checked before."""
HEALTH_CHECK_SECONDS = 600
TUNING = "HyperParameterTuningJob"


class SageMakerJobs:
    """Implements ``ports.Jobs``."""

    def __init__(self, client: SageMakerClient, settings: SageMakerSettings) -> None:
        self._client = client
        self._settings = settings

    def start(self, job: Job) -> None:
        """See ``ports.Jobs.start``."""
        with translated():
            try:
                self._create(job)
            except ClientError as error:
                if code_of(error) == "ResourceInUse":
                    self._adopt(JobRef(job.kind, job.name), fingerprint_of(job))
                else:
                    _raise_refusal(error)

    def _create(self, job: Job) -> None:
        if job.tuning is not None:
            request = sagemaker_tuning.tuning_request(job, job.tuning, self._settings)
            self._client.create_hyper_parameter_tuning_job(**request)
        elif job.kind is JobKind.TRAINING:
            self._client.create_training_job(**training_request(job, self._settings))
        else:
            self._client.create_processing_job(**processing_request(job, self._settings))

    def deploy(self, deployment: Deployment) -> None:
        """See ``ports.Jobs.deploy``. The model and its configuration carry the attempt's name."""
        with translated():
            try:
                self._ensure_model(deployment)
                new = self._ensure_endpoint_config(deployment)
                self._ensure_endpoint(deployment, config_is_new=new)
            except ClientError as error:
                _raise_refusal(error)

    def describe(self, attempt: Attempt) -> JobReport | None:
        """See ``ports.Jobs.describe``."""
        answer = self._describe(attempt.ref)
        if answer is None or not _is_of(attempt, answer):
            return None
        match attempt.ref.kind:
            case JobKind.PROCESSING:
                return sagemaker_status.of_processing(answer)
            case JobKind.TRAINING:
                return sagemaker_status.of_training(answer)
            case JobKind.TUNING:
                return sagemaker_tuning.of_tuning(answer, lambda: self._failed_child(attempt.ref.name))
            case JobKind.ENDPOINT:
                # Of an attempt that is being stopped only its own configuration counts: the endpoint may be another's.
                waiting = attempt.status is AttemptStatus.STARTING or attempt.stopping_since is not None
                report = sagemaker_status.of_endpoint(answer, config=attempt.job, not_begun=waiting)
                if report is None or attempt.stopping_since is None or self._made_by(attempt, answer):
                    return report
                return replace(report, created_at=None)  # it is to be stopped, but not to be deleted

    def _failed_child(self, tuning_job: str) -> dict[str, Any] | None:
        """A tuning job's latest training job that failed."""
        call = self._client.list_training_jobs_for_hyper_parameter_tuning_job
        with translated():
            found: Any = call(
                HyperParameterTuningJobName=tuning_job,
                StatusEquals="Failed",
                SortBy="CreationTime",
                SortOrder="Descending",
                MaxResults=1,
            )
        return next(iter(found["TrainingJobSummaries"]), None)

    def _made_by(self, attempt: Attempt, answer: Mapping[str, Any]) -> bool:
        """Whether the attempt created the endpoint: it was tagged with its run then, and is not older."""
        with translated():
            tags = _found(self._client.list_tags, ResourceArn=str(answer["EndpointArn"])) or {}
        run_id = next((tag["Value"] for tag in tags.get("Tags", ()) if tag["Key"] == RUN_TAG), "")
        return naming.job_name(run_id, attempt.stage, attempt.number) == attempt.job

    def stop(self, ref: JobRef) -> None:
        """See ``ports.Jobs.stop``. An endpoint that is being made or updated cannot be deleted: ask again."""
        with translated():
            try:
                match ref.kind:
                    case JobKind.PROCESSING:
                        self._client.stop_processing_job(ProcessingJobName=ref.name)
                    case JobKind.TRAINING:
                        self._client.stop_training_job(TrainingJobName=ref.name)
                    case JobKind.TUNING:
                        self._client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=ref.name)
                    case JobKind.ENDPOINT:
                        self._client.delete_endpoint(EndpointName=ref.name)
            except ClientError as error:
                if code_of(error) not in UNKNOWN:
                    raise

    def ended_since(self, moment: datetime) -> frozenset[JobRef]:
        """See ``ports.Jobs.ended_since``."""
        client, ended = self._client, set[JobRef]()
        listings: list[tuple[JobKind, Callable[..., Any], str, str, Mapping[str, JobStatus]]] = [
            (JobKind.PROCESSING, client.list_processing_jobs, "ProcessingJobSummaries", "ProcessingJob", JOB_STATUS),
            (JobKind.TRAINING, client.list_training_jobs, "TrainingJobSummaries", "TrainingJob", JOB_STATUS),
            (JobKind.TUNING, client.list_hyper_parameter_tuning_jobs, f"{TUNING}Summaries", TUNING, JOB_STATUS),
            (JobKind.ENDPOINT, client.list_endpoints, "Endpoints", "Endpoint", ENDPOINT_STATUS),
        ]
        request = {"LastModifiedTimeAfter": moment, "MaxResults": PAGE, "SortBy": "CreationTime"}
        request["SortOrder"] = "Ascending"
        with translated():
            for kind, call, key, prefix, statuses in listings:
                for entry in _pages(call, key, request):
                    if statuses.get(entry[f"{prefix}Status"], JobStatus.RUNNING) is not JobStatus.RUNNING:
                        ended.add(JobRef(kind, entry[f"{prefix}Name"]))
        return frozenset(ended)

    def trials(self, tuning_job: str) -> list[Trial]:
        """See ``ports.Jobs.trials``."""
        call = self._client.list_training_jobs_for_hyper_parameter_tuning_job
        request = {"HyperParameterTuningJobName": tuning_job, "SortBy": "CreationTime", "SortOrder": "Ascending"}
        with translated():
            found = _pages(call, "TrainingJobSummaries", {**request, "MaxResults": PAGE})
        return [sagemaker_tuning.trial_of(entry) for entry in found]

    def endpoint_in_service(self, name: str) -> bool | None:
        """See ``ports.Jobs.endpoint_in_service``."""
        answer = self._describe(JobRef(JobKind.ENDPOINT, name))
        return None if answer is None else sagemaker_status.serves(answer)

    def _describe(self, ref: JobRef) -> dict[str, Any] | None:
        with translated():
            match ref.kind:
                case JobKind.PROCESSING:
                    return _found(self._client.describe_processing_job, ProcessingJobName=ref.name)
                case JobKind.TRAINING:
                    return _found(self._client.describe_training_job, TrainingJobName=ref.name)
                case JobKind.TUNING:
                    describe = self._client.describe_hyper_parameter_tuning_job
                    return _found(describe, HyperParameterTuningJobName=ref.name)
                case JobKind.ENDPOINT:
                    return _found(self._client.describe_endpoint, EndpointName=ref.name)

    def _adopt(self, ref: JobRef, fingerprint: str) -> None:
        existing = self._describe(ref)
        if existing is None:
            raise NotReadyYet(f"{ref} is in use and cannot be described yet")
        if _environment(ref, existing).get(FINGERPRINT) != fingerprint:
            raise StageRejected(
                f"a job named {ref.name} exists already and is not this one; it was left alone",
                code="NAME_TAKEN",
            )

    def _ensure_model(self, deployment: Deployment) -> None:
        fingerprint = fingerprint_of(deployment)
        existing = _found(self._client.describe_model, ModelName=deployment.name)
        if existing is None:
            try:
                self._client.create_model(**model_request(deployment, self._settings))
                return
            except ClientError as refusal:
                existing = _found(self._client.describe_model, ModelName=deployment.name)
                if existing is None:
                    raise refusal  # not that another worker was faster
        if existing["PrimaryContainer"].get("Environment", {}).get(FINGERPRINT) != fingerprint:
            raise StageRejected(f"a model named {deployment.name} exists and is not this one", code="NAME_TAKEN")

    def _ensure_endpoint_config(self, deployment: Deployment) -> bool:
        """Whether the configuration was made just now."""
        name = deployment.name
        if _found(self._client.describe_endpoint_config, EndpointConfigName=name) is not None:
            return False
        variant: Any = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": deployment.instance_type,
            "InitialInstanceCount": deployment.instance_count,
            "ContainerStartupHealthCheckTimeoutInSeconds": HEALTH_CHECK_SECONDS,
        }
        try:
            self._client.create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=[variant], Tags=tags_of(deployment.run_id, "deploy")
            )
        except ClientError:
            if _found(self._client.describe_endpoint_config, EndpointConfigName=name) is None:
                raise
        return True

    def _ensure_endpoint(self, deployment: Deployment, *, config_is_new: bool) -> None:
        endpoint, config = deployment.endpoint, deployment.name
        ref = JobRef(JobKind.ENDPOINT, endpoint)
        existing = self._describe(ref)
        step = sagemaker_status.next_step(existing, config) if existing else "create"
        try:
            match step:
                case "create":
                    tags = tags_of(deployment.run_id, "deploy")
                    self._client.create_endpoint(EndpointName=endpoint, EndpointConfigName=config, Tags=tags)
                case "update":
                    self._client.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
                case "delete":
                    self._client.delete_endpoint(EndpointName=endpoint)
                case _:
                    pass
        except ClientError as refusal:
            # "Already exists" and "in progress" are ValidationExceptions like any other: what is true decides.
            found = self._describe(ref)
            now = sagemaker_status.next_step(found, config) if found else "create"
            if now == step and not config_is_new:
                raise
            # A new configuration may not be visible to SageMaker itself for a moment.
            if now != "adopt":
                raise NotReadyYet(f"endpoint {endpoint} was moved by somebody else: {code_of(refusal)}") from refusal
            step = now
        if step == "delete":
            raise NotReadyYet(f"failed endpoint {endpoint} is being deleted, then created anew")
        if step == "wait":
            raise NotReadyYet(f"endpoint {endpoint} is {existing['EndpointStatus'] if existing else 'unknown'}")


def _found(describe: Callable[..., Mapping[str, Any]], **name: str) -> dict[str, Any] | None:
    """What ``describe`` answers; ``None`` if it does not know the name."""
    try:
        return dict(describe(**name))
    except ClientError as error:
        if code_of(error) in UNKNOWN:
            return None
        raise


def _pages(call: Callable[..., Mapping[str, Any]], key: str, request: dict[str, Any]) -> list[Mapping[str, Any]]:
    """What a list call gives, at most ``MAX_PAGES`` pages of it.

    SageMaker does not sort by time of change. The oldest jobs come first: what is cut off has only just begun.
    """
    found: list[Mapping[str, Any]] = []
    token: dict[str, Any] = {}
    for _ in range(MAX_PAGES):
        answer = call(**request, **token)
        found += answer[key]
        if not answer.get("NextToken"):
            break
        token = {"NextToken": answer["NextToken"]}
    return found


def _is_of(attempt: Attempt, answer: Mapping[str, Any]) -> bool:
    """Whether a described job was made for the attempt, and does not only have its name."""
    if attempt.ref.kind is JobKind.ENDPOINT:
        return True  # endpoints are told apart by their configuration
    run_id = _environment(attempt.ref, answer).get(RUN_ID, "")
    return naming.job_name(run_id, attempt.stage, attempt.number) == attempt.job


def _environment(ref: JobRef, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if ref.kind is JobKind.TUNING:
        return sagemaker_tuning.environment_of(answer)
    found: Mapping[str, Any] = answer.get("Environment", {})
    return found


def _raise_refusal(error: ClientError) -> None:
    """A refusal of this very request ends the stage; anything else is translated as usual."""
    code = code_of(error)
    if code in THROTTLED_OR_DOWN or code == "ResourceLimitExceeded":
        raise error
    raise StageRejected(f"SageMaker refused the job: {code}: {message_of(error)}", code="START_REFUSED") from error
