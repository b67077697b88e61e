"""Endpoints: served processes, invocations, blue/green updates, crashes."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.jobs_support import (
    BUCKET,
    ROLE,
    EventLog,
    Service,
    client,
    name,
    variant,
    wait_for,
)

LIMIT = 6_291_456


def refused(call: Any, **request: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as raised:
        call(**request)
    return dict(raised.value.response)


def served(jobs: Service, text: str = "v1") -> str:
    endpoint = jobs.configure(name("Serve"), model_text=text)
    jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    jobs.settled(endpoint)
    return endpoint


def test_an_endpoint_serves_its_model_and_passes_bodies_and_headers_through(jobs: Service) -> None:
    events = EventLog(jobs.cloud_url)
    endpoint = served(jobs, "the model")
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:endpoint/{endpoint.lower()}"
    found = jobs.sm.describe_endpoint(EndpointName=endpoint)
    assert (found["EndpointArn"], found["EndpointConfigName"]) == (arn, endpoint)
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert jobs.sm.list_endpoints(NameContains=endpoint, StatusEquals="InService")["Endpoints"][0]["EndpointArn"] == arn

    assert jobs.invoke(endpoint, "model") == b"the model"
    answer = jobs.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"headers", ContentType="text/csv", Accept="application/json", CustomAttributes="c"
    )
    headers = {key.lower(): value for key, value in json.load(answer["Body"]).items()}
    assert headers["content-type"] == "text/csv"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "c"
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("application/json", "seen")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert jobs.invoke(endpoint, b"") == b""

    told = events.expect(endpoint, 2)
    assert [event["detail"]["EndpointStatus"] for event in told] == ["CREATING", "IN_SERVICE"]
    assert told[1]["detail-type"] == "SageMaker Endpoint State Change"
    assert (told[1]["detail"]["EndpointArn"], told[1]["detail"]["EndpointConfigName"]) == (arn, endpoint)
    assert isinstance(told[1]["detail"]["LastModifiedTime"], int)


def test_bodies_up_to_the_limit_pass_fast_and_longer_ones_are_refused(jobs: Service) -> None:
    endpoint = served(jobs)
    body = bytes(range(256)) * (LIMIT // 256)
    jobs.invoke(endpoint, "warm")
    began = time.perf_counter()
    assert jobs.invoke(endpoint, body) == body
    for _ in range(4):
        jobs.invoke(endpoint, body)
    rate = 10 * LIMIT / (time.perf_counter() - began) / 1e6
    assert rate > 50, f"{rate:.0f} MB/s"
    too_long = refused(jobs.runtime.invoke_endpoint, EndpointName=endpoint, Body=body + b"x")
    assert too_long["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert jobs.invoke(endpoint, "model") == b"v1"


def test_a_models_error_is_a_model_error_with_its_status_and_text(jobs: Service) -> None:
    endpoint = served(jobs)
    error = refused(jobs.runtime.invoke_endpoint, EndpointName=endpoint, Body=b"bad")
    assert error["Error"]["Code"] == "ModelError"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error["OriginalStatusCode"] == 400
    assert json.loads(error["OriginalMessage"]) == {"code": "BAD_PAIR", "message": "no such column"}
    assert error["Error"]["Message"].startswith("Received client error (400) from primary with message")
    assert jobs.invoke(endpoint, "model") == b"v1"


def test_invocations_run_side_by_side(jobs: Service) -> None:
    endpoint = served(jobs)
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(jobs.invoke(endpoint, "slow"))) for _ in range(6)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"v1"] * 6
    assert time.perf_counter() - began < 1.2, "six invocations of 0.3 s ran one after the other"


def test_a_connection_is_kept_for_the_next_invocation(jobs: Service) -> None:
    endpoint = served(jobs)
    connection = http.client.HTTPConnection("127.0.0.1", jobs.port, timeout=10)
    connection.connect()
    socket = connection.sock
    for body, expected in ((b"model", b"v1"), (b"bad", None), (b"x" * 100_000, b"x" * 100_000)):
        connection.request("POST", f"/endpoints/{endpoint}/invocations", body)
        answer = connection.getresponse().read()
        assert expected is None or answer == expected
        assert connection.sock is socket


def test_an_archive_is_unpacked_for_the_model(jobs: Service, tmp_path: Any) -> None:
    import tarfile

    (tmp_path / "model.txt").write_text("from an archive")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "model.txt", "model.txt")
    endpoint = name("tar")
    uri = jobs.put(f"models/{endpoint}/model.tar.gz", (tmp_path / "model.tar.gz").read_bytes())
    container = {"Image": "serve:1", "ModelDataUrl": uri}
    jobs.sm.create_model(ModelName=endpoint, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    jobs.sm.create_endpoint_config(EndpointConfigName=endpoint, ProductionVariants=[variant(endpoint)])
    jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    jobs.settled(endpoint)
    assert jobs.invoke(endpoint, "model") == b"from an archive"


def test_an_update_loses_no_request_and_ends_the_old_process(jobs: Service) -> None:
    endpoint = served(jobs, "v1")
    new = jobs.configure(name("new"), model_text="v2")
    old_pid = int(jobs.invoke(endpoint, "pid"))
    seen: list[bytes] = []
    over = threading.Event()

    def keep_asking() -> None:
        runtime = client("sagemaker-runtime", jobs.url)
        while not over.is_set():
            seen.append(runtime.invoke_endpoint(EndpointName=endpoint, Body=b"slow")["Body"].read())

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(seen) >= 3, "answers of the old model")
        jobs.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=new)
        updating = jobs.sm.describe_endpoint(EndpointName=endpoint)
        assert updating["EndpointConfigName"] == endpoint or updating["EndpointStatus"] == "InService"
        found = jobs.settled(endpoint)
        wait_for(lambda: seen[-1] == b"v2", "answers of the new model")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert found["EndpointConfigName"] == new
    assert set(seen) == {b"v1", b"v2"}
    assert int(jobs.invoke(endpoint, "pid")) != old_pid
    folder = jobs.home / "endpoints" / endpoint
    wait_for(lambda: [path.name for path in folder.glob("g*")] == ["g2"], "the end of the old deployment")


def test_an_update_that_fails_leaves_the_old_model_in_service(jobs: Service) -> None:
    events = EventLog(jobs.cloud_url)
    endpoint = served(jobs, "v1")
    broken = jobs.configure(name("broken"), model_text="v2", BROKEN="1")
    pid = jobs.invoke(endpoint, "pid")
    jobs.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=broken)
    found = jobs.settled(endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", endpoint)
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "MODEL_MISSING: no model here" in found["FailureReason"]
    assert jobs.invoke(endpoint, "pid") == pid
    told = events.expect(endpoint, 4)
    assert [e["detail"]["EndpointStatus"] for e in told] == ["CREATING", "IN_SERVICE", "UPDATING", "IN_SERVICE"]
    assert told[-1]["detail"]["EndpointConfigName"] == endpoint
    # AND a later update is judged anew
    better = jobs.configure(name("better"), model_text="v3")
    jobs.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=better)
    assert "FailureReason" not in jobs.settled(endpoint)
    assert jobs.invoke(endpoint, "model") == b"v3"


def test_an_endpoint_whose_model_never_answers_fails_and_can_only_be_deleted(jobs: Service) -> None:
    endpoint = jobs.configure(name("Dead"), BROKEN="1")
    jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    again = refused(jobs.sm.create_endpoint, EndpointName=endpoint, EndpointConfigName=endpoint)
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:endpoint/{endpoint.lower()}"
    assert again["Error"]["Message"] == f'Cannot create already existing endpoint "{arn}".'
    reason = jobs.settled(endpoint, "Failed")["FailureReason"]
    assert reason.startswith("The primary container for production variant AllTraffic did not pass the ping health")
    assert "ended with code 65: MODEL_MISSING: no model here" in reason
    error = refused(jobs.runtime.invoke_endpoint, EndpointName=endpoint, Body=b"x")["Error"]
    assert error["Code"] == "ValidationError"
    assert error["Message"].startswith(f"Endpoint {endpoint} of account 000000000000 not found.")
    update = refused(jobs.sm.update_endpoint, EndpointName=endpoint, EndpointConfigName=endpoint)
    assert "in status Failed" in update["Error"]["Message"]
    gone(jobs, endpoint)


def test_a_missing_model_file_fails_the_endpoint(jobs: Service) -> None:
    endpoint = jobs.configure(name("empty"), model_text="x")
    jobs.s3.delete_object(Bucket=BUCKET, Key=f"models/{endpoint}/model.txt")
    jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    assert "No S3 objects found under S3 URL" in jobs.settled(endpoint, "Failed")["FailureReason"]


def test_an_endpoint_in_progress_can_be_neither_updated_nor_deleted(jobs: Service) -> None:
    endpoint = jobs.configure(name("Busy"))
    arn = jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)["EndpointArn"]
    text = f'Cannot update in-progress endpoint "{arn}".'
    update = refused(jobs.sm.update_endpoint, EndpointName=endpoint, EndpointConfigName=endpoint)
    assert update["Error"] == {"Code": "ValidationException", "Message": text}
    assert refused(jobs.sm.delete_endpoint, EndpointName=endpoint)["Error"]["Message"] == text
    jobs.settled(endpoint)
    gone(jobs, endpoint)
    # AND its name is free again
    jobs.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    jobs.settled(endpoint)


def test_a_crashed_model_process_is_started_again(jobs: Service) -> None:
    endpoint = served(jobs, "v1")
    pid = jobs.invoke(endpoint, "pid")
    assert refused(jobs.runtime.invoke_endpoint, EndpointName=endpoint, Body=b"crash")["Error"]["Code"] == "ModelError"

    def answered() -> bytes | None:
        try:
            return jobs.invoke(endpoint, "pid")
        except jobs.runtime.exceptions.ServiceUnavailable:
            return None

    assert wait_for(answered, "the process's restart") != pid
    assert jobs.sm.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"
    assert jobs.invoke(endpoint, "model") == b"v1"


def test_an_endpoints_configuration_may_be_deleted_while_it_serves(jobs: Service) -> None:
    endpoint = served(jobs, "v1")
    jobs.sm.delete_endpoint_config(EndpointConfigName=endpoint)
    jobs.sm.delete_model(ModelName=endpoint)
    refused(jobs.runtime.invoke_endpoint, EndpointName=endpoint, Body=b"crash")
    wait_for(lambda: "started again" in jobs.log(), "the restart")
    wait_for(lambda: try_model(jobs, endpoint) == b"v1", "an answer after the restart")


def try_model(jobs: Service, endpoint: str) -> bytes | None:
    try:
        return jobs.invoke(endpoint, "model")
    except ClientError:
        return None


def gone(jobs: Service, endpoint: str) -> None:
    jobs.sm.delete_endpoint(EndpointName=endpoint)

    def look() -> bool:
        try:
            return bool(jobs.sm.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] != "Deleting")
        except ClientError as error:
            return error.response["Error"]["Message"].startswith("Could not find endpoint ")

    wait_for(look, "the deletion")
    assert not (jobs.home / "endpoints" / endpoint).exists()
