"""What we ask SageMaker for: the requests of each kind of job, from our own terms."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from ekiden.ports import Deployment, Job

FINGERPRINT = "EKIDEN_FINGERPRINT"
RUN_ID = "EKIDEN_RUN_ID"
RUN_TAG = "ekiden:run"
ML_ROOT = "/opt/ml"
VOLUME_GB = 30


@dataclass(frozen=True, slots=True)
class SageMakerSettings:
    """What every job of a deployment shares."""

    image: str
    role_arn: str


def processing_request(job: Job, settings: SageMakerSettings) -> dict[str, Any]:
    """``CreateProcessingJob``."""
    directory = f"{ML_ROOT}/processing"
    output = "export" if job.stage == "export" else "processed"
    return {
        "ProcessingJobName": job.name,
        "RoleArn": settings.role_arn,
        "AppSpecification": {
            "ImageUri": settings.image,
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
        "Tags": tags_of(job.run_id, job.stage.value),
    }


def training_request(job: Job, settings: SageMakerSettings) -> dict[str, Any]:
    """``CreateTrainingJob``."""
    stopping = {"MaxRuntimeInSeconds": job.max_runtime_seconds}
    if job.spot:  # waiting for capacity counts towards the stage's time, so both limits are that
        stopping["MaxWaitTimeInSeconds"] = job.max_runtime_seconds
    return {
        "TrainingJobName": job.name,
        "RoleArn": settings.role_arn,
        "AlgorithmSpecification": {"TrainingImage": settings.image, "TrainingInputMode": "File"},
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
        "StoppingCondition": stopping,
        **({"EnableManagedSpotTraining": True} if job.spot else {}),
        **_checkpoints(job),
        "Environment": _environment(job),
        "Tags": tags_of(job.run_id, job.stage.value),
    }


def model_request(deployment: Deployment, settings: SageMakerSettings) -> dict[str, Any]:
    """``CreateModel``."""
    return {
        "ModelName": deployment.name,
        "ExecutionRoleArn": settings.role_arn,
        "PrimaryContainer": {
            "Image": settings.image,
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": deployment.model,
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
            "Environment": {FINGERPRINT: fingerprint_of(deployment), RUN_ID: deployment.run_id},
        },
        "Tags": tags_of(deployment.run_id, "deploy"),
    }


def _checkpoints(job: Job) -> dict[str, Any]:
    """Where training keeps its state: beside the outputs of the stage's attempts, so that the next one finds it.

    Not for tuning jobs, whose training jobs would share one folder, and delete from it what others keep there.
    """
    if job.tuning is not None:
        return {}
    stage = job.output.rstrip("/").rpartition("/")[0]
    return {"CheckpointConfig": {"S3Uri": f"{stage}/checkpoints/", "LocalPath": f"{ML_ROOT}/checkpoints"}}


def fingerprint_of(content: Job | Deployment) -> str:
    """What tells a job from another of the same name."""
    values = asdict(content)
    for name, silence in (("tuning", None), ("spot", False)):
        if values.get(name, ...) is silence:  # as versions told them apart that did not know it
            del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _environment(job: Job) -> dict[str, str]:
    return {**job.environment, RUN_ID: job.run_id, FINGERPRINT: fingerprint_of(job)}


def tags_of(run_id: str, stage: str) -> list[Any]:
    """Tags of everything that a run makes."""
    return [{"Key": RUN_TAG, "Value": run_id}, {"Key": "ekiden:stage", "Value": stage}]
