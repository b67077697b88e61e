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
        answer = self._events(kind, job, {"limit": limit, "startFromHead": False})
        return [_line(event) for event in answer["events"]]

    def read(self, kind: JobKind, job: str, limit: int, token: str | None) -> tuple[list[JobLogLine], str | None]:
        """See ``ports.JobLogs.read``. At the end of a stream CloudWatch gives back the token it was asked with."""
        request = {"limit": limit, "startFromHead": True} | ({"nextToken": token} if token else {})
        answer = self._events(kind, job, request)
        following = answer.get("nextForwardToken")
        return [_line(event) for event in answer["events"]], following if following != token else None

    def _events(self, kind: JobKind, job: str, request: dict[str, Any]) -> dict[str, Any]:
        """A page of the job's newest stream; no events if it wrote none."""
        group, prefix = _place(kind, job)
        named = {"logStreamNamePrefix": prefix} if prefix else {}
        try:
            with translated():
                streams = self._client.describe_log_streams(logGroupName=group, **named)["logStreams"]  # type: ignore[arg-type]
                if not streams:
                    return {"events": []}
                newest = max(streams, key=lambda stream: stream.get("lastEventTimestamp", 0))
                return dict(
                    self._client.get_log_events(logGroupName=group, logStreamName=newest["logStreamName"], **request)
                )
        except NotFound:
            return {"events": []}


def _place(kind: JobKind, job: str) -> tuple[str, str]:
    """Log group and stream prefix: jobs share a group, an endpoint has its own."""
    if kind is JobKind.ENDPOINT:
        return f"/aws/sagemaker/Endpoints/{job}", ""
    return GROUPS[kind], f"{job}/"


def _line(event: Any) -> JobLogLine:
    return JobLogLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["message"].rstrip("\n"))
