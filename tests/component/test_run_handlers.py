"""The functions of a run, from the handlers inwards: what each event makes true, and what it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ekiden.domain.model import AttemptStatus, Failure, RunStatus, Stage, StageStatus
from ekiden.domain.transitions import JobStatus
from ekiden.errors import DependencyUnavailable, LostRace, Permanent
from ekiden.ports import Job, JobLogLine
from tests.fakes import World
from tests.fakes.events import SAMPLE_SPEC, bus_event, failed, http_event, sqs_event
from tests.fakes.faults import Crash
from tests.fakes.world import BUCKET, FUNCTION_OF

NOTHING = failed()


@pytest.fixture
def world() -> World:
    return World()


def post_run(world: World, body: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    reply = world.call("submit_run", http_event("POST /runs", body, **more))
    return reply["statusCode"], json.loads(reply["body"])


def uploaded(world: World, text: str, key: str = "specs/movielens.yaml") -> dict[str, Any]:
    stored = world.objects.put(BUCKET, key, text.encode(), "application/yaml")
    detail = {
        "version": "0",
        "bucket": {"name": BUCKET},
        "object": {"key": key, "size": stored.size, "etag": stored.etag.strip('"'), "version-id": f"v{text}"[:20]},
        "reason": "PutObject",
    }
    return bus_event("aws.s3", "Object Created", detail)


# submit_run


def test_a_posted_spec_becomes_a_run_about_to_start(world: World) -> None:
    status, answer = post_run(world, {"spec": SAMPLE_SPEC, "request_id": "r1"})

    assert (status, answer["status"]) == (202, "RUNNING")
    run = world.run(answer["run_id"])
    assert run.stage(Stage.EXPORT).status is StageStatus.STARTING
    assert f"runs/{run.run_id}/spec/spec.json" in world.objects
    assert [kind for kind, _ in world.told()] == ["RunSubmitted", "StageReady"]
    (entry,) = world.ledger.history(run.run_id)
    assert entry.actor == "arn:aws:iam::000000000000:user/ada"


def test_posting_the_same_request_again_starts_nothing(world: World) -> None:
    first = post_run(world, {"spec": SAMPLE_SPEC, "request_id": "r1"})
    world.clock.advance(minutes=1)

    assert post_run(world, {"spec": SAMPLE_SPEC, "request_id": "r1"}) == first
    assert len(world.ledger) == 1
    status, answer = post_run(world, {"spec": {**SAMPLE_SPEC, "name": "other"}, "request_id": "r1"})
    assert (status, answer["error"]["code"]) == (409, "REQUEST_CONFLICT")


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        ({"spec": {**SAMPLE_SPEC, "name": "X Y"}}, 400, "INVALID_SPEC", "name"),
        ({"spec": {}}, 400, "INVALID_SPEC", "version"),
        ({"spec": []}, 400, "MALFORMED", "spec"),
        ({}, 400, "MALFORMED", "spec"),
        ({"spec": SAMPLE_SPEC, "request_id": ".."}, 400, "MALFORMED", "request_id"),
        ({"spec": SAMPLE_SPEC, "request_id": "a/b"}, 400, "MALFORMED", "request_id"),
        ({"spec": SAMPLE_SPEC, "x" * 5000: 1}, 400, "MALFORMED", "'" + "x" * 78 + "…"),
    ],
)
def test_a_faulty_submission_is_answered_with_its_faults(
    world: World, body: dict[str, Any], status: int, code: str, path: str
) -> None:
    found, answer = post_run(world, body)

    assert (found, answer["error"]["code"]) == (status, code)
    assert path in [fault["path"] for fault in answer["error"]["faults"]]
    assert len(world.ledger) == len(world.objects) == 0


def test_a_body_that_is_too_large_or_no_json_is_refused(world: World) -> None:
    assert post_run(world, None, raw="x" * 70_000)[0] == 413
    assert post_run(world, None, raw='{"spec": 1, "spec": 2}')[0] == 400


def test_an_outage_is_answered_503_and_a_bug_500(world: World) -> None:
    world.faults.before["InMemoryLedger.create"] = DependencyUnavailable("DynamoDB is down")
    assert post_run(world, {"spec": SAMPLE_SPEC})[0] == 503
    world.faults.before["InMemoryLedger.create"] = ZeroDivisionError("secret detail")
    status, answer = post_run(world, {"spec": SAMPLE_SPEC})
    assert (status, answer["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in json.dumps(answer)


def test_an_uploaded_spec_becomes_one_run_however_often_it_is_told(world: World) -> None:
    event = uploaded(world, json.dumps(SAMPLE_SPEC))

    assert world.call("submit_run", sqs_event(event, event)) == NOTHING
    assert world.call("submit_run", sqs_event(event)) == NOTHING

    assert len(world.ledger) == 1
    assert len(world.dead_letters) == 0


def test_a_spec_that_was_replaced_before_it_was_read_is_left_to_its_own_event(world: World) -> None:
    first = uploaded(world, json.dumps(SAMPLE_SPEC))
    second = uploaded(world, json.dumps({**SAMPLE_SPEC, "name": "newer"}))

    assert world.call("submit_run", sqs_event(first, second)) == NOTHING

    assert [headline.name for headline in world.ledger.recent(None, 9)] == ["newer"]
    assert len(world.dead_letters) == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &x 1", "INVALID_SPEC"),
        ("- just a list", "INVALID_SPEC"),
        ("", "INVALID_SPEC"),
        ("version: 1", "INVALID_SPEC"),
        ("x" * 300_000, "OBJECT_TOO_LARGE"),
        ("\x00\xff", "INVALID_SPEC"),
    ],
    ids=["anchor", "list", "empty", "faults", "large", "binary"],
)
def test_an_uploaded_spec_that_cannot_run_is_parked_with_its_reason(world: World, text: str, code: str) -> None:
    assert world.call("submit_run", sqs_event(uploaded(world, text))) == NOTHING
    (parked,) = [json.loads(body) for body in world.dead_letters.bodies]
    assert parked["error"]["code"] == code
    assert len(world.ledger) == 0


def test_an_uploaded_spec_that_is_gone_is_parked(world: World) -> None:
    event = uploaded(world, json.dumps(SAMPLE_SPEC))
    world.objects.delete(BUCKET, "specs/movielens.yaml")
    assert world.call("submit_run", sqs_event(event)) == NOTHING
    assert json.loads(world.dead_letters.bodies[0])["error"]["code"] == "SPEC_GONE"


# The stage functions


def test_a_ready_stage_starts_its_job_with_what_the_stage_before_made(world: World) -> None:
    run_id = world.submit()
    for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
        world.succeed(run_id, stage)
    world.ready(run_id, Stage.DEPLOY)

    export, process, train = (world.jobs.job(world.job(run_id, stage)) for stage in list(Stage)[:3])
    prefix = f"s3://{BUCKET}/runs/{run_id}"
    assert export.inputs == {"graph": SAMPLE_SPEC["graph"]["source"], "spec": f"{prefix}/spec/"}
    assert process.inputs == {"export": f"{prefix}/export/1/", "spec": f"{prefix}/spec/"}
    assert train.inputs == {"processed": f"{prefix}/process/1/", "spec": f"{prefix}/spec/"}
    assert (export.output, train.output) == (f"{prefix}/export/1/", f"{prefix}/train/1/")
    assert train.hyperparameters == {"num-hidden": "32", "lr": "0.01", "enable-early-stop": "true"}
    timeline = json.loads(train.environment["EKIDEN_TIMELINE"])
    assert [(entry["name"], entry["status"]) for entry in timeline] == [
        ("export", "SUCCEEDED"),
        ("process", "SUCCEEDED"),
    ]
    assert len(train.environment["EKIDEN_TIMELINE"]) <= 512
    deployment = world.jobs.deployment(world.job(run_id, Stage.DEPLOY))
    assert deployment.model == f"{prefix}/train/1/{train.name}/output/model/"
    assert deployment.endpoint == "movielens"


@pytest.mark.parametrize("stage", list(Stage))
def test_a_repeated_event_starts_nothing_a_second_time(world: World, stage: Stage) -> None:
    run_id = world.submit()
    name = world.reach(run_id, stage)

    assert world.ready(run_id, stage) == NOTHING
    assert world.ready(run_id, stage) == NOTHING

    assert world.jobs.created.count(name) == 1
    assert world.run(run_id).stage(stage).status is StageStatus.RUNNING
    assert len(world.dead_letters) == 0


@pytest.mark.parametrize("stage", list(Stage))
def test_a_worker_that_dies_after_it_started_a_job_leaves_one_job_that_the_next_adopts(
    world: World, stage: Stage
) -> None:
    run_id = world.submit()
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        world.succeed(run_id, earlier)
    call = "FakeJobs.deploy" if stage is Stage.DEPLOY else "FakeJobs.start"
    world.faults.after[call] = Crash()
    with pytest.raises(Crash):
        world.ready(run_id, stage)
    assert world.run(run_id).stage(stage).status is StageStatus.STARTING

    assert world.ready(run_id, stage) == NOTHING

    assert world.jobs.created.count(world.job(run_id, stage)) == 1
    assert world.run(run_id).stage(stage).status is StageStatus.RUNNING


def test_a_write_whose_answer_was_lost_is_recognised(world: World) -> None:
    run_id = world.submit()
    world.faults.after["InMemoryLedger.commit"] = DependencyUnavailable("no answer")
    assert world.ready(run_id, Stage.EXPORT) == failed(0)
    assert world.ready(run_id, Stage.EXPORT) == NOTHING
    assert world.run(run_id).version == 1
    assert len(world.jobs) == 1


def test_a_name_that_somebody_else_has_fails_the_run_loudly_and_leaves_the_other_job_alone(world: World) -> None:
    run_id = world.submit()
    name = world.job(run_id, Stage.EXPORT)
    other = Job(name, Stage.EXPORT, run_id, {"graph": "s3://elsewhere/"}, "ml.m5.large", 60, "s3://elsewhere/out/")
    world.jobs.take(other)

    assert world.ready(run_id, Stage.EXPORT) == NOTHING

    run = world.run(run_id)
    assert (run.status, run.failed_stage) == (RunStatus.FAILED, Stage.EXPORT)
    assert run.failure is not None
    assert run.failure.code == "NAME_TAKEN"
    assert world.jobs.job(name) == other
    assert world.jobs.stopped == []


def test_a_start_that_can_never_succeed_ends_the_run_whatever_kind_of_refusal_it_is(world: World) -> None:
    run_id = world.submit()
    world.faults.before["FakeJobs.start"] = Permanent("not allowed to pass the role", code="AccessDeniedException")
    assert world.ready(run_id, Stage.EXPORT) == NOTHING
    run = world.run(run_id)
    assert run.status is RunStatus.FAILED
    assert run.failure == Failure("AccessDeniedException", "not allowed to pass the role")


def test_a_platform_that_is_busy_is_asked_again(world: World) -> None:
    run_id = world.submit()
    world.faults.before["FakeJobs.start"] = DependencyUnavailable("ThrottlingException")
    assert world.ready(run_id, Stage.EXPORT) == failed(0)
    assert world.ready(run_id, Stage.EXPORT) == NOTHING
    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.RUNNING


@pytest.mark.parametrize(
    ("function", "detail", "code"),
    [
        ("train_model", {"stage": "export", "attempt": 1, "job": "x"}, "MISROUTED"),
        ("train_model", {"stage": "sprint", "attempt": 1, "job": "x"}, "MALFORMED"),
        ("train_model", {"stage": "train", "attempt": 0, "job": "x"}, "MALFORMED"),
        ("train_model", {}, "MALFORMED"),
        ("train_model", {"stage": "train", "attempt": 1, "job": "x"}, "UNKNOWN_RUN"),
    ],
)
def test_an_event_that_no_stage_function_can_use_is_parked(
    world: World, function: str, detail: dict[str, Any], code: str
) -> None:
    meta = {
        "event_id": "e",
        "run_id": "nobody",
        "sequence": 0,
        "causation_id": "c",
        "schema_version": 1,
        "occurred_at": "2026-11-20T12:00:00Z",
    }
    event = bus_event("ekiden.ledger", "StageReady", {"meta": meta, "data": detail})
    assert world.call(function, sqs_event(event)) == NOTHING
    assert json.loads(world.dead_letters.bodies[0])["error"]["code"] == code


def test_each_stage_has_its_own_function() -> None:
    assert set(FUNCTION_OF) == set(Stage)
    assert len(set(FUNCTION_OF.values())) == len(Stage)


# record_job_state


def test_a_run_reaches_its_endpoint_by_events_alone(world: World) -> None:
    run_id = world.submit()
    for stage in Stage:
        world.succeed(run_id, stage)

    run = world.run(run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert [state.status for state in run.stages] == [StageStatus.SUCCEEDED] * 4
    assert world.jobs.created == [attempt.job for attempt in run.attempts]
    assert world.told()[-1] == ("RunSucceeded", {"endpoint": "movielens"})
    assert run.version == 8, "two writes per stage, and the submission is version 0"


def test_the_event_only_wakes_and_describe_decides(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)

    assert world.job_event(name, status="Failed") == NOTHING
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.RUNNING

    world.jobs.end(name, JobStatus.SUCCEEDED)
    assert world.job_event(name, status="Stopped") == NOTHING
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.SUCCEEDED


def test_an_event_that_says_what_the_ledger_knows_asks_nobody(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    described = world.faults.calls["FakeJobs.describe"]
    assert world.job_event(name, status="InProgress") == NOTHING
    assert world.faults.calls["FakeJobs.describe"] == described


def test_repeated_late_and_disordered_events_change_nothing(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    for status in ("Completed", "Completed", "InProgress", "Failed"):
        assert world.job_event(name, status=status) == NOTHING

    run = world.run(run_id)
    assert run.stage(Stage.TRAIN).status is StageStatus.SUCCEEDED
    assert [kind for kind, _ in world.told()].count("StageSucceeded") == 3
    assert run.version == 6
    assert len(world.dead_letters) == 0


def test_two_deliveries_in_one_batch_are_one_transition(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.EXPORT)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    event = bus_event("aws.sagemaker", "SageMaker Processing Job State Change", {"ProcessingJobName": name})
    assert world.call("record_job_state", sqs_event(event, event, event)) == NOTHING
    assert world.run(run_id).version == 2


def test_an_event_of_attempt_one_after_attempt_two_began_changes_nothing(world: World) -> None:
    run_id = world.submit()
    first = world.reach(run_id, Stage.EXPORT)
    world.jobs.end(first, JobStatus.FAILED, Failure("OUT_OF_SPACE", "disk full"), transient=True)
    world.job_event(first, kind="Processing", status="Failed")
    assert world.run(run_id).stage(Stage.EXPORT).attempt == 2
    version = world.run(run_id).version

    world.jobs.end(first, JobStatus.SUCCEEDED)
    assert world.job_event(first, kind="Processing") == NOTHING
    assert world.ready(run_id, Stage.EXPORT, 1) == NOTHING

    run = world.run(run_id)
    assert (run.version, run.stage(Stage.EXPORT).status) == (version, StageStatus.STARTING)
    assert len(world.jobs) == 1


def test_a_job_nobody_knows_is_none_of_ours(world: World) -> None:
    assert world.job_event("somebody-elses-training") == NOTHING
    assert len(world.dead_letters) == 0


def test_a_job_is_found_by_its_arn_too_and_by_either_only_once(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    detail = {"TrainingJobName": "display-name", "TrainingJobArn": f"arn:aws:sagemaker:::training-job/{name}"}
    event = bus_event("aws.sagemaker", "SageMaker Training Job State Change", detail)
    assert world.call("record_job_state", sqs_event(event)) == NOTHING
    assert world.run(run_id).stage(Stage.TRAIN).status is StageStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("detail_type", "detail", "code"),
    [
        ("SageMaker Training Job State Change", {}, "MALFORMED_EVENT"),
        ("SageMaker Training Job State Change", {"TrainingJobName": 7}, "MALFORMED_EVENT"),
        ("SageMaker Model State Change", {"ModelName": "x"}, "UNKNOWN_EVENT"),
        ("Batch Job State Change", {"jobName": "x"}, "UNKNOWN_EVENT"),
    ],
)
def test_an_event_that_names_no_job_is_parked(
    world: World, detail_type: str, detail: dict[str, Any], code: str
) -> None:
    assert world.call("record_job_state", sqs_event(bus_event("aws.sagemaker", detail_type, detail))) == NOTHING
    assert json.loads(world.dead_letters.bodies[0])["error"]["code"] == code


def test_a_failed_job_ends_the_run_with_code_message_and_the_end_of_its_log(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.PROCESS)
    world.logs.lines[name] = [JobLogLine(world.clock.now(), f"line {n} " + "x" * 500) for n in range(50)]
    world.jobs.end(name, JobStatus.FAILED, Failure("DANGLING_EDGE", "edges.csv:7: no node 'u9'"))

    assert world.job_event(name, kind="Processing", status="Failed") == NOTHING

    run = world.run(run_id)
    assert (run.status, run.failed_stage) == (RunStatus.FAILED, Stage.PROCESS)
    assert run.failure == Failure("DANGLING_EDGE", "edges.csv:7: no node 'u9'")
    assert len(run.log_tail) == 20
    assert run.log_tail[-1].startswith("line 49 ")
    assert max(map(len, run.log_tail)) == 400
    assert run.stage(Stage.EXPORT).status is StageStatus.SUCCEEDED
    assert world.told()[-1][0] == "RunFailed"


def test_a_log_that_cannot_be_read_does_not_hide_that_the_job_failed(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.EXPORT)
    world.jobs.end(name, JobStatus.FAILED, Failure("EMPTY_GRAPH", "no edges"))
    world.faults.before["FakeLogs.tail"] = DependencyUnavailable("CloudWatch is down")

    assert world.job_event(name, kind="Processing", status="Failed") == NOTHING

    assert world.run(run_id).status is RunStatus.FAILED
    assert world.run(run_id).log_tail == ()


def test_a_race_between_start_and_end_is_decided_at_once_and_not_after_a_redelivery(world: World) -> None:
    """A job that ends before its starter has written: the event's handler reads STARTING, then loses the race."""
    run_id = world.submit()
    name = world.reach(run_id, Stage.EXPORT)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.faults.before["InMemoryLedger.commit"] = LostRace("the starter was faster")

    assert world.job_event(name, kind="Processing") == NOTHING

    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.SUCCEEDED


