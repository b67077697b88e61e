"""What SageMaker jobs wrote, from CloudWatch Logs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ekiden.adapters.aws_errors import translated
from ekiden.domain.model import JobKind
from ekiden.errors import ContractViolation, NotFound
from ekiden.ports import JobLogLine

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

GROUPS = {
    JobKind.PROCESSING: "/aws/sagemaker/ProcessingJobs",
    JobKind.TRAINING: "/aws/sagemaker/TrainingJobs",
    JobKind.TUNING: "/aws/sagemaker/TrainingJobs",
}


MAX_PAGES = 10
"""Calls to CloudWatch for one page of ours."""


class CloudWatchJobLogs:
    """Implements ``ports.JobLogs``."""

    def __init__(self, client: CloudWatchLogsClient) -> None:
        self._client = client

    def tail(self, kind: JobKind, job: str, limit: int) -> list[JobLogLine]:
        """See ``ports.JobLogs.tail``."""
        group, prefix = _place(kind, job)
        try:
            with translated():
                streams = self._streams(group, prefix)
                if not streams:
                    return []
                newest = max(streams, key=lambda stream: stream.get("lastEventTimestamp", 0))
                events = self._client.get_log_events(
                    logGroupName=group, logStreamName=newest["logStreamName"], limit=limit, startFromHead=False
                )["events"]
        except NotFound:
            return []
        return [_line(event) for event in events]

    def read(self, kind: JobKind, job: str, limit: int, token: str | None) -> tuple[list[JobLogLine], str | None]:
        """See ``ports.JobLogs.read``. Stream by stream: a page may be empty before the end of a stream, which is
        reached when CloudWatch gives back the token that it got."""
        group, prefix = _place(kind, job)
        number, inner = _cursor(token)
        try:
            with translated():
                streams = sorted(stream["logStreamName"] for stream in self._streams(group, prefix))
                for _ in range(MAX_PAGES):
                    if number >= len(streams):
                        return [], None
                    request: dict[str, Any] = {"nextToken": inner} if inner else {}
                    answer = self._client.get_log_events(
                        logGroupName=group, logStreamName=streams[number], limit=limit, startFromHead=True, **request
                    )
                    following = answer["nextForwardToken"]
                    if answer["events"]:
                        return [_line(event) for event in answer["events"]], f"{number}|{following}"
                    number, inner = (number + 1, "") if following == inner else (number, following)
        except NotFound:
            return [], None
        return [], f"{number}|{inner}"

    def _streams(self, group: str, prefix: str) -> list[Any]:
        request: dict[str, Any] = {"logStreamNamePrefix": prefix} if prefix else {}
        streams: list[Any] = []
        for _ in range(MAX_PAGES):
            answer = self._client.describe_log_streams(logGroupName=group, **request)
            streams += answer["logStreams"]
            if not answer.get("nextToken"):
                break
            request["nextToken"] = answer["nextToken"]
        return streams


def _cursor(token: str | None) -> tuple[int, str]:
    number, _, inner = (token or "0|").partition("|")
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise ContractViolation("next_token is not one that this API gave", code="INVALID_TOKEN")
    return int(number), inner


def _place(kind: JobKind, job: str) -> tuple[str, str]:
    """Log group and stream prefix: jobs share a group, an endpoint has its own. A tuning job has the logs of its
    training jobs, whose names begin with its own."""
    if kind is JobKind.ENDPOINT:
        return f"/aws/sagemaker/Endpoints/{job}", ""
    return GROUPS[kind], f"{job}-" if kind is JobKind.TUNING else f"{job}/"


def _line(event: Any) -> JobLogLine:
    return JobLogLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["message"].rstrip("\n"))
