"""Processing jobs, from the request to what lies in S3."""

from __future__ import annotations

import json
from pathlib import Path

from tests.local.jobs_support import (
    BUCKET,
    EventLog,
    Service,
    name,
    processing_input,
    processing_output,
)


def test_a_processing_job_maps_its_paths_and_uploads_its_outputs(jobs: Service) -> None:
    events = EventLog(jobs.cloud_url)
    job = name("Process")
    jobs.put(f"in/{job}/graph/nodes.csv", "12345")
    jobs.put(f"in/{job}/graph/edges/e.csv", "1")
    spec = jobs.put(f"in/{job}/spec.json", "{}")
    jobs.process_data(
        job,
        AppSpecification={"ImageUri": "process:1", "ContainerArguments": ["--from", "/opt/ml/processing/input"]},
        ProcessingInputs=[
            processing_input("graph", f"s3://{BUCKET}/in/{job}/graph/"),
            processing_input("spec", spec),
        ],
        ProcessingOutputConfig={"Outputs": [processing_output("counts", f"s3://{BUCKET}/out/{job}/1/")]},
    )
    found = jobs.processed(job)
    assert jobs.keys(f"out/{job}/1/") == ["deep/counts.json", "seen.json"]
    counts = json.loads(jobs.text(f"s3://{BUCKET}/out/{job}/1/deep/counts.json"))
    assert counts == {"graph/edges/e.csv": 1, "graph/nodes.csv": 5, "spec/spec.json": 2}
    seen = json.loads(jobs.text(f"s3://{BUCKET}/out/{job}/1/seen.json"))
    assert seen["argv"] == ["--from", str(jobs.home / "jobs/processing" / job / "ml/processing/input")]
    assert seen["config"]["ProcessingJobName"] == job
    assert seen["hosts"] == ["algo-1"]
    assert seen["arn"] == found["ProcessingJobArn"]
    assert found["ExitMessage"] == "3 files counted"
    assert found["CreationTime"] <= found["ProcessingStartTime"] <= found["ProcessingEndTime"]
    # AND its events have names, ARNs and millisecond times
    told = events.expect(job, 3)
    assert told[0]["detail-type"] == "SageMaker Processing Job State Change"
    assert [event["detail"]["ProcessingJobStatus"] for event in told] == ["InProgress", "InProgress", "Completed"]
    assert "ProcessingStartTime" not in told[0]["detail"]
    assert told[-1]["detail"]["ProcessingJobArn"] == found["ProcessingJobArn"]
    assert told[-1]["detail"]["CreationTime"] == int(found["CreationTime"].timestamp() * 1000)


def test_a_failed_processing_job_keeps_its_message_and_uploads_nothing(jobs: Service) -> None:
    job = name("fail")
    output = {"Outputs": [processing_output("counts", f"s3://{BUCKET}/out/{job}/")]}
    jobs.process_data(job, "fail:1", ProcessingOutputConfig=output)
    found = jobs.processed(job, "Failed")
    text = "DANGLING_EDGE: edge e1 points to a vertex that does not exist"
    assert found["ExitMessage"] == text
    assert found["FailureReason"] == f"AlgorithmError: {text}, exit code: 65"
    assert jobs.keys(f"out/{job}/") == []
    # AND what it had is kept for a look
    assert (jobs.home / "jobs/processing" / job / "ml/output/failure").read_text() == text


def test_the_engines_entrypoint_runs_with_this_interpreter(jobs: Service) -> None:
    job = name("engine")
    app = {"ImageUri": "ekiden-engine:local", "ContainerEntrypoint": ["ekiden-engine", "no-such-command"]}
    jobs.process_data(job, AppSpecification=app)
    reason = jobs.processed(job, "Failed")["FailureReason"]
    assert "CannotStartContainerError" not in reason
    assert reason.startswith("AlgorithmError: ")


def test_a_processing_job_that_runs_too_long_is_stopped(jobs: Service, tmp_path: Path) -> None:
    job = name("long")
    output = {"Outputs": [processing_output("counts", f"s3://{BUCKET}/out/{job}/")]}
    jobs.process_data(
        job,
        "wait:1",
        Environment={"GATE": str(tmp_path / "gate")},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
        ProcessingOutputConfig=output,
    )
    assert "MaxRuntimeExceeded" in jobs.processed(job, "Stopped")["FailureReason"]
    assert jobs.keys(f"out/{job}/") == []
