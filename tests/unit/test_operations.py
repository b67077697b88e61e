"""What operators may ask of a run, when they may, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ekiden.domain.decisions import Decision
from ekiden.domain.model import AttemptStatus, Failure, Run, RunStatus, Stage, StageStatus
from ekiden.domain.operations import cancel, retry, stage_to_retry
from ekiden.domain.transitions import (
    DeadlinePassed,
    Event,
    JobGone,
    JobReported,
    JobStarted,
    JobStatus,
    NoChange,
    Plan,
    StartRefused,
    Transition,
    decide,
    submit,
)
from tests.fakes import NOW

PLAN = Plan("data", "movielens", timedelta(hours=2))
ASKED = timedelta(minutes=1)


def told(run: Run, *events: Event) -> Run:
    for event in events:
        decision = decide(run, event, plan=PLAN, now=run.updated_at + timedelta(minutes=1), jitter=0.5)
        assert isinstance(decision, Transition), decision
        run = decision.after
    return run


def at(stage: Stage, *, started: bool = True) -> Run:
    """A run whose ``stage`` has begun."""
    run = submit("movielens-1", "movielens", "{}", PLAN, NOW).after
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        run = told(run, JobReported(earlier, 1, JobStatus.SUCCEEDED, output_hash=earlier.value))
    return told(run, JobStarted(stage, 1)) if started else run


def ended(stage: Stage, status: JobStatus = JobStatus.FAILED) -> Run:
    return told(at(stage), JobReported(stage, 1, status, Failure("BAD_DATA", "a row is wrong"), log_tail=("oh",)))


def succeeded() -> Run:
    return ended(Stage.DEPLOY, JobStatus.SUCCEEDED)


def moved(decision: Decision) -> Transition:
    assert isinstance(decision, Transition), decision
    return decision


def cancelled(run: Run, reason: str = "") -> Transition:
    return moved(cancel(run, reason=reason, now=run.updated_at + ASKED))


def retried(run: Run, stage: Stage | None = None, reason: str = "", plan: Plan = PLAN) -> Transition:
    return moved(retry(run, stage, plan=plan, reason=reason, now=run.updated_at + ASKED))


def refused(run: Run, stage: Stage | None = None) -> str:
    decision = retry(run, stage, plan=PLAN, reason="", now=run.updated_at + ASKED)
    assert isinstance(decision, NoChange)
    return decision.reason


# Cancel


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("started", [True, False])
def test_a_cancel_is_an_intent_first_and_its_job_is_looked_at_now(stage: Stage, started: bool) -> None:
    run = at(stage, started=started)
    transition = cancelled(run, "wrong data")

    after, attempt = transition.after, transition.after.attempt(stage)
    assert (after.status, after.ended_at, after.version) == (RunStatus.CANCELLING, None, run.version + 1)
    assert (transition.events, transition.reason) == ((), "cancel asked for: wrong data")
    assert attempt is not None
    assert attempt.stopping_since == attempt.next_check_at == after.updated_at
    assert after.stages == run.stages


@pytest.mark.parametrize(
    "event",
    [
        JobReported(Stage.TRAIN, 1, JobStatus.STOPPED),
        JobReported(Stage.TRAIN, 1, JobStatus.FAILED, transient=True),
        JobReported(Stage.TRAIN, 1, JobStatus.TIMED_OUT),
        JobGone(Stage.TRAIN, 1),
        StartRefused(Stage.TRAIN, 1, Failure("NAME_TAKEN", "another job has the name")),
    ],
    ids=lambda event: f"{type(event).__name__} {getattr(event, 'status', '')}",
)
def test_the_run_is_cancelled_once_its_job_was_seen_to_be_over(event: Event) -> None:
    run = cancelled(at(Stage.TRAIN)).after
    decision = moved(decide(run, event, plan=PLAN, now=run.updated_at + ASKED, jitter=0))

    after, attempt = decision.after, decision.after.attempt(Stage.TRAIN)
    assert (after.status, after.ended_at) == (RunStatus.CANCELLED, after.updated_at)
    assert after.stage(Stage.TRAIN).status is StageStatus.CANCELLED
    assert attempt is not None
    assert (attempt.status, attempt.is_live) == (AttemptStatus.CANCELLED, False)
    assert [(e.detail_type, e.data) for e in decision.events] == [("RunCancelled", {"stage": "train"})]
    assert after.live_attempt is None
    assert after.stage(Stage.DEPLOY).status is StageStatus.PENDING, "nothing new was begun"


def test_a_stage_that_succeeded_before_it_could_be_stopped_counts_and_the_next_one_does_not_begin() -> None:
    run = cancelled(at(Stage.TRAIN)).after
    after = told(run, JobReported(Stage.TRAIN, 1, JobStatus.SUCCEEDED, output_hash="model"))

    trained = after.attempt(Stage.TRAIN)
    assert trained is not None
    assert (after.status, trained.status, trained.output_hash) == ("CANCELLED", "SUCCEEDED", "model")
    assert after.attempt(Stage.DEPLOY) is None
    assert stage_to_retry(after) is Stage.DEPLOY


def test_a_job_that_appears_after_the_cancel_is_known_to_run_and_is_still_being_stopped() -> None:
    run = cancelled(at(Stage.EXPORT, started=False)).after
    after = told(run, JobReported(Stage.EXPORT, 1, JobStatus.RUNNING))
    assert after.status is RunStatus.CANCELLING
    assert after.attempts[0].stopping_since == run.attempts[0].stopping_since


def test_a_cancel_that_takes_longer_than_the_run_may_ends_it_and_watches_the_job_on() -> None:
    run = cancelled(at(Stage.TRAIN)).after
    after = told(run, DeadlinePassed(Stage.TRAIN, 1))
    live = after.live_attempt
    assert after.status is RunStatus.CANCELLED
    assert live is not None
    assert live.status is AttemptStatus.CANCELLED
    assert told(after, JobReported(Stage.TRAIN, 1, JobStatus.STOPPED)).live_attempt is None


@pytest.mark.parametrize("run", [succeeded(), ended(Stage.TRAIN)], ids=["SUCCEEDED", "FAILED"])
def test_a_cancel_that_comes_too_late_changes_nothing(run: Run) -> None:
    assert cancel(run, reason="", now=NOW) == NoChange(f"the run is {run.status} already")


def test_a_second_cancel_changes_nothing() -> None:
    run = cancelled(at(Stage.TRAIN)).after
    assert cancel(run, reason="", now=NOW) == NoChange("the run is being cancelled already")


def test_a_run_without_a_live_attempt_is_cancelled_at_once() -> None:
    run = ended(Stage.TRAIN)
    stranded = replace(run, status=RunStatus.RUNNING)
    assert cancelled(stranded).after.status is RunStatus.CANCELLED


# Retry


@pytest.mark.parametrize("stage", list(Stage))
def test_a_retry_goes_on_where_the_run_ended_and_reuses_what_succeeded(stage: Stage) -> None:
    run = ended(stage)
    transition = retried(run, reason="the row is corrected")

    after, attempt = transition.after, transition.after.attempt(stage)
    assert (after.status, after.version) == (RunStatus.RUNNING, run.version + 1)
    assert (after.failure, after.failed_stage, after.ended_at, after.log_tail) == (None, None, None, ())
    assert attempt is not None
    assert (attempt.number, attempt.status, attempt.tries_left) == (2, "STARTING", 2)
    assert [(e.detail_type, e.data["stage"], e.data["attempt"]) for e in transition.events] == [
        ("StageReady", stage.value, 2)
    ]
    assert transition.reason == f"retry from {stage} asked for: the row is corrected"
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        assert after.stage(earlier) == run.stage(earlier)
        assert after.output_of(earlier) == run.output_of(earlier)
    assert run.attempt(stage, 1) == after.attempt(stage, 1), "history is kept"


def test_a_retry_from_an_earlier_stage_resets_those_after_it_and_numbers_go_on_rising() -> None:
    run = retried(succeeded(), Stage.PROCESS).after

    assert [(s.status, s.attempt) for s in run.stages] == [
        (StageStatus.SUCCEEDED, 1),
        (StageStatus.STARTING, 2),
        (StageStatus.PENDING, 1),
        (StageStatus.PENDING, 1),
    ]
    run = told(run, JobReported(Stage.PROCESS, 2, JobStatus.SUCCEEDED))
    run = told(run, JobReported(Stage.TRAIN, 2, JobStatus.FAILED, transient=True))
    assert run.stage(Stage.TRAIN).attempt == 3
    run = told(run, JobReported(Stage.TRAIN, 3, JobStatus.SUCCEEDED))
    run = told(run, JobReported(Stage.DEPLOY, 2, JobStatus.SUCCEEDED))
    assert run.status is RunStatus.SUCCEEDED
    jobs = [attempt.job for attempt in run.attempts]
    assert len(set(jobs)) == len(jobs) == 8, "no name is used twice"
    assert run.output_of(Stage.TRAIN).endswith("train/3/")


def test_a_retried_run_has_its_whole_time_again_and_the_stage_all_its_tries() -> None:
    plan = replace(PLAN, run_timeout=timedelta(hours=3), stage_tries={Stage.TRAIN: 5})
    run = ended(Stage.TRAIN)
    after = retried(run, plan=plan).after
    attempt = after.attempt(Stage.TRAIN)
    assert attempt is not None
    assert after.deadline == after.updated_at + timedelta(hours=3)
    assert attempt.deadline == after.updated_at + timedelta(hours=2)
    assert attempt.tries_left == 4


def test_a_running_run_is_not_retried_nor_one_that_is_being_cancelled() -> None:
    assert refused(at(Stage.TRAIN)).startswith("the run is RUNNING; only an ended run")
    assert refused(at(Stage.TRAIN), Stage.EXPORT).startswith("the run is RUNNING")
    assert refused(cancelled(at(Stage.TRAIN)).after).startswith("the run is CANCELLING")


def test_a_run_that_succeeded_is_repeated_only_from_a_stage_that_is_named() -> None:
    assert "a succeeded one from a named stage" in refused(succeeded())
    assert retried(succeeded(), Stage.TRAIN).after.current_stage is Stage.TRAIN


@pytest.mark.parametrize(("failed", "wanted"), [(Stage.EXPORT, Stage.PROCESS), (Stage.PROCESS, Stage.DEPLOY)])
def test_a_stage_whose_predecessor_has_not_succeeded_cannot_be_retried_from(failed: Stage, wanted: Stage) -> None:
    assert refused(ended(failed), wanted) == f"stage {failed} has not succeeded: retry from {failed} or earlier"


@pytest.mark.parametrize("cancelling", [True, False], ids=["while cancelling", "while running"])
def test_a_run_is_not_retried_while_a_job_of_it_may_still_run(cancelling: bool) -> None:
    # GIVEN a run whose deadline has passed, and whose job nobody has seen stopped
    run = cancelled(at(Stage.TRAIN)).after if cancelling else at(Stage.TRAIN)
    run = told(run, DeadlinePassed(Stage.TRAIN, 1))
    # WHEN it is retried THEN it is refused, from any stage
    for stage in (None, Stage.EXPORT):
        assert refused(run, stage) == "the job of train 1 is still being stopped; ask again in a minute"
    # AND granted once the job was seen to be over
    assert retried(told(run, JobGone(Stage.TRAIN, 1))).after.stage(Stage.TRAIN).attempt == 2


def test_late_news_of_the_attempt_before_a_retry_changes_nothing() -> None:
    run = retried(ended(Stage.TRAIN)).after
    for late in (JobReported(Stage.TRAIN, 1, JobStatus.SUCCEEDED), JobGone(Stage.TRAIN, 1), JobStarted(Stage.TRAIN, 1)):
        decision = decide(run, late, plan=PLAN, now=NOW, jitter=0)
        assert isinstance(decision, NoChange)
        assert "not the current one (2)" in decision.reason


@pytest.mark.parametrize("stage", list(Stage))
def test_where_a_run_goes_on_is_where_it_ended(stage: Stage) -> None:
    assert stage_to_retry(ended(stage)) is stage
    assert stage_to_retry(succeeded()) is Stage.DEPLOY