def test_an_event_that_comes_before_the_start_was_written_moves_the_run_and_the_starter_finds_it_done(
    world: World,
) -> None:
    run_id = world.submit()
    world.faults.after["FakeJobs.start"] = Crash()
    with pytest.raises(Crash):
        world.ready(run_id, Stage.EXPORT)
    world.jobs.end(world.job(run_id, Stage.EXPORT), JobStatus.SUCCEEDED)

    assert world.job_event(world.job(run_id, Stage.EXPORT), kind="Processing") == NOTHING
    assert world.ready(run_id, Stage.EXPORT) == NOTHING

    run = world.run(run_id)
    assert run.stage(Stage.EXPORT).status is StageStatus.SUCCEEDED
    assert len(world.jobs.created) == 1


def test_an_event_about_somebody_elses_job_of_the_same_name_is_not_taken_for_ours(world: World) -> None:
    run_id = world.submit()
    name = world.job(run_id, Stage.EXPORT)
    world.jobs.take(Job(name, Stage.EXPORT, "another-run", {}, "ml.m5.large", 60, "s3://x/"))
    world.jobs.end(name, JobStatus.SUCCEEDED)

    assert world.job_event(name, kind="Processing") == NOTHING

    assert world.run(run_id).stage(Stage.EXPORT).status is StageStatus.STARTING


