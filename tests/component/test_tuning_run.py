"""A run that searches for hyper-parameters with a tuning job, through the shipped handlers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ekiden.contracts.hpo import HPO_FILE, HPO_NAMES
from ekiden.domain import naming
from ekiden.domain.decisions import JobStatus
from ekiden.domain.model import AttemptStatus, Failure, JobKind, JobRef, RunStatus, Stage
from ekiden.errors import DependencyUnavailable, Permanent
from tests.fakes import World
from tests.fakes.events import bus_event, failed, http_event, sqs_event
from tests.fakes.faults import Crash
from tests.fakes.jobs import best_of
from tests.fakes.world import BUCKET

SEARCH = {"name": "rgcn", "hyperparameters": {"seed": 7, "lr": 0.5}, "search": {"jobs": 12, "where": "tuning-job"}}
LR = {"param": "lr", "type": "float", "default": 0.01, "range": [0.001, 0.1], "inc_strategy": "log"}
HIDDEN = {"param": "num-hidden", "type": "int", "default": "32", "range": [16, 64], "inc_strategy": "power2"}
DROPOUT = {"param": "dropout", "type": "float", "default": 0.1, "range": [0, 0.5], "inc_strategy": "linear"}
LAYERS = {"param": "num-layer", "type": "int", "default": 2, "range": [1, 3], "inc_strategy": "linear"}


def configuration(**changes: Any) -> bytes:
    model = {"model": "rgcn", "task_type": "edge_regression", "eval_metric": {"metric": "mse"}}
    lists = {"1-tier-param": [LR, HIDDEN], "2-tier-param": [DROPOUT], "3-tier-param": [LAYERS], "fixed-param": []}
    return json.dumps({"models": [{**model, **lists, **changes}]}).encode()


def reach_train(world: World, body: bytes | None = None, *, file: str = HPO_FILE, **model: Any) -> str:
    """A run whose train stage is ready; its configuration lies beside the processed data."""
    run_id = world.submit(model={**SEARCH, **model})
    for stage in (Stage.EXPORT, Stage.PROCESS):
        world.succeed(run_id, stage)
    key = f"{naming.attempt_prefix(run_id, Stage.PROCESS, 1)}{file}"
    world.objects.put(BUCKET, key, configuration() if body is None else body, "application/json")
    return run_id


def tell(world: World, name: str, status: str) -> None:
    """Deliver SageMaker's event about a tuning job."""
    detail = {"HyperParameterTuningJobName": name, "HyperParameterTuningJobStatus": status}
    event = bus_event("aws.sagemaker", "SageMaker HyperParameter Tuning Job State Change", detail)
    assert world.call("record_job_state", sqs_event(event)) == {"batchItemFailures": []}


@pytest.mark.parametrize("file", HPO_NAMES)
def test_the_train_stage_starts_a_tuning_job_over_what_the_configuration_varies(file: str) -> None:
    # GIVEN a search of 12 jobs: tiers 1 and 2
    world = World()
    run_id = reach_train(world, file=file)
    # WHEN the train stage starts
    world.ready(run_id, Stage.TRAIN)
    # THEN the intent, the job and the event all speak of a tuning job
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert attempt.ref == JobRef(JobKind.TUNING, attempt.job)
    job = world.jobs.job(attempt.job)
    assert job.tuning is not None
    ranges = {r.name: r for r in job.tuning.ranges}
    assert ranges.keys() == {"lr", "num-hidden", "dropout"}
    assert (ranges["lr"].low, ranges["lr"].high, ranges["lr"].logarithmic) == ("0.001", "0.1", True)
    assert ranges["num-hidden"].values == ("16", "32", "64")
    assert job.hyperparameters == {"num-layer": "2", "seed": "7"}  # lr varies, whatever the spec says
    assert (job.tuning.jobs, job.tuning.parallel, job.tuning.maximize) == (12, 1, False)
    assert (job.tuning.max_seconds, job.tuning.seed) == (job.max_runtime_seconds, 7)


def test_the_best_training_jobs_model_is_deployed_and_shown() -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    model = f"s3://{BUCKET}/runs/{run_id}/train/1/{best_of(name)}/output/model/"
    manifest = model.removeprefix(f"s3://{BUCKET}/") + "manifest.json"
    world.objects.put(BUCKET, manifest, b"{}", "application/json")
    # WHEN SageMaker says that the search is over
    world.jobs.end(name, JobStatus.SUCCEEDED)
    tell(world, name, "Completed")
    # THEN the ledger knows whose model it is, and of what content
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert (attempt.status, attempt.best_job) == (AttemptStatus.SUCCEEDED, best_of(name))
    assert attempt.output_hash is not None
    # AND that model is deployed, and found by people
    world.ready(run_id, Stage.DEPLOY)
    assert world.jobs.deployment(world.job(run_id, Stage.DEPLOY)).model == model
    shown = world.call("show_status", http_event("GET /runs/{run_id}", path={"run_id": run_id}))
    artifacts = json.loads(shown["body"])["artifacts"]
    assert artifacts["report"] == f"{model}report.html"
    # AND so are all trials
    key = artifacts["trials"].removeprefix(f"s3://{BUCKET}/")
    trials = json.loads(world.objects.get(BUCKET, key, limit=9999) or b"")
    assert trials["best_training_job"] == best_of(name)
    assert [(t["number"], t["value"], t["best"]) for t in trials["trials"]] == [(0, 1.0, False), (1, 0.5, True)]


