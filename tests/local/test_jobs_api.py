"""Errors, tags and lists of the SageMaker API, through boto3 against the real service."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.jobs_support import ROLE, Service, name, processing_request, training_request, variant

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**request)
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


def post(service: Service, headers: dict[str, str], body: bytes, path: str = "/") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


def test_each_unknown_resource_is_missed_in_sagemakers_own_words(jobs: Service) -> None:
    sm = jobs.sm
    assert refused(sm.describe_training_job, TrainingJobName="no") == (
        "ValidationException",
        "Requested resource not found.",
    )
    assert refused(sm.stop_training_job, TrainingJobName="no")[1] == "Requested resource not found."
    assert (
        refused(sm.describe_processing_job, ProcessingJobName="no")[1] == "Could not find requested job with name: no"
    )
    assert refused(sm.describe_model, ModelName="No")[1] == f'Could not find model "{ARN}:model/no".'
    assert refused(sm.delete_model, ModelName="no")[1] == f'Could not find model "{ARN}:model/no".'
    assert refused(sm.describe_endpoint_config, EndpointConfigName="no")[1] == (
        f'Could not find endpoint configuration "{ARN}:endpoint-config/no".'
    )
    for call in (sm.describe_endpoint, sm.delete_endpoint):
        assert refused(call, EndpointName="no") == (
            "ValidationException",
            f'Could not find endpoint "{ARN}:endpoint/no".',
        )
    assert refused(sm.create_endpoint, EndpointName="no", EndpointConfigName="no")[1] == (
        f'Could not find endpoint configuration "{ARN}:endpoint-config/no".'
    )
    assert refused(sm.create_endpoint_config, EndpointConfigName="no", ProductionVariants=[variant("no")])[1] == (
        f'Could not find model "{ARN}:model/no".'
    )
    assert refused(jobs.runtime.invoke_endpoint, EndpointName="no", Body=b"x") == (
        "ValidationError",
        "Endpoint no of account 000000000000 not found.",
    )


def test_names_are_taken_once(jobs: Service) -> None:
    job = name("Twice")
    jobs.train(job)
    jobs.process_data(job)
    jobs.configure(job)
    assert refused(jobs.sm.create_training_job, **training_request(job)) == (
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job with this name "
        f"already exists ({ARN}:training-job/{job.lower()})",
    )
    assert refused(jobs.sm.create_processing_job, **processing_request(job)) == (
        "ResourceInUse",
        "Job name must be unique within an AWS account and region, and a job with this name already exists "
        f"({ARN}:processing-job/{job.lower()})",
    )
    model = {"ModelName": job, "PrimaryContainer": {"Image": "serve:1"}, "ExecutionRoleArn": ROLE}
    assert refused(jobs.sm.create_model, **model)[1] == (
        f'Cannot create already existing model "{ARN}:model/{job.lower()}".'
    )
    config = {"EndpointConfigName": job, "ProductionVariants": [variant(job)]}
    assert refused(jobs.sm.create_endpoint_config, **config)[1] == (
        f'Cannot create already existing endpoint configuration "{ARN}:endpoint-config/{job.lower()}".'
    )
    jobs.trained(job)
    assert refused(jobs.sm.stop_training_job, TrainingJobName=job)[1] == (
        "The request was rejected because the training job is in status Completed."
    )


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"TrainingJobName": "under_score"}, "ValidationException", "Member must satisfy regular expression pattern"),
        (
            {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}},
            "ResourceLimitExceeded",
            "use InstanceCount 1",
        ),
        (
            {"AlgorithmSpecification": {"TrainingImage": "copy:1", "TrainingInputMode": "Pipe"},
             "InputDataConfig": [{"ChannelName": "c", "DataSource": {"S3DataSource": {
                 "S3DataType": "S3Prefix", "S3Uri": "s3://b/x"}}}]},
            "ValidationException",
            "not in Pipe mode",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_run_here_is_refused_at_once(
    jobs: Service, changes: dict[str, Any], code: str, text: str
) -> None:
    found = refused(jobs.sm.create_training_job, **training_request("refused", **changes))
    assert found[0] == code
    assert text in found[1]


def test_a_local_path_outside_the_root_is_refused(jobs: Service) -> None:
    source = {"S3Uri": "s3://b/x", "LocalPath": "/opt/ml/processing/../../etc", "S3DataType": "S3Prefix"}
    request = processing_request("x", ProcessingInputs=[{"InputName": "i", "S3Input": source}])
    assert "LocalPath must be under /opt/ml/processing" in refused(jobs.sm.create_processing_job, **request)[1]


def test_unsigned_unknown_and_malformed_calls_get_an_answer(jobs: Service) -> None:
    target = {"X-Amz-Target": "SageMaker.ListTrainingJobs"}
    assert post(jobs, target, b"{}")[0] == 200
    assert post(jobs, target, b"{")[1]["__type"] == "SerializationException"
    assert post(jobs, target, b"[]")[1]["__type"] == "SerializationException"
    assert post(jobs, target, b"x" * 5_000_000)[0] == 413
    assert post(jobs, {}, b"{}")[0] == 404
    assert post(jobs, {"X-Amz-Target": "SageMaker.CreateUnicorn"}, b"{}")[1]["__type"] == "UnknownOperationException"
    status, answer = post(jobs, {"X-Amz-Target": "SageMaker.CreateDomain"}, b"{}")
    assert (status, "is not provided locally" in answer["message"]) == (400, True)
    assert post(jobs, {**target, "Content-Length": "many"}, b"")[0] == 411
    with socket.create_connection(("127.0.0.1", jobs.port)) as broken:
        broken.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
    assert jobs.health()["status"] == "ok"


def test_tags_are_kept_changed_and_listed(jobs: Service) -> None:
    model = name("Tagged")
    arn = jobs.sm.create_model(
        ModelName=model,
        PrimaryContainer={"Image": "serve:1"},
        ExecutionRoleArn=ROLE,
        Tags=[{"Key": "run", "Value": "1"}, {"Key": "stage", "Value": "deploy"}],
    )["ModelArn"]
    assert arn == f"{ARN}:model/{model.lower()}"
    added = jobs.sm.add_tags(ResourceArn=f"{ARN}:model/{model}", Tags=[{"Key": "run", "Value": "2"}])
    jobs.sm.delete_tags(ResourceArn=arn, TagKeys=["stage"])
    assert {"Key": "run", "Value": "2"} in added["Tags"]
    assert jobs.sm.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "run", "Value": "2"}]
    assert refused(jobs.sm.list_tags, ResourceArn=f"{ARN}:model/none")[0] == "ValidationException"


def test_boto3s_paginators_walk_through_all_jobs(jobs: Service) -> None:
    stem = name("page")
    for number in range(5):
        jobs.process_data(f"{stem}-{number}")
    for number in range(5):
        jobs.processed(f"{stem}-{number}")
    pages = jobs.sm.get_paginator("list_processing_jobs").paginate(
        NameContains=stem,
        StatusEquals="Completed",
        SortBy="Name",
        SortOrder="Descending",
        PaginationConfig={"PageSize": 2},
    )
    found = [[job["ProcessingJobName"] for job in page["ProcessingJobSummaries"]] for page in pages]
    assert found == [[f"{stem}-4", f"{stem}-3"], [f"{stem}-2", f"{stem}-1"], [f"{stem}-0"]]
    assert not jobs.sm.list_processing_jobs(NameContains=stem, StatusEquals="Failed")["ProcessingJobSummaries"]
    assert not jobs.sm.list_training_jobs(NameContains=stem)["TrainingJobSummaries"]


def test_models_and_configurations_are_described_listed_and_deleted(jobs: Service) -> None:
    config = jobs.configure(name("Shown"), model_text="m")
    model = jobs.sm.describe_model(ModelName=config)
    described = jobs.sm.describe_endpoint_config(EndpointConfigName=config)
    assert model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["CompressionType"] == "None"
    assert described["ProductionVariants"][0]["ModelName"] == config
    assert [m["ModelName"] for m in jobs.sm.list_models(NameContains=config)["Models"]] == [config]
    assert len(jobs.sm.list_endpoint_configs(NameContains=config)["EndpointConfigs"]) == 1
    jobs.sm.delete_endpoint_config(EndpointConfigName=config)
    jobs.sm.delete_model(ModelName=config)
    assert refused(jobs.sm.describe_model, ModelName=config)[0] == "ValidationException"