def test_runs_that_wait_for_one_endpoint_take_turns(world: World) -> None:
    first, second = world.submit(), world.submit()
    world.reach(first, Stage.DEPLOY)
    for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
        world.succeed(second, stage)
    assert world.ready(second, Stage.DEPLOY) == NOTHING
    assert world.jobs.created.count(world.job(second, Stage.DEPLOY)) == 0, "an update is in progress"

    world.jobs.settle("movielens")
    assert world.job_event("movielens", kind="Endpoint") == NOTHING
    assert world.run(first).status is RunStatus.SUCCEEDED
    assert world.run(second).stage(Stage.DEPLOY).status is StageStatus.STARTING

    world.sweep()
    world.jobs.settle("movielens")
    assert world.job_event("movielens", kind="Endpoint") == NOTHING
    assert world.run(second).status is RunStatus.SUCCEEDED


def test_trouble_with_one_of_several_waiting_runs_does_not_keep_the_event_from_the_others(world: World) -> None:
    first, second = world.submit(), world.submit()
    for run_id in (first, second):
        for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
            world.succeed(run_id, stage)
    world.ready(first, Stage.DEPLOY)
    world.ledger._runs = {second: world.run(second), first: world.run(first)}  # the second is looked at first
    world.jobs.settle("movielens")
    world.faults.before["FakeJobs.describe"] = DependencyUnavailable("ThrottlingException")

    assert world.job_event("movielens", kind="Endpoint") == failed(0)

    assert world.run(first).status is RunStatus.SUCCEEDED


