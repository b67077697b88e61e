"""What differs between training and processing jobs, as the runner sees it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

from .checkpoints import Checkpoints
from .records import JobRecord, Kind
from .s3 import Store


class JobKind(Protocol):
    """A kind of job: its requests, its files and its outputs. `root` is the job's own ``/opt/ml``."""

    kind: Kind
    log_group: str

    def check(self, request: dict[str, Any]) -> None:
        """Refuse what this service cannot do. Raises ApiError."""

    def container(self, request: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        """Image URI, entrypoint and arguments."""

    def prepare(self, record: JobRecord, root: Path, store: Store, stop: threading.Event) -> None:
        """Lay out the root and fetch the inputs. Raises JobFailure, and Interrupted once `stop` is set."""

    def checkpoints(self, record: JobRecord, root: Path, store: Store) -> Checkpoints | None:
        """The folder that is kept in S3 while the program runs, for requests that ask for one."""

    def environment(self, record: JobRecord, root: Path) -> dict[str, str]:
        """SageMaker's own variables for this job."""

    def deliver(self, record: JobRecord, root: Path, store: Store, *, succeeded: bool) -> None:
        """Put the outputs of a program that `succeeded`, or that failed or was stopped. Raises JobFailure."""


def max_runtime(request: dict[str, Any]) -> float:
    """Seconds that the program may run; a day where the request does not say."""
    return float(request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86_400))


def user_environment(request: dict[str, Any]) -> dict[str, str]:
    """The request's Environment."""
    return dict(request.get("Environment", {}))
