"""How a run moves. ``decide`` is pure and total: a duplicate, late or unknown event changes nothing, with a reason.

    PENDING ──▶ STARTING ──▶ RUNNING ──▶ SUCCEEDED ──▶ (next stage STARTING, or the run SUCCEEDED)
                   │            ├──────▶ FAILED    ──▶ (a new attempt STARTING, or the run FAILED)
                   ├────────────┼──────▶ TIMED_OUT ──▶ (the run FAILED; its job is watched until it has stopped)
                   └────────────┴──────▶ CANCELLED ──▶ (the run CANCELLED, once its job has stopped)

Effects happen only after a persisted intent: a job is created in ``STARTING``, whose attempt already carries the
job's name, and stopped once ``stopping_since`` is set. What operators ask for is in ``operations``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ekiden.domain import naming
from ekiden.domain.decisions import (
    DEFAULT_TRIES,
    KILLED,
    DeadlinePassed,
    Decision,
    Event,
    JobGone,
    JobReported,
    JobStarted,
    JobStatus,
    NoChange,
    OutboxEvent,
    Plan,
    StartRefused,
    Transition,
)
from ekiden.domain.model import (
    ACTIVE_ATTEMPT,
    STOPPING_RUN,
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

__all__ = [
    "BACKOFF_BASE",
    "BACKOFF_CAP",
    "CHECK_AFTER",
    "DEFAULT_TRIES",
    "DeadlinePassed",
    "Decision",
    "Event",
    "JobGone",
    "JobReported",
    "JobStarted",
    "JobStatus",
    "NoChange",
    "OutboxEvent",
    "Plan",
    "StartRefused",
    "Transition",
    "advance",
    "backoff",
    "begin",
    "decide",
    "submit",
]

CHECK_AFTER = timedelta(seconds=60)
"""How long the reconciler leaves a new attempt to its events."""
BACKOFF_BASE = timedelta(seconds=30)
BACKOFF_CAP = timedelta(minutes=15)


def submit(run_id: str, name: str, spec: str, plan: Plan, now: datetime) -> Transition:
    """A new run whose first stage is about to start."""
    run = Run(
        run_id=run_id,
        name=name,
        status=RunStatus.RUNNING,
        version=0,
        created_at=now,
        updated_at=now,
        deadline=now + plan.whole,
        spec=spec,
        stages=tuple(StageState(stage, StageStatus.PENDING) for stage in Stage),
    )
    run, ready = begin(run, Stage.EXPORT, plan, now)
    return Transition(None, run, "submitted", (OutboxEvent("RunSubmitted", {"name": name}), ready))


def decide(run: Run, event: Event, *, plan: Plan, now: datetime, jitter: float) -> Decision:
    """What ``event`` makes of ``run``.

    ``jitter`` in [0, 1) spreads retries (full jitter: the delay is drawn between zero and the back-off).
    """
    attempt = _live_attempt(run, event)
    if isinstance(attempt, NoChange):
        return attempt
    match event:
        case JobStarted() | JobReported(status=JobStatus.RUNNING):
            return _started(run, attempt, now)
        case DeadlinePassed():
            return _out_of_time(run, attempt, now)
        case JobReported() | JobGone() | StartRefused() if attempt.stopping_since is not None:
            return _stopped(run, attempt, event, now)
        case JobGone():
            return NoChange("only a job that is being stopped may be gone")
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
            if event.transient and attempt.tries_left > 0 and not _killed_again(run, attempt, failure):
                return _retry(run, attempt, failure, event, plan, now, jitter)
            return _ended(run, attempt, AttemptStatus.FAILED, failure, event, now)
        case StartRefused(failure=failure):
            return _ended(run, attempt, AttemptStatus.FAILED, failure, None, now)


def backoff(tries_made: int, jitter: float) -> timedelta:
    """Delay before the next try: exponential with full jitter (AWS Builders' Library)."""
    exponential: timedelta = BACKOFF_BASE * 2 ** (tries_made - 1)
    return min(BACKOFF_CAP, exponential) * jitter


def begin(
    run: Run,
    stage: Stage,
    plan: Plan,
    now: datetime,
    *,
    tries_left: int | None = None,
    check_at: datetime | None = None,
) -> tuple[Run, OutboxEvent]:
    """``run`` with the intent of a new attempt of ``stage``, and the event that says so."""
    number = run.stage(stage).attempt + 1
    job = naming.job_name(run.run_id, stage, number)
    kind = plan.kind_of(stage)
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
        deadline=min(now + plan.timeout_of(stage), run.deadline),
        output=output,
        next_check_at=check_at or now + CHECK_AFTER,
        tries_left=plan.tries_of(stage) - 1 if tries_left is None else tries_left,
    )
    run = run.with_stage(StageState(stage, StageStatus.STARTING, number)).with_attempt(attempt)
    return run, OutboxEvent("StageReady", {"stage": stage.value, "attempt": number, "job": job})


