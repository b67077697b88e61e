"""Find out what became of jobs. An event or a sweep only wakes; *describe* decides."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ekiden.application.artifacts import manifest_hash
from ekiden.application.moving import move
from ekiden.application.plans import Deployed
from ekiden.application.races import until_decided
from ekiden.application.tuning import keep_trials
from ekiden.domain.decisions import JobGone, JobReported, JobStatus
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef, Run, Stage
from ekiden.errors import AlreadyDone, Permanent, PipelineError
from ekiden.ports import Clock, JobLogs, JobReport, Jobs, Ledger, Objects, Randomness

START_GRACE = timedelta(seconds=180)
"""After this no worker that read the ledger before a stop was asked for still runs: functions end after 30 s."""
LOG_TAIL_LINES = 20
MAX_LINE = 400


@dataclass(frozen=True, slots=True)
class ObserveJob:
    """Reads a job's true state and moves its run by at most one transition."""

    ledger: Ledger
    jobs: Jobs
    logs: JobLogs
    objects: Objects
    clock: Clock
    randomness: Randomness
    deployed: Deployed

    def woken_by(self, refs: tuple[JobRef, ...], *, running: bool = False, actor: str) -> None:
        """React to an event about a job, by any of the names the event gives it.

        ``running``: the event says no more than that the job runs, which the ledger may know already.

        Raises:
            AlreadyDone: the job is none of ours, or the ledger knows already.
            Transient: try again later.
        """
        addresses = dict.fromkeys(address for ref in refs for address in self.ledger.find_attempts(ref))
        moved = 0
        trouble: PipelineError | None = None
        for address in addresses:
            try:
                self(*address, running=running, actor=actor)
                moved += 1
            except AlreadyDone:
                continue
            except PipelineError as error:  # others that wait for the same endpoint still get their turn
                trouble = trouble or error
        if trouble:
            raise trouble
        if not moved:
            raise AlreadyDone(f"no live attempt learns anything new from {' or '.join(map(str, refs))}")

    def __call__(self, run_id: str, stage: Stage, number: int, *, running: bool = False, actor: str) -> None:
        """Describe the attempt's job and record what it says; not if it is only said to run, and is known to.

        Raises:
            AlreadyDone: nothing changed.
            Transient: try again later.
        """
        until_decided(lambda: self._observe(run_id, stage, number, running=running, actor=actor))

    def _observe(self, run_id: str, stage: Stage, number: int, *, running: bool, actor: str) -> None:
        run = self.ledger.load(run_id)
        attempt = run.attempt(stage, number) if run else None
        if run is None or attempt is None or not attempt.is_live:
            raise AlreadyDone(f"attempt {number} of {stage} of {run_id} is over")
        if running and attempt.status is AttemptStatus.RUNNING and attempt.stopping_since is None:
            raise AlreadyDone(f"attempt {number} of {stage} of {run_id} is known to run")
        self.record(run, attempt, actor=actor)

    def record(self, run: Run, attempt: Attempt, *, actor: str) -> None:
        """Describe the job of a live attempt of ``run`` and record what it says.

        Raises:
            AlreadyDone: nothing changed.
            Transient: try again later.
        """
        report = self.jobs.describe(attempt)
        if attempt.stopping_since is not None:
            self._see_it_stop(run, attempt, attempt.stopping_since, report, actor=actor)
        elif report is None:
            raise AlreadyDone(f"{attempt.ref} does not exist (yet)")
        else:
            move(self, run, self._event_of(attempt, report), actor=actor)

    def _see_it_stop(
        self, run: Run, attempt: Attempt, since: datetime, report: JobReport | None, *, actor: str
    ) -> None:
        """Stop what still runs, again and again, and record that it is over once *describe* says so."""
        if report is None:
            # A worker that read the ledger before the stop was asked for may still create the job.
            if self.clock.now() < since + START_GRACE:
                raise AlreadyDone(f"{attempt.ref} does not exist (yet)")
            return move(self, run, JobGone(attempt.stage, attempt.number), actor=actor)
        is_endpoint = attempt.ref.kind is JobKind.ENDPOINT
        if is_endpoint and report.status is JobStatus.RUNNING:
            # SageMaker refuses to delete it now, and a moment later it might be another run's that serves.
            raise AlreadyDone(f"{attempt.ref} is being updated: it is looked at again when that has ended")
        made_by_us = report.created_at is not None and report.created_at >= attempt.created_at
        if made_by_us or report.status is JobStatus.RUNNING:
            self.jobs.stop(attempt.ref)
            raise AlreadyDone(f"{attempt.ref} was told to stop")
        # An endpoint that served before is never deleted, and its update cannot be held back: it goes on serving,
        # with the new model if the update succeeds.
        move(self, run, self._event_of(attempt, report), actor=actor)

    def _event_of(self, attempt: Attempt, report: JobReport) -> JobReported:
        ended_badly = report.status not in {JobStatus.RUNNING, JobStatus.SUCCEEDED}
        left = replace(attempt, best_job=report.best_job)
        if report.best_job is not None:
            with suppress(Permanent):  # a list that nobody can write must not keep the model from being deployed
                keep_trials(self.jobs, self.objects, attempt, report.best_job)
        return JobReported(
            attempt.stage,
            attempt.number,
            report.status,
            report.failure,
            report.transient,
            report.started_at,
            report.ended_at,
            self._log_tail(attempt) if ended_badly else (),
            manifest_hash(self.objects, left) if report.status is JobStatus.SUCCEEDED else None,
            report.best_job,
        )

    def _log_tail(self, attempt: Attempt) -> tuple[str, ...]:
        # That a log cannot be read must not keep the ledger from knowing that the job failed.
        with suppress(PipelineError):
            lines = self.logs.tail(attempt.ref.kind, attempt.ref.name, LOG_TAIL_LINES)
            return tuple(line.message[:MAX_LINE] for line in lines)
        return ()
