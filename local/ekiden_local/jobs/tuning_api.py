"""The API of tuning jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import tuning, tuning_views
from .config import Settings
from .errors import ApiError
from .listing import page
from .records import JobRecord, TuningRecord
from .table import Table
from .tags import to_tags
from .tuner import Child, Tuner

Request = dict[str, Any]
_NAME = "HyperParameterTuningJobName"


class TuningApi:
    """Create, describe, list and stop tuning jobs, and list their training jobs."""

    def __init__(self, settings: Settings, table: Table[TuningRecord], tuner: Tuner) -> None:
        self._settings = settings
        self._table = table
        self._tuner = tuner

    def operations(self) -> dict[str, Callable[[Request], Request | None]]:
        """What this part of the API serves."""
        return {
            "CreateHyperParameterTuningJob": self.create,
            "DescribeHyperParameterTuningJob": self.describe,
            "ListHyperParameterTuningJobs": self.list,
            "StopHyperParameterTuningJob": self.stop,
            "ListTrainingJobsForHyperParameterTuningJob": self.list_trainings,
        }

    def create(self, request: Request) -> Request:
        """Keep the tuning job; its first training jobs start at once."""
        tuning.check(request)
        name, now = request[_NAME], time.time()
        arn = self._settings.arn("hyper-parameter-tuning-job", name)
        tags = to_tags(request.get("Tags", []))
        record = TuningRecord(name=name, arn=arn, request=request, created_at=now, modified_at=now, tags=tags)
        if not self._table.create(record):
            text = f"Hyperparameter tuning job names must be unique within an AWS account and region ({arn})"
            raise ApiError("ResourceInUse", text)
        self._tuner.submit(name)
        return {"HyperParameterTuningJobArn": arn}

    def describe(self, request: Request) -> Request:
        """The tuning job as it is now."""
        record = self._get(request)
        return tuning_views.described(record, self._tuner.children(record), self._tuner.best(record))

    def stop(self, request: Request) -> None:
        """Ask a tuning job and its training jobs to end."""
        self._tuner.stop(self._get(request).name)

    def list(self, request: Request) -> Request:
        """Tuning jobs by name, status and time; the newest first, as the service has it here."""
        shown, token = page(self._table.all(), request, status=lambda record: record.status, order="Descending")
        return {
            "HyperParameterTuningJobSummaries": [
                tuning_views.summary(record, self._tuner.children(record)) for record in shown
            ],
            **token,
        }

    def list_trainings(self, request: Request) -> Request:
        """The training jobs of one tuning job."""
        record = self._get(request)
        children = {child.name: child for child in self._tuner.children(record)}
        known = [child.record for child in children.values() if child.record is not None]
        shown, token = page(
            known, request, status=lambda found: found.status, measure=lambda found: _value(children[found.name])
        )
        return {
            "TrainingJobSummaries": [tuning_views.training_summary(record, children[one.name]) for one in shown],
            **token,
        }

    def _get(self, request: Request) -> TuningRecord:
        record = self._table.get(request[_NAME])
        if record is None:
            raise ApiError(
                "ResourceNotFound", f"Amazon SageMaker can't find a tuning job with the name {request[_NAME]}"
            )
        return record


def _value(child: Child) -> float:
    """For sorting; a training job without an objective comes last."""
    return child.value if child.value is not None else float("inf")


__all__ = ["JobRecord", "TuningApi"]