def test_an_update_that_failed_fails_the_run_and_leaves_the_old_model_in_service(world: World) -> None:
    first = world.submit()
    for stage in Stage:
        world.succeed(first, stage)
    second = world.submit()
    world.reach(second, Stage.DEPLOY)

    world.jobs.settle("movielens", failed=True)
    world.job_event("movielens", kind="Endpoint", status="IN_SERVICE")

    run = world.run(second)
    assert (run.status, run.failed_stage) == (RunStatus.FAILED, Stage.DEPLOY)
    assert world.jobs.endpoint_in_service("movielens") is True


def test_a_stopped_job_ends_its_run(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.STOPPED)
    world.job_event(name, status="Stopped")
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert attempt.status is AttemptStatus.FAILED
    assert attempt.failure is not None
    assert attempt.failure.code == "JOB_STOPPED"


# publish_ledger


def stream_event(*images: dict[str, Any]) -> dict[str, Any]:
    return {
        "Records": [
            {"eventID": str(n), "eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": {"NewImage": image}}
            for n, image in enumerate(images)
        ]
    }


def outbox_image(detail_type: str) -> dict[str, Any]:
    return {"sk": {"S": "OUTBOX#0"}, "detail_type": {"S": detail_type}, "detail": {"S": '{"meta": {}, "data": {}}'}}


