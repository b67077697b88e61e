"""A training job's checkpoints: brought from S3, kept there while it runs, and there for the next job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.jobs_support import BUCKET, Service, name, training_request, wait_for


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
