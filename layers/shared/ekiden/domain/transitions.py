"""How a run moves. ``decide`` is pure and total: a duplicate, late or unknown event changes nothing, with a reason.

    PENDING ──▶ STARTING ──▶ RUNNING ──▶ SUCCEEDED ──▶ (next stage STARTING, or the run SUCCEEDED)
                   │            ├──────▶ FAILED    ──▶ (a new attempt STARTING, or the run FAILED)
                   └────────────┴──────▶ TIMED_OUT ──▶ (the run FAILED)

Effects happen only after a persisted intent: a job is created in ``STARTING``, whose attempt already carries the
job's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ekiden.domain import naming
from ekiden.domain.model import (
    ACTIVE_ATTEMPT,
    KIND_OF_STAGE,
    TERMINAL_RUN,
    Attempt,
    AttemptStatus,
    Failure,
    JobKind,
    JobRef,
    Run,
    RunStatus,
    Stage,
    StageState,
    StageStatus,
)

MAX_ATTEMPTS = 3
CHECK_AFTER = timedelta(seconds=60)
"""How long the reconciler leaves a new attempt to its events."""
BACKOFF_BASE = timedelta(seconds=30)
BACKOFF_CAP = timedelta(minutes=15)


class JobStatus(StrEnum):
    """What *describe* says of a job, over all kinds of job."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's spec and deployment fix for all its attempts."""

    bucket: str
    endpoint: str
    stage_timeout: timedelta


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The platform accepted (or already had) the attempt's job."""

    stage: Stage
    attempt: int


@dataclass(frozen=True, slots=True)
class JobReported:
    """*Describe* answered for the attempt's job."""

    stage: Stage
    attempt: int
    status: JobStatus
    failure: Failure | None = None
    transient: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The platform refused to start the attempt's job, or its name belongs to another job."""

    stage: Stage
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The attempt's time is over and its job has been told to stop."""

    stage: Stage
    attempt: int