def advance(run: Run, now: datetime, **changes: Any) -> Run:
    """``run`` one version on."""
    return replace(run, version=run.version + 1, updated_at=now, **changes)


def _live_attempt(run: Run, event: Event) -> Attempt | NoChange:
    """The attempt that ``event`` is about, if it is the current one and its job may be running: the fence."""
    state = run.stage(event.stage)
    if state.attempt != event.attempt:
        return NoChange(f"attempt {event.attempt} of {event.stage} is not the current one ({state.attempt})")
    attempt = run.attempt(event.stage, event.attempt)
    if attempt is None or not attempt.is_live:
        return NoChange(f"attempt {event.attempt} of {event.stage} is over already")
    if run.status in TERMINAL_RUN and not isinstance(event, JobReported | JobGone):
        return NoChange(f"the run is {run.status} already")
    return attempt


def _started(run: Run, attempt: Attempt, now: datetime) -> Decision:
    if attempt.status is not AttemptStatus.STARTING:
        return NoChange(f"attempt {attempt.number} of {attempt.stage} is {attempt.status} already")
    after = run.with_stage(StageState(attempt.stage, StageStatus.RUNNING, attempt.number)).with_attempt(
        replace(attempt, status=AttemptStatus.RUNNING, started_at=now, next_check_at=now + CHECK_AFTER)
    )
    return Transition(run, advance(after, now), f"{attempt.stage} started as {attempt.job}")


def _close(attempt: Attempt, status: AttemptStatus, report: JobReported | None, now: datetime) -> Attempt:
    started_at = (report.started_at if report else None) or attempt.started_at
    ended_at = (report.ended_at if report else None) or now
    # The platform's clock and ours differ, and an adopted endpoint was in service before we knew of it.
    ended_at = max(ended_at, started_at or ended_at)
    return replace(attempt, status=status, started_at=started_at, ended_at=ended_at, stopping_since=None)


def _with_output(closed: Attempt, report: JobReported) -> Attempt:
    return replace(closed, output_hash=report.output_hash, best_job=report.best_job)


def _succeeded(run: Run, attempt: Attempt, report: JobReported, plan: Plan, now: datetime) -> Transition:
    stage = attempt.stage
    closed = _with_output(_close(attempt, AttemptStatus.SUCCEEDED, report, now), report)
    after = run.with_stage(StageState(stage, StageStatus.SUCCEEDED, attempt.number)).with_attempt(closed)
    told = OutboxEvent("StageSucceeded", {"stage": stage.value, "attempt": attempt.number, "job": attempt.job})
    following = stage.next
    if following is None:
        after = advance(after, now, status=RunStatus.SUCCEEDED, ended_at=now)
        return Transition(
            run, after, f"{stage} succeeded", (told, OutboxEvent("RunSucceeded", {"endpoint": plan.endpoint}))
        )
    after, ready = begin(after, following, plan, now)
    return Transition(run, advance(after, now), f"{stage} succeeded", (told, ready))


