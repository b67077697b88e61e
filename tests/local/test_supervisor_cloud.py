"""The whole embedded cloud, with the real template: started, found again, restarted, killed, doubled, removed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from ekiden_local import daemon, ports, supervisor
from ekiden_local.deploy import client
from ekiden_local.doctor import Status
from ekiden_local.state import ACCESS_KEY, SECRET_KEY, Cloud, CloudError, home_of, project_root
from tests.local.jobs_support import FAKE_IMAGE, training_request
from tests.local.supervisor_support import still_runs

FIRST_PORT = 14566
NAME = f"test-{os.getpid()}"
# The usual home: a build of this very code may lie ready there, and building is what takes longest.
ROOT = home_of(NAME).root


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what is deployed: whoever edits the real files meanwhile does not change what `up` finds."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("functions", "layers", "local"):
        shutil.copytree(project_root() / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("template.yaml", "samconfig.toml"):
        shutil.copy(project_root() / file, copy)
    for link in (".tools", "engine"):
        (copy / link).symlink_to(project_root() / link)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "project_root", lambda: copy)
        yield copy


@pytest.fixture(scope="module")
def cloud(checkout: Path) -> Iterator[Cloud]:
    yield supervisor.up(NAME, port=ports.choose(None, FIRST_PORT))
    supervisor.down(NAME, purge=True)
    assert not (ROOT / NAME).exists()
    for name in (NAME, f"{NAME}-2"):
        home_of(name).lock.unlink(missing_ok=True)


def call(cloud: Cloud, method: str, path: str, *, key: str | None, body: Any = None) -> tuple[int, Any]:
    """An HTTP API call, signed with `key`, or not at all."""
    content = None if body is None else json.dumps(body).encode()
    url = cloud.api_url + path
    request = AWSRequest(method, url, {"content-type": "application/json"}, content)
    if key is not None:
        SigV4Auth(Credentials(key, SECRET_KEY), "execute-api", cloud.region).add_auth(request)
    plain = urllib.request.Request(url, content, dict(request.headers), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(plain, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_api_answers_signed_calls_and_refuses_others(cloud: Cloud) -> None:
    assert call(cloud, "GET", "/runs", key=ACCESS_KEY) == (200, {"runs": []})
    assert call(cloud, "GET", "/runs", key=None)[0] == 403
    assert call(cloud, "GET", "/runs", key="AKIAUNKNOWNUNKNOWN00")[0] == 403


def test_the_api_explains_a_broken_spec_and_an_unknown_run(cloud: Cloud) -> None:
    status, answer = call(cloud, "POST", "/runs", key=ACCESS_KEY, body={"spec": {"version": 1}})
    assert status == 400
    assert answer["error"]["code"] == "INVALID_SPEC"
    assert {fault["path"] for fault in answer["error"]["faults"]} >= {"name", "graph"}
    assert call(cloud, "GET", "/runs/none-20260101-000000-aaaaaa", key=ACCESS_KEY)[0] == 404


def test_a_cloud_that_is_up_is_found_again_quickly_and_nothing_changes(cloud: Cloud) -> None:
    said: list[str] = []
    began = time.monotonic()
    again = supervisor.up(NAME, on_progress=said.append)
    assert time.monotonic() - began < 2
    assert again == cloud
    assert said == []
    assert supervisor.load(NAME) == cloud


def test_the_doctor_finds_nothing_wrong_with_it(cloud: Cloud) -> None:
    found = {check.name: check for check in supervisor.doctor(NAME)}
    assert [found[name].status for name in ("ministack", "jobs", "stack")] == [Status.OK] * 3


def test_other_settings_for_a_running_cloud_are_refused_with_a_remedy(cloud: Cloud) -> None:
    for changed in ({"port": cloud.ports["ministack"] + 50}, {"auth": False}):
        with pytest.raises(CloudError, match="already runs") as caught:
            supervisor.up(NAME, **changed)
        assert f"ekiden down --name {NAME}" in caught.value.remedy


def test_permissions_are_enforced_inside_the_cloud(cloud: Cloud) -> None:
    # GIVEN the job role's and nobody's credentials
    role = client("cloudformation", cloud.endpoint_url).describe_stack_resource(
        StackName=cloud.stack, LogicalResourceId="ShowStatusRole"
    )["StackResourceDetail"]["PhysicalResourceId"]
    session = client("sts", cloud.endpoint_url).assume_role(
        RoleArn=f"arn:aws:iam::{cloud.account}:role/{role}", RoleSessionName="test"
    )["Credentials"]
    s3 = boto3.client(
        "s3",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )
    # WHEN it writes where it may only read
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=cloud.data_bucket, Key="runs/x/spec.json", Body=b"")
    # THEN it is refused, and what it may read, it reads.
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    client("s3", cloud.endpoint_url).put_object(Bucket=cloud.data_bucket, Key="runs/x/spec.json", Body=b"spec")
    assert s3.get_object(Bucket=cloud.data_bucket, Key="runs/x/spec.json")["Body"].read() == b"spec"


def test_a_second_cloud_runs_beside_the_first(cloud: Cloud) -> None:
    # GIVEN one cloud; WHEN a second is started, without a word about ports
    second = supervisor.up(f"{NAME}-2")
    try:
        # THEN both answer, and what is in one is not in the other.
        assert set(second.ports.values()).isdisjoint(cloud.ports.values())
        client("s3", second.endpoint_url).put_object(Bucket=second.data_bucket, Key="runs/second", Body=b"2")
        found = client("s3", cloud.endpoint_url).list_objects_v2(Bucket=cloud.data_bucket, Prefix="runs/second")
        assert found["KeyCount"] == 0
        assert call(second, "GET", "/runs", key=ACCESS_KEY) == (200, {"runs": []})
        assert call(cloud, "GET", "/runs", key=ACCESS_KEY)[0] == 200
    finally:
        supervisor.down(f"{NAME}-2", purge=True)


def test_a_job_service_that_died_is_started_again_and_the_rest_left_alone(cloud: Cloud) -> None:
    os.kill(supervisor.up(NAME).pids["jobs"], signal.SIGKILL)
    assert daemon.wait_until(lambda: supervisor.load(NAME) is None, 5)
    repaired = supervisor.up(NAME)
    assert repaired.pids["jobs"] != cloud.pids["jobs"]
    assert repaired.pids["ministack"] == cloud.pids["ministack"]
    assert daemon.answers(f"{repaired.sagemaker_url}/health")


def served_by(cloud: Cloud) -> int:
    """The pid of the job service itself; `pids` has its keeper's."""
    with urllib.request.urlopen(f"{cloud.sagemaker_url}/health", timeout=5) as answer:
        return int(json.load(answer)["pid"])


