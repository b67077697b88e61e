"""SageMaker's statuses in our terms. Every value of the pinned botocore model stands in a table here; a test
fails when AWS adds one. An unknown value counts as *still running*: the deadline bounds the wait."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

from ekiden.domain.decisions import KILLED
from ekiden.domain.model import Failure
from ekiden.domain.transitions import JobStatus
from ekiden.ports import JobReport

JOB_STATUS = {
    "InProgress": JobStatus.RUNNING,
    "Stopping": JobStatus.RUNNING,
    "Deleting": JobStatus.RUNNING,
    "Completed": JobStatus.SUCCEEDED,
    "Failed": JobStatus.FAILED,
    "Stopped": JobStatus.STOPPED,
    "DeleteFailed": JobStatus.FAILED,
}
"""Statuses of processing, training, tuning and transform jobs. Neptune ML's own are these and the endpoints', too."""

EndpointStep = Literal["adopt", "update", "delete", "wait"]

SERVES = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"})
"""Endpoint statuses in which some version of the model answers."""

ENDPOINT_STATUS = {
    "Creating": JobStatus.RUNNING,
    "Updating": JobStatus.RUNNING,
    "SystemUpdating": JobStatus.RUNNING,
    "RollingBack": JobStatus.RUNNING,
    "Deleting": JobStatus.RUNNING,
    "InService": JobStatus.SUCCEEDED,
    "OutOfService": JobStatus.FAILED,
    "Failed": JobStatus.FAILED,
    "UpdateRollbackFailed": JobStatus.FAILED,
}
"""``EndpointStatus``; success also needs the intended configuration."""

_REASON = re.compile(r"^(?P<code>[A-Z][A-Z0-9_]{2,63}): (?P<message>.+)$", re.DOTALL)
_SAGEMAKER_REASON = re.compile(r"^(?P<kind>[A-Z][A-Za-z]+(?:Error|Exceeded)):\s*(?P<rest>.*)$", re.DOTALL)
_EXIT_CODE = re.compile(r",? *exit code: (?P<exit>\d+)\s*$", re.IGNORECASE)

TIME_WAS_UP = frozenset({"MaxRuntimeExceeded", "MaxWaitTimeExceeded"})
"""``SecondaryStatus`` of a training job that ended because its time, or that of waiting for capacity, was up."""

EXIT_BAD_DATA = 65
EXIT_TEMPORARY = 75
EXIT_KILLED = frozenset({137, 143})
"""128 + SIGKILL or SIGTERM: not the program's own decision. A job that *we* stop is ``Stopped``, not ``Failed``."""
TRANSIENT_KINDS = frozenset({"InternalServerError", "CapacityError"})
"""Kinds of ``FailureReason`` that are the platform's fault."""


def of_processing(answer: dict[str, Any]) -> JobReport:
    """``DescribeProcessingJob``'s answer."""
    status = JOB_STATUS.get(answer["ProcessingJobStatus"], JobStatus.RUNNING)
    failure, transient = _failure(answer, own_words=answer.get("ExitMessage"))
    if status is JobStatus.STOPPED and answer.get("FailureReason"):
        # Processing has no secondary status: that its time was up stands in the reason only.
        timed_out = str(answer["FailureReason"]).startswith("MaxRuntimeExceeded")
        status = JobStatus.TIMED_OUT if timed_out else JobStatus.FAILED
    return _report(status, failure, transient, answer, "ProcessingStartTime", "ProcessingEndTime")


def of_training(answer: dict[str, Any]) -> JobReport:
    """``DescribeTrainingJob``'s answer."""
    status = JOB_STATUS.get(answer["TrainingJobStatus"], JobStatus.RUNNING)
    if answer.get("SecondaryStatus") in TIME_WAS_UP and status is not JobStatus.RUNNING:
        status = JobStatus.TIMED_OUT
    failure, transient = _failure(answer, own_words=None)
    return _report(status, failure, transient, answer, "TrainingStartTime", "TrainingEndTime")


def of_endpoint(answer: dict[str, Any], *, config: str, not_begun: bool) -> JobReport | None:
    """``DescribeEndpoint``'s answer to an attempt that deploys ``config``.

    ``not_begun``: the attempt has not called SageMaker yet as far as the ledger knows, so that a foreign
    configuration in service says nothing about it.
    """
    status = ENDPOINT_STATUS.get(answer["EndpointStatus"], JobStatus.RUNNING)
    current, created_at = answer.get("EndpointConfigName"), _moment(answer.get("CreationTime"))
    if status is JobStatus.RUNNING:
        concerned = _concerns(answer, config) or not not_begun
        return JobReport(JobStatus.RUNNING, created_at=created_at) if concerned else None
    if current == config and status is JobStatus.SUCCEEDED:
        return JobReport(JobStatus.SUCCEEDED, ended_at=_moment(answer.get("LastModifiedTime")), created_at=created_at)
    if not_begun and current != config:
        return None
    reason = str(answer.get("FailureReason") or f"endpoint is {answer['EndpointStatus']} with {current}")
    return JobReport(JobStatus.FAILED, Failure("ENDPOINT_FAILED", reason[:1024]))


def serves(answer: dict[str, Any]) -> bool:
    """Whether the endpoint that ``DescribeEndpoint`` tells of answers."""
    return answer["EndpointStatus"] in SERVES


def next_step(answer: dict[str, Any], config: str) -> EndpointStep:
    """What to do so that an existing endpoint comes to serve ``config``."""
    status = answer["EndpointStatus"]
    if status == "Failed":
        # What failed with this very configuration is the attempt's own result, not something to begin anew.
        return "adopt" if answer.get("EndpointConfigName") == config else "delete"
    if _concerns(answer, config) and status in {"Creating", "Updating", "InService"}:
        return "adopt"
    return "update" if status == "InService" else "wait"


def _concerns(answer: dict[str, Any], config: str) -> bool:
    pending = answer.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    return config in {answer.get("EndpointConfigName"), pending}


def _failure(answer: dict[str, Any], *, own_words: str | None) -> tuple[Failure | None, bool]:
    reason = str(answer.get("FailureReason") or "")
    exit_match = _EXIT_CODE.search(reason)
    exit_code = int(exit_match["exit"]) if exit_match else None
    reason = reason[: exit_match.start()] if exit_match else reason
    kind_match = _SAGEMAKER_REASON.match(reason)
    kind, rest = (kind_match["kind"], kind_match["rest"]) if kind_match else ("", reason)
    transient = exit_code == EXIT_TEMPORARY or exit_code in EXIT_KILLED or kind in TRANSIENT_KINDS
    text = (own_words or rest).strip()
    if exit_code in EXIT_KILLED:
        killed = f"the container was killed (exit code {exit_code}), as happens when its memory runs out"
        return Failure(KILLED, f"{killed}; its last words: {text}" if text else killed), transient
    if not text and exit_code is not None:
        text = f"the container ended with exit code {exit_code} and gave no reason"
    if not text:
        return None, transient
    ours = _REASON.match(text)
    return (Failure(ours["code"], ours["message"]) if ours else Failure(_code_of(kind), text)), transient


def _code_of(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper() if kind else "JOB_FAILED"


def _report(
    status: JobStatus,
    failure: Failure | None,
    transient: bool,
    answer: dict[str, Any],
    started: str,
    ended: str,
) -> JobReport:
    bad = status not in {JobStatus.RUNNING, JobStatus.SUCCEEDED}
    return JobReport(
        status,
        failure if bad else None,
        transient and bad,
        _moment(answer.get(started)),
        _moment(answer.get(ended)),
    )


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
