"""What the job service's tests share: a real MiniStack, a real service process, small images, bounded waiters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config

REPOSITORY = Path(__file__).parents[2]
MINISTACK = REPOSITORY / ".tools/ministack/bin/ministack"
FAKE_IMAGE = Path(__file__).with_name("jobs_fake_image.py")
MODES = ("copy", "process", "fail", "wait", "serve", "tune", "keep")
ROLE = "arn:aws:iam::000000000000:role/ekiden-jobs"
BUCKET = "job-data"
OVER = {"Completed", "Failed", "Stopped"}
T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str, timeout: float = 10.0) -> T:
    """The first true value of `look`."""
    deadline = time.monotonic() + timeout
    while not (value := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout:g} s"
        time.sleep(0.01)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def name(stem: str) -> str:
    """A name that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:8]}"


def client(service: str, url: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=30)
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=url, config=config, **credentials)  # type: ignore[call-overload]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def ministack(port: int) -> Iterator[str]:
    """A MiniStack of the pinned version; yields its URL."""
    if not MINISTACK.exists():
        pytest.skip("no .tools/ministack: run `make setup`")
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SERVICES": "s3,sqs,events,logs",
        "LOG_LEVEL": "ERROR",
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [MINISTACK], env={**environment, "S3_DATA_DIR": folder, "TMPDIR": folder}, stdout=file, stderr=file
            )
        try:
            wait_for(lambda: answers(f"{url}/_ministack/health"), f"MiniStack ({output.read_text()[:400]})", 20)
            yield url
        finally:
            process.terminate()
            process.wait(10)


