"""Tuning jobs: what we ask SageMaker for, and what its answer says in our terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ekiden.adapters.sagemaker_requests import SageMakerSettings, tags_of, training_request
from ekiden.adapters.sagemaker_status import JOB_STATUS, of_training
from ekiden.domain.model import Failure
from ekiden.domain.transitions import JobStatus
from ekiden.ports import Job, JobReport, Range, Trial, Tuning

NOT_OF_A_DEFINITION: Final = ("TrainingJobName", "HyperParameters", "Tags", "AlgorithmSpecification")
_KEYS: Final = {
    "integer": "IntegerParameterRanges",
    "continuous": "ContinuousParameterRanges",
    "categorical": "CategoricalParameterRanges",
}


def tuning_request(job: Job, tuning: Tuning, settings: SageMakerSettings) -> dict[str, Any]:
    """``CreateHyperParameterTuningJob``: the training job that ``job`` describes, many times."""
    training = training_request(job, settings)
    definitions = [{"Name": name, "Regex": regex} for name, regex in tuning.metrics.items()]
    return {
        "HyperParameterTuningJobName": job.name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize" if tuning.maximize else "Minimize",
                "MetricName": tuning.objective,
            },
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": tuning.jobs,
                "MaxParallelTrainingJobs": tuning.parallel,
                "MaxRuntimeInSeconds": tuning.max_seconds,
            },
            "ParameterRanges": _ranges(tuning.ranges),
            # A job that SageMaker breaks off has no model, and our jobs stop early by themselves.
            "TrainingJobEarlyStoppingType": "Off",
            "RandomSeed": tuning.seed,
        },
        "TrainingJobDefinition": {
            **{name: value for name, value in training.items() if name not in NOT_OF_A_DEFINITION},
            "AlgorithmSpecification": {**training["AlgorithmSpecification"], "MetricDefinitions": definitions},
            "StaticHyperParameters": job.hyperparameters,
        },
        "Tags": tags_of(job.run_id, job.stage.value),
    }


def of_tuning(answer: dict[str, Any], failed_child: Callable[[], dict[str, Any] | None]) -> JobReport:
    """``DescribeHyperParameterTuningJob``'s answer. ``failed_child`` finds a training job that failed: its reason says
    more than that of the tuning job."""
    status = JOB_STATUS.get(answer["HyperParameterTuningJobStatus"], JobStatus.RUNNING)
    best = answer.get("BestTrainingJob", {}).get("TrainingJobName")
    if status is JobStatus.STOPPED and best and _time_was_up(answer):
        status = JobStatus.SUCCEEDED  # the limit was ours: what was found until then counts
    report = JobReport(
        status, started_at=answer.get("CreationTime"), ended_at=answer.get("HyperParameterTuningEndTime")
    )
    if status is JobStatus.SUCCEEDED and best:
        return replace(report, best_job=best)
    if status in {JobStatus.RUNNING, JobStatus.STOPPED}:
        return report
    child = failed_child()
    found = of_training({**child, "SecondaryStatus": ""}) if child else None
    reason = str(answer.get("FailureReason") or "no training job of the search gave a model")[:1024]
    failure = found.failure if found and found.failure else Failure("TUNING_FAILED", reason)
    return replace(report, status=JobStatus.FAILED, failure=failure, transient=bool(found and found.transient))


def trial_of(entry: Mapping[str, Any]) -> Trial:
    """An entry of ``ListTrainingJobsForHyperParameterTuningJob``."""
    return Trial(
        job=entry["TrainingJobName"],
        status=entry["TrainingJobStatus"],
        hyperparameters=dict(entry["TunedHyperParameters"]),
        value=entry.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
        started_at=entry.get("TrainingStartTime"),
        ended_at=entry.get("TrainingEndTime"),
    )


def environment_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The environment that a described tuning job gives its training jobs."""
    found: Mapping[str, Any] = answer.get("TrainingJobDefinition", {}).get("Environment", {})
    return found


def _time_was_up(answer: dict[str, Any]) -> bool:
    limit = answer["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxRuntimeInSeconds")
    used = answer.get("ConsumedResources", {}).get("RuntimeInSeconds", 0)
    return limit is not None and used >= limit


def _ranges(ranges: tuple[Range, ...]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in ranges:
        shape: dict[str, Any] = {"Name": entry.name}
        if entry.kind == "categorical":
            shape["Values"] = list(entry.values)
        else:
            shape |= {
                "MinValue": entry.low,
                "MaxValue": entry.high,
                "ScalingType": "Logarithmic" if entry.logarithmic else "Linear",
            }
        found.setdefault(_KEYS[entry.kind], []).append(shape)
    return found
