"""A sweep finds what events did not bring: by lists of what ended, within a budget of calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ekiden.application.reconcile import (
    ENDED_WINDOW,
    LATER_AT_LEAST,
    LATER_AT_MOST,
    LIST_CALLS,
    OUTAGE_WINDOW,
    SOON,
)
from ekiden.domain.model import AttemptStatus, Failure, RunStatus, Stage, StageStatus
from ekiden.domain.transitions import JobStatus
from ekiden.errors import DependencyUnavailable, Permanent
from ekiden.ports import Job, LiveAttempt
from tests.fakes import World
from tests.fakes.faults import Crash


@pytest.fixture
def world() -> World:
    return World()


def test_a_sweep_of_nothing_does_nothing(world: World) -> None:
    run_id = world.submit()
    swept = {"live": 1, "looked_at": 0, "moved": 0, "postponed": 0, "troubles": ()}
    assert world.call("reconcile_jobs", {}) == swept
    assert world.run(run_id).version == 0


def test_a_whole_run_comes_to_its_end_when_every_event_is_lost(world: World) -> None:
    run_id = world.submit()
    for stage in Stage:
        assert world.sweep()["moved"] == 1
        assert world.run(run_id).stage(stage).status is StageStatus.RUNNING
        if stage is Stage.DEPLOY:
            world.jobs.settle("movielens")
        else:
            world.jobs.end(world.job(run_id, stage), JobStatus.SUCCEEDED)
        assert world.sweep()["moved"] == 1
    assert world.run(run_id).status is RunStatus.SUCCEEDED
    assert len(world.jobs.created) == 4


def test_a_job_that_was_started_and_ended_unseen_is_adopted_and_recorded_in_one_sweep(world: World) -> None:
    run_id = world.submit()
    world.faults.after["FakeJobs.start"] = Crash()
    with pytest.raises(Crash):
        world.ready(run_id, Stage.EXPORT)
    world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)

    world.sweep()

    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED
    assert world.jobs.created == [world.job(run_id, Stage.EXPORT)]


def test_a_sweep_does_not_adopt_a_job_of_the_same_name_that_is_another(world: World) -> None:
    run_id = world.submit()
    name = world.job(run_id, Stage.EXPORT)
    world.jobs.take(Job(name, Stage.EXPORT, run_id, {}, "ml.m5.large", 60, "s3://x/"))
    world.sweep()
    failure = world.run(run_id).failure
    assert failure is not None
    assert failure.code == "NAME_TAKEN"


def test_a_retry_is_started_by_the_sweep_once_its_delay_is_over(world: World) -> None:
    run_id = world.submit()
    first = world.reach(run_id, Stage.EXPORT)
    world.jobs.end(first, JobStatus.FAILED, Failure("OUT_OF_SPACE", "disk full"), transient=True)
    world.job_event(first, kind="Processing", status="Failed")
    attempt = world.run(run_id).attempt(Stage.EXPORT)
    assert attempt is not None
    assert attempt.status is AttemptStatus.STARTING

    assert world.sweep(seconds=0.001)["looked_at"] == 0
    assert world.jobs.created == [first]
    assert world.sweep()["moved"] == 1

    assert world.jobs.created == [first, attempt.job]
    assert attempt.job != first
    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.RUNNING


def test_a_job_that_never_ends_is_stopped_at_its_deadline(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 2})
    name = world.reach(run_id, Stage.TRAIN)

    assert world.sweep(hours=1)["moved"] == 0
    assert world.jobs.stopped == []
    world.sweep(hours=1, minutes=1)

    run = world.run(run_id)
    assert world.jobs.stopped == [name]
    assert run.stage(Stage.TRAIN).status is StageStatus.TIMED_OUT
    assert run.failure == Failure("DEADLINE", "stage train did not end within 2 h (limits in the spec)")


def test_a_job_that_ended_in_time_but_unseen_counts_although_the_deadline_passed(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    name = world.reach(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.sweep(hours=2)
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.SUCCEEDED
    assert world.jobs.stopped == []


def test_a_job_that_may_neither_be_described_nor_stopped_does_not_keep_its_run_open_for_ever(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    world.reach(run_id, Stage.EXPORT)
    world.faults.before["FakeJobs.describe"] = Permanent("denied")
    assert len(world.sweep(minutes=31)["troubles"]) == 1
    world.faults.before["FakeJobs.describe"] = Permanent("denied")
    world.faults.before["FakeJobs.stop"] = Permanent("denied")
    assert world.sweep(hours=2)["moved"] == 1
    assert world.run(run_id).status is RunStatus.FAILED


def test_an_intent_that_never_became_a_job_ends_at_its_deadline_too(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    world.sweep(hours=2)
    assert world.run(run_id).status is RunStatus.FAILED
    assert len(world.jobs) == 0


def test_one_attempts_trouble_does_not_stop_the_sweep(world: World) -> None:
    runs = [world.submit() for _ in range(4)]
    for run_id in runs:
        world.ready(run_id, Stage.EXPORT)
        world.clock.advance(seconds=1)
        world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)
    broken = {world.job(runs[0], Stage.EXPORT): ValueError("bug"), world.job(runs[1], Stage.EXPORT): None}
    describe = world.jobs.describe

    def sometimes(attempt: Any) -> Any:
        if attempt.job in broken:
            raise broken[attempt.job] or DependencyUnavailable("throttled")
        return describe(attempt)

    world.jobs.describe = sometimes  # type: ignore[method-assign]

    result = world.sweep()

    assert (result["looked_at"], result["moved"], result["postponed"]) == (4, 2, 1)
    assert result["troubles"] == (f"export 1 of {runs[0]}: ValueError: bug",)
    assert [world.run(run_id).stage(Stage.EXPORT).status for run_id in runs[2:]] == [StageStatus.SUCCEEDED] * 2


def test_with_more_live_attempts_than_a_sweep_looks_at_each_gets_its_turn(world: World) -> None:
    runs = [world.submit() for _ in range(5)]
    for run_id in runs:
        world.ready(run_id, Stage.EXPORT)
    last = runs[-1]
    world.jobs.end(world.job(last, Stage.EXPORT), JobStatus.SUCCEEDED)
    world.clock.advance(seconds=61)

    world.jobs.ended_since = lambda moment: frozenset()  # type: ignore[method-assign]
    world.clock.advance(minutes=30)
    for _ in range(3):
        world.parts.reconcile_jobs(budget=LIST_CALLS + 2, actor="reconciler")

    assert world.run(last).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED


def test_a_sweep_by_a_lagging_index_does_nothing(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.EXPORT)
    (attempt,) = world.run(run_id).attempts
    world.ledger.live = lambda limit: [  # type: ignore[method-assign]
        LiveAttempt(run_id, replace(attempt, number=7)),
        LiveAttempt("nobody", attempt),
    ]
    result = world.sweep(minutes=31)
    assert (result["looked_at"], result["moved"]) == (2, 0)


# By lists


def started(world: World, count: int) -> list[str]:
    """Runs whose export runs and was looked at, so that it is not due for a while."""
    runs = [world.submit() for _ in range(count)]
    for run_id in runs:
        world.ready(run_id, Stage.EXPORT)
    world.sweep()
    world.faults.calls.clear()
    return runs


def test_a_job_that_ended_is_found_without_looking_at_those_that_run(world: World) -> None:
    # GIVEN ten runs whose jobs run, and one of them whose job ends without an event
    runs = started(world, 10)
    ended = runs[7]
    world.jobs.end(world.job(ended, Stage.EXPORT), JobStatus.SUCCEEDED)
    # WHEN a sweep comes
    result = world.sweep()
    # THEN it has found the one with a list, and has looked at nothing else
    assert (result["live"], result["looked_at"], result["moved"]) == (10, 1, 1)
    assert world.run(ended).stage(Stage.PROCESS).status is StageStatus.STARTING
    assert world.faults.calls["FakeJobs.ended_since"] == 1
    assert world.faults.calls["FakeJobs.describe"] == 1


def test_an_endpoint_that_came_into_service_is_found_by_a_list_too(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)
    world.sweep()
    world.jobs.settle("movielens")
    assert world.sweep()["looked_at"] == 1
    assert world.run(run_id).status is RunStatus.SUCCEEDED


def test_without_live_attempts_nothing_is_listed(world: World) -> None:
    run_id = world.submit()
    for stage in Stage:
        world.succeed(run_id, stage)
    world.faults.calls.clear()
    assert world.sweep()["live"] == 0
    assert world.faults.calls["FakeJobs.ended_since"] == 0


@pytest.mark.parametrize(("minutes", "until"), [(3, 4), (20, 30)], ids=["a few sweeps", "an outage"])
def test_an_end_that_sweeps_did_not_see_is_still_listed(world: World, minutes: int, until: int) -> None:
    """Every tenth minute's sweep looks back further than the others: the world's clock starts at the full hour."""
    (run_id,) = started(world, 1)
    world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)
    ended = world.clock.now()
    world.faults.throttled = True
    for _ in range(minutes):
        world.clock.advance(minutes=1)
        with pytest.raises(DependencyUnavailable):
            world.call("reconcile_jobs", {})
    world.faults.throttled = False
    while not world.sweep(minutes=1)["moved"]:
        assert world.clock.now() < ended + timedelta(minutes=until)
    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED
    assert ENDED_WINDOW < timedelta(minutes=20) < OUTAGE_WINDOW <= LATER_AT_LEAST


def test_when_lists_are_throttled_what_is_due_is_looked_at_all_the_same(world: World) -> None:
    # GIVEN a run that waits for its start, one whose job has ended, and lists that are throttled
    (ended,) = started(world, 1)
    waiting = world.submit()
    world.jobs.end(world.job(ended, Stage.EXPORT), JobStatus.SUCCEEDED)
    world.faults.before["FakeJobs.ended_since"] = DependencyUnavailable("ThrottlingException")
    # WHEN a sweep comes THEN what waits is started, and what ended is found once lists are there again
    assert world.sweep()["moved"] == 1
    assert world.run(waiting).stage(Stage.EXPORT).status is StageStatus.RUNNING
    assert world.run(ended).stage(Stage.EXPORT).status is StageStatus.RUNNING
    world.sweep()
    assert world.run(ended).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED


def test_what_lists_never_show_is_looked_at_in_the_end(world: World) -> None:
    """The net below: a job that ended while lists and events said nothing, for longer than the lists look back."""
    (run_id,) = started(world, 1)
    world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)
    world.jobs.ended_since = lambda moment: frozenset()  # type: ignore[method-assign]
    world.sweep()
    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.RUNNING
    world.sweep(seconds=LATER_AT_LEAST.total_seconds())
    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED


# The most urgent first


def test_the_most_urgent_comes_first_when_the_budget_is_small(world: World) -> None:
    # GIVEN one run of each kind: nobody looked at it for long, overdue, waiting for its start, ended
    world.jobs.ended_since = lambda moment: frozenset()  # type: ignore[method-assign]
    unseen = world.submit(name="unseen")
    world.ready(unseen, Stage.EXPORT)
    overdue = world.submit(name="overdue", limits={"stage_hours": 1})
    world.ready(overdue, Stage.EXPORT)
    world.clock.advance(hours=3)
    waiting = world.submit(name="waiting")
    ended = world.submit(name="ended")
    world.ready(ended, Stage.EXPORT)
    world.clock.advance(seconds=61)
    del world.jobs.ended_since
    world.jobs.end(world.job(ended, Stage.EXPORT), JobStatus.SUCCEEDED)
    names = {run_id: run_id.partition("-")[0] for run_id in (unseen, overdue, waiting, ended)}
    order: list[str] = []
    load = world.ledger.load

    def watched(run_id: str) -> Any:
        order.append(names[run_id])
        return load(run_id)

    world.ledger.load = watched  # type: ignore[method-assign]
    # WHEN there is budget for one at a time
    for _ in range(5):
        world.parts.reconcile_jobs(budget=LIST_CALLS + 1, actor="reconciler")
    # THEN what ended comes first, then what is overdue or waits, then the rest
    assert list(dict.fromkeys(order)) == ["ended", "overdue", "waiting", "unseen"]


def test_a_budget_that_the_lists_use_up_still_leaves_one_look(world: World) -> None:
    world.submit()
    world.clock.advance(seconds=61)
    assert world.parts.reconcile_jobs(budget=1, actor="reconciler").moved == 1


# Adaptive


@pytest.mark.parametrize(
    ("age", "later"),
    [
        (timedelta(minutes=31), timedelta(minutes=31)),
        (timedelta(minutes=90), timedelta(minutes=90)),
        (timedelta(hours=12), LATER_AT_MOST),
    ],
    ids=str,
)
def test_the_longer_a_job_runs_the_later_it_is_looked_at_again(world: World, age: timedelta, later: timedelta) -> None:
    run_id = world.submit()
    world.ready(run_id, Stage.EXPORT)
    world.sweep(seconds=age.total_seconds())
    assert _next_look(world, run_id) == world.clock.now() + later


def test_a_deadline_is_not_slept_through(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    world.ready(run_id, Stage.EXPORT)
    world.sweep(minutes=45)
    attempt = world.run(run_id).attempts[0]
    assert attempt.next_check_at == attempt.deadline


def test_who_waits_for_us_is_looked_at_in_every_sweep(world: World) -> None:
    # GIVEN a stage that cannot be started, and a job that cannot be stopped
    waiting, stopping = world.submit(), world.submit()
    world.ready(stopping, Stage.EXPORT)
    world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
    world.change(stopping, "cancel")
    start = world.jobs.start

    def refuse(job: Job) -> None:
        raise DependencyUnavailable("ResourceLimitExceeded")

    world.jobs.start = refuse  # type: ignore[method-assign]
    world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
    # WHEN a sweep fails at both THEN the next one comes back to both
    assert world.sweep()["postponed"] == 2
    for run_id in (waiting, stopping):
        assert _next_look(world, run_id) == world.clock.now() + SOON
    world.jobs.start = start  # type: ignore[method-assign]
    assert world.sweep()["looked_at"] == 2
    assert world.run(waiting).stage(Stage.EXPORT).status is StageStatus.RUNNING
    assert world.running(stopping) == []


def _next_look(world: World, run_id: str) -> datetime:
    attempt = world.run(run_id).live_attempt
    assert attempt is not None
    return attempt.next_check_at


# Overdue


def test_an_overdue_job_that_cannot_be_stopped_ends_its_run_now_and_is_stopped_by_later_sweeps(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    name = world.reach(run_id, Stage.TRAIN)
    for sweeps in range(3):
        world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
        world.sweep(**({"hours": 1.5} if sweeps == 0 else {"seconds": 61}))
        assert world.run(run_id).status is RunStatus.FAILED
        assert world.running(run_id) == [name]
    world.faults.before.clear()
    world.sweep()
    assert world.running(run_id) == []
    world.sweep()
    assert world.run(run_id).live_attempt is None
    assert world.sweep()["live"] == 0
    assert [kind for kind, _ in world.told()].count("RunFailed") == 1


def test_a_cancel_that_is_overdue_ends_too(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 1})
    world.jobs.serve("movielens")
    world.clock.advance(minutes=1)
    world.reach(run_id, Stage.DEPLOY)
    world.change(run_id, "cancel")
    world.sweep(hours=2)
    assert world.run(run_id).status is RunStatus.CANCELLED
    assert world.jobs.endpoint_in_service("movielens") is True


def test_a_sweep_that_dies_anywhere_leaves_nothing_that_the_next_one_cannot_do(world: World) -> None:
    for boundary in _boundaries():
        world = World()
        runs = _mixed(world)
        passed = iter(range(10_000))

        def die(call: str, when: str, passed: Iterator[int] = passed, boundary: int = boundary) -> None:
            if next(passed) == boundary:
                raise Crash

        world.faults.hook = die
        with pytest.raises(Crash):
            world.sweep()
        world.faults.hook = lambda call, when: None
        world.sweep()
        world.sweep()
        statuses = [world.run(run_id).stage(Stage.EXPORT).status for run_id in runs]
        assert statuses == ["RUNNING", "SUCCEEDED", "CANCELLED"], boundary
        assert len(world.jobs.created) == len(set(world.jobs.created))


def _mixed(world: World) -> list[str]:
    """One run to start, one whose job has ended, one that is being cancelled."""
    runs = [world.submit() for _ in range(3)]
    for run_id in runs[1:]:
        world.ready(run_id, Stage.EXPORT)
    world.jobs.end(world.job(runs[1], Stage.EXPORT), JobStatus.SUCCEEDED)
    world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
    world.change(runs[2], "cancel")
    return runs


def _boundaries() -> range:
    world, passed = World(), 0
    _mixed(world)

    def tell(call: str, when: str) -> None:
        nonlocal passed
        passed += 1

    world.faults.hook = tell
    world.sweep()
    assert passed > 20
    return range(passed)
