"""SageMaker: processing and training jobs, models and endpoints.

SageMaker has no client tokens: a job's deterministic name is its idempotency key. A name that exists already is
described and adopted only if it carries the same fingerprint of its content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ekiden.adapters import sagemaker_status
from ekiden.adapters.aws_errors import THROTTLED_OR_DOWN, code_of, message_of, translated
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef
from ekiden.errors import NotReadyYet, StageRejected
from ekiden.ports import Deployment, Job, JobReport

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

FINGERPRINT = "EKIDEN_FINGERPRINT"
ML_ROOT = "/opt/ml"
VOLUME_GB = 30
HEALTH_CHECK_SECONDS = 600


@dataclass(frozen=True, slots=True)
class SageMakerSettings:
    """What every job of a deployment shares."""

    image: str
    role_arn: str


class SageMakerJobs:
    """Implements ``ports.Jobs``."""

    def __init__(self, client: SageMakerClient, settings: SageMakerSettings) -> None:
        self._client = client
        self._settings = settings

    def start(self, job: Job) -> None:
        """See ``ports.Jobs.start``."""
        kind, request = (
            (JobKind.TRAINING, self._training_request(job))
            if job.stage == "train"
            else (JobKind.PROCESSING, self._processing_request(job))
        )
        create = self._client.create_training_job if kind is JobKind.TRAINING else self._client.create_processing_job
        with translated():
            try:
                create(**request)
            except ClientError as error:
                if code_of(error) == "ResourceInUse":
                    self._adopt(JobRef(kind, job.name), _fingerprint(job))
                else:
                    _raise_refusal(error)

    def deploy(self, deployment: Deployment) -> None:
        """See ``ports.Jobs.deploy``. The model and its configuration carry the attempt's name."""
        with translated():
            try:
                self._ensure_model(deployment)
                self._ensure_endpoint_config(deployment)
                self._ensure_endpoint(deployment)
            except ClientError as error:
                _raise_refusal(error)

    def describe(self, attempt: Attempt) -> JobReport | None:
        """See ``ports.Jobs.describe``."""
        answer = self._describe(attempt.ref)
        if answer is None:
            return None
        match attempt.ref.kind:
            case JobKind.PROCESSING:
                return sagemaker_status.of_processing(answer)
            case JobKind.TRAINING:
                return sagemaker_status.of_training(answer)
            case JobKind.ENDPOINT:
                waiting = attempt.status is AttemptStatus.STARTING
                return sagemaker_status.of_endpoint(answer, config=attempt.job, not_begun=waiting)

    def stop(self, ref: JobRef) -> None:
        """See ``ports.Jobs.stop``. An endpoint in the making cannot be stopped: SageMaker ends it by itself."""
        with translated():
            try:
                if ref.kind is JobKind.PROCESSING:
                    self._client.stop_processing_job(ProcessingJobName=ref.name)
                elif ref.kind is JobKind.TRAINING:
                    self._client.stop_training_job(TrainingJobName=ref.name)
            except ClientError as error:
                if code_of(error) not in {"ValidationException", "ResourceNotFound"}:
                    raise

    def endpoint_in_service(self, name: str) -> bool | None:
        """See ``ports.Jobs.endpoint_in_service``."""
        answer = self._describe(JobRef(JobKind.ENDPOINT, name))
        return None if answer is None else sagemaker_status.serves(answer)

    def _describe(self, ref: JobRef) -> dict[str, Any] | None:
        with translated():
            try:
                match ref.kind:
                    case JobKind.PROCESSING:
                        return dict(self._client.describe_processing_job(ProcessingJobName=ref.name))
                    case JobKind.TRAINING:
                        return dict(self._client.describe_training_job(TrainingJobName=ref.name))
                    case JobKind.ENDPOINT:
                        return dict(self._client.describe_endpoint(EndpointName=ref.name))
            except ClientError as error:
                # Endpoints and training jobs answer ValidationException ("Could not find …", "Requested resource
                # not found"), processing jobs ResourceNotFound. The name's pattern was checked before.
                if code_of(error) in {"ValidationException", "ResourceNotFound"}:
                    return None
                raise

    def _adopt(self, ref: JobRef, fingerprint: str) -> None:
        existing = self._describe(ref)
        if existing is None:
            raise NotReadyYet(f"{ref} is in use and cannot be described yet")
        if existing.get("Environment", {}).get(FINGERPRINT) != fingerprint:
            raise StageRejected(
                f"a job named {ref.name} exists already and is not this one; it was left alone",
                code="NAME_TAKEN",
            )

    def _ensure_model(self, deployment: Deployment) -> None:
        fingerprint = _fingerprint(deployment)
        try:
            existing = self._client.describe_model(ModelName=deployment.name)
        except ClientError as error:
            if code_of(error) in THROTTLED_OR_DOWN:
                raise
            self._client.create_model(**self._model_request(deployment, fingerprint))
            return
        if existing["PrimaryContainer"].get("Environment", {}).get(FINGERPRINT) != fingerprint:
            raise StageRejected(f"a model named {deployment.name} exists and is not this one", code="NAME_TAKEN")

    def _ensure_endpoint_config(self, deployment: Deployment) -> None:
        try:
            self._client.describe_endpoint_config(EndpointConfigName=deployment.name)
        except ClientError as error:
            if code_of(error) in THROTTLED_OR_DOWN:
                raise
            variant: Any = {
                "VariantName": "AllTraffic",
                "ModelName": deployment.name,
                "InstanceType": deployment.instance_type,
                "InitialInstanceCount": deployment.instance_count,
                "ContainerStartupHealthCheckTimeoutInSeconds": HEALTH_CHECK_SECONDS,
            }
            self._client.create_endpoint_config(
                EndpointConfigName=deployment.name,
                ProductionVariants=[variant],
                Tags=_tags(deployment.run_id, "deploy"),
            )

    def _ensure_endpoint(self, deployment: Deployment) -> None:
        endpoint, config = deployment.endpoint, deployment.name
        existing = self._describe(JobRef(JobKind.ENDPOINT, endpoint))
        if existing is None:
            self._client.create_endpoint(
                EndpointName=endpoint, EndpointConfigName=config, Tags=_tags(deployment.run_id, "deploy")
            )
            return
        match sagemaker_status.next_step(existing, config):
            case "adopt":
                return
            case "update":
                self._client.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
            case "delete":
                self._client.delete_endpoint(EndpointName=endpoint)
                raise NotReadyYet(f"failed endpoint {endpoint} is being deleted, then created anew")
            case _:
                raise NotReadyYet(f"endpoint {endpoint} is {existing['EndpointStatus']}")

    def _processing_request(self, job: Job) -> dict[str, Any]:
        directory = f"{ML_ROOT}/processing"
        output = "export" if job.stage == "export" else "processed"
        return {
            "ProcessingJobName": job.name,
            "RoleArn": self._settings.role_arn,
            "AppSpecification": {
                "ImageUri": self._settings.image,
                "ContainerEntrypoint": ["ekiden-engine"],
                "ContainerArguments": [job.stage.value],
            },
            "ProcessingInputs": [
                {
                    "InputName": channel,
                    "S3Input": {
                        "S3Uri": uri,
                        "LocalPath": f"{directory}/input/{channel}",
                        "S3DataType": "S3Prefix",
                        "S3InputMode": "File",
                    },
                }
                for channel, uri in job.inputs.items()
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": output,
                        "S3Output": {
                            "S3Uri": job.output,
                            "LocalPath": f"{directory}/output/{output}",
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                ]
            },
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": job.instance_type,
                    "VolumeSizeInGB": VOLUME_GB,
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime_seconds},
            "Environment": _environment(job),
            "Tags": _tags(job.run_id, job.stage.value),
        }

    def _training_request(self, job: Job) -> dict[str, Any]:
        return {
            "TrainingJobName": job.name,
            "RoleArn": self._settings.role_arn,
            "AlgorithmSpecification": {"TrainingImage": self._settings.image, "TrainingInputMode": "File"},
            "HyperParameters": job.hyperparameters,
            "InputDataConfig": [
                {
                    "ChannelName": channel,
                    "DataSource": {
                        "S3DataSource": {
                            "S3DataType": "S3Prefix",
                            "S3Uri": uri,
                            "S3DataDistributionType": "FullyReplicated",
                        }
                    },
                }
                for channel, uri in job.inputs.items()
            ],
            "OutputDataConfig": {"S3OutputPath": job.output, "CompressionType": "NONE"},
            "ResourceConfig": {
                "InstanceCount": 1,
                "InstanceType": job.instance_type,
                "VolumeSizeInGB": VOLUME_GB,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime_seconds},
            "Environment": _environment(job),
            "Tags": _tags(job.run_id, job.stage.value),
        }

    def _model_request(self, deployment: Deployment, fingerprint: str) -> dict[str, Any]:
        return {
            "ModelName": deployment.name,
            "ExecutionRoleArn": self._settings.role_arn,
            "PrimaryContainer": {
                "Image": self._settings.image,
                "ModelDataSource": {
                    "S3DataSource": {
                        "S3Uri": deployment.model,
                        "S3DataType": "S3Prefix",
                        "CompressionType": "None",
                    }
                },
                "Environment": {FINGERPRINT: fingerprint, "EKIDEN_RUN_ID": deployment.run_id},
            },
            "Tags": _tags(deployment.run_id, "deploy"),
        }


def _fingerprint(content: Job | Deployment) -> str:
    return hashlib.sha256(json.dumps(asdict(content), sort_keys=True).encode()).hexdigest()


def _environment(job: Job) -> dict[str, str]:
    return {**job.environment, "EKIDEN_RUN_ID": job.run_id, FINGERPRINT: _fingerprint(job)}


def _tags(run_id: str, stage: str) -> list[Any]:
    return [{"Key": "ekiden:run", "Value": run_id}, {"Key": "ekiden:stage", "Value": stage}]


def _raise_refusal(error: ClientError) -> None:
    """A refusal of this very request ends the stage; anything else is translated as usual."""
    code = code_of(error)
    if code in THROTTLED_OR_DOWN or code == "ResourceLimitExceeded":
        raise error
    raise StageRejected(f"SageMaker refused the job: {code}: {message_of(error)}", code="START_REFUSED") from error
