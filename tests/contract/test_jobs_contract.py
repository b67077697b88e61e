"""What ``ports.Jobs`` keeps: in memory, and through boto3 on our own job service with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest

from ekiden.adapters import sagemaker_jobs
from ekiden.adapters.aws_io import SageMakerEndpoints
from ekiden.adapters.cloudwatch_logs import CloudWatchJobLogs
from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.contracts.hpo_metric import OBJECTIVE, OBJECTIVE_REGEX
from ekiden.domain import naming
from ekiden.domain.model import Attempt, AttemptStatus, Failure, JobKind, JobRef, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.errors import ContractViolation, DependencyUnavailable, NotFound, StageRejected
from ekiden.ports import Deployment, Job, JobReport, Jobs, Range, Tuning
from ekiden_local import daemon
from ekiden_local.state import session_env
from tests.fakes import NOW, FakeClock, FakeJobs
from tests.fakes.aws import Aws, free_port
from tests.fakes.functions import ROOT
from tests.fakes.sagemaker import InMemorySageMaker

LIMIT = 20.0
"""Seconds a job may take here; a tenth of one is usual."""

BEHAVIOURS: dict[str, tuple[JobStatus, Failure | None, bool]] = {
    "succeed": (JobStatus.SUCCEEDED, None, False),
    "reject": (JobStatus.FAILED, Failure("EMPTY_GRAPH", "there are no edges"), False),
    "stumble": (JobStatus.FAILED, Failure("OUT_OF_SPACE", "the disk is full"), True),
}


class Platform(Protocol):
    """Something that runs jobs."""

    jobs: Jobs
    bucket: str

    def over(self, attempt: Attempt) -> JobReport:
        """What became of the attempt's job, once it is over."""

    def gone(self, attempt: Attempt) -> None:
        """Wait until the platform knows the attempt's job no more."""

    def now(self) -> datetime:
        """The platform's time."""


class InMemory:
    """The fake, ended by hand."""

    bucket = "data"

    def __init__(self) -> None:
        self.fake = FakeJobs(FakeClock())
        self.jobs: Jobs = self.fake

    def over(self, attempt: Attempt) -> JobReport:
        report = self.jobs.describe(attempt)
        assert report is not None
        if report.status is JobStatus.RUNNING and attempt.ref.kind is JobKind.ENDPOINT:
            self.fake.settle(attempt.ref.name)
        elif report.status is JobStatus.RUNNING:
            behaviour = self.fake.job(attempt.job).inputs["graph"].split("/")[-2]
            status, failure, transient = BEHAVIOURS[behaviour]
            self.fake.end(attempt.job, status, failure, transient=transient)
        found = self.jobs.describe(attempt)
        assert found is not None
        return found

    def gone(self, attempt: Attempt) -> None:
        assert self.jobs.describe(attempt) is None

    def now(self) -> datetime:
        return NOW


class ClientInMemory:
    """The real adapter on a client in memory, ended by hand."""

    bucket = "data"

    def __init__(self) -> None:
        self.client = InMemorySageMaker(FakeClock())
        settings = SageMakerSettings("ekiden-engine:local", "arn:aws:iam::000000000000:role/JobRole")
        self.jobs: Jobs = SageMakerJobs(self.client, settings)  # type: ignore[arg-type]

    def over(self, attempt: Attempt) -> JobReport:
        report = self.jobs.describe(attempt)
        assert report is not None
        if report.status is JobStatus.RUNNING and attempt.ref.kind is JobKind.ENDPOINT:
            self.client.settle(attempt.ref.name)
        elif report.status is JobStatus.RUNNING:
            status, failure, transient = BEHAVIOURS[self.client.input_of(attempt.job, "graph").split("/")[-2]]
            reason = f"AlgorithmError: {failure.code}: {failure.message}, exit code: " if failure else None
            ended = "Completed" if status is JobStatus.SUCCEEDED else "Failed"
            self.client.end(attempt.job, ended, reason and reason + ("75" if transient else "65"))
        found = self.jobs.describe(attempt)
        assert found is not None
        return found

    def gone(self, attempt: Attempt) -> None:
        assert self.jobs.describe(attempt) is None

    def now(self) -> datetime:
        return NOW


