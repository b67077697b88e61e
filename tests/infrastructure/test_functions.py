"""Functions, their code, their environment; the layer; the configurations of samconfig.toml."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from dataclasses import fields
from typing import Any

import pytest

from ekiden.application import redrive
from ekiden.runtime import settings
from tests.infrastructure.stack import PROJECT, text, transformed, written

FOLDERS = sorted(handler.parent.name for handler in (PROJECT / "functions").glob("*/handler.py"))
STARTS_JOBS = (settings.LedgerSettings, settings.JobSettings)
QUEUE_FED = (settings.QueueSettings, settings.WorkQueueSettings)

# What each function reads from its environment.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "submit_run": (settings.LedgerSettings, *QUEUE_FED),
    "export_graph": (*STARTS_JOBS, *QUEUE_FED),
    "process_data": (*STARTS_JOBS, *QUEUE_FED),
    "train_model": (*STARTS_JOBS, *QUEUE_FED),
    "deploy_endpoint": (*STARTS_JOBS, *QUEUE_FED),
    "record_job_state": (settings.LedgerSettings, *QUEUE_FED),
    "reconcile_jobs": STARTS_JOBS,
    "publish_ledger": (settings.BusSettings,),
    "enqueue_scores": (settings.LedgerSettings, settings.ScoreQueueSettings, *QUEUE_FED),
    "score_pairs": (settings.LedgerSettings, *QUEUE_FED),
    "show_status": (settings.LedgerSettings,),
    "change_run": (settings.LedgerSettings,),
    "redrive_messages": (settings.LedgerSettings, settings.BusSettings, settings.RedriveSettings),
}
EVERYWHERE = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
MEANING = {
    "LEDGER_TABLE": "${LedgerTable}",
    "DATA_BUCKET": "${DataBucket}",
    "EVENT_BUS_NAME": "${EventBus}",
    "SCORE_QUEUE_URL": "${Scores}",
    "ENGINE_IMAGE_URI": "${EngineImageUri}",
    "JOB_ROLE_ARN": "${JobRole.Arn}",
}


def test_there_is_one_function_per_folder_and_one_folder_per_function() -> None:
    declared = sorted(f.properties["CodeUri"] for f in written().of_type("AWS::Serverless::Function"))
    assert declared == [f"functions/{folder}/" for folder in FOLDERS]
    assert sorted(SETTINGS) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_functions_environment_is_what_it_reads_and_nothing_else(folder: str) -> None:
    expected = {field.name.upper() for group in SETTINGS[folder] for field in fields(group)}
    variables = transformed().function(folder).properties["Environment"]["Variables"]
    assert set(variables) == expected | EVERYWHERE
    for name in set(variables) & set(MEANING):
        assert text(variables[name]) == MEANING[name]


def test_a_queue_fed_function_knows_its_own_queue_and_parks_messages_beside_it() -> None:
    for _, function, source in transformed().mappings():
        if transformed().resources[source].type == "AWS::SQS::Queue":
            variables = function.properties["Environment"]["Variables"]
            assert variables["WORK_QUEUE_URL"] == {"Ref": source}
            assert variables["DEAD_LETTER_QUEUE_URL"] == {"Ref": f"{source}Dlq"}


def test_a_redrive_knows_every_dead_letter_queue_and_where_its_messages_came_from() -> None:
    # GIVEN the queues' dead-letter queues, and the one of the stream, which belongs to no queue
    queues = transformed().of_type("AWS::SQS::Queue")
    belonging = {q.id: text(q.properties["RedrivePolicy"]["deadLetterTargetArn"]) for q in queues if "Dlq" not in q.id}
    expected: dict[str, tuple[str, str | None]] = {"LedgerPublish": ("${LedgerPublishDlq}", None)}
    expected |= {name: (f"${{{dead[2:-5]}}}", f"${{{name}}}") for name, dead in belonging.items()}
    # WHEN the function reads its environment
    variables = transformed().function("redrive_messages").properties["Environment"]["Variables"]
    found = settings.RedriveSettings(text(variables["REDRIVE_QUEUES"])).ways()
    # THEN none is missing, and on AWS the variables fit into Lambda's 4 KB
    assert found == expected
    longest = f"https://sqs.ap-southeast-1.amazonaws.com/123456789012/{'q' * 80}"
    assert len(re.sub(r"\$\{\w+\}", longest, text(variables["REDRIVE_QUEUES"]))) < 3500


def test_a_redrive_ends_before_its_function_and_the_api_do() -> None:
    handler = (PROJECT / "functions/redrive_messages/handler.py").read_text(encoding="utf-8")
    seconds = int(re.findall(r"^SECONDS = (\d+)$", handler, re.MULTILINE)[0])
    timeout = transformed().function("redrive_messages").properties["Timeout"]
    assert seconds + 10 <= timeout <= 30
    assert seconds < redrive.HIDDEN_SECONDS, "no call sees a message twice"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_function_runs_python_3_11_with_the_shared_layer_and_a_kept_log(folder: str) -> None:
    function = transformed().function(folder)
    assert function.properties["Runtime"] == "python3.11"
    assert function.properties["Architectures"] == ["x86_64"]
    assert function.properties["Handler"] == "handler.handler"
    (layer,) = function.properties["Layers"]
    assert transformed().resources[layer["Ref"]].type == "AWS::Lambda::LayerVersion"
    group = transformed().resources[function.properties["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group.properties["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    name = f"${{AWS::StackName}}-{folder.replace('_', '-')}"
    assert text(function.properties["FunctionName"]) == name
    assert text(group.properties["LogGroupName"]) == f"/aws/lambda/{name}"


def test_a_function_behind_the_api_answers_before_the_api_gives_up() -> None:
    # HTTP APIs wait 30 s. EnqueueScores is slower only when it splits a file, which it does from its queue.
    for folder in ("submit_run", "show_status", "change_run", "redrive_messages"):
        assert transformed().function(folder).properties["Timeout"] <= 30


def test_a_score_worker_outlives_the_slowest_answer_of_an_endpoint() -> None:
    # A model has 60 s, the client waits 70: the function must see the time-out itself.
    assert transformed().function("score_pairs").properties["Timeout"] > 70


def test_the_layers_requirements_are_the_versions_that_tests_run_with() -> None:
    lines = (PROJECT / "layers/shared/requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert set(pins) == {"aws-lambda-powertools", "pydantic", "PyYAML"}
    assert pins == {name: importlib.metadata.version(name) for name in pins}


def test_functions_have_no_requirements_of_their_own() -> None:
    # Without them `sam build` only copies a function; what they share lies in the layer.
    assert list((PROJECT / "functions").glob("*/requirements.txt")) == []


@pytest.mark.parametrize("environment", ["local", "dev", "prod"])
def test_samconfig_sets_only_parameters_that_the_template_has(environment: str) -> None:
    config = tomllib.loads((PROJECT / "samconfig.toml").read_text(encoding="utf-8"))
    deploy = config[environment]["deploy"]["parameters"]
    parameters = written().document["Parameters"]
    for override in deploy["parameter_overrides"]:
        name, _, value = override.partition("=")
        assert name in parameters
        allowed = parameters[name].get("AllowedValues")
        assert allowed is None or value in map(str, allowed)
    assert deploy["capabilities"] == "CAPABILITY_IAM"


def test_only_the_local_configuration_trusts_local_events() -> None:
    config = tomllib.loads((PROJECT / "samconfig.toml").read_text(encoding="utf-8"))
    trusting = [
        name
        for name, environment in config.items()
        if name != "version"
        and "ekiden.local" in str(environment.get("deploy", {}).get("parameters", {}).get("parameter_overrides"))
    ]
    assert trusting == ["local"]


def test_the_outputs_are_the_ones_that_clients_rely_on() -> None:
    outputs = {"ApiId", "ApiUrl", "DataBucketName", "LedgerTableName", "EventBusName", "ScoreQueueUrl"}
    assert outputs <= set(written().document["Outputs"])
