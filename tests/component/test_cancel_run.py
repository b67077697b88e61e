"""A cancel is an intent in the ledger, then a stop that somebody has seen: at whatever moment it comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ekiden.application.observe import START_GRACE
from ekiden.domain.model import AttemptStatus, RunStatus, Stage, StageStatus
from ekiden.domain.transitions import JobStatus
from ekiden.errors import DependencyUnavailable
from ekiden.ports import Job
from tests.fakes import World
from tests.fakes.events import failed, http_event
from tests.fakes.world import FUNCTION_OF

NOTHING = failed()
ADA = "arn:aws:iam::000000000000:user/ada"


@pytest.fixture
def world() -> World:
    return World()


def cancel(world: World, run_id: str, reason: str = "") -> str:
    status, answer = world.change(run_id, "cancel", reason=reason)
    assert status == 202, answer
    assert answer["run_id"] == run_id
    return str(answer["status"])


def verified(world: World, run_id: str) -> None:
    """Nothing of the cancelled run runs, and the ledger knows."""
    run = world.run(run_id)
    assert run.status is RunStatus.CANCELLED
    assert run.live_attempt is None
    assert world.running(run_id) == []
    assert world.told()[-1][0] == "RunCancelled"


@pytest.mark.parametrize("stage", [Stage.EXPORT, Stage.PROCESS, Stage.TRAIN])
def test_a_running_job_is_stopped_at_once_and_the_run_is_cancelled_when_it_was_seen_to_stop(
    world: World, stage: Stage
) -> None:
    # GIVEN a run whose job runs
    run_id = world.submit()
    name = world.reach(run_id, stage)
    # WHEN it is cancelled THEN the job is told to stop before the answer is given
    assert cancel(world, run_id, "wrong split") == "CANCELLING"
    assert world.jobs.stopped == [name]
    # AND by the job's own event the run is over
    assert world.job_event(name, kind="Training" if stage is Stage.TRAIN else "Processing", status="Stopped") == NOTHING
    verified(world, run_id)
    # AND who asked for it, and why, is in its history
    entries = world.ledger.history(run_id)[-2:]
    assert (entries[0].actor, entries[0].what) == (ADA, "cancel asked for: wrong split")
    assert entries[1].what == f"cancelled, {stage} has stopped"


def test_without_an_event_the_sweep_sees_it(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.TRAIN)
    cancel(world, run_id)
    assert world.sweep()["moved"] == 1
    verified(world, run_id)


def test_a_stop_that_could_not_be_asked_for_is_asked_for_again(world: World) -> None:
    # GIVEN a SageMaker that does not answer when a run is cancelled, nor when the next sweep looks
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
    assert cancel(world, run_id) == "CANCELLING"
    world.faults.before["FakeJobs.describe"] = DependencyUnavailable("ThrottlingException")
    assert world.sweep()["postponed"] == 1
    assert world.running(run_id) == [name]
    # WHEN it answers again THEN the job is stopped, and seen to be
    world.sweep()
    assert world.running(run_id) == []
    world.sweep()
    verified(world, run_id)


def test_nothing_is_started_for_a_run_that_is_being_cancelled(world: World) -> None:
    # GIVEN a run that is cancelled before its first job was started
    run_id = world.submit()
    assert cancel(world, run_id) == "CANCELLING"
    # WHEN the event that would start the job comes, and sweeps go by
    assert world.ready(run_id, Stage.EXPORT) == NOTHING
    world.sweep()
    assert world.run(run_id).status is RunStatus.CANCELLING, "a worker that is on its way may still create the job"
    world.sweep(seconds=START_GRACE.total_seconds())
    # THEN there never was one, and the run is over
    verified(world, run_id)
    assert len(world.jobs) == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_job_that_is_created_while_the_cancel_is_written_is_stopped(world: World, moment: str) -> None:
    """F15: the worker has read RUNNING, the intent to cancel is written, then the job is created."""
    run_id = world.submit()

    def cancel_meanwhile(call: str, when: str) -> None:
        if (call, when) == ("FakeJobs.start", moment):
            world.faults.hook = lambda call, when: None
            assert cancel(world, run_id) == "CANCELLING"

    world.faults.hook = cancel_meanwhile
    assert world.ready(run_id, Stage.EXPORT) == NOTHING
    assert len(world.jobs.created) == 1

    world.sweep()
    assert world.running(run_id) == []
    world.sweep()
    verified(world, run_id)


def test_a_job_that_a_paused_worker_creates_minutes_after_the_cancel_is_stopped(world: World) -> None:
    # GIVEN a worker that pauses between its reading of the ledger and its call
    run_id = world.submit()
    start, late = world.jobs.start, list[Job]()
    world.jobs.start = late.append  # type: ignore[method-assign, assignment]
    world.ledger.commit, commit = lambda *args, **kwargs: None, world.ledger.commit  # type: ignore[method-assign]
    world.ready(run_id, Stage.EXPORT)
    world.jobs.start, world.ledger.commit = start, commit  # type: ignore[method-assign]
    cancel(world, run_id)
    # WHEN it wakes up 100 seconds later, in between two sweeps
    world.sweep()
    world.clock.advance(seconds=40)
    start(late[0])
    # THEN its job is stopped, and the run is cancelled after that only
    world.sweep()
    assert world.running(run_id) == []
    world.sweep()
    verified(world, run_id)
    assert world.jobs.stopped == [world.job(run_id, Stage.EXPORT)]


def test_a_stage_that_succeeded_meanwhile_counts_and_no_other_begins(world: World) -> None:
    run_id = world.submit()
    world.jobs.end(world.reach(run_id, Stage.PROCESS), JobStatus.SUCCEEDED)

    assert cancel(world, run_id) == "CANCELLED"

    verified(world, run_id)
    assert world.run(run_id).stage(Stage.PROCESS).status is StageStatus.SUCCEEDED
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.PENDING
    assert world.jobs.stopped == []


def test_a_cancel_that_races_with_the_end_of_a_stage_cancels_the_stage_that_follows(world: World) -> None:
    # GIVEN a cancel that has read the run while process ran
    run_id = world.submit()
    name = world.reach(run_id, Stage.PROCESS)
    world.jobs.end(name, JobStatus.SUCCEEDED)

    def end_meanwhile(call: str, when: str) -> None:
        if (call, when) == ("InMemoryLedger.commit", "before"):
            world.faults.hook = lambda call, when: None
            world.job_event(name, kind="Processing")

    # WHEN the end of process is written first
    world.faults.hook = end_meanwhile
    assert cancel(world, run_id) == "CANCELLING"
    # THEN the cancel is decided again, on what is true now
    assert world.run(run_id).stage(Stage.PROCESS).status is StageStatus.SUCCEEDED
    assert world.ready(run_id, Stage.TRAIN) == NOTHING
    world.sweep(seconds=START_GRACE.total_seconds())
    verified(world, run_id)
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.CANCELLED


# At deploy


def test_an_endpoint_that_this_attempt_made_is_deleted(world: World) -> None:
    # GIVEN a run that makes its endpoint
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)
    assert cancel(world, run_id) == "CANCELLING"
    # WHEN SageMaker refuses to delete it while it is being made THEN the run waits
    world.sweep()
    assert world.run(run_id).status is RunStatus.CANCELLING
    assert "movielens" in world.jobs
    # AND once it is in service it is deleted, and seen to be gone
    world.jobs.settle("movielens")
    world.job_event("movielens", kind="Endpoint", status="IN_SERVICE")
    assert "movielens" not in world.jobs
    world.sweep(seconds=START_GRACE.total_seconds())
    verified(world, run_id)


@pytest.mark.parametrize("update_fails", [True, False])
def test_an_endpoint_that_served_before_goes_on_serving(world: World, update_fails: bool) -> None:
    world.jobs.serve("movielens")
    world.clock.advance(hours=1)
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)

    assert cancel(world, run_id) == "CANCELLING"
    world.sweep()
    world.jobs.settle("movielens", failed=update_fails)
    world.job_event("movielens", kind="Endpoint", status="IN_SERVICE")
    world.sweep(seconds=START_GRACE.total_seconds())

    verified(world, run_id)
    assert world.jobs.endpoint_in_service("movielens") is True
    assert world.jobs.stopped == [], "it was never told to go"
    attempt = world.run(run_id).attempt(Stage.DEPLOY)
    assert attempt is not None
    assert attempt.status is (AttemptStatus.CANCELLED if update_fails else AttemptStatus.SUCCEEDED)


def test_an_update_that_ends_between_the_look_and_the_stop_does_not_cost_the_endpoint(world: World) -> None:
    # GIVEN an endpoint in service that a run updates
    world.jobs.serve("movielens")
    world.clock.advance(hours=1)
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)

    def settle_after_the_look(call: str, when: str) -> None:
        if (call, when) == ("FakeJobs.describe", "after"):
            world.faults.hook = lambda call, when: None
            world.jobs.settle("movielens")

    # WHEN the update ends right after it was seen to go on
    world.faults.hook = settle_after_the_look
    cancel(world, run_id)
    # THEN nobody deletes what serves now
    assert world.jobs.endpoint_in_service("movielens") is True
    world.sweep()
    verified(world, run_id)
    assert world.jobs.endpoint_in_service("movielens") is True


def test_a_run_that_waits_for_its_turn_at_an_endpoint_leaves_the_endpoint_alone(world: World) -> None:
    first, second = world.submit(), world.submit()
    world.reach(first, Stage.DEPLOY)
    for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
        world.succeed(second, stage)
    world.ready(second, Stage.DEPLOY)

    cancel(world, second)
    world.jobs.settle("movielens")
    world.job_event("movielens", kind="Endpoint", status="IN_SERVICE")
    world.sweep(seconds=START_GRACE.total_seconds())

    verified(world, second)
    assert world.run(first).status is RunStatus.SUCCEEDED
    assert world.jobs.endpoint_in_service("movielens") is True


# Twice, too late, wrong


def test_a_second_cancel_says_the_same_and_writes_nothing(world: World) -> None:
    run_id = world.submit()
    assert cancel(world, run_id) == cancel(world, run_id) == "CANCELLING"
    assert world.run(run_id).version == 1


def test_a_cancel_that_comes_too_late_tells_how_the_run_ended(world: World) -> None:
    run_id = world.submit()
    for stage in Stage:
        world.succeed(run_id, stage)
    before = world.run(run_id)
    assert cancel(world, run_id) == "SUCCEEDED"
    assert world.run(run_id) == before
    assert world.jobs.endpoint_in_service("movielens") is True


def test_a_cancelled_run_is_shown_as_such(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.TRAIN)
    cancel(world, run_id, "enough")
    world.sweep()
    reply = world.call("show_status", http_event("GET /runs/{run_id}", path={"run_id": run_id}))
    shown = json.loads(reply["body"])
    assert (shown["status"], shown["error"], shown["endpoint"]) == ("CANCELLED", None, None)
    history = world.call("show_status", http_event("GET /runs/{run_id}/history", path={"run_id": run_id}))
    lines = [(line["actor"], line["what"]) for line in json.loads(history["body"])["history"]]
    assert (ADA, "cancel asked for: enough") in lines
    assert [line["sequence"] for line in json.loads(history["body"])["history"]] == list(range(len(lines)))


@pytest.mark.parametrize(
    ("run_id", "body", "status", "code"),
    [
        ("nobody", {}, 404, "UNKNOWN_RUN"),
        ("nobody", {"reason": "x" * 501}, 400, "MALFORMED"),
        ("nobody", {"reason": "two\nlines"}, 400, "MALFORMED"),
        ("nobody", {"reason": 7}, 400, "MALFORMED"),
        ("nobody", {"why": "typo"}, 400, "MALFORMED"),
    ],
)
def test_what_cannot_be_cancelled_is_answered_with_the_reason(
    world: World, run_id: str, body: dict[str, Any], status: int, code: str
) -> None:
    found, answer = world.change(run_id, "cancel", **body)
    assert (found, answer["error"]["code"]) == (status, code)


# At every boundary


def happy(world: World, run_id: str) -> None:
    """Every event of a run comes, up to the one at which nothing is left to do."""
    for stage in Stage:
        if world.run(run_id).status is not RunStatus.RUNNING:
            return
        world.ready(run_id, stage)
        attempt = world.run(run_id).attempt(stage)
        if attempt is None:
            return
        if stage is Stage.DEPLOY:
            if attempt.ref.name in world.jobs:
                world.jobs.settle(attempt.ref.name)
            world.job_event(attempt.ref.name, kind="Endpoint", status="IN_SERVICE")
        elif world.jobs.is_running(attempt.job):
            world.jobs.end(attempt.job, JobStatus.SUCCEEDED)
            world.job_event(attempt.job, kind="Training" if stage is Stage.TRAIN else "Processing")


def boundaries() -> int:
    world, count = World(), 0

    def tell(call: str, when: str) -> None:
        nonlocal count
        count += 1

    run_id = world.submit()
    world.faults.hook = tell
    happy(world, run_id)
    return count


def test_at_whatever_boundary_the_cancel_comes_nothing_runs_two_sweeps_later() -> None:
    assert set(FUNCTION_OF) == set(Stage)
    total = boundaries()
    assert total > 50
    for chosen in range(total):
        world = World()
        run_id = world.submit()
        passed = 0

        def meanwhile(call: str, when: str, world: World = world, run_id: str = run_id, chosen: int = chosen) -> None:
            nonlocal passed
            passed += 1
            if passed == chosen + 1:
                world.parts.cancel_run(run_id, reason="", actor="test")

        world.faults.hook = meanwhile
        happy(world, run_id)
        world.sweep()
        world.sweep()
        assert world.running(run_id) == [], f"boundary {chosen}"
        world.sweep(seconds=START_GRACE.total_seconds())
        if "movielens" in world.jobs and world.run(run_id).status is RunStatus.CANCELLING:
            world.jobs.settle("movielens")
        world.sweep()
        world.sweep(seconds=START_GRACE.total_seconds())
        status = world.run(run_id).status
        assert status in {RunStatus.CANCELLED, RunStatus.SUCCEEDED}, f"boundary {chosen}: {status}"
        assert world.jobs.created == list(dict.fromkeys(world.jobs.created)), f"boundary {chosen}"


def test_an_endpoint_that_another_run_made_meanwhile_is_not_deleted() -> None:
    # GIVEN a deploy that waits while another run makes the endpoint, then updates it
    world = World()
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)
    attempt = world.run(run_id).attempt(Stage.DEPLOY)
    assert attempt is not None
    endpoint = attempt.ref.name
    made = world.jobs._endpoints[endpoint]
    world.jobs._endpoints[endpoint] = replace(made, config="another-runs", made_by="another-runs", pending=attempt.job)
    # WHEN the run is cancelled and the update settles
    world.parts.cancel_run(run_id, reason="", actor="test")
    world.jobs.settle(endpoint)
    world.clock.advance(minutes=5)
    world.sweep()
    # THEN the run is over and the endpoint still serves
    assert world.run(run_id).status is RunStatus.CANCELLED
    assert world.jobs.endpoint_in_service(endpoint)