class JobServicePlatform:
    """Our job service, with S3 and logs in MiniStack."""

    def __init__(self, aws: Aws, url: str) -> None:
        self.bucket = aws.bucket()
        self.aws = aws
        for behaviour in (*BEHAVIOURS, "wait", "crash"):
            aws.client("s3").put_object(Bucket=self.bucket, Key=f"{behaviour}/behaviour", Body=behaviour.encode())
        aws.client("s3").put_object(Bucket=self.bucket, Key="model/config.json", Body=b"{}")
        settings = SageMakerSettings("ekiden-engine:local", "arn:aws:iam::000000000000:role/JobRole")
        keys = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.client = boto3.client("sagemaker", endpoint_url=url, **keys)  # type: ignore[call-overload]
        self.runtime = boto3.client("sagemaker-runtime", endpoint_url=url, **keys)  # type: ignore[call-overload]
        self.jobs: Jobs = SageMakerJobs(self.client, settings)

    def over(self, attempt: Attempt) -> JobReport:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            report = self.jobs.describe(attempt)
            if report is not None and report.status is not JobStatus.RUNNING:
                return report
            time.sleep(0.05)
        raise AssertionError(f"{attempt.ref} was not over after {LIMIT} s: {report}")

    def gone(self, attempt: Attempt) -> None:
        deadline = time.monotonic() + LIMIT
        while self.jobs.describe(attempt) is not None:
            assert time.monotonic() < deadline, f"{attempt.ref} was still there after {LIMIT} s"
            time.sleep(0.05)

    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture(scope="module")
