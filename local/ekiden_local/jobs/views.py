"""Records as the API and the events show them."""

from __future__ import annotations

import re
from typing import Any

from .events import Announcement
from .records import EndpointRecord, EndpointStatus, JobRecord
from .shapes import operation
from .training import model_artifacts

_DEFAULT_STOP = {"MaxRuntimeInSeconds": 86_400}
_TIME = re.compile(r"(Time|Timestamp)$")


def given(record_request: dict[str, Any], describe: str) -> dict[str, Any]:
    """Those members of a create request that the describe operation gives back."""
    model = operation(describe)
    shape = model.output_shape if model is not None else None
    members = shape.members if shape is not None else {}
    return {name: value for name, value in record_request.items() if name in members}


def training(record: JobRecord) -> dict[str, Any]:
    """DescribeTrainingJob."""
    view = {
        "StoppingCondition": _DEFAULT_STOP,
        **given(record.request, "DescribeTrainingJob"),
        "TrainingJobArn": record.arn,
        "TrainingJobStatus": str(record.status),
        "SecondaryStatus": record.secondary,
        "SecondaryStatusTransitions": record.transitions,
        "ModelArtifacts": {"S3ModelArtifacts": model_artifacts(record)},
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **_times(record, "Training"),
        **_reason(record),
    }
    if record.tuning_arn is not None:
        view["TuningJobArn"] = record.tuning_arn
    if record.metrics:
        at = record.ended_at or record.modified_at
        view["FinalMetricDataList"] = [
            {"MetricName": name, "Value": value, "Timestamp": at} for name, value in record.metrics.items()
        ]
    if record.started_at is not None and record.ended_at is not None:
        view["TrainingTimeInSeconds"] = view["BillableTimeInSeconds"] = max(1, int(record.ended_at - record.started_at))
    return view


def training_summary(record: JobRecord) -> dict[str, Any]:
    """An entry of ListTrainingJobs."""
    return {
        "TrainingJobName": record.name,
        "TrainingJobArn": record.arn,
        "TrainingJobStatus": str(record.status),
        "SecondaryStatus": record.secondary,
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **({"TrainingEndTime": record.ended_at} if record.ended_at else {}),
    }


def processing(record: JobRecord) -> dict[str, Any]:
    """DescribeProcessingJob."""
    return {
        "StoppingCondition": _DEFAULT_STOP,
        **given(record.request, "DescribeProcessingJob"),
        "ProcessingJobArn": record.arn,
        "ProcessingJobStatus": str(record.status),
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **({"ExitMessage": record.exit_message} if record.exit_message else {}),
        **_times(record, "Processing"),
        **_reason(record),
    }


def processing_summary(record: JobRecord) -> dict[str, Any]:
    """An entry of ListProcessingJobs."""
    return {
        "ProcessingJobName": record.name,
        "ProcessingJobArn": record.arn,
        "ProcessingJobStatus": str(record.status),
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **({"ProcessingEndTime": record.ended_at} if record.ended_at else {}),
        **({"ExitMessage": record.exit_message} if record.exit_message else {}),
        **_reason(record),
    }


def endpoint(record: EndpointRecord) -> dict[str, Any]:
    """DescribeEndpoint. Until an update ends the old configuration is shown, with the new one as pending."""
    shown = record.shown
    view: dict[str, Any] = {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointConfigName": shown["config"],
        "EndpointStatus": str(record.status),
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **_reason(record),
    }
    if record.generation:
        view["ProductionVariants"] = [_variant(shown)]
    if record.target and record.generation:
        pending = record.deployments[str(record.target)]
        view["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["config"],
            "ProductionVariants": [_variant(pending)],
            "StartTime": pending["at"],
        }
    if "DeploymentConfig" in record.request:
        view["LastDeploymentConfig"] = record.request["DeploymentConfig"]
    return view


def endpoint_summary(record: EndpointRecord) -> dict[str, Any]:
    """An entry of ListEndpoints."""
    return {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointStatus": str(record.status),
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
    }


def announce_training(old: JobRecord | None, new: JobRecord) -> Announcement | None:
    """SageMaker Training Job State Change, for a new status and for the program's start."""
    if not _changed(old, new):
        return None
    return Announcement("SageMaker Training Job State Change", event_detail(training(new), new.tags))


def announce_processing(old: JobRecord | None, new: JobRecord) -> Announcement | None:
    """SageMaker Processing Job State Change, likewise."""
    if not _changed(old, new):
        return None
    return Announcement("SageMaker Processing Job State Change", event_detail(processing(new), None))


def announce_endpoint(old: EndpointRecord | None, new: EndpointRecord) -> Announcement | None:
    """SageMaker Endpoint State Change; the event spells the status IN_SERVICE where the API says InService."""
    if old is not None and old.status == new.status and old.generation == new.generation:
        return None
    status = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", new.status).upper()
    detail = {**event_detail(endpoint(new), new.tags), "EndpointStatus": status}
    return Announcement("SageMaker Endpoint State Change", detail, last=new.status == EndpointStatus.DELETING)


def _changed(old: JobRecord | None, new: JobRecord) -> bool:
    return old is None or (old.status, old.started_at) != (new.status, new.started_at)


def event_detail(view: dict[str, Any], tags: dict[str, str] | None) -> dict[str, Any]:
    """A view with times in epoch milliseconds, as SageMaker's events have them."""
    detail = {name: _milliseconds(name, value) for name, value in view.items()}
    return detail if tags is None else {**detail, "Tags": tags}


def _milliseconds(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _milliseconds(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_milliseconds("", item) for item in value]
    if _TIME.search(name) and isinstance(value, int | float):
        return int(value * 1000)
    return value


def _times(record: JobRecord, noun: str) -> dict[str, float]:
    times = {f"{noun}StartTime": record.started_at, f"{noun}EndTime": record.ended_at}
    return {name: at for name, at in times.items() if at is not None}


def _reason(record: JobRecord | EndpointRecord) -> dict[str, str]:
    return {"FailureReason": record.failure_reason} if record.failure_reason else {}


def _variant(deployment: dict[str, Any]) -> dict[str, Any]:
    variant = deployment["variant"]
    count, weight = variant.get("InitialInstanceCount", 1), variant.get("InitialVariantWeight", 1.0)
    return {
        "VariantName": variant["VariantName"],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
        "DeployedImages": [{"SpecifiedImage": deployment["image"], "ResolvedImage": deployment["image"]}],
    }
