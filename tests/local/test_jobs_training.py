"""Training jobs, from the request to what lies in S3."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from tests.local.jobs_support import (
    BUCKET,
    ROLE,
    EventLog,
    Service,
    channel,
    client,
    name,
    training_request,
    wait_for,
)


def test_a_training_job_turns_its_channels_into_a_model(jobs: Service) -> None:
    job = name("Train")
    jobs.put(f"in/{job}/one/a.csv", "1")
    jobs.put(f"in/{job}/one/deep/b.csv", "2")
    spec = jobs.put(f"in/{job}/spec.json", "{}")
    folder = f"s3://{BUCKET}/in/{job}/one/"
    jobs.train(
        job,
        InputDataConfig=[channel("graph-data", folder), channel("spec", spec)],
        HyperParameters={"num-hidden": "32", "lr": "0.01"},
        Environment={"EKIDEN_RUN_ID": "r-1", "WHERE": "/opt/ml/model"},
        Tags=[{"Key": "run", "Value": "r-1"}],
    )
    found = jobs.trained(job)

    # THEN the model lies where the description says, uncompressed
    base = f"trained/{job}/output/"
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/{base}model/"
    assert jobs.keys(base) == ["data/seen.json", "model/model.txt", "model/sub/config.json"]
    files = "input/data/graph-data/a.csv=1\ninput/data/graph-data/deep/b.csv=2\ninput/data/spec/spec.json={}"
    assert jobs.text(f"s3://{BUCKET}/{base}model/model.txt") == files
    assert json.loads(jobs.text(f"s3://{BUCKET}/{base}model/sub/config.json")) == {"num-hidden": "32", "lr": "0.01"}

    # AND the program saw what a container on SageMaker sees
    seen = json.loads(jobs.text(f"s3://{BUCKET}/{base}data/seen.json"))
    env, root = seen["env"], seen["env"]["EKIDEN_ML_ROOT"]
    assert seen["argv"] == ["train"]
    assert seen["files"]["resourceconfig.json"]["hosts"] == ["algo-1"]
    assert seen["files"]["inputdataconfig.json"]["graph-data"]["ContentType"] == "text/csv"
    assert env["TRAINING_JOB_NAME"] == job
    assert env["TRAINING_JOB_ARN"] == found["TrainingJobArn"]
    assert env["EKIDEN_RUN_ID"] == "r-1"
    assert env["WHERE"] == env["SM_MODEL_DIR"] == f"{root}/model"
    assert env["SM_CHANNEL_GRAPH_DATA"] == f"{root}/input/data/graph-data"
    assert env["SM_HP_NUM_HIDDEN"] == "32"
    assert env["AWS_ENDPOINT_URL"] == jobs.cloud_url

    # AND the description tells the whole story
    steps = [step["Status"] for step in found["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert found["CreationTime"] <= found["TrainingStartTime"] <= found["TrainingEndTime"]
    assert found["HyperParameters"]["lr"] == "0.01"
    # AND the disk is free again
    wait_for(lambda: not Path(root).exists(), "the removal of the job's root")


def test_a_compressed_model_is_one_archive(jobs: Service) -> None:
    job = name("gzip")
    jobs.train(job, OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/trained"})
    found = jobs.trained(job)
    uri = f"s3://{BUCKET}/trained/{job}/output/model.tar.gz"
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == uri
    body = jobs.s3.get_object(Bucket=BUCKET, Key=f"trained/{job}/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert sorted(archive.getnames()) == ["model.txt", "sub", "sub/config.json"]
    assert jobs.keys(f"trained/{job}/output/") == ["model.tar.gz", "output.tar.gz"]


def test_a_failed_program_is_reported_with_its_own_text_and_exit_code(jobs: Service) -> None:
    job = name("fail")
    jobs.train(job, "fail:1")
    found = jobs.trained(job, "Failed")
    assert found["FailureReason"] == (
        "AlgorithmError: DANGLING_EDGE: edge e1 points to a vertex that does not exist, exit code: 65"
    )
    assert found["SecondaryStatus"] == "Failed"
    assert jobs.keys(f"trained/{job}/") == []
    # AND whoever reads the log because of that finds the last line there
    logs = client("logs", jobs.cloud_url)
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/algo-1-")["logStreams"]
    events = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
    assert [event["message"] for event in events] == ["about to fail"]


def test_a_program_without_a_failure_file_is_reported_with_its_last_line(jobs: Service) -> None:
    job = name("die")
    algorithm = {
        "TrainingImage": "any:1",
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["python3", "-c"],
        "ContainerArguments": ["import no_such_module"],
    }
    jobs.train(job, AlgorithmSpecification={**algorithm, "TrainingImage": "copy:1"})
    reason = jobs.trained(job, "Failed")["FailureReason"]
    assert reason == "AlgorithmError: ModuleNotFoundError: No module named 'no_such_module', exit code: 1"


def test_a_program_that_cannot_be_started_fails_the_job(jobs: Service) -> None:
    job = name("nostart")
    algorithm = {"TrainingImage": "copy:1", "TrainingInputMode": "File", "ContainerEntrypoint": ["no-such-program"]}
    jobs.train(job, AlgorithmSpecification=algorithm)
    reason = jobs.trained(job, "Failed")["FailureReason"]
    assert reason.startswith("ClientError: CannotStartContainerError.")
    assert reason.endswith("No such file or directory: no-such-program")


def test_an_unknown_image_fails_the_job_and_says_how_to_add_it(jobs: Service) -> None:
    job = name("image")
    jobs.train(job, "unicorn:1")
    reason = jobs.trained(job, "Failed")["FailureReason"]
    assert reason.startswith("ClientError: Image 'unicorn:1' is not known")
    assert "--image 'unicorn:1=COMMAND'" in reason


def test_missing_inputs_fail_the_job_in_sagemakers_words(jobs: Service) -> None:
    empty, bucketless = name("empty"), name("bucketless")
    jobs.train(empty, InputDataConfig=[channel("c", f"s3://{BUCKET}/nothing/here/")])
    jobs.train(bucketless, InputDataConfig=[channel("c", "s3://no-such-bucket/x")])
    text = (
        f'ClientError: No S3 objects found under S3 URL "s3://{BUCKET}/nothing/here/" given in input data source. '
        "Please ensure that the bucket exists in the selected region (us-east-1), that objects exist under that S3 "
        f'prefix, and that the role "{ROLE}" has "s3:ListBucket" permissions on bucket "{BUCKET}".'
    )
    assert jobs.trained(empty, "Failed")["FailureReason"] == text
    reason = jobs.trained(bucketless, "Failed")["FailureReason"]
    assert "Error message from S3: The specified bucket does not exist" in reason


def test_a_missing_output_bucket_fails_the_job(jobs: Service) -> None:
    job = name("nowhere")
    jobs.train(job, OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/x", "CompressionType": "NONE"})
    reason = jobs.trained(job, "Failed")["FailureReason"]
    assert reason.startswith("ClientError: Data upload failed: s3://no-such-bucket/x/")


def test_keys_that_clash_or_climb_are_refused(jobs: Service) -> None:
    clash, climb = name("clash"), name("climb")
    jobs.put(f"in/{clash}/a", "file")
    jobs.put(f"in/{clash}/a/b", "folder")
    jobs.put(f"in/{climb}/../../x", "up")
    jobs.train(clash, InputDataConfig=[channel("c", f"s3://{BUCKET}/in/{clash}/")])
    jobs.train(climb, InputDataConfig=[channel("c", f"s3://{BUCKET}/in/{climb}/")])
    assert "a previously downloaded file/folder clashes with it" in jobs.trained(clash, "Failed")["FailureReason"]
    assert "does not name a file" in jobs.trained(climb, "Failed")["FailureReason"]


def test_a_stopped_job_gets_sigterm_and_keeps_the_model_that_it_saves(jobs: Service, tmp_path: Path) -> None:
    job, gate = name("stop"), tmp_path / "gate"
    events = EventLog(jobs.cloud_url)
    jobs.train(job, "wait:1", Environment={"GATE": str(gate)})
    wait_for((tmp_path / "gate.pid").exists, "the program's start")
    jobs.sm.stop_training_job(TrainingJobName=job)
    assert jobs.sm.describe_training_job(TrainingJobName=job)["TrainingJobStatus"] in ("Stopping", "Stopped")
    found = jobs.trained(job, "Stopped")
    assert found["SecondaryStatus"] == "Stopped"
    assert jobs.text(f"s3://{BUCKET}/trained/{job}/output/model/model.txt") == "saved on SIGTERM"
    seen = events.expect(job, 4)
    assert [event["detail"]["TrainingJobStatus"] for event in seen] == [
        "InProgress",
        "InProgress",
        "Stopping",
        "Stopped",
    ]


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(jobs: Service, tmp_path: Path) -> None:
    job, gate = name("stubborn"), tmp_path / "gate"
    jobs.train(job, "wait:1", Environment={"GATE": str(gate), "STUBBORN": "1"})
    pid = int(wait_for(lambda: text_of(tmp_path / "gate.pid"), "the program's start"))
    jobs.sm.stop_training_job(TrainingJobName=job)
    jobs.trained(job, "Stopped")
    wait_for(lambda: not running(pid), "the program's end")


def test_a_job_that_runs_too_long_is_stopped(jobs: Service, tmp_path: Path) -> None:
    job = name("long")
    jobs.train(
        job,
        "wait:1",
        Environment={"GATE": str(tmp_path / "gate")},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    found = jobs.trained(job, "Stopped")
    assert found["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert "MaxRuntimeInSeconds (1 s)" in found["FailureReason"]
    assert 1.0 <= (found["TrainingEndTime"] - found["TrainingStartTime"]).total_seconds() < 3.0


def test_events_carry_what_sagemakers_events_carry(jobs: Service) -> None:
    events = EventLog(jobs.cloud_url)
    job = name("Told")
    jobs.train(job, HyperParameters={"lr": "1"}, Tags=[{"Key": "run", "Value": "r"}])
    found = jobs.trained(job)
    seen = events.expect(job, 3)
    last = seen[-1]
    assert last["detail-type"] == "SageMaker Training Job State Change"
    assert last["source"] == "ekiden.local"
    assert last["resources"] == [found["TrainingJobArn"]]
    detail = last["detail"]
    assert detail["TrainingJobStatus"] == detail["SecondaryStatus"] == "Completed"
    assert detail["HyperParameters"] == {"lr": "1"}
    assert detail["Tags"] == {"run": "r"}
    assert detail["TrainingEndTime"] == int(found["TrainingEndTime"].timestamp() * 1000)
    assert all(isinstance(step["StartTime"], int) for step in detail["SecondaryStatusTransitions"])


def test_jobs_beyond_the_limit_wait_their_turn(own_jobs: Service, tmp_path: Path) -> None:
    service = own_jobs.start("--max-jobs=1")
    first, second, third = (name(stem) for stem in ("first", "second", "third"))
    gate = tmp_path / "gate"
    service.train(first, "wait:1", Environment={"GATE": str(gate)})
    wait_for((tmp_path / "gate.pid").exists, "the first program's start")
    service.train(second)
    service.train(third)
    waiting = service.sm.describe_training_job(TrainingJobName=second)
    assert (waiting["TrainingJobStatus"], waiting["SecondaryStatus"]) == ("InProgress", "Pending")
    assert service.health()["jobs"] == {"running": 1, "pending": 2}
    # WHEN a waiting job is stopped, THEN it ends without ever having run
    service.sm.stop_training_job(TrainingJobName=third)
    assert "TrainingStartTime" not in service.trained(third, "Stopped")
    # WHEN the first one ends, THEN the next one starts
    gate.touch()
    service.trained(first)
    service.trained(second)


def test_a_program_starts_within_150_ms_of_its_creation(jobs: Service) -> None:
    delays = []
    for _ in range(3):
        job = name("fast")
        jobs.sm.create_training_job(**training_request(job))
        found = jobs.trained(job)
        delays.append((found["TrainingStartTime"] - found["CreationTime"]).total_seconds())
    assert min(delays) < 0.150, delays


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and ") Z " not in status.read_text()


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
