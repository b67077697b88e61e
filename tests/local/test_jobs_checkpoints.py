"""A training job's checkpoints: brought from S3, kept there while it runs, and there for the next job."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.adapters.sagemaker_requests import training_request as request_of
from ekiden.domain.model import Stage
from ekiden.ports import Job
from ekiden_engine.checkpoints import SECONDS_VARIABLE
from tests.engine.checkpoint_factories import make_job
from tests.local.jobs_support import BUCKET, ROLE, Service, name, training_request, wait_for


def config(job: str) -> dict[str, str]:
    return {"S3Uri": f"s3://{BUCKET}/runs/{job}/train/checkpoints/", "LocalPath": "/opt/ml/checkpoints"}


def test_the_next_job_with_the_same_place_goes_on_from_the_checkpoints_of_one_that_failed(jobs: Service) -> None:
    # GIVEN a place in S3 with something old, and a job that failed for the moment
    job = name("first")
    prefix = f"runs/{job}/train/checkpoints/"
    jobs.put(f"{prefix}old", "x")
    jobs.train(job, "keep:1", CheckpointConfig=config(job), Environment={"FAIL": "1"})
    found = jobs.trained(job, "Failed")
    assert found["FailureReason"].endswith("exit code: 75")
    assert found["CheckpointConfig"] == config(job)
    # THEN what it left is in S3, and what it deleted is not
    assert jobs.keys(prefix) == ["deep/count.txt"]
    assert jobs.text(f"s3://{BUCKET}/{prefix}deep/count.txt") == "1"

    # WHEN another attempt gets the same place, THEN it finds it
    again = name("second")
    jobs.train(again, "keep:1", CheckpointConfig={"S3Uri": config(job)["S3Uri"]})
    jobs.trained(again)
    assert jobs.text(f"s3://{BUCKET}/trained/{again}/output/model/model.txt") == "2"
    assert jobs.text(f"s3://{BUCKET}/{prefix}deep/count.txt") == "2"


def test_checkpoints_are_in_s3_while_the_job_still_runs_and_others_files_are_left_alone(
    jobs: Service, tmp_path: Path
) -> None:
    job, gate = name("running"), tmp_path / "gate"
    prefix = f"runs/{job}/train/checkpoints/"
    jobs.train(job, "keep:1", CheckpointConfig=config(job), Environment={"GATE": str(gate)})
    wait_for(lambda: jobs.keys(prefix) == ["deep/count.txt"], "the first upload")
    jobs.put(f"{prefix}of-somebody-else", "x")
    gate.touch()
    jobs.trained(job)
    assert jobs.keys(prefix) == ["deep/count.txt", "of-somebody-else"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/home"}}, "LocalPath must be under /opt/ml"),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59},
            },
            "Invalid MaxWaitTimeInSeconds",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(jobs: Service, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        jobs.sm.create_training_job(**training_request(name("refused"), **changes))


def test_a_spot_job_whose_limits_fit_runs(jobs: Service) -> None:
    job = name("spot")
    limits = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    jobs.train(job, EnableManagedSpotTraining=True, StoppingCondition=limits)
    assert jobs.trained(job)["EnableManagedSpotTraining"] is True


def test_the_engines_next_attempt_goes_on_where_a_killed_one_was(own_jobs: Service, tmp_path: Path) -> None:
    # GIVEN the inputs of a train stage in S3, and the requests of two attempts as the platform makes them
    service, run = own_jobs.start(), name("run")
    root = make_job(tmp_path / "ml", "fm", num_epochs="4000")
    for channel in ("processed", "spec"):
        for path in sorted(p for p in root.channel(channel).rglob("*") if p.is_file()):
            service.put(f"runs/{run}/{channel}/{path.relative_to(root.channel(channel))}", path.read_bytes())

    def attempt(number: int) -> str:
        job = Job(
            name=name(f"train-{number}"),
            stage=Stage.TRAIN,
            run_id=run,
            inputs={channel: f"s3://{BUCKET}/runs/{run}/{channel}/" for channel in ("processed", "spec")},
            instance_type="ml.m5.xlarge",
            max_runtime_seconds=300,
            output=f"s3://{BUCKET}/runs/{run}/train/{number}/",
            environment={SECONDS_VARIABLE: "0", "OMP_NUM_THREADS": "1"},
            hyperparameters=root.hyperparameters(),
            spot=True,
        )
        service.sm.create_training_job(**request_of(job, SageMakerSettings("ekiden-engine:1", ROLE)))
        return job.name

    # WHEN the first one is killed once a state of it lies in S3
    first, checkpoints = attempt(1), f"runs/{run}/train/checkpoints/"
    wait_for(lambda: any("sampling" in key for key in service.keys(checkpoints)), "a checkpoint in S3", 60)
    control = service.home / "jobs/training" / first / "control/process.json"
    os.kill(json.loads(control.read_text())["pid"], signal.SIGKILL)
    assert service.trained(first, "Failed")["FailureReason"].endswith("exit code: 137")

    # THEN the second goes on where it was, and leaves no checkpoints
    second = attempt(2)
    wait_for(lambda: service.sm.describe_training_job(TrainingJobName=second)["TrainingJobStatus"] != "InProgress",
             "the end of the second attempt", 60)  # fmt: skip
    service.trained(second)
    log = (service.home / "jobs/training" / second / "log").read_text()
    assert "resumed after iteration" in log
    assert "epoch 1/4000" not in log
    assert service.keys(checkpoints) == []
