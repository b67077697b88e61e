"""Find out what became of jobs. An event or a sweep only wakes; *describe* decides."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from ekiden.application.plans import Deployed, plan_for, spec_of
from ekiden.application.races import until_decided
from ekiden.application.stages import StartStage
from ekiden.domain.model import ACTIVE_ATTEMPT, Attempt, AttemptStatus, JobRef, Run, Stage
from ekiden.domain.transitions import (
    DeadlinePassed,
    Event,
    JobReported,
    JobStatus,
    NoChange,
    Transition,
    decide,
)
from ekiden.errors import AlreadyDone, Permanent, PipelineError, Transient
from ekiden.ports import Clock, JobLogs, Jobs, Ledger, Randomness

CHECK_AGAIN = timedelta(seconds=45)
"""After a look that changed nothing. Less than the minute between two sweeps, so that no sweep is missed."""
LOG_TAIL_LINES = 20
MAX_LINE = 400


@dataclass(frozen=True, slots=True)
class ObserveJob:
    """Reads a job's true state and moves its run by at most one transition."""

    ledger: Ledger
    jobs: Jobs
    logs: JobLogs
    clock: Clock
    randomness: Randomness
    deployed: Deployed

    def woken_by(self, refs: tuple[JobRef, ...], *, actor: str) -> None:
        """React to an event about a job, by any of the names the event gives it.

        Raises:
            AlreadyDone: the job is none of ours, or the ledger knows already.
            Transient: try again later.
        """
        addresses = dict.fromkeys(address for ref in refs for address in self.ledger.find_attempts(ref))
        moved = 0
        trouble: PipelineError | None = None
        for address in addresses:
            try:
                self(*address, actor=actor)
                moved += 1
            except AlreadyDone:
                continue
            except PipelineError as error:  # others that wait for the same endpoint still get their turn
                trouble = trouble or error
        if trouble:
            raise trouble
        if not moved:
            raise AlreadyDone(f"no live attempt learns anything new from {' or '.join(map(str, refs))}")

    def __call__(self, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        """Describe the attempt's job and record what it says.

        Raises:
            AlreadyDone: nothing changed.
            Transient: try again later.
        """
        until_decided(lambda: self._observe(run_id, stage, number, actor=actor))

    def _observe(self, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        run = self.ledger.load(run_id)
        attempt = run.attempt(stage, number) if run else None
        if run is None or attempt is None or attempt.status not in ACTIVE_ATTEMPT:
            raise AlreadyDone(f"attempt {number} of {stage} of {run_id} is over")
        self.record(run, attempt, actor=actor)

    def record(self, run: Run, attempt: Attempt, *, actor: str) -> None:
        """Describe the job of a live attempt of ``run`` and record what it says.

        Raises:
            AlreadyDone: nothing changed.
            Transient: try again later.
        """
        report = self.jobs.describe(attempt)
        if report is None:
            raise AlreadyDone(f"{attempt.ref} does not exist (yet)")
        ended_badly = report.status not in {JobStatus.RUNNING, JobStatus.SUCCEEDED}
        self.decide(
            run,
            JobReported(
                attempt.stage,
                attempt.number,
                report.status,
                report.failure,
                report.transient,
                report.started_at,
                report.ended_at,
                self._log_tail(attempt) if ended_badly else (),
            ),
            actor=actor,
        )

    def decide(self, run: Run, event: Event, *, actor: str) -> None:
        """Record what ``event`` makes of ``run``.

        Raises:
            AlreadyDone: nothing changed.
            LostRace: somebody else moved the run meanwhile.
        """
        decision = decide(
            run,
            event,
            plan=plan_for(spec_of(run), self.deployed),
            now=self.clock.now(),
            jitter=self.randomness.jitter(),
        )
        match decision:
            case Transition():
                self.ledger.commit(decision, actor=actor)
            case NoChange(reason=reason):
                raise AlreadyDone(reason)

    def _log_tail(self, attempt: Attempt) -> tuple[str, ...]:
        # That a log cannot be read must not keep the ledger from knowing that the job failed.
        with suppress(PipelineError):
            lines = self.logs.tail(attempt.ref.kind, attempt.ref.name, LOG_TAIL_LINES)
            return tuple(line.message[:MAX_LINE] for line in lines)
        return ()


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep of the reconciler did."""

    looked_at: int
    moved: int
    postponed: int
    """Attempts whose services were not available."""
    troubles: tuple[str, ...] = ()
    """Attempts that met an error which time will not heal, each with its reason."""


@dataclass(frozen=True, slots=True)
class ReconcileJobs:
    """Repairs what events did not bring: lost events, unstarted intents, due retries, passed deadlines."""

    observe: ObserveJob
    start: StartStage

    def __call__(self, *, limit: int, actor: str) -> SweepResult:
        """Look at up to ``limit`` live attempts that are due. One attempt's trouble does not stop the sweep.

        Who was looked at goes to the end of the line: with more live attempts than ``limit``, each gets its turn.
        """
        moved = postponed = 0
        troubles: list[str] = []
        ledger, now = self.observe.ledger, self.observe.clock.now()
        due = ledger.due(now, limit)
        for run_id, stage, number in due:
            try:
                self._ensure(run_id, stage, number, actor=actor)
                moved += 1
                continue
            except AlreadyDone:
                pass
            except Transient:
                postponed += 1
            except Exception as error:  # noqa: BLE001  whatever it is, it is this attempt's own
                troubles.append(f"{stage} {number} of {run_id}: {type(error).__name__}: {error}"[:MAX_LINE])
            with suppress(PipelineError):
                ledger.postpone(run_id, stage, number, now + CHECK_AGAIN)
        return SweepResult(len(due), moved, postponed, tuple(troubles))

    def _ensure(self, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        run = self.observe.ledger.load(run_id)
        attempt = run.attempt(stage, number) if run else None
        if run is None or attempt is None or attempt.status not in ACTIVE_ATTEMPT:
            raise AlreadyDone("the index lags behind the ledger")
        overdue = self.observe.clock.now() >= attempt.deadline
        if attempt.status is AttemptStatus.STARTING and not overdue:
            # Creates the job, or adopts the one that has its name after comparing what it is.
            self.start(run_id, stage, number, actor=actor)
            with suppress(AlreadyDone):  # a job found there may be over by now
                self.observe(run_id, stage, number, actor=actor)
            return
        try:
            self.observe.record(run, attempt, actor=actor)
        except (AlreadyDone, Permanent):
            if not overdue:
                raise
            # A job that may neither be described nor stopped must not keep its run open for ever.
            with suppress(Permanent):
                self.observe.jobs.stop(attempt.ref)
            self.observe.decide(run, DeadlinePassed(stage, number), actor=actor)