def test_a_job_service_that_was_killed_comes_back_by_itself(cloud: Cloud) -> None:
    before = supervisor.up(NAME)
    os.kill(killed := served_by(before), signal.SIGKILL)
    assert daemon.wait_until(lambda: not daemon.alive(killed), 5)
    assert daemon.wait_until(lambda: daemon.answers(f"{before.sagemaker_url}/health"), 10)
    assert served_by(before) != killed
    assert supervisor.load(NAME) == before


def test_a_job_service_whose_code_changed_is_started_again_and_its_jobs_go_on(
    cloud: Cloud, checkout: Path, tmp_path: Path
) -> None:
    # GIVEN a job that runs
    images, gate = tmp_path / "images.json", tmp_path / "gate"
    images.write_text(json.dumps({"images": {"wait:*": [sys.executable, str(FAKE_IMAGE), "wait"]}}))
    said: list[str] = []
    before = supervisor.up(NAME, images=images, on_progress=said.append)
    sagemaker = client("sagemaker", before.sagemaker_url)
    job = training_request("goes-on", "wait:1", Environment={"GATE": str(gate)})
    job["OutputDataConfig"]["S3OutputPath"] = f"s3://{before.data_bucket}/trained/"
    sagemaker.create_training_job(**job)
    pid_file = tmp_path / "gate.pid"
    assert daemon.wait_until(lambda: pid_file.exists() and pid_file.read_text() != "", 10)
    program, service = int(pid_file.read_text()), served_by(before)
    # WHEN the job service's code changes, and `up` is called twice
    code = checkout / "local/ekiden_local/jobs/config.py"
    code.write_text(code.read_text() + "\n# Changed.\n")
    after = supervisor.up(NAME, on_progress=said.append)
    assert supervisor.up(NAME, on_progress=said.append) == after
    # THEN it was started again each time that something changed, the images, then the code
    assert said == ["starting the job service again, because its code or images changed; its jobs go on"] * 2
    assert (served_by(after) != service, after.pids["ministack"]) == (True, before.pids["ministack"])
    # AND the job's program is the one it was, and ends well
    assert still_runs(program)
    gate.touch()
    describe = sagemaker.describe_training_job
    assert daemon.wait_until(lambda: describe(TrainingJobName="goes-on")["TrainingJobStatus"] == "Completed", 10)
    assert int(pid_file.read_text()) == program