Event = JobStarted | JobReported | StartRefused | DeadlinePassed


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A fact to publish, written in the same transaction as the state it tells of."""

    detail_type: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """One move: the run before (``None`` at submission) and after, why, and what to tell the world."""

    before: Run | None
    after: Run
    reason: str
    events: tuple[OutboxEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class NoChange:
    """Nothing to do, and why."""

    reason: str


Decision = Transition | NoChange


def submit(run_id: str, name: str, spec: str, plan: Plan, now: datetime) -> Transition:
    """A new run whose first stage is about to start."""
    run = Run(
        run_id=run_id,
        name=name,
        status=RunStatus.RUNNING,
        version=0,
        created_at=now,
        updated_at=now,
        deadline=now + plan.stage_timeout * len(Stage),
        spec=spec,
        stages=tuple(StageState(stage, StageStatus.PENDING) for stage in Stage),
    )
    run, ready = _begin(run, Stage.EXPORT, 1, plan, now)
    return Transition(None, run, "submitted", (OutboxEvent("RunSubmitted", {"name": name}), ready))


def decide(run: Run, event: Event, *, plan: Plan, now: datetime, jitter: float) -> Decision:
    """What ``event`` makes of ``run``.

    ``jitter`` in [0, 1) spreads retries (full jitter: the delay is drawn between zero and the back-off).
    """
    attempt = _live_attempt(run, event)
    if isinstance(attempt, NoChange):
        return attempt
    match event:
        case JobStarted():
            return _started(run, attempt, now)
        case JobReported(status=JobStatus.RUNNING):
            return _started(run, attempt, now)
        case JobReported(status=JobStatus.SUCCEEDED):
            return _succeeded(run, attempt, event, plan, now)
        case JobReported(status=JobStatus.TIMED_OUT):
            failure = event.failure or Failure("TIMED_OUT", "the job ran longer than it may")
            return _ended(run, attempt, AttemptStatus.TIMED_OUT, failure, event, now)
        case JobReported(status=JobStatus.STOPPED):
            failure = event.failure or Failure("JOB_STOPPED", "somebody stopped the job outside Ekiden")
            return _ended(run, attempt, AttemptStatus.FAILED, failure, event, now)
        case JobReported():
            failure = event.failure or Failure("JOB_FAILED", "the job failed without giving a reason")
            if event.transient and attempt.number < MAX_ATTEMPTS:
                return _retry(run, attempt, failure, event, plan, now, jitter)
            return _ended(run, attempt, AttemptStatus.FAILED, failure, event, now)
        case StartRefused(failure=failure):
            return _ended(run, attempt, AttemptStatus.FAILED, failure, None, now)
        case DeadlinePassed():
            hours = (attempt.deadline - attempt.created_at) / timedelta(hours=1)
            message = f"stage {attempt.stage} did not end within {hours:g} h (limits.stage_hours in the spec)"
            return _ended(run, attempt, AttemptStatus.TIMED_OUT, Failure("DEADLINE", message), None, now)


def backoff(number: int, jitter: float) -> timedelta:
    """Delay before attempt ``number`` + 1: exponential with full jitter (AWS Builders' Library)."""
    exponential: timedelta = BACKOFF_BASE * 2 ** (number - 1)
    return min(BACKOFF_CAP, exponential) * jitter


def _live_attempt(run: Run, event: Event) -> Attempt | NoChange:
    """The attempt that ``event`` is about, if it is the current one and not over: the fence."""
    if run.status in TERMINAL_RUN:
        return NoChange(f"the run is {run.status} already")
    state = run.stage(event.stage)
    if state.attempt != event.attempt:
        return NoChange(f"attempt {event.attempt} of {event.stage} is not the current one ({state.attempt})")
    attempt = run.attempt(event.stage, event.attempt)
    if attempt is None or attempt.status not in ACTIVE_ATTEMPT:
        return NoChange(f"attempt {event.attempt} of {event.stage} is over already")
    return attempt


def _begin(
    run: Run, stage: Stage, number: int, plan: Plan, now: datetime, check_at: datetime | None = None
) -> tuple[Run, OutboxEvent]:
    job = naming.job_name(run.run_id, stage, number)
    kind = KIND_OF_STAGE[stage]
    output = (
        plan.endpoint
        if kind is JobKind.ENDPOINT
        else f"s3://{plan.bucket}/{naming.attempt_prefix(run.run_id, stage, number)}"
    )
    attempt = Attempt(
        stage=stage,
        number=number,
        job=job,
        ref=JobRef(kind, plan.endpoint if kind is JobKind.ENDPOINT else job),
        status=AttemptStatus.STARTING,
        created_at=now,
        # An attempt may retry a stage, but not outlive its run.
        deadline=min(now + plan.stage_timeout, run.deadline),
        output=output,
        next_check_at=check_at or now + CHECK_AFTER,
    )
    run = run.with_stage(StageState(stage, StageStatus.STARTING, number)).with_attempt(attempt)
    return run, OutboxEvent("StageReady", {"stage": stage.value, "attempt": number, "job": job})


def _advance(run: Run, now: datetime, **changes: Any) -> Run:
    return replace(run, version=run.version + 1, updated_at=now, **changes)


def _started(run: Run, attempt: Attempt, now: datetime) -> Decision:
    if attempt.status is AttemptStatus.RUNNING:
        return NoChange(f"attempt {attempt.number} of {attempt.stage} is running already")
    after = run.with_stage(StageState(attempt.stage, StageStatus.RUNNING, attempt.number)).with_attempt(
        replace(attempt, status=AttemptStatus.RUNNING, started_at=now, next_check_at=now + CHECK_AFTER)
    )
    return Transition(run, _advance(after, now), f"{attempt.stage} started as {attempt.job}")


def _close(attempt: Attempt, status: AttemptStatus, report: JobReported | None, now: datetime) -> Attempt:
    started_at = (report.started_at if report else None) or attempt.started_at
    ended_at = (report.ended_at if report else None) or now
    # The platform's clock and ours differ, and an adopted endpoint was in service before we knew of it.
    ended_at = max(ended_at, started_at or ended_at)
    return replace(attempt, status=status, started_at=started_at, ended_at=ended_at)


def _succeeded(run: Run, attempt: Attempt, report: JobReported, plan: Plan, now: datetime) -> Transition:
    stage = attempt.stage
    closed = _close(attempt, AttemptStatus.SUCCEEDED, report, now)
    after = run.with_stage(StageState(stage, StageStatus.SUCCEEDED, attempt.number)).with_attempt(closed)
    told = OutboxEvent("StageSucceeded", {"stage": stage.value, "attempt": attempt.number, "job": attempt.job})
    following = stage.next
    if following is None:
        after = _advance(after, now, status=RunStatus.SUCCEEDED, ended_at=now)
        return Transition(
            run, after, f"{stage} succeeded", (told, OutboxEvent("RunSucceeded", {"endpoint": plan.endpoint}))
        )
    after, ready = _begin(after, following, 1, plan, now)
    return Transition(run, _advance(after, now), f"{stage} succeeded", (told, ready))


def _retry(
    run: Run,
    attempt: Attempt,
    failure: Failure,
    report: JobReported,
    plan: Plan,
    now: datetime,
    jitter: float,
) -> Transition:
    closed = replace(_close(attempt, AttemptStatus.FAILED, report, now), failure=failure)
    number = attempt.number + 1
    # No StageReady: the reconciler starts the attempt once its delay is over.
    check_at = now + backoff(attempt.number, jitter)
    after, _ = _begin(run.with_attempt(closed), attempt.stage, number, plan, now, check_at)
    reason = f"{attempt.stage} failed ({failure.code}), attempt {number} follows"
    return Transition(run, _advance(after, now), reason)


_STAGE_STATUS_OF = {
    AttemptStatus.FAILED: StageStatus.FAILED,
    AttemptStatus.TIMED_OUT: StageStatus.TIMED_OUT,
}


def _ended(
    run: Run,
    attempt: Attempt,
    status: AttemptStatus,
    failure: Failure,
    report: JobReported | None,
    now: datetime,
) -> Transition:
    closed = replace(_close(attempt, status, report, now), failure=failure)
    after = run.with_stage(StageState(attempt.stage, _STAGE_STATUS_OF[status], attempt.number)).with_attempt(closed)
    after = _advance(
        after,
        now,
        status=RunStatus.FAILED,
        ended_at=now,
        failed_stage=attempt.stage,
        failure=failure,
        log_tail=report.log_tail if report else (),
    )
    told = OutboxEvent("RunFailed", {"stage": attempt.stage.value, "code": failure.code, "message": failure.message})
    return Transition(run, after, f"{attempt.stage} ended {status}: {failure.code}", (told,))