def test_outbox_items_become_events_and_other_items_nothing(world: World) -> None:
    event = stream_event(outbox_image("StageReady"), {"sk": {"S": "RUN"}}, outbox_image("RunFailed"))
    event["Records"].append({"eventName": "REMOVE", "dynamodb": {}})
    assert world.call("publish_ledger", event) == NOTHING
    assert [item.detail_type for item in world.bus.published] == ["StageReady", "RunFailed"]


def test_a_bus_that_does_not_take_all_makes_the_stream_send_all_again(world: World) -> None:
    world.faults.before["FakeBus.publish"] = DependencyUnavailable("1 events were not taken")
    with pytest.raises(DependencyUnavailable):
        world.call("publish_ledger", stream_event(outbox_image("StageReady")))


def test_an_endpoint_nobody_deployed_is_updated_and_not_made_anew(world: World) -> None:
    world.jobs.serve("movielens")
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)
    assert world.run(run_id).stage(Stage.DEPLOY).status is StageStatus.RUNNING
    world.jobs.settle("movielens")
    world.sweep()
    assert world.run(run_id).status is RunStatus.SUCCEEDED


def test_what_the_fakes_hold_is_what_was_asked_for(world: World) -> None:
    run_id = world.submit()
    assert run_id in world.ledger
    assert len(world.ledger) == 1
    name = world.reach(run_id, Stage.EXPORT)
    assert name in world.jobs
    assert world.jobs.job(name) == replace(world.jobs.job(name), stage=Stage.EXPORT)