@dataclass(slots=True)
class Service:
    """A job service as a process, with clients for it and for the cloud beside it."""

    home: Path
    cloud_url: str
    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    sm: Any = None
    runtime: Any = None
    s3: Any = None

    def start(self, *more: str) -> Service:
        self.process = self.launch(*more)
        wait_for(lambda: answers(f"{self.url}/health"), "the service's health", 20)
        self.sm = client("sagemaker", self.url)
        self.runtime = client("sagemaker-runtime", self.url)
        self.s3 = client("s3", self.cloud_url)
        return self

    def launch(self, *more: str) -> subprocess.Popen[bytes]:
        """Start a process and do not wait for it."""
        self.port = free_port()
        images = [f"--image={mode}:*={sys.executable} {FAKE_IMAGE} {mode}" for mode in MODES]
        command = [sys.executable, "-m", "ekiden_local.jobs", f"--port={self.port}", f"--home={self.home}", *images]
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "local"),
            "AWS_ENDPOINT_URL": self.cloud_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "service.log", "ab") as log:
            return subprocess.Popen(
                [*command, *self.options, *more], env=environment, stdout=log, stderr=log, cwd=self.home
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def discard(self) -> None:
        """End the service and every program that it left, at once."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        for path in self.home.rglob("process.json"):
            if not path.with_name("exit.json").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(json.loads(path.read_text())["pid"], signal.SIGKILL)

    def log(self) -> str:
        return (self.home / "service.log").read_text()

    def put(self, key: str, body: str | bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def text(self, uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return str(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [item["Key"].removeprefix(prefix) for item in found]

    def train(self, job: str, image: str = "copy:1", **changes: Any) -> None:
        self.sm.create_training_job(**training_request(job, image, **changes))

    def trained(self, job: str, status: str = "Completed") -> dict[str, Any]:
        def look() -> Any:
            found = self.sm.describe_training_job(TrainingJobName=job)
            return found if found["TrainingJobStatus"] in OVER else None

        found = wait_for(look, f"the end of {job}")
        assert found["TrainingJobStatus"] == status, (found.get("FailureReason"), self.log()[-2000:])
        return dict(found)

    def tune(self, job: str, **changes: Any) -> None:
        self.sm.create_hyper_parameter_tuning_job(**tuning_request(job, **changes))

    def tuned(self, job: str, status: str = "Completed") -> dict[str, Any]:
        def look() -> Any:
            found = self.sm.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=job)
            return found if found["HyperParameterTuningJobStatus"] in OVER else None

        found = wait_for(look, f"the end of {job}", 30)
        assert found["HyperParameterTuningJobStatus"] == status, (found.get("FailureReason"), self.log()[-2000:])
        return dict(found)

    def trainings_of(self, job: str, **more: Any) -> list[dict[str, Any]]:
        call = self.sm.list_training_jobs_for_hyper_parameter_tuning_job
        return list(call(HyperParameterTuningJobName=job, MaxResults=100, **more)["TrainingJobSummaries"])

    def process_data(self, job: str, image: str = "process:1", **changes: Any) -> None:
        self.sm.create_processing_job(**processing_request(job, image, **changes))

    def processed(self, job: str, status: str = "Completed") -> dict[str, Any]:
        def look() -> Any:
            found = self.sm.describe_processing_job(ProcessingJobName=job)
            return found if found["ProcessingJobStatus"] in OVER else None

        found = wait_for(look, f"the end of {job}")
        assert found["ProcessingJobStatus"] == status, (found.get("FailureReason"), self.log()[-2000:])
        return dict(found)

    def configure(self, config: str, *, model_text: str = "", **environment: str) -> str:
        """A model and an endpoint configuration of the same name."""
        container: dict[str, Any] = {"Image": "serve:1", "Environment": environment}
        if model_text:
            self.put(f"models/{config}/model.txt", model_text)
            uri = f"s3://{BUCKET}/models/{config}/"
            source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
            container["ModelDataSource"] = {"S3DataSource": source}
        self.sm.create_model(ModelName=config, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        self.sm.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant(config)])
        return config

    def settled(self, endpoint: str, status: str = "InService") -> dict[str, Any]:
        """The endpoint once nothing is in progress."""

        def look() -> Any:
            found = self.sm.describe_endpoint(EndpointName=endpoint)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        found = wait_for(look, f"endpoint {endpoint}", 20)
        assert found["EndpointStatus"] == status, (found.get("FailureReason"), self.log()[-2000:])
        return dict(found)

    def invoke(self, endpoint: str, body: str | bytes, **more: Any) -> bytes:
        return bytes(self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **more)["Body"].read())


def variant(model: str, **changes: Any) -> dict[str, Any]:
    fields = {"VariantName": "AllTraffic", "ModelName": model, "InstanceType": "ml.m5.large"}
    return {**fields, "InitialInstanceCount": 1, "InitialVariantWeight": 1.0, **changes}


def channel(channel_name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": channel_name, "DataSource": {"S3DataSource": source}, "ContentType": "text/csv"}


def training_request(job: str, image: str = "copy:1", **changes: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": job,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/trained/", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


X = {"Name": "x", "MinValue": "0", "MaxValue": "10", "ScalingType": "Linear"}
KIND = {"Name": "kind", "Values": ["a", "b"]}


def tuning_request(job: str, image: str = "tune:1", **changes: Any) -> dict[str, Any]:
    """Ten training jobs over x and kind; keywords go into the configuration, the limits or the request itself."""
    training = training_request(job, image)
    definition = {name: value for name, value in training.items() if name != "TrainingJobName"}
    definition["AlgorithmSpecification"] |= {"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]}
    limits = {"MaxNumberOfTrainingJobs": 10, "MaxParallelTrainingJobs": 2}
    config = {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
        "ResourceLimits": limits | {name: changes.pop(name) for name in list(changes) if name.startswith("Max")},
        "ParameterRanges": {"ContinuousParameterRanges": [X], "CategoricalParameterRanges": [KIND]},
        "TrainingJobEarlyStoppingType": "Off",
        "RandomSeed": 1,
    }
    config |= {name: changes.pop(name) for name in list(changes) if name in {*config, "StrategyConfig"}}
    return {
        "HyperParameterTuningJobName": job,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": {
            **definition,
            "StaticHyperParameters": {"seed": "7"},
            "Environment": changes.pop("Environment", {}),
        },
        **changes,
    }


def processing_request(job: str, image: str = "process:1", **changes: Any) -> dict[str, Any]:
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    return {
        "ProcessingJobName": job,
        "AppSpecification": {"ImageUri": image},
        "RoleArn": ROLE,
        "ProcessingResources": {"ClusterConfig": cluster},
        **changes,
    }


def processing_input(input_name: str, uri: str) -> dict[str, Any]:
    path = f"/opt/ml/processing/input/{input_name}"
    source = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": input_name, "S3Input": source}


def processing_output(output_name: str, uri: str) -> dict[str, Any]:
    path = f"/opt/ml/processing/output/{output_name}"
    target = {"S3Uri": uri, "LocalPath": path, "S3UploadMode": "EndOfJob"}
    return {"OutputName": output_name, "S3Output": target}


class EventLog:
    """Job-state events as a rule on the default bus and its queue deliver them."""

    def __init__(self, cloud_url: str) -> None:
        self._sqs = client("sqs", cloud_url)
        self.received: list[dict[str, Any]] = []
        queue = name("events")
        self._queue = self._sqs.create_queue(QueueName=queue)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        events = client("events", cloud_url)
        events.put_rule(Name=queue, EventPattern=json.dumps({"source": ["ekiden.local"]}))
        events.put_targets(Rule=queue, Targets=[{"Id": "queue", "Arn": arn}])

    def expect(self, resource: str, count: int) -> list[dict[str, Any]]:
        """The events about a job or endpoint, once there are `count` of them."""
        return wait_for(
            lambda: found if len(found := self.of(resource)) == count else None, f"{count} events on {resource}"
        )

    def of(self, resource: str) -> list[dict[str, Any]]:
        """Events so far about a job or endpoint."""
        answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.received.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        names = ("TrainingJobName", "ProcessingJobName", "EndpointName", "HyperParameterTuningJobName")
        return [event for event in self.received if resource in [event["detail"].get(key) for key in names]]


@pytest.fixture(scope="session")
def job_cloud() -> Iterator[str]:
    """MiniStack with the tests' bucket; its URL."""
    with ministack(free_port()) as url:
        client("s3", url).create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture(scope="session")
def jobs(job_cloud: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A job service for tests that neither stop it nor need settings of their own."""
    options = ("--max-jobs=4", "--stop-grace=0.3", "--endpoint-stop-grace=1", "--health-timeout=10")
    service = Service(tmp_path_factory.mktemp("jobs"), job_cloud, options).start("--stop-children-on-exit")
    yield service
    assert service.end() == 0


@pytest.fixture
def own_jobs(job_cloud: str, tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, not started yet; whatever is left of it is ended."""
    service = Service(tmp_path / "home", job_cloud, ("--stop-grace=5", "--endpoint-stop-grace=1"))
    yield service
    service.discard()