@pytest.mark.parametrize("call", ["FakeJobs.trials", "FakeObjects.put"])
def test_trials_that_cannot_be_written_down_now_are_written_down_later(call: str) -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.faults.before[call] = DependencyUnavailable("throttled")
    detail = {"HyperParameterTuningJobName": name, "HyperParameterTuningJobStatus": "Completed"}
    event = bus_event("aws.sagemaker", "SageMaker HyperParameter Tuning Job State Change", detail)
    assert world.call("record_job_state", sqs_event(event)) == failed(0)
    world.sweep()
    assert f"runs/{run_id}/train/1/tuning_job_details.json" in world.objects
    assert world.run(run_id).stage(Stage.TRAIN).status == "SUCCEEDED"


def test_trials_that_can_never_be_written_down_do_not_hold_up_the_run() -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.faults.before["FakeJobs.trials"] = Permanent("denied")
    tell(world, name, "Completed")
    assert world.run(run_id).stage(Stage.DEPLOY).status == "STARTING"


def test_an_event_that_never_came_is_made_good_by_the_sweep() -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    world.jobs.end(world.job(run_id, Stage.TRAIN), JobStatus.SUCCEEDED)
    world.sweep()
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert attempt.status is AttemptStatus.SUCCEEDED


def test_a_start_that_was_lost_half_way_is_finished_by_the_sweep_with_the_same_job() -> None:
    # GIVEN a worker that died after SageMaker took the job and before the ledger knew
    world = World()
    run_id = reach_train(world)
    name = world.job(run_id, Stage.TRAIN)
    world.faults.after["FakeJobs.start"] = Crash()
    with pytest.raises(Crash):
        world.ready(run_id, Stage.TRAIN)
    # WHEN the sweep finds the intent
    world.sweep()
    # THEN it adopts what is there
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert attempt.status is AttemptStatus.RUNNING
    assert world.jobs.created.count(name) == 1


def test_a_cancelled_run_stops_its_tuning_job() -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    assert world.change(run_id, "cancel")[0] == 202
    assert world.jobs.stopped == [name]
    world.sweep()
    assert world.run(run_id).status is RunStatus.CANCELLED
    assert not world.jobs.is_running(name)


def test_a_model_that_was_found_while_the_run_was_cancelled_can_be_deployed_by_a_retry() -> None:
    # GIVEN a search that completes at the very moment at which its run is cancelled
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.SUCCEEDED)
    world.change(run_id, "cancel")
    assert world.run(run_id).status is RunStatus.CANCELLED
    # WHEN the run goes on
    world.change(run_id, "retry")
    world.ready(run_id, Stage.DEPLOY)
    # THEN the best model of that search is deployed
    deployed = world.jobs.deployment(world.job(run_id, Stage.DEPLOY)).model
    assert deployed.endswith(f"/{best_of(name)}/output/model/")


def test_a_failed_search_ends_the_run_with_the_reason_and_the_log_of_its_training_jobs() -> None:
    world = World()
    run_id = reach_train(world)
    world.ready(run_id, Stage.TRAIN)
    name = world.job(run_id, Stage.TRAIN)
    world.jobs.end(name, JobStatus.FAILED, Failure("BAD_GRAPH", "no edges"))
    tell(world, name, "Failed")
    run = world.run(run_id)
    assert (run.status, run.failure) == (RunStatus.FAILED, Failure("BAD_GRAPH", "no edges"))


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", "BAD_HPO_CONFIGURATION", "is not JSON"),
        (configuration(**{"2-tier-param": "all"}), "BAD_HPO_CONFIGURATION", "models[0].2-tier-param"),
        (configuration(**{"1-tier-param": [], "2-tier-param": []}), "NOTHING_TO_SEARCH", "12 jobs search"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_the_run_and_says_where(body: bytes, code: str, words: str) -> None:
    world = World()
    run_id = reach_train(world, body)
    world.ready(run_id, Stage.TRAIN)
    run = world.run(run_id)
    assert run.status is RunStatus.FAILED
    assert run.failure is not None
    assert run.failure.code == code
    assert words in run.failure.message
    assert world.jobs.created[2:] == []


def test_processed_data_without_a_configuration_says_what_to_do() -> None:
    world = World()
    run_id = reach_train(world, file="elsewhere.json")
    world.ready(run_id, Stage.TRAIN)
    failure = world.run(run_id).failure
    assert failure is not None
    assert failure.code == "NO_HPO_CONFIGURATION"
    assert "retry from process" in failure.message


def test_a_custom_models_scripts_travel_to_both_jobs_and_its_own_metric_is_the_objective() -> None:
    own = {
        "tuning_objective": {"MetricName": "validation:mrr", "Type": "Maximize"},
        "metric_definitions": [{"Name": "validation:mrr", "Regex": "mrr=([0-9.]+)"}],
    }
    world = World()
    source = "s3://somewhere/scripts/"
    body = configuration(eval_metric=own, model="custom")
    run_id = reach_train(world, body, name="custom", source=source, hyperparameters={})
    world.ready(run_id, Stage.TRAIN)
    assert world.jobs.job(world.job(run_id, Stage.PROCESS)).inputs["source"] == source
    job = world.jobs.job(world.job(run_id, Stage.TRAIN))
    assert job.inputs["source"] == source
    assert job.tuning is not None
    assert (job.tuning.objective, job.tuning.maximize) == ("validation:mrr", True)
    assert job.tuning.metrics == {"validation:mrr": "mrr=([0-9.]+)"}


def test_one_job_is_no_search() -> None:
    world = World()
    run_id = reach_train(world, search={"jobs": 1, "where": "tuning-job"})
    world.ready(run_id, Stage.TRAIN)
    attempt = world.run(run_id).attempt(Stage.TRAIN)
    assert attempt is not None
    assert attempt.ref.kind is JobKind.TRAINING
    assert world.jobs.job(attempt.job).tuning is None
