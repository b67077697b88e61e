"""Tuning jobs as the API and the events show them."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from . import tuning
from .errors import JobFailure
from .events import Announcement
from .records import JobRecord, JobStatus, TuningRecord
from .tuner import Child
from .views import event_detail, given

_STATUS = {JobStatus.COMPLETED: "Completed", JobStatus.FAILED: "NonRetryableError", JobStatus.STOPPED: "Stopped"}


def described(record: TuningRecord, children: list[Child], best: Child | None) -> dict[str, Any]:
    """DescribeHyperParameterTuningJob."""
    view = {
        **given(record.request, "DescribeHyperParameterTuningJob"),
        **_common(record, children),
        "ConsumedResources": {"RuntimeInSeconds": int((record.ended_at or time.time()) - record.created_at)},
        **({"FailureReason": record.failure_reason} if record.failure_reason else {}),
    }
    if best is not None:
        view["BestTrainingJob"] = training_summary(record, best)
    return view


def summary(record: TuningRecord, children: list[Child]) -> dict[str, Any]:
    """An entry of ListHyperParameterTuningJobs."""
    config = record.request["HyperParameterTuningJobConfig"]
    return {
        **_common(record, children),
        "Strategy": config["Strategy"],
        "ResourceLimits": config["ResourceLimits"],
    }


def training_summary(record: TuningRecord, child: Child) -> dict[str, Any]:
    """An entry of ListTrainingJobsForHyperParameterTuningJob, and a BestTrainingJob."""
    found = child.record
    if found is None:
        raise JobFailure(f"InternalServerError: training job {child.name} is not created yet")
    name, _ = tuning.objective_of(record.request)
    shown: dict[str, Any] = {
        "TrainingJobName": found.name,
        "TrainingJobArn": found.arn,
        "TuningJobName": record.name,
        "CreationTime": found.created_at,
        "TrainingJobStatus": str(found.status),
        "TunedHyperParameters": child.hyperparameters,
    }
    times = {"TrainingStartTime": found.started_at, "TrainingEndTime": found.ended_at}
    shown |= {key: at for key, at in times.items() if at is not None}
    if found.failure_reason:
        shown["FailureReason"] = found.failure_reason
    if child.value is not None:
        shown["FinalHyperParameterTuningJobObjectiveMetric"] = {"MetricName": name, "Value": child.value}
    shown["ObjectiveStatus"] = _objective_status(child)
    return shown


def announce(old: TuningRecord | None, new: TuningRecord) -> Announcement | None:
    """SageMaker HyperParameter Tuning Job State Change, for every new status."""
    if old is not None and old.status == new.status:
        return None
    view = {**given(new.request, "DescribeHyperParameterTuningJob"), **_times(new)}
    if new.failure_reason:
        view["FailureReason"] = new.failure_reason
    return Announcement("SageMaker HyperParameter Tuning Job State Change", event_detail(view, new.tags))


def _common(record: TuningRecord, children: list[Child]) -> dict[str, Any]:
    counts = Counter(_counted(child.record) for child in children)
    objectives = Counter(_objective_status(child) for child in children)
    names = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
    return {
        **_times(record),
        "TrainingJobStatusCounters": {name: counts[name] for name in names},
        "ObjectiveStatusCounters": {name: objectives[name] for name in ("Succeeded", "Pending", "Failed")},
    }


def _times(record: TuningRecord) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobName": record.name,
        "HyperParameterTuningJobArn": record.arn,
        "HyperParameterTuningJobStatus": str(record.status),
        "CreationTime": record.created_at,
        "LastModifiedTime": record.modified_at,
        **({"HyperParameterTuningEndTime": record.ended_at} if record.ended_at else {}),
    }


def _counted(record: JobRecord | None) -> str:
    return _STATUS.get(JobStatus(record.status), "InProgress") if record is not None else "InProgress"


def _objective_status(child: Child) -> str:
    if child.value is not None:
        return "Succeeded"
    return "Failed" if child.is_over else "Pending"
