"""``decide`` is total, and keeps its promises whatever it is told in whatever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.domain import naming
from ekiden.domain.model import (
    ACTIVE_ATTEMPT,
    ACTIVE_STAGE,
    TERMINAL_RUN,
    AttemptStatus,
    Failure,
    JobKind,
    Run,
    RunStatus,
    Stage,
    StageStatus,
)
from ekiden.domain.transitions import (
    BACKOFF_CAP,
    CHECK_AFTER,
    DEFAULT_TRIES,
    DeadlinePassed,
    Event,
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


def new() -> Run:
    return submit("movielens-1", "movielens", "{}", PLAN, NOW).after


def step(run: Run, event: Event, *, minutes: float = 1, jitter: float = 0.5) -> Transition:
    decision = decide(run, event, plan=PLAN, now=run.updated_at + timedelta(minutes=minutes), jitter=jitter)
    assert isinstance(decision, Transition), decision
    return decision


def reached(stage: Stage) -> Run:
    run = new()
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        run = step(run, JobReported(earlier, 1, JobStatus.SUCCEEDED)).after
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
        assert "running already" in decision.reason


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
        assert decide(failed, late, plan=PLAN, now=NOW, jitter=0) == NoChange("the run is FAILED already")


def test_a_retry_does_not_outlive_the_run() -> None:
    run = replace(new(), deadline=NOW + timedelta(minutes=90))
    retried = step(run, JobReported(Stage.EXPORT, 1, JobStatus.FAILED, transient=True)).after
    current = retried.attempt(Stage.EXPORT)
    assert current is not None
    assert current.deadline == run.deadline


def test_the_backoff_grows_with_full_jitter_up_to_a_cap() -> None:
    assert [backoff(n, 1.0).total_seconds() for n in (1, 2, 3)] == [30, 60, 120]
    assert backoff(12, 1.0) == BACKOFF_CAP
    assert backoff(3, 0.0) == timedelta(0)


FAILURES = st.none() | st.just(Failure("BAD_DATA", "a row is wrong"))
STAGES = st.sampled_from(Stage)
NUMBERS = st.integers(0, DEFAULT_TRIES + 1)
EVENTS = st.one_of(
    st.builds(JobStarted, STAGES, NUMBERS),
    st.builds(JobReported, STAGES, NUMBERS, st.sampled_from(JobStatus), FAILURES, st.booleans()),
    st.builds(StartRefused, STAGES, NUMBERS, st.just(REFUSED)),
    st.builds(DeadlinePassed, STAGES, NUMBERS),
)
HELPFUL = st.tuples(st.sampled_from(["succeed", "start", "retry"]), st.floats(0, 0.99))


def _current(run: Run, act: str) -> Event:
    stage = run.current_stage or Stage.EXPORT
    number = run.stage(stage).attempt
    if act == "start":
        return JobStarted(stage, number)
    if act == "retry":
        return JobReported(stage, number, JobStatus.FAILED, None, transient=True)
    return JobReported(stage, number, JobStatus.SUCCEEDED)


@settings(max_examples=150, deadline=None)
@given(story=st.lists(EVENTS | HELPFUL, max_size=25), jitter=st.floats(0, 0.99))
def test_whatever_happens_in_whatever_order_the_run_stays_sound(story: list[object], jitter: float) -> None:
    run, now = new(), NOW
    for told in story:
        now += timedelta(seconds=30)
        event: Event = _current(run, told[0]) if isinstance(told, tuple) else told  # type: ignore[assignment]

        decision = decide(run, event, plan=PLAN, now=now, jitter=jitter)

        if isinstance(decision, NoChange):
            assert decision.reason
            continue
        assert run.status not in TERMINAL_RUN, "a run that is over does not move"
        assert decision.before is run
        assert decision.after.version == run.version + 1
        assert decision.after.updated_at == now
        run = decision.after
        _check(run)


def _check(run: Run) -> None:
    statuses = [state.status for state in run.stages]
    begun = [status is not StageStatus.PENDING for status in statuses]
    assert begun == sorted(begun, reverse=True), "stages begin in order"
    assert all(status is StageStatus.SUCCEEDED for status in statuses[: sum(begun) - 1]), "each after the one before"
    live = [attempt for attempt in run.attempts if attempt.status in ACTIVE_ATTEMPT]
    active = [state for state in run.stages if state.status in ACTIVE_STAGE]
    if run.status in TERMINAL_RUN:
        assert live == []
        assert active == []
        assert run.ended_at is not None
        assert (run.failure is None) == (run.status is RunStatus.SUCCEEDED)
    else:
        assert len(live) == len(active) == 1, "one live attempt"
        assert (live[0].stage, live[0].number) == (active[0].stage, active[0].attempt)
        assert live[0].status.value == active[0].status.value
    for state in run.stages:
        numbers = sorted(attempt.number for attempt in run.attempts if attempt.stage is state.stage)
        assert numbers == list(range(1, state.attempt + 1)), "history is complete"
    jobs = [attempt.job for attempt in run.attempts]
    assert len(set(jobs)) == len(jobs)
    assert len(jobs) <= DEFAULT_TRIES * len(Stage)
