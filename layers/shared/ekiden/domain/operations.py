"""What operators ask of a run: cancel it, or let it go on. Pure, and safe to ask twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ekiden.domain.decisions import Decision, NoChange, Plan, Transition
from ekiden.domain.model import (
    RETRYABLE_RUN,
    STOPPING_RUN,
    TERMINAL_RUN,
    AttemptStatus,
    Run,
    RunStatus,
    Stage,
    StageState,
    StageStatus,
)
from ekiden.domain.transitions import advance, begin

__all__ = ["cancel", "retry", "stage_to_retry"]


def cancel(run: Run, *, reason: str, now: datetime) -> Decision:
    """The intent to cancel. From here on nothing is started; the live job is stopped, and seen to have stopped."""
    if run.status in TERMINAL_RUN:
        return NoChange(f"the run is {run.status} already")
    if run.status in STOPPING_RUN:
        return NoChange("the run is being cancelled already")
    attempt = run.live_attempt
    if attempt is None:  # a working run always has one; if not, there is nothing to stop
        after = advance(run, now, status=RunStatus.CANCELLED, ended_at=now)
    else:
        stopping = replace(attempt, stopping_since=now, next_check_at=now)
        after = advance(run.with_attempt(stopping), now, status=RunStatus.CANCELLING)
    return Transition(run, after, f"cancel asked for: {reason}" if reason else "cancel asked for")


def stage_to_retry(run: Run) -> Stage:
    """The first stage that has not succeeded, the last if all have."""
    return next((s.stage for s in run.stages if s.status is not StageStatus.SUCCEEDED), Stage.DEPLOY)


def retry(run: Run, stage: Stage | None, *, plan: Plan, reason: str, now: datetime) -> Decision:
    """The run goes on at ``stage`` (default: where it ended) with a new attempt; what succeeded before is reused.

    A run that succeeded may be repeated from a stage that is named.
    """
    if run.status not in RETRYABLE_RUN and not (run.status is RunStatus.SUCCEEDED and stage is not None):
        return NoChange(f"the run is {run.status}; only an ended run can go on (a succeeded one from a named stage)")
    stopping = run.live_attempt
    if stopping is not None:
        return NoChange(f"the job of {stopping.stage} {stopping.number} is still being stopped; ask again in a minute")
    first = stage or stage_to_retry(run)
    for earlier in list(Stage)[: list(Stage).index(first)]:
        attempt = run.attempt(earlier)
        if attempt is None or attempt.status is not AttemptStatus.SUCCEEDED:
            return NoChange(f"stage {earlier} has not succeeded: retry from {stage_to_retry(run)} or earlier")
    after = replace(run, deadline=now + plan.whole, ended_at=None, failed_stage=None, failure=None, log_tail=())
    for later in list(Stage)[list(Stage).index(first) :]:
        after = after.with_stage(StageState(later, StageStatus.PENDING, after.stage(later).attempt))
    after, ready = begin(after, first, plan, now)
    after = advance(after, now, status=RunStatus.RUNNING)
    return Transition(run, after, f"retry from {first} asked for" + (f": {reason}" if reason else ""), (ready,))