def job_service(ministack: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServicePlatform]:
    port, home = free_port(), tmp_path_factory.mktemp("jobs")
    log, url = home / "log", f"http://127.0.0.1:{port}"
    program = Path(__file__).with_name("job_program.py")
    assert ministack.endpoint_url is not None
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ekiden_local.jobs", "--port", str(port), "--home", str(home / "state")),
                *("--image", f"ekiden-engine:*={sys.executable} {program}"),
                *("--stop-grace", "1", "--endpoint-stop-grace", "1", "--stop-children-on-exit"),
            ],
            env={"PATH": os.environ["PATH"], **session_env(ministack.endpoint_url, url)},
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        daemon.await_healthy("the job service", process.pid, f"{url}/health", log, limit=20)
        yield JobServicePlatform(ministack, url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


@pytest.fixture(params=["fake", "client in memory", "job service"])
def platform(request: pytest.FixtureRequest) -> Platform:
    in_memory: dict[str, type[InMemory | ClientInMemory]] = {"fake": InMemory, "client in memory": ClientInMemory}
    found: Platform = (
        in_memory[request.param]() if request.param in in_memory else request.getfixturevalue("job_service")
    )
    return found


def new_run() -> str:
    return f"contract-20261120-120000-{uuid.uuid4().hex[:6]}"


def job(platform: Platform, behaviour: str, stage: Stage = Stage.EXPORT, **changes: Any) -> Job:
    run_id = changes.pop("run_id", new_run())
    plain: dict[str, Any] = {
        "name": naming.job_name(run_id, stage, 1),
        "stage": stage,
        "run_id": run_id,
        "inputs": {"graph": f"s3://{platform.bucket}/{behaviour}/"},
        "instance_type": "ml.m5.xlarge",
        "max_runtime_seconds": 60,
        "output": f"s3://{platform.bucket}/runs/{run_id}/{stage}/1/",
    }
    return Job(**plain | changes)


def attempt(job: Job | Deployment, status: AttemptStatus = AttemptStatus.RUNNING) -> Attempt:
    stage = job.stage if isinstance(job, Job) else Stage.DEPLOY
    name = job.name if isinstance(job, Job) else job.endpoint
    return Attempt(
        stage=stage,
        number=1,
        job=job.name,
        ref=JobRef(job.kind if isinstance(job, Job) else JobKind.ENDPOINT, name),
        status=status,
        created_at=NOW,
        deadline=NOW + timedelta(hours=1),
        output="",
        next_check_at=NOW,
    )


SEARCH = Tuning(
    ranges=(Range("lr", "continuous", "0.001", "0.1", logarithmic=True), Range("layers", "integer", "1", "3")),
    objective=OBJECTIVE,
    maximize=False,
    metrics={OBJECTIVE: OBJECTIVE_REGEX},
    jobs=2,
    parallel=2,
    max_seconds=120,
)


@pytest.mark.parametrize("kind", [JobKind.PROCESSING, JobKind.TRAINING, JobKind.TUNING])
@pytest.mark.parametrize("behaviour", list(BEHAVIOURS))
def test_a_job_ends_as_it_ends_and_says_why(platform: Platform, kind: JobKind, behaviour: str) -> None:
    stage = Stage.EXPORT if kind is JobKind.PROCESSING else Stage.TRAIN
    asked = job(platform, behaviour, stage, tuning=SEARCH if kind is JobKind.TUNING else None)
    assert asked.kind is kind
    assert platform.jobs.describe(attempt(asked)) is None

    platform.jobs.start(asked)
    report = platform.over(attempt(asked))

    assert (report.status, report.failure, report.transient) == BEHAVIOURS[behaviour]
    assert report.started_at is not None
    assert report.ended_at is not None
    assert report.ended_at >= report.started_at
    # AND a search that succeeded says whose model is the best: a training job of its own
    assert (report.best_job is not None) == (kind is JobKind.TUNING and behaviour == "succeed")
    if report.best_job is not None:
        assert report.best_job.startswith(f"{asked.name}-")
        assert report.best_job in {trial.job for trial in platform.jobs.trials(asked.name)}


def test_a_search_that_runs_is_adopted_stopped_and_listed_like_any_job(platform: Platform) -> None:
    before = platform.now() - timedelta(minutes=1)
    asked = job(platform, "wait", Stage.TRAIN, tuning=SEARCH)
    platform.jobs.start(asked)
    platform.jobs.start(asked)
    with pytest.raises(StageRejected):
        platform.jobs.start(replace(asked, hyperparameters={"seed": "1"}))
    report = platform.jobs.describe(attempt(asked))
    assert report is not None
    assert report.status is JobStatus.RUNNING
    ref = attempt(asked).ref
    assert ref not in platform.jobs.ended_since(before)
    platform.jobs.stop(ref)
    assert platform.over(attempt(asked)).status is JobStatus.STOPPED
    assert ref in platform.jobs.ended_since(before)
    platform.jobs.stop(ref)


def test_starting_a_job_again_adopts_it_while_it_runs_and_after(platform: Platform) -> None:
    asked = job(platform, "succeed")
    platform.jobs.start(asked)
    platform.jobs.start(asked)
    ended = platform.over(attempt(asked)).ended_at

    platform.jobs.start(asked)

    report = platform.jobs.describe(attempt(asked))
    assert report is not None
    assert (report.status, report.ended_at) == (JobStatus.SUCCEEDED, ended)


def test_another_job_under_the_same_name_is_refused(platform: Platform) -> None:
    asked = job(platform, "succeed")
    platform.jobs.start(asked)
    other = job(platform, "reject", run_id=asked.run_id)
    with pytest.raises(StageRejected) as error:
        platform.jobs.start(other)
    assert error.value.code == "NAME_TAKEN"


def test_a_job_that_was_made_for_another_run_is_not_described_as_ours(platform: Platform) -> None:
    ours = job(platform, "succeed")
    foreign = job(platform, "succeed", name=ours.name)
    platform.jobs.start(foreign)
    assert platform.jobs.describe(attempt(ours)) is None


def test_a_job_that_is_stopped_is_stopped_and_stopping_is_repeatable(platform: Platform) -> None:
    asked = job(platform, "wait", Stage.TRAIN)
    platform.jobs.start(asked)
    platform.jobs.stop(attempt(asked).ref)
    platform.jobs.stop(attempt(asked).ref)

    report = platform.over(attempt(asked))

    assert report.status is JobStatus.STOPPED
    platform.jobs.stop(attempt(asked).ref)
    platform.jobs.stop(attempt(job(platform, "succeed")).ref)


def deployment(platform: Platform, endpoint: str) -> Deployment:
    run_id = new_run()
    model = f"s3://{platform.bucket}/model/"
    return Deployment(naming.job_name(run_id, Stage.DEPLOY, 1), run_id, endpoint, model, "ml.m5.large", 1)


def test_an_endpoint_is_created_then_updated_and_each_deployment_knows_its_own(platform: Platform) -> None:
    name = f"contract-{uuid.uuid4().hex[:6]}"
    first, second = deployment(platform, name), deployment(platform, name)
    assert platform.jobs.endpoint_in_service(name) is None
    assert platform.jobs.describe(attempt(first, AttemptStatus.STARTING)) is None

    platform.jobs.deploy(first)
    platform.jobs.deploy(first)
    assert platform.over(attempt(first)).status is JobStatus.SUCCEEDED
    assert platform.jobs.endpoint_in_service(name) is True
    assert platform.jobs.describe(attempt(second, AttemptStatus.STARTING)) is None

    platform.jobs.deploy(second)
    assert platform.over(attempt(second)).status is JobStatus.SUCCEEDED
    superseded = platform.jobs.describe(attempt(first))
    assert superseded is not None
    assert superseded.status is JobStatus.FAILED
    platform.jobs.deploy(second)


def test_an_endpoint_is_stopped_by_deleting_it_once_it_is_in_service(platform: Platform) -> None:
    asked = deployment(platform, f"contract-{uuid.uuid4().hex[:6]}")
    platform.jobs.stop(attempt(asked).ref)
    platform.jobs.deploy(asked)
    platform.jobs.stop(attempt(asked).ref)
    made = platform.over(attempt(asked))
    assert made.status is JobStatus.SUCCEEDED, "what is being made is left alone"
    assert made.created_at is not None

    platform.jobs.stop(attempt(asked).ref)

    platform.gone(attempt(asked))
    assert platform.jobs.endpoint_in_service(asked.endpoint) is None
    platform.jobs.stop(attempt(asked).ref)


def test_an_endpoint_keeps_the_time_of_its_making_when_it_is_updated(platform: Platform) -> None:
    name = f"contract-{uuid.uuid4().hex[:6]}"
    first, second = deployment(platform, name), deployment(platform, name)
    platform.jobs.deploy(first)
    made = platform.over(attempt(first)).created_at
    assert made is not None
    platform.jobs.deploy(second)
    underway = platform.jobs.describe(attempt(second))
    assert underway is not None
    assert underway.created_at == platform.over(attempt(second)).created_at == made


def test_what_ended_is_listed_and_what_runs_is_not(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN jobs of both kinds that ended, more than fit on a page, one that runs, and an endpoint in service
    monkeypatch.setattr(sagemaker_jobs, "PAGE", 2)
    monkeypatch.setattr(sagemaker_jobs, "MAX_PAGES", 100)  # jobs of other tests ended in these two seconds, too
    before = platform.now() - timedelta(seconds=2)
    asked = [job(platform, "succeed", stage) for stage in (Stage.EXPORT, Stage.PROCESS, Stage.EXPORT, Stage.TRAIN)]
    asked.append(job(platform, "reject", Stage.TRAIN))
    running = job(platform, "wait", Stage.TRAIN)
    served = deployment(platform, f"contract-{uuid.uuid4().hex[:6]}")
    for each in (*asked, running):
        platform.jobs.start(each)
    platform.jobs.deploy(served)
    over: list[Job | Deployment] = [*asked, served]
    for content in over:
        platform.over(attempt(content))
    # WHEN the ended ones are asked for
    ended = platform.jobs.ended_since(before)
    # THEN all of them are named, and the running one is not
    ours = {attempt(content).ref for content in [*over, running]}
    assert ended & ours == {attempt(content).ref for content in over}
    # AND none that ended before the moment that is asked for
    assert platform.jobs.ended_since(platform.now() + timedelta(seconds=2)) & ours == set()
    platform.jobs.stop(attempt(running).ref)
    if not isinstance(platform, InMemory | ClientInMemory):
        platform.over(attempt(running))
    assert attempt(running).ref in platform.jobs.ended_since(before)


def test_the_runtime_scores_and_tells_refusals_from_failures(job_service: JobServicePlatform) -> None:
    asked = deployment(job_service, f"runtime-{uuid.uuid4().hex[:6]}")
    job_service.jobs.deploy(asked)
    assert job_service.over(attempt(asked)).status is JobStatus.SUCCEEDED
    endpoints = SageMakerEndpoints(job_service.runtime)

    answer = endpoints.invoke(asked.endpoint, b"u1,m1\nu2,m2\n", "text/csv", "text/csv")
    assert (answer.body, answer.content_type) == (b"3,scored\n3,scored\n", "text/csv")
    with pytest.raises(ContractViolation, match=r"^no poison$"):
        endpoints.invoke(asked.endpoint, b"poison,m1\n", "text/csv", "text/csv")
    with pytest.raises(DependencyUnavailable, match="on fire"):
        endpoints.invoke(asked.endpoint, b"fire,m1\n", "text/csv", "text/csv")
    with pytest.raises(NotFound) as error:
        endpoints.invoke("nobody", b"u1,m1\n", "text/csv", "text/csv")
    assert error.value.code == "UNKNOWN_ENDPOINT"


def test_what_a_job_wrote_can_be_read(job_service: JobServicePlatform) -> None:
    asked = job(job_service, "reject")
    job_service.jobs.start(asked)
    job_service.over(attempt(asked))
    logs = CloudWatchJobLogs(job_service.aws.client("logs"))

    assert "told to reject" in [line.message for line in logs.tail(JobKind.PROCESSING, asked.name, 5)]
    page, token = logs.read(JobKind.PROCESSING, asked.name, 5, None)
    assert "told to reject" in [line.message for line in page]
    if token is not None:
        assert logs.read(JobKind.PROCESSING, asked.name, 5, token) == ([], None)
    assert logs.tail(JobKind.TRAINING, "nobody", 5) == []
    assert logs.read(JobKind.ENDPOINT, "nobody", 5, None) == ([], None)
