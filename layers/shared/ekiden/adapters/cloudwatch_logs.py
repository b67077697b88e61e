"""What SageMaker jobs wrote, from CloudWatch Logs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ekiden.adapters.aws_errors import translated
from ekiden.domain.model import JobKind
from ekiden.errors import NotFound
from ekiden.ports import JobLogLine

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

GROUPS = {
    JobKind.PROCESSING: "/aws/sagemaker/ProcessingJobs",
    JobKind.TRAINING: "/aws/sagemaker/TrainingJobs",
}


class CloudWatchJobLogs:
    """Implements ``ports.JobLogs``."""

    def __init__(self, client: CloudWatchLogsClient) -> None:
        self._client = client

    def tail(self, kind: JobKind, job: str, limit: int) -> list[JobLogLine]:
        """See ``ports.JobLogs.tail``."""
        group, prefix = _place(kind, job)
        request: dict[str, Any] = {"logGroupName": group}
        if prefix:
            request["logStreamNamePrefix"] = prefix
        try:
            with translated():
                streams = self._client.describe_log_streams(**request)["logStreams"]
                if not streams:
                    return []
                newest = max(streams, key=lambda stream: stream.get("lastEventTimestamp", 0))
                events = self._client.get_log_events(
                    logGroupName=group,
                    logStreamName=newest["logStreamName"],
                    limit=limit,
                    startFromHead=False,
                )["events"]
        except NotFound:
            return []
        return [_line(event) for event in events]

    def read(self, kind: JobKind, job: str, limit: int, token: str | None) -> tuple[list[JobLogLine], str | None]:
        """See ``ports.JobLogs.read``."""
        group, prefix = _place(kind, job)
        request: dict[str, Any] = {"logGroupName": group, "limit": limit}
        if prefix:
            request["logStreamNamePrefix"] = prefix
        if token:
            request["nextToken"] = token
        try:
            with translated():
                answer = self._client.filter_log_events(**request)
        except NotFound:
            return [], None
        return [_line(event) for event in answer["events"]], answer.get("nextToken")


def _place(kind: JobKind, job: str) -> tuple[str, str]:
    """Log group and stream prefix: jobs share a group, an endpoint has its own."""
    if kind is JobKind.ENDPOINT:
        return f"/aws/sagemaker/Endpoints/{job}", ""
    return GROUPS[kind], f"{job}/"


def _line(event: Any) -> JobLogLine:
    return JobLogLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["message"].rstrip("\n"))
