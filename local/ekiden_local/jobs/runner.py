"""Lets a limited number of jobs run at a time, in the order in which they were created."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

from .config import Settings
from .errors import validation
from .kinds import JobKind
from .logs import LogShipper
from .records import JobRecord, JobStatus, Kind, Phase, StopCause, step
from .run import Run
from .s3 import Store
from .table import Table

_Key = tuple[Kind, str]


class JobRunner:
    """Starts, stops and, after a restart, takes up jobs again."""

    def __init__(
        self,
        settings: Settings,
        tables: dict[Kind, Table[JobRecord]],
        kinds: dict[Kind, JobKind],
        store: Store,
        logs: LogShipper,
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._kinds = kinds
        self._store = store
        self._logs = logs
        self._lock = threading.Lock()
        self._waiting: deque[_Key] = deque()
        self._runs: dict[_Key, tuple[Run, threading.Thread]] = {}
        self._closing = False

    def counts(self) -> dict[str, int]:
        """How many jobs run and wait."""
        with self._lock:
            return {"running": len(self._runs), "pending": len(self._waiting)}

    def submit(self, kind: Kind, name: str) -> None:
        """Start a created job, now or as soon as there is a place."""
        with self._lock:
            self._waiting.append((kind, name))
            self._start_waiting()
            waits = (kind, name) in self._waiting
        if waits:
            self._update_waiting(kind, name)

    def stop(self, kind: Kind, name: str) -> None:
        """StopTrainingJob, StopProcessingJob. Raises ApiError for a job that is over; a second stop is no error."""

        def ask(record: JobRecord) -> JobRecord:
            if record.is_over:
                noun = "training" if kind is Kind.TRAINING else "processing"
                raise validation(f"The request was rejected because the {noun} job is in status {record.status}.")
            if record.status == JobStatus.STOPPING:
                return record
            now = time.time()
            changes = {"status": JobStatus.STOPPING, "stop_cause": StopCause.USER, "stop_at": now}
            return step(record, now, "Stopping", "Stopping the job", **changes)

        self._tables[kind].update(name, ask)
        with self._lock:
            found = self._runs.get((kind, name))
            if found is None and (kind, name) in self._waiting:
                # It takes no place to end a job that never began.
                self._waiting.remove((kind, name))
                found = self._start((kind, name))
        if found is not None:
            found[0].stop()

    def recover(self) -> None:
        """Take up every job that an earlier service left unfinished: those with a process first, then by age."""
        left = [
            (record.phase in (Phase.QUEUED, Phase.PREPARING), record.created_at, kind, record)
            for kind, table in self._tables.items()
            for record in table.all()
            if not record.is_over
        ]
        for kind, table in self._tables.items():
            for record in table.all():
                if record.is_over:
                    log = table.folder(record.name) / "log"
                    self._logs.catch_up(log, self._kinds[kind].log_group, record.log_stream)
        with self._lock:
            for fresh, _, kind, record in sorted(left, key=lambda item: item[:2]):
                if fresh and record.stop_cause is None:
                    self._waiting.append((kind, record.name))
                else:
                    self._start((kind, record.name))
            self._start_waiting()

    def close(self, *, stop_children: bool, timeout: float) -> None:
        """Start nothing more; with `stop_children` end the running programs and wait for that."""
        with self._lock:
            self._closing = True
            runs = list(self._runs.values())
        if not stop_children:
            return
        for run, _ in runs:
            run.shut_down()
        deadline = time.monotonic() + timeout
        for _, thread in runs:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _update_waiting(self, kind: Kind, name: str) -> None:
        def wait(record: JobRecord) -> JobRecord:
            if record.phase != Phase.QUEUED or record.status != JobStatus.IN_PROGRESS:
                return record
            message = f"Waiting for a place: {self._settings.max_jobs} job(s) run at a time"
            return step(record, time.time(), "Pending", message)

        self._tables[kind].update(name, wait)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._runs) < self._settings.max_jobs and not self._closing:
            self._start(self._waiting.popleft())

    def _start(self, key: _Key) -> tuple[Run, threading.Thread]:
        kind, name = key
        run = Run(name, self._kinds[kind], self._tables[kind], self._store, self._logs, self._settings)
        thread = threading.Thread(target=self._work, args=(key, run), name=f"job {name}", daemon=True)
        self._runs[key] = (run, thread)
        thread.start()
        return run, thread

    def _work(self, key: _Key, run: Run) -> None:
        try:
            run.carry_on()
        finally:
            with self._lock:
                self._runs.pop(key, None)
                self._start_waiting()
        run.clean_up()


def queued(record: JobRecord) -> JobRecord:
    """A new job's record with its first transition."""
    return replace(step(record, record.created_at, "Starting", "Starting the job"), phase=Phase.QUEUED)
