"""Carries tuning jobs: starts their training jobs, a few at a time, and picks the best.

Every training job is written into the tuning job's record before it is created, under a name that follows from the
record, so a restarted service goes on where the last one was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import tuning
from .errors import ApiError, validation
from .proposals import Result, parameters, propose
from .records import TERMINAL, JobRecord, JobStatus, StopCause, TuningRecord
from .table import Table

_LOOK = 0.1  # s between looks at the training jobs' records, which are in memory
_HOPELESS = 5  # training jobs that fail before any succeeded: SageMaker goes no further either
_NONE_SUCCEEDED = (
    "No training job succeeded after {count} attempts. For additional details, please take a look at the training job "
    "failures by listing training jobs for the hyperparameter tuning job."
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """One training job: its record (None: not created yet), what it was given, and its objective if it completed."""

    name: str
    hyperparameters: dict[str, str]
    record: JobRecord | None
    value: float | None

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.record is not None and self.record.is_over


class Tuner:
    """One thread for each tuning job that is not over."""

    def __init__(
        self,
        table: Table[TuningRecord],
        trainings: Table[JobRecord],
        create: Callable[[dict[str, Any], str], Any],
        stop: Callable[[str], None],
    ) -> None:
        """`create` makes a training job of a request and the tuning job's ARN, `stop` stops one by name."""
        self._table = table
        self._trainings = trainings
        self._create = create
        self._stop = stop
        self._closing = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def submit(self, name: str) -> None:
        """Begin, or go on with, a tuning job."""
        thread = threading.Thread(target=self._work, args=(name,), name=f"tuning {name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def recover(self) -> None:
        """Go on with every tuning job that an earlier service left unfinished."""
        for record in self._table.all():
            if not record.is_over:
                self.submit(record.name)

    def stop(self, name: str) -> None:
        """StopHyperParameterTuningJob. Raises ApiError for one that is over; a second stop is no error."""

        def ask(record: TuningRecord) -> TuningRecord:
            if record.is_over:
                text = f"The request was rejected because the hyperparameter tuning job is in status {record.status}."
                raise validation(text)
            if record.status == JobStatus.STOPPING:
                return record
            return replace(record, status=JobStatus.STOPPING, stop_cause=StopCause.USER)

        self._table.update(name, ask)

    def close(self, timeout: float) -> None:
        """Start nothing more. The training jobs are the runner's."""
        self._closing.set()
        deadline = time.monotonic() + timeout
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def children(self, record: TuningRecord) -> list[Child]:
        """The training jobs, in the order of their creation."""
        return [self._child(record, entry) for entry in record.children]

    def _child(self, record: TuningRecord, entry: dict[str, Any]) -> Child:
        found = self._trainings.get(entry["name"])
        metrics = found.metrics if found is not None and found.status == JobStatus.COMPLETED else {}
        value = metrics.get(tuning.objective_of(record.request)[0])
        return Child(entry["name"], entry["hyperparameters"], found, value)

    def best(self, record: TuningRecord) -> Child | None:
        """The training job with the best objective; of equals the first."""
        done = [child for child in self.children(record) if child.value is not None]
        sign = -1 if tuning.objective_of(record.request)[1] else 1
        return min(done, key=lambda child: sign * (child.value or 0.0), default=None)

    def _work(self, name: str) -> None:
        try:
            while not self._closing.is_set() and not self._step(name):
                self._closing.wait(_LOOK)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the job, not the thread
            _log.exception("tuning job %s", name)
            self._end(name, JobStatus.FAILED, f"InternalServerError: {type(error).__name__} in the local job service")
        finally:
            self._threads.pop(name, None)

    def _step(self, name: str) -> bool:
        """Do what can be done now; True once the tuning job is over."""
        record = self._table.get(name)
        if record is None or record.is_over:
            return True
        record = self._out_of_time(record)
        children = self.children(record)
        running = [child for child in children if not child.is_over]
        ending = record.stop_cause is not None
        for child in running:
            if child.record is None:
                self._create(tuning.child_request(record.request, child.name, child.hyperparameters), record.arn)
            if ending:
                self._stop_child(child.name)
        hopeless = len(children) - len(running) >= _HOPELESS and self.best(record) is None
        config = record.request["HyperParameterTuningJobConfig"]
        if not ending and not hopeless:
            for _ in range(config["ResourceLimits"]["MaxParallelTrainingJobs"] - len(running)):
                if len(record.children) >= tuning.most_jobs(record.request):
                    break
                record = self._begin(record)
        if not all(child.is_over for child in self.children(record)):
            return False
        if not ending and not hopeless and len(record.children) < tuning.most_jobs(record.request):
            return False
        self._finish(record)
        return True

    def _out_of_time(self, record: TuningRecord) -> TuningRecord:
        limit = record.request["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxRuntimeInSeconds")
        if limit is None or record.stop_cause is not None or time.time() < record.created_at + limit:
            return record
        return self._table.update(record.name, lambda old: replace(old, stop_cause=StopCause.MAX_RUNTIME))

    def _begin(self, record: TuningRecord) -> TuningRecord:
        config = record.request["HyperParameterTuningJobConfig"]
        number = len(record.children)
        results = [Result(child.hyperparameters, child.value) for child in self.children(record)]
        proposal = propose(config, parameters(config), results, number, record.name)
        name = tuning.child_name(record, number + 1)
        entry = {"name": name, "hyperparameters": proposal}
        kept = self._table.update(record.name, lambda old: replace(old, children=[*old.children, entry]))
        self._create(tuning.child_request(record.request, name, proposal), record.arn)
        return kept

    def _stop_child(self, name: str) -> None:
        found = self._trainings.get(name)
        if found is None or found.is_over or found.status == JobStatus.STOPPING:
            return
        try:
            self._stop(name)
        except ApiError:
            return  # it ended this very moment

    def _finish(self, record: TuningRecord) -> None:
        best = self.best(record)
        if record.stop_cause == StopCause.USER:
            self._end(record.name, JobStatus.STOPPED, None)
        elif best is None:
            self._end(record.name, JobStatus.FAILED, _NONE_SUCCEEDED.format(count=len(record.children)))
        else:
            self._end(record.name, JobStatus.COMPLETED, None)

    def _end(self, name: str, status: JobStatus, reason: str | None) -> None:
        def over(record: TuningRecord) -> TuningRecord:
            if record.status in TERMINAL:
                return record
            return replace(record, status=status, failure_reason=reason, ended_at=time.time())

        self._table.update(name, over)
