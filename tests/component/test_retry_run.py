"""A retry goes on where a run ended and reuses what succeeded, after checking that it is still what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ekiden.domain import naming
from ekiden.domain.model import AttemptStatus, Failure, RunStatus, Stage, StageStatus
from ekiden.domain.transitions import JobStatus
from ekiden.errors import DependencyUnavailable
from tests.fakes import World
from tests.fakes.events import failed, http_event
from tests.fakes.world import BUCKET

NOTHING = failed()
ADA = "arn:aws:iam::000000000000:user/ada"


@pytest.fixture
def world() -> World:
    return World()


def manifest_key(world: World, run_id: str, stage: Stage, attempt: int = 1) -> str:
    """Where the attempt's manifest lies."""
    folder = naming.attempt_prefix(run_id, stage, attempt)
    if stage is Stage.TRAIN:
        folder = naming.model_prefix(folder, world.job(run_id, stage, attempt))
    return f"{folder}manifest.json"


def leave_manifest(world: World, run_id: str, stage: Stage, text: str = '{"files": {}}') -> None:
    key = manifest_key(world, run_id, stage, world.run(run_id).stage(stage).attempt)
    world.objects.put(BUCKET, key, text.encode(), "application/json")


def succeed(world: World, run_id: str, *stages: Stage) -> None:
    """Stages succeed and leave a manifest."""
    for stage in stages:
        leave_manifest(world, run_id, stage)
        world.succeed(run_id, stage)


def fail(world: World, run_id: str, stage: Stage) -> None:
    """The stage's job fails for good."""
    world.ready(run_id, stage)
    name = world.job(run_id, stage)
    world.jobs.end(name, JobStatus.FAILED, Failure("DIVERGED", "loss is not a number"))
    world.job_event(name, kind="Training" if stage is Stage.TRAIN else "Processing", status="Failed")
    assert world.run(run_id).status is RunStatus.FAILED


def failed_at(world: World, stage: Stage) -> str:
    run_id = world.submit()
    succeed(world, run_id, *list(Stage)[: list(Stage).index(stage)])
    fail(world, run_id, stage)
    return run_id


def retry(world: World, run_id: str, **body: Any) -> str:
    status, answer = world.change(run_id, "retry", **body)
    assert (status, answer.get("status")) == (202, "RUNNING"), answer
    return str(answer["stage"])


def refusal(world: World, run_id: str, **body: Any) -> tuple[int, str]:
    status, answer = world.change(run_id, "retry", **body)
    return status, answer["error"]["code"]


