"""The API of training and processing jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import views
from .config import Settings
from .errors import ApiError, validation
from .kinds import JobKind
from .listing import page
from .records import JobRecord, Kind
from .runner import JobRunner, queued
from .table import Table
from .tags import to_tags

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wording:
    """Where SageMaker's two kinds of job differ in the API: names, texts and views."""

    noun: str
    resource: str
    taken: str
    missing: str
    view: Callable[[JobRecord], Request]
    summary: Callable[[JobRecord], Request]


TRAINING = Wording(
    "Training",
    "training-job",
    "Training job names must be unique within an AWS account and region, and a training job with this name already "
    "exists ({arn})",
    "Requested resource not found.",
    views.training,
    views.training_summary,
)
PROCESSING = Wording(
    "Processing",
    "processing-job",
    "Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
    "Could not find requested job with name: {name}",
    views.processing,
    views.processing_summary,
)


class JobApi:
    """Create, describe, list and stop one kind of job."""

    def __init__(
        self, settings: Settings, kind: JobKind, table: Table[JobRecord], runner: JobRunner, wording: Wording
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._table = table
        self._runner = runner
        self._wording = wording

    def operations(self) -> dict[str, Callable[[Request], Request | None]]:
        """What this part of the API serves."""
        job = f"{self._wording.noun}Job"
        return {
            f"Create{job}": self.create,
            f"Describe{job}": self.describe,
            f"Stop{job}": self.stop,
            f"List{job}s": self.list,
        }

    def create(self, request: Request, tuning_arn: str | None = None) -> Request:
        """Keep the job; it starts as soon as there is a place. `tuning_arn`: of the tuning job it belongs to."""
        self._kind.check(request)
        name = request[f"{self._wording.noun}JobName"]
        arn = self._settings.arn(self._wording.resource, name)
        now = time.time()
        record = JobRecord(
            name=name,
            arn=arn,
            request=request,
            created_at=now,
            modified_at=now,
            tags=to_tags(request.get("Tags", [])),
            log_stream=f"{name}/algo-1-{int(now)}",
            tuning_arn=tuning_arn,
        )
        if not self._table.create(queued(record)):
            raise ApiError("ResourceInUse", self._wording.taken.format(arn=arn))
        self._runner.submit(self._kind.kind, name)
        return {f"{self._wording.noun}JobArn": arn}

    def describe(self, request: Request) -> Request:
        """The job as it is now."""
        return self._wording.view(self._get(request))

    def stop(self, request: Request) -> None:
        """Ask a job to end."""
        self._runner.stop(self._kind.kind, self._get(request).name)

    def list(self, request: Request) -> Request:
        """Jobs by name, status and time."""
        shown, token = page(self._table.all(), request, status=lambda record: record.status)
        return {
            f"{self._wording.noun}JobSummaries": [self._wording.summary(record) for record in shown],
            **token,
        }

    def _get(self, request: Request) -> JobRecord:
        name = request[f"{self._wording.noun}JobName"]
        record = self._table.get(name)
        if record is None:
            raise validation(self._wording.missing.format(name=name))
        return record


def wording_of(kind: Kind) -> Wording:
    """The wording of a kind of job."""
    return TRAINING if kind is Kind.TRAINING else PROCESSING