def published(cloud: Cloud) -> int:
    """How often the publisher was called, by its log."""
    logs = client("logs", cloud.endpoint_url)
    return len(logs.filter_log_events(logGroupName="/aws/lambda/ekiden-publish-ledger")["events"])


def write_outbox_item(cloud: Cloud, number: int) -> None:
    item = {
        "pk": {"S": "RUN#test"},
        "sk": {"S": f"OUTBOX#{number:06d}"},
        "detail_type": {"S": "Test"},
        "detail": {"S": "{}"},
    }
    client("dynamodb", cloud.endpoint_url).put_item(TableName=cloud.ledger_table, Item=item)


def test_everything_is_still_there_after_down_and_up_and_events_flow_on(cloud: Cloud) -> None:
    # GIVEN an object, an item that was published, and a cloud that is taken down and up
    client("s3", cloud.endpoint_url).put_object(Bucket=cloud.data_bucket, Key="runs/kept", Body=b"kept")
    for number in range(5):
        write_outbox_item(cloud, number)
    assert daemon.wait_until(lambda: published(cloud) > 0, 10)
    assert supervisor.down(NAME) is True
    assert supervisor.load(NAME) is None
    again = supervisor.up(NAME)
    # THEN it is where it was, with what it held
    assert (again.ports, again.data_bucket, again.api_id) == (cloud.ports, cloud.data_bucket, cloud.api_id)
    s3 = client("s3", again.endpoint_url)
    assert s3.get_object(Bucket=again.data_bucket, Key="runs/kept")["Body"].read() == b"kept"
    # and the next event reaches the bus: the first one after a restart, not the sixth.
    before = published(again)
    write_outbox_item(again, 6)
    assert daemon.wait_until(lambda: published(again) > before, 10)


def test_a_cloud_whose_process_was_killed_comes_up_again(cloud: Cloud) -> None:
    os.kill(supervisor.up(NAME).pids["ministack"], signal.SIGKILL)
    assert daemon.wait_until(lambda: supervisor.load(NAME) is None, 5)
    again = supervisor.up(NAME)
    assert again.ports == cloud.ports
    assert call(again, "GET", "/runs", key=ACCESS_KEY)[0] == 200


def test_code_that_changed_is_deployed_and_nothing_else_starts_again(cloud: Cloud, checkout: Path) -> None:
    # GIVEN a checkout in which one function changed
    before = supervisor.up(NAME)
    handler = checkout / "functions/show_status/handler.py"
    handler.write_text(handler.read_text() + "\n\n# Changed.\n")
    assert {c.name: c.status for c in supervisor.doctor(NAME)}["stack"] is Status.WARN
    # WHEN
    said: list[str] = []
    after = supervisor.up(NAME, on_progress=said.append)
    # THEN
    assert [step.split(" (")[1] for step in said] == ["sam build)", "sam deploy)"]
    assert (after.pids, after.data_bucket) == (before.pids, before.data_bucket)
    assert after.build != before.build
    location = client("lambda", after.endpoint_url).get_function(FunctionName="ekiden-show-status")["Code"]["Location"]
    with urllib.request.urlopen(location, timeout=10) as archive:
        assert b"# Changed." in zipfile.ZipFile(io.BytesIO(archive.read())).read("handler.py")


def test_a_stack_that_is_refused_is_reported_with_cloudformations_reasons(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a checkout whose template asks for a kind of queue that cannot be
    project = tmp_path / "checkout"
    project.mkdir()
    (project / ".tools").symlink_to(project_root() / ".tools")
    (project / "samconfig.toml").write_text((project_root() / "samconfig.toml").read_text())
    (project / "template.yaml").write_text(
        "AWSTemplateFormatVersion: '2010-09-09'\n"
        "Transform: AWS::Serverless-2016-10-31\n"
        "Parameters: {JobEventSources: {Type: CommaDelimitedList}, EngineImageUri: {Type: String}}\n"
        "Resources:\n"
        "  Alarm:\n"
        "    Type: AWS::CloudWatch::Alarm\n"
        "    Properties:\n"
        "      Metrics: [{Id: a, Expression: '1'}]\n"
        "      EvaluationPeriods: 1\n"
        "      Threshold: 1\n"
        "      ComparisonOperator: GreaterThanThreshold\n"
    )
    monkeypatch.setattr(supervisor, "project_root", lambda: project)
    # WHEN
    with pytest.raises(CloudError) as caught:
        supervisor.up(NAME)
    # THEN
    assert "Alarm: " in str(caught.value)
    assert "sam-deploy.log" in caught.value.remedy