@pytest.mark.parametrize("stage", [Stage.EXPORT, Stage.PROCESS, Stage.TRAIN])
def test_a_failed_run_goes_on_at_the_failed_stage_and_starts_nothing_before_it_again(
    world: World, stage: Stage
) -> None:
    # GIVEN a run that failed
    run_id = failed_at(world, stage)
    before = list(world.jobs.created)
    # WHEN it is retried, and all goes well
    assert retry(world, run_id, reason="fixed the learning rate") == stage
    assert world.told()[-1] == ("StageReady", {"stage": stage, "attempt": 2, "job": world.job(run_id, stage)})
    succeed(world, run_id, *list(Stage)[list(Stage).index(stage) :])
    # THEN it succeeds with new jobs from that stage on only
    run = world.run(run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert [name.split("-")[1] for name in world.jobs.created[len(before) :]] == [
        *list(Stage)[list(Stage).index(stage) :]
    ]
    assert [state.attempt for state in run.stages] == [2 if state.stage is stage else 1 for state in run.stages]
    # AND the history says who let it go on, and why
    entry = next(e for e in world.ledger.history(run_id) if e.what.startswith("retry"))
    assert (entry.actor, entry.what) == (ADA, f"retry from {stage} asked for: fixed the learning rate")


def test_the_jobs_of_a_retry_read_what_the_latest_attempts_wrote(world: World) -> None:
    # GIVEN a run that succeeded
    run_id = world.submit()
    succeed(world, run_id, *Stage)
    # WHEN it is repeated from its second stage
    assert retry(world, run_id, **{"from": "process"}) == "process"
    succeed(world, run_id, Stage.PROCESS, Stage.TRAIN)
    world.ready(run_id, Stage.DEPLOY)
    # THEN each job reads what the stage before left last
    prefix = f"s3://{BUCKET}/runs/{run_id}"
    process, train = (world.jobs.job(world.job(run_id, stage)) for stage in (Stage.PROCESS, Stage.TRAIN))
    assert process.inputs["export"] == f"{prefix}/export/1/"
    assert train.inputs["processed"] == f"{prefix}/process/2/"
    assert world.jobs.deployment(world.job(run_id, Stage.DEPLOY)).model.startswith(f"{prefix}/train/2/")
    assert world.jobs.endpoint_in_service("movielens") is True, "the model before serves on meanwhile"


def test_the_timeline_of_a_run_that_was_retried_often_still_fits_into_its_variable(world: World) -> None:
    """SageMaker takes 512 characters: with every attempt in it, training would be refused from the second retry on."""
    run_id = world.submit()
    for _ in range(4):
        succeed(world, run_id, Stage.EXPORT, Stage.PROCESS)
        fail(world, run_id, Stage.TRAIN)
        world.clock.advance(minutes=10)
        retry(world, run_id, **{"from": "export"})
    succeed(world, run_id, Stage.EXPORT, Stage.PROCESS)
    world.ready(run_id, Stage.TRAIN)

    timeline = world.jobs.job(world.job(run_id, Stage.TRAIN)).environment["EKIDEN_TIMELINE"]

    assert len(timeline) <= 512
    assert [entry["name"] for entry in json.loads(timeline)] == ["export", "process"]
    latest = world.run(run_id).attempt(Stage.PROCESS)
    assert latest is not None
    assert latest.started_at is not None
    assert json.loads(timeline)[1]["started_at"] == latest.started_at.isoformat(timespec="seconds")


def test_a_cancelled_run_goes_on_where_it_was_cancelled(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.TRAIN)
    world.change(run_id, "cancel")
    world.sweep()
    assert world.run(run_id).status is RunStatus.CANCELLED

    assert retry(world, run_id) == "train"
    succeed(world, run_id, Stage.TRAIN, Stage.DEPLOY)
    assert world.run(run_id).status is RunStatus.SUCCEEDED
    assert [name.split("-")[1] for name in world.jobs.created].count("train") == 2


def test_a_retry_whose_event_is_lost_is_started_by_the_sweep(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)
    retry(world, run_id)
    world.sweep()
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.RUNNING


# What is reused is what it was


def test_output_that_is_what_it_was_is_reused(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)
    hashes = [attempt.output_hash for attempt in world.run(run_id).attempts]
    assert [bool(found) for found in hashes] == [True, True, False], "a failed attempt left nothing"
    assert retry(world, run_id) == "train"


@pytest.mark.parametrize("changed", [Stage.EXPORT, Stage.PROCESS])
@pytest.mark.parametrize("how", ["rewritten", "removed", "grown"])
def test_output_that_was_changed_is_not_reused(world: World, changed: Stage, how: str) -> None:
    # GIVEN a run whose training failed, and somebody who changes what an earlier stage left
    run_id = failed_at(world, Stage.TRAIN)
    if how == "removed":
        world.objects.delete(BUCKET, manifest_key(world, run_id, changed))
    else:
        leave_manifest(world, run_id, changed, '{"files": {"nodes.csv": "0"}}' if how == "rewritten" else " " * 2**21)
    before = world.run(run_id)
    # WHEN it is retried THEN it is told where to begin instead
    status, answer = world.change(run_id, "retry")
    assert (status, answer["error"]["code"]) == (409, "OUTPUT_CHANGED")
    assert f"retry with --from {changed}" in answer["error"]["message"]
    assert world.run(run_id) == before
    # AND from there it goes on
    assert retry(world, run_id, **{"from": changed}) == changed


def test_output_of_a_version_that_kept_no_hash_is_reused_as_it_is(world: World) -> None:
    run_id = world.submit()
    for stage in (Stage.EXPORT, Stage.PROCESS):
        world.succeed(run_id, stage)
    assert all(attempt.output_hash is None for attempt in world.run(run_id).attempts)
    fail(world, run_id, Stage.TRAIN)
    assert retry(world, run_id) == "train"


def test_a_model_that_was_changed_is_not_deployed_by_a_retry(world: World) -> None:
    run_id = world.submit()
    succeed(world, run_id, *Stage)
    leave_manifest(world, run_id, Stage.TRAIN, "{}")
    assert refusal(world, run_id, **{"from": "deploy"}) == (409, "OUTPUT_CHANGED")


def test_a_hash_that_cannot_be_read_now_is_not_taken_for_a_changed_one(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)
    world.faults.before["FakeObjects.get"] = DependencyUnavailable("SlowDown")
    assert refusal(world, run_id)[0] == 503
    assert retry(world, run_id) == "train"


def test_a_success_whose_hash_cannot_be_read_is_recorded_with_it_later(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.EXPORT)
    leave_manifest(world, run_id, Stage.EXPORT)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.faults.before["FakeObjects.get"] = DependencyUnavailable("SlowDown")
    assert world.job_event(name, kind="Processing") == failed(0)
    assert world.job_event(name, kind="Processing") == NOTHING
    assert world.run(run_id).attempts[0].output_hash is not None


# Refusals


def test_what_cannot_go_on_says_why(world: World) -> None:
    running = world.submit()
    assert refusal(world, running) == (409, "NOT_RETRYABLE")
    assert refusal(world, running, **{"from": "export"}) == (409, "NOT_RETRYABLE")
    run_id = failed_at(world, Stage.PROCESS)
    assert refusal(world, run_id, **{"from": "deploy"}) == (409, "NOT_RETRYABLE")
    assert refusal(world, run_id, **{"from": "sprint"}) == (400, "MALFORMED")
    assert refusal(world, "nobody") == (404, "UNKNOWN_RUN")
    done = world.submit()
    succeed(world, done, *Stage)
    assert refusal(world, done) == (409, "NOT_RETRYABLE")


def test_a_second_retry_does_not_start_a_second_attempt(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)
    retry(world, run_id)
    assert refusal(world, run_id) == (409, "NOT_RETRYABLE")
    assert world.run(run_id).stage(Stage.TRAIN).attempt == 2


def test_of_two_retries_at_once_one_wins(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)

    def meanwhile(call: str, when: str) -> None:
        if (call, when) == ("InMemoryLedger.commit", "before"):
            world.faults.hook = lambda call, when: None
            world.clock.advance(seconds=1)
            retry(world, run_id)

    world.faults.hook = meanwhile
    assert refusal(world, run_id) == (409, "NOT_RETRYABLE")
    assert world.run(run_id).stage(Stage.TRAIN).attempt == 2


def test_a_run_is_not_retried_before_its_overdue_job_was_seen_to_be_over(world: World) -> None:
    # GIVEN a run whose training passed its deadline, with a job that cannot be stopped
    run_id = world.submit(limits={"stage_hours": 1})
    name = world.reach(run_id, Stage.TRAIN)
    world.faults.before["FakeJobs.stop"] = DependencyUnavailable("ThrottlingException")
    world.sweep(hours=2)
    assert world.run(run_id).status is RunStatus.FAILED
    assert world.running(run_id) == [name]
    # WHEN it is retried THEN it is refused, until a sweep has seen the job stopped
    assert refusal(world, run_id) == (409, "NOT_RETRYABLE")
    world.sweep()
    world.sweep()
    assert world.running(run_id) == []
    assert retry(world, run_id) == "train"


def test_a_retried_run_is_shown_as_running_with_all_its_attempts(world: World) -> None:
    run_id = failed_at(world, Stage.TRAIN)
    retry(world, run_id)
    reply = world.call("show_status", http_event("GET /runs/{run_id}", path={"run_id": run_id}))
    shown = json.loads(reply["body"])
    assert (shown["status"], shown["error"], shown["ended_at"]) == ("RUNNING", None, None)
    attempts = next(stage["attempts"] for stage in shown["stages"] if stage["name"] == "train")
    assert [(a["number"], a["status"]) for a in attempts] == [(1, "FAILED"), (2, "STARTING")]


# Limits by stage


def test_a_stage_is_tried_as_often_as_its_limits_say_and_again_after_a_retry(world: World) -> None:
    run_id = world.submit(limits={"attempts": 1, "stages": {"train": {"attempts": 2}}})
    succeed(world, run_id, Stage.EXPORT, Stage.PROCESS)

    def stumble() -> None:
        world.ready(run_id, Stage.TRAIN)
        name = world.job(run_id, Stage.TRAIN)
        world.jobs.end(name, JobStatus.FAILED, Failure("CAPACITY_ERROR", "no instance"), transient=True)
        world.job_event(name, status="Failed")

    for expected in (RunStatus.RUNNING, RunStatus.FAILED):
        stumble()
        assert world.run(run_id).status is expected
    retry(world, run_id)
    for expected in (RunStatus.RUNNING, RunStatus.FAILED):
        stumble()
        assert world.run(run_id).status is expected
    statuses = [a.status for a in world.run(run_id).attempts if a.stage is Stage.TRAIN]
    assert statuses == [AttemptStatus.FAILED] * 4


def test_the_runs_own_limit_ends_it_whatever_its_stages_may_take(world: World) -> None:
    run_id = world.submit(limits={"stage_hours": 24, "run_hours": 2, "stages": {"train": {"hours": 100}}})
    succeed(world, run_id, Stage.EXPORT, Stage.PROCESS)
    world.ready(run_id, Stage.TRAIN)
    assert world.jobs.job(world.job(run_id, Stage.TRAIN)).max_runtime_seconds == 360_000
    world.sweep(hours=2)
    assert world.run(run_id).status is RunStatus.FAILED
    world.sweep()
    assert world.running(run_id) == []
