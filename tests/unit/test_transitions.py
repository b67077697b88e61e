"""``decide`` is total, and keeps its promises whatever it is told in whatever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.domain import naming
from ekiden.domain.decisions import KILLED
from ekiden.domain.model import (
    AttemptStatus,
    Failure,
    JobKind,
    Run,
    RunStatus,
    Stage,
    StageStatus,
)
from ekiden.domain.transitions import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    CHECK_AFTER,
    DEFAULT_TRIES,
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
    backoff,
    decide,
    submit,
)
from tests.fakes import NOW

PLAN = Plan("data", "movielens", timedelta(hours=2))
REFUSED = Failure("NAME_TAKEN", "another job has the name")


def new(plan: Plan = PLAN) -> Run:
    return submit("movielens-1", "movielens", "{}", plan, NOW).after


def step(run: Run, event: Event, *, minutes: float = 1, jitter: float = 0.5, plan: Plan = PLAN) -> Transition:
    decision = decide(run, event, plan=plan, now=run.updated_at + timedelta(minutes=minutes), jitter=jitter)
    assert isinstance(decision, Transition), decision
    return decision


def reached(stage: Stage, plan: Plan = PLAN) -> Run:
    run = new(plan)
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        run = step(run, JobReported(earlier, 1, JobStatus.SUCCEEDED), plan=plan).after
    return run


def test_a_submitted_run_is_about_to_start_its_export() -> None:
    transition = submit("movielens-1", "movielens", "{}", PLAN, NOW)
    run = transition.after
    attempt = run.attempts[0]

    assert transition.before is None
    assert [e.detail_type for e in transition.events] == ["RunSubmitted", "StageReady"]
    assert [s.status for s in run.stages] == [StageStatus.STARTING] + [StageStatus.PENDING] * 3
    assert (attempt.status, attempt.number) == (AttemptStatus.STARTING, 1)
    assert attempt.job == naming.job_name("movielens-1", Stage.EXPORT, 1)
    assert attempt.output == "s3://data/runs/movielens-1/export/1/"
    assert attempt.deadline == NOW + PLAN.stage_timeout
    assert attempt.tries_left == DEFAULT_TRIES - 1
    assert run.deadline == NOW + PLAN.stage_timeout * 4
    assert attempt.next_check_at == NOW + CHECK_AFTER


def test_a_started_job_is_running_once() -> None:
    transition = step(new(), JobStarted(Stage.EXPORT, 1))
    run = transition.after

    assert run.stage(Stage.EXPORT).status is StageStatus.RUNNING
    assert run.attempts[0].started_at == NOW + timedelta(minutes=1)
    assert transition.events == ()
    for again in (JobStarted(Stage.EXPORT, 1), JobReported(Stage.EXPORT, 1, JobStatus.RUNNING)):
        decision = decide(run, again, plan=PLAN, now=NOW, jitter=0)
        assert isinstance(decision, NoChange)
        assert "RUNNING already" in decision.reason


def test_success_hands_over_to_the_next_stage_in_the_same_transition() -> None:
    started, ended = NOW + timedelta(seconds=1), NOW + timedelta(seconds=9)
    transition = step(new(), JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED, started_at=started, ended_at=ended))
    run = transition.after

    assert [s.status for s in run.stages][:3] == [StageStatus.SUCCEEDED, StageStatus.STARTING, StageStatus.PENDING]
    export = run.attempt(Stage.EXPORT)
    assert export is not None
    assert (export.started_at, export.ended_at) == (started, ended)
    assert [(e.detail_type, e.data["stage"]) for e in transition.events] == [
        ("StageSucceeded", "export"),
        ("StageReady", "process"),
    ]
    assert run.output_of(Stage.EXPORT) == "s3://data/runs/movielens-1/export/1/"


def test_an_attempt_never_ends_before_it_starts() -> None:
    run = step(new(), JobStarted(Stage.EXPORT, 1)).after
    early = JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED, ended_at=NOW - timedelta(minutes=5))
    export = step(run, early).after.attempt(Stage.EXPORT)
    assert export is not None
    assert export.started_at == export.ended_at == NOW + timedelta(minutes=1)


def test_the_last_success_ends_the_run() -> None:
    run = reached(Stage.DEPLOY)
    attempt = run.attempt(Stage.DEPLOY)
    assert attempt is not None
    assert (attempt.ref.kind, attempt.ref.name, attempt.output) == (JobKind.ENDPOINT, "movielens", "movielens")

    transition = step(run, JobReported(Stage.DEPLOY, 1, JobStatus.SUCCEEDED))

    assert transition.after.status is RunStatus.SUCCEEDED
    assert transition.after.ended_at == transition.after.updated_at
    assert [e.detail_type for e in transition.events] == ["StageSucceeded", "RunSucceeded"]


@pytest.mark.parametrize(
    ("event", "stage_status", "code"),
    [
        (JobReported(Stage.TRAIN, 1, JobStatus.FAILED, Failure("EMPTY_GRAPH", "no edges")), "FAILED", "EMPTY_GRAPH"),
        (JobReported(Stage.TRAIN, 1, JobStatus.FAILED), "FAILED", "JOB_FAILED"),
        (JobReported(Stage.TRAIN, 1, JobStatus.STOPPED), "FAILED", "JOB_STOPPED"),
        (JobReported(Stage.TRAIN, 1, JobStatus.TIMED_OUT), "TIMED_OUT", "TIMED_OUT"),
        (StartRefused(Stage.TRAIN, 1, REFUSED), "FAILED", "NAME_TAKEN"),
        (DeadlinePassed(Stage.TRAIN, 1), "TIMED_OUT", "DEADLINE"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_permanent_failure_ends_the_run_and_says_where_and_why(event: Event, stage_status: str, code: str) -> None:
    transition = step(reached(Stage.TRAIN), event)
    run = transition.after

    assert run.status is RunStatus.FAILED
    assert run.stage(Stage.TRAIN).status == stage_status
    assert run.failed_stage is Stage.TRAIN
    assert run.failure is not None
    assert run.failure.code == code
    assert run.stage(Stage.PROCESS).status is StageStatus.SUCCEEDED
    assert run.stage(Stage.DEPLOY).status is StageStatus.PENDING
    assert [(e.detail_type, e.data["code"]) for e in transition.events] == [("RunFailed", code)]


def test_a_transient_failure_is_tried_again_later_without_an_event_and_not_for_ever() -> None:
    run = new()
    broken = Failure("OUT_OF_SPACE", "disk full")
    for number in range(1, DEFAULT_TRIES):
        transition = step(run, JobReported(Stage.EXPORT, number, JobStatus.FAILED, broken, transient=True))
        run = transition.after
        assert transition.events == ()
        assert run.status is RunStatus.RUNNING
        current = run.attempt(Stage.EXPORT)
        assert current is not None
        assert (current.number, current.status) == (number + 1, AttemptStatus.STARTING)
        assert current.next_check_at == run.updated_at + backoff(number, 0.5)
        assert current.output.endswith(f"export/{number + 1}/")
        earlier = run.attempt(Stage.EXPORT, number)
        assert earlier is not None
        assert (earlier.status, earlier.failure) == (AttemptStatus.FAILED, broken)

    last = step(run, JobReported(Stage.EXPORT, DEFAULT_TRIES, JobStatus.FAILED, broken, transient=True)).after

    assert (last.status, last.failure) == (RunStatus.FAILED, broken)
    assert len(last.attempts) == DEFAULT_TRIES


def test_a_container_that_was_killed_has_one_more_try() -> None:
    # GIVEN a killed export: its host may be gone, its memory may have run out
    killed = Failure(KILLED, "the container was killed (exit code 137)")
    run = step(new(), JobReported(Stage.EXPORT, 1, JobStatus.FAILED, killed, transient=True)).after
    assert run.status is RunStatus.RUNNING
    # WHEN the next attempt fails for another passing reason THEN it is tried again, as often as the policy says
    broken = Failure("OUT_OF_SPACE", "disk full")
    again = step(run, JobReported(Stage.EXPORT, 2, JobStatus.FAILED, broken, transient=True)).after
    assert again.stage(Stage.EXPORT).attempt == 3
    # BUT when it is killed as well, the third would be
    last = step(run, JobReported(Stage.EXPORT, 2, JobStatus.FAILED, killed, transient=True)).after
    assert (last.status, last.failure) == (RunStatus.FAILED, killed)


def test_a_late_event_of_an_earlier_attempt_changes_nothing() -> None:
    failed = JobReported(Stage.EXPORT, 1, JobStatus.FAILED, transient=True)
    run = step(new(), failed).after

    for late in (failed, JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED), JobStarted(Stage.EXPORT, 1)):
        decision = decide(run, late, plan=PLAN, now=NOW, jitter=0)
        assert isinstance(decision, NoChange)
        assert "not the current one (2)" in decision.reason


def test_a_run_that_is_over_says_so() -> None:
    failed = step(new(), JobReported(Stage.EXPORT, 1, JobStatus.FAILED)).after
    for late in (JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED), DeadlinePassed(Stage.EXPORT, 1)):
        assert decide(failed, late, plan=PLAN, now=NOW, jitter=0) == NoChange("attempt 1 of export is over already")


def test_a_retry_does_not_outlive_the_run() -> None:
    run = replace(new(), deadline=NOW + timedelta(minutes=90))
    retried = step(run, JobReported(Stage.EXPORT, 1, JobStatus.FAILED, transient=True)).after
    current = retried.attempt(Stage.EXPORT)
    assert current is not None
    assert current.deadline == run.deadline


@given(tries=st.integers(1, 40), jitter=st.floats(0, 1, exclude_max=True))
def test_the_backoff_is_drawn_from_zero_to_a_bound_that_doubles_up_to_a_cap(tries: int, jitter: float) -> None:
    bound = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** (tries - 1))
    assert timedelta(0) <= backoff(tries, jitter) <= bound
    assert backoff(tries, 1.0) == bound
    assert backoff(tries, 0.0) == timedelta(0)


@pytest.mark.parametrize(("train", "expected"), [(1, 1), (2, 2), (5, 5)])
def test_each_stage_has_as_many_tries_as_its_policy_says(train: int, expected: int) -> None:
    # GIVEN two tries for every stage, and a policy of its own for training
    plan = replace(PLAN, tries=2, stage_tries={Stage.TRAIN: train})
    run, made = reached(Stage.TRAIN, plan), 0
    # WHEN training fails for a passing reason, again and again
    while run.status is RunStatus.RUNNING:
        made += 1
        attempt = run.attempt(Stage.TRAIN)
        assert attempt is not None
        assert attempt.tries_left == train - made
        run = step(run, JobReported(Stage.TRAIN, made, JobStatus.FAILED, transient=True), plan=plan).after
    # THEN it was tried so often and the other stages' policy is the common one
    assert made == expected
    assert plan.tries_of(Stage.EXPORT) == 2


def test_a_stage_may_have_its_own_time_and_the_run_another() -> None:
    hour = timedelta(hours=1)
    plan = replace(PLAN, stage_timeout=hour, stage_timeouts={Stage.PROCESS: hour * 3}, run_timeout=hour * 3)
    run = submit("movielens-1", "movielens", "{}", plan, NOW).after
    assert run.deadline == NOW + hour * 3
    assert run.attempts[0].deadline == NOW + hour
    process = step(run, JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED), minutes=30, plan=plan).after.attempts[-1]
    assert process.stage is Stage.PROCESS
    assert process.deadline == run.deadline, "half an hour is gone, so that three hours would outlast the run"
    assert replace(plan, run_timeout=None).whole == hour * 6


def test_a_passed_deadline_ends_the_run_at_once_and_its_job_is_watched_until_it_is_over() -> None:
    # GIVEN a run whose training hangs
    run = step(reached(Stage.TRAIN), JobStarted(Stage.TRAIN, 1)).after
    # WHEN its time is over
    ended = step(run, DeadlinePassed(Stage.TRAIN, 1), minutes=130).after
    # THEN the run is over, and the attempt is still looked at
    attempt = ended.attempt(Stage.TRAIN)
    assert attempt is not None
    assert (ended.status, ended.ended_at, attempt.status) == (RunStatus.FAILED, ended.updated_at, "TIMED_OUT")
    assert (attempt.is_live, attempt.stopping_since) == (True, ended.updated_at)
    assert ended.live_attempt == attempt
    # AND once the job was seen to be over, nothing is, while the run keeps why it failed
    for status in (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED):
        transition = step(ended, JobReported(Stage.TRAIN, 1, status))
        assert transition.after.live_attempt is None
        assert (transition.after.failure, transition.events) == (ended.failure, ())
        assert (transition.after.status, transition.after.ended_at) == (ended.status, ended.ended_at)
    again = decide(ended, DeadlinePassed(Stage.TRAIN, 1), plan=PLAN, now=NOW, jitter=0)
    assert again == NoChange("the run is FAILED already")


def test_only_a_job_that_is_being_stopped_can_be_gone() -> None:
    decision = decide(new(), JobGone(Stage.EXPORT, 1), plan=PLAN, now=NOW, jitter=0)
    assert isinstance(decision, NoChange)


def test_the_hash_of_what_a_stage_left_is_kept() -> None:
    run = step(new(), JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED, output_hash="abc")).after
    export = run.attempt(Stage.EXPORT)
    assert export is not None
    assert export.output_hash == "abc"
