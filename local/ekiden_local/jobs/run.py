"""One job from first to last, in a thread of its own; a restarted service goes on at the recorded phase."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import mlroot
from .config import Settings
from .errors import Interrupted, JobFailure
from .kinds import JobKind, max_runtime, user_environment
from .logs import LogShipper
from .process import Child, Exit
from .records import JobRecord, JobStatus, Phase, StopCause, step
from .s3 import Store
from .table import Table
from .tuning import metrics_of

_LOG_PATIENCE = 1.0  # s that the end of a failed job waits for its last lines to reach CloudWatch
_SHUTDOWN_GRACE = 5.0  # s between SIGTERM and SIGKILL when the service itself goes down
_INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
_log = logging.getLogger(__name__)


class Run:
    """Carries one job through preparing, running and finishing."""

    def __init__(
        self,
        name: str,
        kind: JobKind,
        table: Table[JobRecord],
        store: Store,
        logs: LogShipper,
        settings: Settings,
    ) -> None:
        self.name = name
        self.kind = kind
        self._table = table
        self._store = store
        self._logs = logs
        self._settings = settings
        folder = table.folder(name)
        self._root: Path = folder / "ml"
        self._control: Path = folder / "control"
        self._log_file: Path = folder / "log"
        self._wake = threading.Event()
        self._cancel = threading.Event()
        self._shutdown = False

    def stop(self) -> None:
        """Look at the record again: somebody asked for a stop."""
        self._cancel.set()
        self._wake.set()

    def shut_down(self) -> None:
        """End the program because the service goes down; a job that is still preparing is left as it is."""
        self._shutdown = True
        self.stop()

    def carry_on(self) -> None:
        """Everything that is still to be done. Never raises."""
        try:
            self._carry_on()
        except Interrupted:
            if not self._shutdown:
                self._end(JobStatus.STOPPED, None)
        except JobFailure as failure:
            self._end(JobStatus.FAILED, failure.reason)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the job, not the thread
            _log.exception("job %s", self.name)
            self._end(JobStatus.FAILED, f"{_INTERNAL} ({type(error).__name__} in the local job service)")

    def clean_up(self) -> None:
        """Free the disk after a success; what a failed job had is kept for a look."""
        record = self._table.get(self.name)
        if record is not None and record.status == JobStatus.COMPLETED and not self._settings.keep_roots:
            shutil.rmtree(self._root, ignore_errors=True)

    def _carry_on(self) -> None:
        phase = self._record.phase
        child: Child | None = None
        if phase in (Phase.QUEUED, Phase.PREPARING):
            self._prepare()
        else:
            child = Child.adopt(self._control, self._wake.set)
        if phase == Phase.FINISHING and child is None:
            raise JobFailure(f"{_INTERNAL} (The record of how the job's process ended is gone.)")
        checkpoints = self.kind.checkpoints(self._record, self._root, self._store)
        # "running" without a child: the service died between the record of the intent and the act.
        child = child or self._spawn()
        self._logs.follow(self._log_file, self.kind.log_group, self._record.log_stream)
        if checkpoints is not None:
            checkpoints.follow()
        try:
            if phase != Phase.FINISHING:
                self._watch(child)
        finally:
            if checkpoints is not None:
                checkpoints.finish()
        if phase != Phase.FINISHING and self._shutdown:
            raise JobFailure(f"{_INTERNAL} (The local job service was shut down while the job ran.)")
        ended = child.wait()
        if ended is None:
            raise JobFailure(_INTERNAL)
        self._finish(ended)

    @property
    def _record(self) -> JobRecord:
        record = self._table.get(self.name)
        if record is None:
            raise Interrupted
        return record

    def _step(self, secondary: str, message: str, **changes: Any) -> JobRecord:
        return self._table.update(self.name, lambda record: step(record, time.time(), secondary, message, **changes))

    def _prepare(self) -> None:
        record = self._record
        if record.stop_cause is not None:
            raise Interrupted
        image, entrypoint, arguments = self.kind.container(record.request)
        self._settings.images.argv(image, entrypoint, arguments)  # an unknown image fails before anything is fetched
        self._step("Downloading", "Downloading input data", phase=Phase.PREPARING)
        self.kind.prepare(record, self._root, self._store, self._cancel)

    def _spawn(self) -> Child:
        record = self._record
        if record.stop_cause is not None or self._shutdown:
            raise Interrupted
        request = record.request
        argv = self._settings.images.argv(*self.kind.container(request))
        if record.phase != Phase.RUNNING:
            self._step("Training", "Training in progress", phase=Phase.RUNNING, started_at=time.time())
        return Child.spawn(
            self._control,
            [mlroot.relocate(self._root, word) for word in argv],
            env=mlroot.environment(
                self._root,
                endpoint_url=self._settings.endpoint_url,
                region=self._settings.region,
                own=self.kind.environment(record, self._root),
                user=user_environment(request),
            ),
            cwd=self._root,
            log=self._log_file,
            on_exit=self._wake.set,
        )

    def _watch(self, child: Child) -> None:
        """Wait for the program's end, asking for it where the user, the clock or the service's own end demands it."""
        record = self._record
        limit = (record.started_at or time.time()) + max_runtime(record.request)
        told, killed = False, False
        shutdown_at: float | None = None
        while child.exit is None:
            now = time.time()
            record = self._record
            if record.stop_cause is None and now >= limit:
                record = self._step(
                    "Stopping",
                    "The program runs longer than MaxRuntimeInSeconds",
                    status=JobStatus.STOPPING,
                    stop_cause=StopCause.MAX_RUNTIME,
                    stop_at=now,
                )
            if self._shutdown and shutdown_at is None:
                shutdown_at = now + _SHUTDOWN_GRACE
            deadlines = [limit] if record.stop_cause is None else [(record.stop_at or now) + self._settings.stop_grace]
            if shutdown_at is not None:
                deadlines.append(shutdown_at)
            stopping = record.stop_cause is not None or shutdown_at is not None
            if stopping and not told:
                child.terminate()
                told = True
            if stopping and not killed and now >= min(deadlines):
                child.kill()
                killed = True
            self._wake.wait(None if killed else max(0.0, min(deadlines) - now))
            self._wake.clear()

    def _finish(self, ended: Exit) -> None:
        record = self._record
        if record.phase != Phase.FINISHING:
            if record.stop_cause is None:
                record = self._step("Uploading", "Uploading the outputs", phase=Phase.FINISHING)
            else:
                record = self._table.update(self.name, lambda old: replace(old, phase=Phase.FINISHING))
        if ended.error is not None:
            image = self.kind.container(record.request)[0]
            raise JobFailure(
                f"ClientError: CannotStartContainerError. Please ensure that the command of image '{image[:200]}' "
                f"starts on this machine: {ended.error}"
            )
        stopped = record.stop_cause is not None
        if ended.lost and not stopped:
            raise JobFailure(f"{_INTERNAL} (The job's process was killed together with what watched it.)")
        succeeded = ended.code == 0 and not stopped
        self._store_outputs(record, succeeded=succeeded, must=succeeded or stopped)
        if stopped:
            self._end(JobStatus.STOPPED, self._stop_reason(record))
        elif succeeded:
            self._end(JobStatus.COMPLETED, None)
        else:
            self._end(JobStatus.FAILED, mlroot.algorithm_error(self._failure_text(), ended.code))

    def _store_outputs(self, record: JobRecord, *, succeeded: bool, must: bool) -> None:
        try:
            self.kind.deliver(record, self._root, self._store, succeeded=succeeded)
        except JobFailure as failure:
            if must:
                raise
            _log.warning("job %s failed, and its outputs could not be kept: %s", self.name, failure.reason)

    def _failure_text(self) -> str:
        for name in ("output/failure", "output/message"):
            if text := mlroot.read_text(self._root, name):
                return text
        return mlroot.last_line(self._log_file)

    def _stop_reason(self, record: JobRecord) -> str | None:
        if record.stop_cause != StopCause.MAX_RUNTIME:
            return None
        limit = int(max_runtime(record.request))
        return f"MaxRuntimeExceeded: the job ran longer than StoppingCondition.MaxRuntimeInSeconds ({limit} s)"

    def _end(self, status: JobStatus, reason: str | None) -> None:
        # A user who reads the log because of the failure event should find the last lines there.
        self._logs.finish(self._log_file, _LOG_PATIENCE if status == JobStatus.FAILED else 0.0)
        record = self._table.get(self.name)
        if record is None or record.is_over:
            return
        secondary = status.value
        definitions = record.request.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
        if status == JobStatus.STOPPED and record.stop_cause == StopCause.MAX_RUNTIME:
            secondary = "MaxRuntimeExceeded"
        self._step(
            secondary,
            reason or f"The job has {'been stopped' if status == JobStatus.STOPPED else 'completed'}",
            status=status,
            phase=Phase.DONE,
            failure_reason=reason[:1024] if reason else None,
            exit_message=mlroot.read_text(self._root, "output/message"),
            ended_at=time.time(),
            metrics=metrics_of(definitions, self._log_file) if definitions else {},
        )