def _killed_again(run: Run, attempt: Attempt, failure: Failure) -> bool:
    before = run.attempt(attempt.stage, attempt.number - 1)
    earlier = before.failure if before else None
    return failure.code == KILLED and earlier is not None and earlier.code == KILLED


def _retry(
    run: Run, attempt: Attempt, failure: Failure, report: JobReported, plan: Plan, now: datetime, jitter: float
) -> Transition:
    closed = replace(_close(attempt, AttemptStatus.FAILED, report, now), failure=failure)
    made = plan.tries_of(attempt.stage) - attempt.tries_left
    # No StageReady: the reconciler starts the attempt once its delay is over.
    after, _ = begin(
        run.with_attempt(closed),
        attempt.stage,
        plan,
        now,
        tries_left=attempt.tries_left - 1,
        check_at=now + backoff(max(1, made), jitter),
    )
    reason = f"{attempt.stage} failed ({failure.code}), attempt {attempt.number + 1} follows"
    return Transition(run, advance(after, now), reason)


_STAGE_STATUS_OF = {
    AttemptStatus.SUCCEEDED: StageStatus.SUCCEEDED,
    AttemptStatus.FAILED: StageStatus.FAILED,
    AttemptStatus.CANCELLED: StageStatus.CANCELLED,
    AttemptStatus.TIMED_OUT: StageStatus.TIMED_OUT,
}


def _ended(
    run: Run,
    attempt: Attempt,
    status: AttemptStatus,
    failure: Failure,
    report: JobReported | None,
    now: datetime,
    stopping_since: datetime | None = None,
) -> Transition:
    closed = replace(_close(attempt, status, report, now), failure=failure, stopping_since=stopping_since)
    after = run.with_stage(StageState(attempt.stage, _STAGE_STATUS_OF[status], attempt.number)).with_attempt(closed)
    after = advance(
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


def _out_of_time(run: Run, attempt: Attempt, now: datetime) -> Transition:
    """The run ends now. Its job is watched on, as one that is being stopped, until somebody has seen it over."""
    stopping_since = attempt.stopping_since or now
    if run.status in STOPPING_RUN:
        closed = replace(_close(attempt, AttemptStatus.CANCELLED, None, now), stopping_since=stopping_since)
        return _cancelled(run, closed, "deadline passed while cancelling", now)
    hours = (attempt.deadline - attempt.created_at) / timedelta(hours=1)
    message = f"stage {attempt.stage} did not end within {hours:g} h (limits in the spec)"
    failure = Failure("DEADLINE", message)
    return _ended(run, attempt, AttemptStatus.TIMED_OUT, failure, None, now, stopping_since)


def _stopped(run: Run, attempt: Attempt, event: JobReported | JobGone | StartRefused, now: datetime) -> Transition:
    """Nothing of the attempt is running any more, verified."""
    report = event if isinstance(event, JobReported) else None
    if attempt.status not in ACTIVE_ATTEMPT:  # the run has ended before
        after = run.with_attempt(replace(attempt, stopping_since=None))
        return Transition(run, advance(after, now), f"{attempt.stage}: its job was seen to be over")
    succeeded = report is not None and report.status is JobStatus.SUCCEEDED
    closed = _close(attempt, AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.CANCELLED, report, now)
    if report is not None and succeeded:
        closed = _with_output(closed, report)
    return _cancelled(run, closed, f"cancelled, {attempt.stage} has stopped", now)


def _cancelled(run: Run, closed: Attempt, reason: str, now: datetime) -> Transition:
    state = StageState(closed.stage, _STAGE_STATUS_OF[closed.status], closed.number)
    after = advance(
        run.with_stage(state).with_attempt(closed),
        now,
        status=RunStatus.CANCELLED,
        ended_at=now,
    )
    return Transition(run, after, reason, (OutboxEvent("RunCancelled", {"stage": closed.stage.value}),))
