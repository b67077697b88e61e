"""The job service's parts that need no process: names, patterns, tokens, images, archives."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ekiden_local.jobs.errors import ApiError, JobFailure
from ekiden_local.jobs.events import Announcement, Outbox
from ekiden_local.jobs.images import ENGINE, ImageTable, from_file, from_option
from ekiden_local.jobs.listing import page
from ekiden_local.jobs.mlroot import algorithm_error, relocate
from ekiden_local.jobs.records import JobRecord, Kind, Record, step
from ekiden_local.jobs.s3 import extract, local_name
from ekiden_local.jobs.shapes import check
from tests.local.jobs_support import processing_request, training_request, wait_for


def record(name: str, created_at: float) -> Record:
    return Record(name=name, arn=name, request={}, created_at=created_at, modified_at=created_at)


@pytest.mark.parametrize(
    ("key", "prefix", "expected"),
    [
        ("runs/1/a.csv", "runs/1/", "a.csv"),
        ("runs/1/deep/a.csv", "runs/1/", "deep/a.csv"),
        ("runs/1/deep/a.csv", "runs/1", "deep/a.csv"),
        ("runs/1/spec.json", "runs/1/spec.json", "spec.json"),
        ("runs/12/a.csv", "runs/1", "12/a.csv"),
        ("a.csv", "", "a.csv"),
    ],
)
def test_a_key_lands_where_sagemaker_would_put_it(key: str, prefix: str, expected: str) -> None:
    assert local_name(key, prefix) == expected


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"RoleArn": None}, "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"),
        ({"TrainingJobName": "a_b"}, "regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"),
        ({"TrainingJobName": "a" * 64}, "Member must have length less than or equal to 63"),
        ({"RoleArn": "me"}, "at 'roleArn' failed to satisfy constraint"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 0}}, "at 'stoppingCondition.maxRuntimeInSeconds'"),
        ({"HyperParameters": {"k": "v" * 2501}}, "at 'hyperParameters.k.value'"),
        ({"InputDataConfig": [{"ChannelName": "c!"}]}, "at 'inputDataConfig.1.member.channelName'"),
        ({"Tags": [{"Key": "a", "Value": "\u0000"}]}, "at 'tags.1.member.value'"),
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_in_sagemakers_words(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ApiError, match=re.escape(text)) as raised:
        check("CreateTrainingJob", training_request("ok", **changes))
    assert raised.value.code == "ValidationException"


def test_an_enum_is_checked_and_its_values_are_named() -> None:
    output = {"S3OutputPath": "s3://b/x", "CompressionType": "ZIP"}
    with pytest.raises(ApiError, match=r"Member must satisfy enum value set: \[GZIP, NONE\]"):
        check("CreateTrainingJob", training_request("ok", OutputDataConfig=output))


def test_a_value_of_the_wrong_type_is_a_serialization_error_and_long_input_is_not_echoed() -> None:
    with pytest.raises(ApiError, match="must be a list") as raised:
        check("CreateTrainingJob", training_request("ok", InputDataConfig="x"))
    assert raised.value.code == "SerializationException"
    with pytest.raises(ApiError) as raised:
        check("CreateTrainingJob", training_request("z" * 100_000))
    assert len(raised.value.message) < 500


def test_unknown_members_are_ignored_and_good_requests_pass() -> None:
    check("CreateTrainingJob", training_request("ok", SomethingNew={"a": 1}, Tags=[{"Key": "run", "Value": "r/1 =é"}]))
    check("CreateProcessingJob", processing_request("ok"))


def test_pages_are_stable_while_records_come_and_go() -> None:
    records = [record(f"n{number}", float(number)) for number in range(5)]
    first, more = page(records, {"MaxResults": 2})
    # GIVEN that the page's last record vanishes and a new one appears before the next call
    rest = [item for item in records if item.name != "n1"] + [record("n9", 9.0)]
    second, _ = page(rest, {"MaxResults": 10, **more})
    # THEN nothing is shown twice and nothing is left out
    assert [item.name for item in first] == ["n0", "n1"]
    assert [item.name for item in second] == ["n2", "n3", "n4", "n9"]


@pytest.mark.parametrize("token", ["nonsense", "bnVsbA==", "WyJhIiwgImIiXQ=="])
def test_a_token_of_another_origin_is_refused(token: str) -> None:
    with pytest.raises(ApiError, match="Invalid NextToken"):
        page([record("a", 1.0)], {"NextToken": token})


def test_lists_are_filtered_and_ordered() -> None:
    records = [record("Alpha", 3.0), record("beta", 1.0), record("alphabet", 2.0)]
    named, _ = page(records, {"NameContains": "ALPHA", "SortBy": "Name", "SortOrder": "Descending"})
    later, _ = page(records, {"CreationTimeAfter": 1.0, "LastModifiedTimeBefore": 3.0})
    assert [item.name for item in named] == ["alphabet", "Alpha"]
    assert [item.name for item in later] == ["alphabet"]


def test_the_engines_image_runs_with_this_interpreter_whatever_registry_it_names() -> None:
    table = ImageTable()
    uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ekiden-engine:1.4"
    assert table.argv(uri, ["ekiden-engine", "export"], ["--x"]) == [*ENGINE.command, "export", "--x"]
    assert table.argv("ekiden-engine", [], ["train"]) == [*ENGINE.command, "train"]
    assert table.argv("ekiden-engine:local", ["sh", "-c", "true"], []) == ["sh", "-c", "true"]


def test_an_unknown_image_is_named_with_the_way_out() -> None:
    with pytest.raises(JobFailure, match=r"^ClientError: Image 'other:2' .*--image 'other:2=COMMAND'.*ekiden-engine"):
        ImageTable().find("other:2")


def test_images_come_from_options_and_files(tmp_path: Path) -> None:
    toml = tmp_path / "images.toml"
    toml.write_text('[images]\n"a:*" = "python3 -m a"\n"b:*" = {command = ["b", "c d"], program = "bee"}\n')
    images = [from_option("own:*=python3 'my program.py'"), *from_file(toml)]
    assert [image.command for image in images] == [("python3", "my program.py"), ("python3", "-m", "a"), ("b", "c d")]
    assert [image.program for image in images] == ["own", "a", "bee"]


@pytest.mark.parametrize("content", ["[]", "{", '{"images": {"a": []}}', '{"images": {"a": {}}}', '{"pictures": {}}'])
def test_a_broken_image_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"images\.json"):
        from_file(path)


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        member = tarfile.TarInfo("../escaped.txt")
        member.size = 1
        opened.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(JobFailure, match="Failed to extract model data archive"):
        extract(archive, tmp_path / "model")
    assert not (tmp_path / "escaped.txt").exists()


def test_the_exit_code_survives_however_long_the_failure_text_is() -> None:
    reason = algorithm_error("x" * 5000, 65)
    assert len(reason) == 1024
    assert reason.endswith(", exit code: 65")


def test_paths_of_the_container_become_paths_of_this_machine() -> None:
    root = Path("/home/job")
    words = ["/opt/ml/input", "/opt/ml", "/opt/mlflow", "--x=/opt/ml/y"]
    assert [relocate(root, word) for word in words] == ["/home/job/input", "/home/job", "/opt/mlflow", "--x=/opt/ml/y"]


def test_a_record_written_by_a_later_version_can_be_read() -> None:
    job = step(JobRecord(name="a", arn="a", request={}, created_at=1.0, modified_at=1.0), 2.0, "Training", "m")
    kept = json.loads(json.dumps({"name": "a", "arn": "a", "request": {}, "created_at": 1.0, "modified_at": 1.0,
                                  "transitions": job.transitions, "invented_later": 1}))  # fmt: skip
    assert JobRecord.from_json(kept).transitions == job.transitions


class Bus:
    """An event bus that refuses whatever names a poisoned job, with its whole batch, and a detail that is too long."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        details = [json.loads(entry["Detail"]) for entry in Entries]
        if any(detail["TrainingJobName"] == "poison" or len(str(detail)) > 256_000 for detail in details):
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "no"}}, "PutEvents")
        self.taken += details
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}


def test_one_event_that_the_bus_refuses_holds_up_no_other(tmp_path: Path) -> None:
    outbox, bus = Outbox(tmp_path), Bus()
    for number, job in enumerate(["a", "poison", "b", "long"]):
        detail = {"TrainingJobName": job, "HyperParameters": {"k": "v" * (300_000 if job == "long" else 1)}}
        told = JobRecord(name=job, arn=job, request={}, created_at=1.0, modified_at=1.0, revision=number)
        outbox.release(outbox.store(Kind.TRAINING, told, Announcement("t", detail)))
    outbox.start(bus)
    wait_for(lambda: outbox.unsent() == 0, "an empty outbox")
    outbox.close(5)
    assert [detail["TrainingJobName"] for detail in bus.taken] == ["a", "b", "long"]
    assert "HyperParameters" not in bus.taken[-1]
    assert [path.name for path in (tmp_path / "rejected").iterdir()] == [f"{1:020d}-training-poison.json"]
    assert not list(tmp_path.glob("*.json"))
