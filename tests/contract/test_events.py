"""The samples in ``events/`` agree with the models, with the schemas, with the template's rules, and with the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel

from ekiden.contracts.events import EVENTS, SOURCE, DeadLetter, DetailType, Envelope, ObjectCreated, ScorePairs
from ekiden.contracts.job_events import KIND_OF_DETAIL_TYPE, jobs_of
from ekiden.domain import naming
from ekiden.domain.model import Failure, JobKind, Stage
from ekiden.domain.transitions import JobStatus
from tests.fakes import World
from tests.fakes.functions import FUNCTIONS, ROOT
from tests.fakes.io import rate_by_length
from tests.fakes.template import resources, template
from tests.fakes.world import BUCKET, FUNCTION_OF

EVENTS_FOLDER = ROOT / "events"
BUS_SAMPLES = sorted(EVENTS_FOLDER.glob("[ae]*.*/*.json"))
LAMBDA_SAMPLES = sorted(EVENTS_FOLDER.glob("lambda/*/*.json"))
SCHEMAS = ROOT / "docs" / "schemas"


def read(path: Path | str) -> Any:
    return json.loads((EVENTS_FOLDER / path).read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(EVENTS_FOLDER))


# Samples and models


def test_there_is_one_sample_per_event_and_message() -> None:
    ours = {path.name.removesuffix(".v1.json") for path in (EVENTS_FOLDER / SOURCE).iterdir()}
    assert ours == set(DetailType) == set(EVENTS)
    foreign = {path.name.removesuffix(".v1.json") for path in (EVENTS_FOLDER / "aws.sagemaker").iterdir()}
    assert foreign == {detail_type.replace(" ", "") for detail_type in KIND_OF_DETAIL_TYPE}
    assert {path.name for path in (EVENTS_FOLDER / "messages").iterdir()} == {
        "ScorePairs.v1.json",
        "DeadLetter.v1.json",
    }


@pytest.mark.parametrize("path", BUS_SAMPLES, ids=name_of)
def test_a_sample_is_an_event_in_the_place_that_its_source_and_type_name(path: Path) -> None:
    sample = read(path)
    envelope = Envelope.model_validate(sample)
    assert path.parent.name == envelope.source
    assert path.name == f"{envelope.detail_type.replace(' ', '')}.v1.json"
    assert set(sample) == {
        *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
    }


@pytest.mark.parametrize("kind", list(DetailType))
def test_a_sample_of_ours_is_what_its_model_and_its_schema_say_and_nothing_else(kind: DetailType) -> None:
    detail = read(f"{SOURCE}/{kind}.v1.json")["detail"]

    model = EVENTS[kind].model_validate(detail)

    assert _names(model) == _keys(detail), "a producer sends what the model knows, and no more"
    schema = json.loads((SCHEMAS / "events" / f"{kind}.v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(detail)
    assert detail["meta"]["schema_version"] == 1


def test_consumers_ignore_what_a_later_version_adds() -> None:
    for kind in DetailType:
        detail = read(f"{SOURCE}/{kind}.v1.json")["detail"]
        detail["new"], detail["data"]["new"], detail["meta"]["new"] = 1, 2, 3
        EVENTS[kind].model_validate(detail)


def test_messages_are_what_their_models_say() -> None:
    for model in (ScorePairs, DeadLetter):
        sample = read(f"messages/{model.__name__}.v1.json")
        assert _keys(sample) == _names(model.model_validate(sample))
        schema = json.loads((SCHEMAS / "messages" / f"{model.__name__}.v1.schema.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(sample)


def test_job_samples_name_the_jobs_of_the_sample_run() -> None:
    run_id = read(f"{SOURCE}/StageReady.v1.json")["detail"]["meta"]["run_id"]
    found = {
        ref
        for path in sorted((EVENTS_FOLDER / "aws.sagemaker").iterdir())
        for ref in jobs_of(Envelope.model_validate(read(path)))
    }
    assert {ref.name for ref in found if ref.kind is not JobKind.ENDPOINT} == {
        naming.job_name(run_id, Stage.PROCESS, 1),
        naming.job_name(run_id, Stage.TRAIN, 1),
    }
    ObjectCreated.model_validate(read("aws.s3/ObjectCreated.v1.json")["detail"])


def test_the_samples_are_what_the_code_sends() -> None:
    """Runs that succeed, fail and are cancelled, and two score requests, send events with the samples' very fields."""
    world = World()
    world.endpoints.models["movielens"] = rate_by_length
    run_id = world.submit()
    for stage in Stage:
        world.succeed(run_id, stage)
    failed = world.submit(name="failed")
    job = world.reach(failed, Stage.EXPORT)
    world.jobs.end(job, JobStatus.FAILED, Failure("EMPTY_GRAPH", "no edges"))
    world.job_event(job, kind="Processing")
    cancelled = world.submit(name="cancelled")
    world.reach(cancelled, Stage.EXPORT)
    world.parts.cancel_run(cancelled, reason="", actor="test")
    world.parts.observe_job(cancelled, Stage.EXPORT, 1, actor="reconciler")
    for key, content in (("uploads/a.csv", b"source,target\nu1,m1\n"), ("uploads/b.csv", b"source,target\n")):
        world.objects.put(BUCKET, key, content, "text/csv")
        request = read("lambda/enqueue_scores/post-scores.json")
        body = {"endpoint": "movielens", "pairs_uri": f"s3://{BUCKET}/{key}"}
        reply = world.call("enqueue_scores", request | {"body": json.dumps(body)})
        world.parts.split_scores(json.loads(reply["body"])["request_id"])
    messages = {str(n): ScorePairs.model_validate_json(b) for n, b in enumerate(world.score_queue.bodies)}
    assert world.parts.score_parts(messages) == {}

    sent = {item.detail_type: json.loads(item.detail) for item in world.ledger.outbox + world.scores.outbox}

    assert set(sent) == set(DetailType)
    for kind, detail in sent.items():
        assert _keys(detail) == _keys(read(f"{SOURCE}/{kind}.v1.json")["detail"]), kind
    assert _keys(json.loads(world.score_queue.bodies[0])) == _keys(read("messages/ScorePairs.v1.json"))


# Samples and rules


def rules() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, bus and pattern of each rule."""
    for name, properties in resources("AWS::Events::Rule").items():
        bus = "ekiden" if "EventBusName" in properties else "default"
        yield name, bus, properties["EventPattern"]


def matches(pattern: Any, value: Any) -> bool:
    """EventBridge's matching, as far as the template uses it: exact values, prefixes, nested fields."""
    if isinstance(pattern, dict) and set(pattern) == {"Ref"}:
        default = template()["Parameters"][pattern["Ref"]]["Default"]
        return value in default.split(",")
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(matches(p, value.get(name)) for name, p in pattern.items())
    assert isinstance(pattern, list)
    return any(_one(element, value) for element in pattern)


def _one(element: Any, value: Any) -> bool:
    if isinstance(element, dict) and set(element) == {"prefix"}:
        return isinstance(value, str) and value.startswith(element["prefix"])
    if isinstance(element, dict) and set(element) == {"Ref"}:
        return bool(value == {"DataBucket": BUCKET}[element["Ref"]])
    assert not isinstance(element, dict), f"teach this test {element}"
    return bool(element == value)


def wakes(sample: dict[str, Any]) -> list[str]:
    bus = "ekiden" if sample["source"].startswith("ekiden.ledger") else "default"
    return sorted(name for name, of, pattern in rules() if of == bus and matches(pattern, sample))


EXPECTED = {
    "aws.s3/ObjectCreated.v1.json": ["SpecUploadsRule"],
    "aws.sagemaker/SageMakerEndpointStateChange.v1.json": ["JobEventsRule"],
    "aws.sagemaker/SageMakerProcessingJobStateChange.v1.json": ["JobEventsRule"],
    "aws.sagemaker/SageMakerTrainingJobStateChange.v1.json": ["JobEventsRule"],
    "aws.sagemaker/SageMakerHyperParameterTuningJobStateChange.v1.json": ["JobEventsRule"],
    "ekiden.ledger/StageReady.v1.json": ["TrainWorkRule"],
    "ekiden.ledger/ScoresRequested.v1.json": ["ScoresRequestedRule"],
}


@pytest.mark.parametrize("path", BUS_SAMPLES, ids=name_of)
def test_a_sample_wakes_exactly_the_rules_it_is_meant_for(path: Path) -> None:
    """Facts wake nothing of ours: no event can lead back to the function that caused it."""
    assert wakes(read(path)) == EXPECTED.get(name_of(path), [])


@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_wakes_its_own_function_only(stage: Stage) -> None:
    sample = read(f"{SOURCE}/StageReady.v1.json")
    sample["detail"]["data"]["stage"] = stage.value
    assert wakes(sample) == [f"{stage.capitalize()}WorkRule"]


def test_every_rule_has_a_sample() -> None:
    stages = [f"{stage.capitalize()}WorkRule" for stage in Stage]
    pairs = [sample for path in LAMBDA_SAMPLES if "pairs-uploaded" in path.name for sample in _bodies(read(path))]
    covered = {name for names in EXPECTED.values() for name in names} | set(stages)
    covered |= {name for sample in pairs for name in wakes(sample)}
    assert covered == {name for name, _, _ in rules()}


def test_the_local_job_services_events_wake_the_same_rule_where_its_source_is_allowed() -> None:
    sample = read("ekiden.local/SageMakerTrainingJobStateChange.v1.json")
    assert wakes(sample) == [], "on AWS nobody but AWS wakes the pipeline"
    assert wakes(sample | {"source": "aws.sagemaker"}) == ["JobEventsRule"]
    assert "ekiden.local" in (ROOT / "samconfig.toml").read_text()


# Events for the functions


def test_every_function_has_a_sample_to_be_invoked_with() -> None:
    assert {path.parent.name for path in LAMBDA_SAMPLES} == set(FUNCTIONS)


@pytest.mark.parametrize("path", LAMBDA_SAMPLES, ids=name_of)
def test_a_function_answers_its_sample(path: Path) -> None:
    world = World()
    world.jobs.serve("movielens")

    answer = world.call(path.parent.name, read(path))

    if "statusCode" in answer:
        assert answer["statusCode"] in {200, 202, 404}
        json.loads(answer["body"])
    elif path.parent.name == "reconcile_jobs":
        assert answer["looked_at"] == 0
    else:
        assert answer == {"batchItemFailures": []}
    if "malformed" not in path.name:
        codes = {json.loads(body)["error"]["code"] for body in world.dead_letters.bodies}
        assert "MALFORMED" not in codes
        assert "UNKNOWN_EVENT" not in codes


@pytest.mark.parametrize("stage", list(Stage))
def test_a_stage_functions_sample_starts_the_stage_of_the_sample_run(stage: Stage) -> None:
    sample = read(f"lambda/{FUNCTION_OF[stage]}/stage-ready.json")
    run_id = json.loads(sample["Records"][0]["body"])["detail"]["meta"]["run_id"]
    world = World(randomness=_SampleRun())
    assert world.submit() == run_id
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        world.succeed(run_id, earlier)

    world.call(FUNCTION_OF[stage], sample)

    assert world.run(run_id).stage(stage).status == "RUNNING"


def test_the_training_sample_ends_the_training_of_the_sample_run() -> None:
    world = World(randomness=_SampleRun())
    run_id = world.submit()
    world.jobs.end(world.reach(run_id, Stage.TRAIN), JobStatus.SUCCEEDED)
    world.call("record_job_state", read("lambda/record_job_state/training-completed.json"))
    assert world.run(run_id).stage(Stage.TRAIN).status == "SUCCEEDED"


class _SampleRun:
    """The chance by which the sample run got its id."""

    def entropy(self, count: int) -> bytes:
        return b"abcd"[:count]

    def jitter(self) -> float:
        return 0.5


def test_http_samples_have_routes_of_the_template() -> None:
    routes = {properties["RouteKey"] for properties in resources("AWS::ApiGatewayV2::Route").values()}
    samples = {read(path)["routeKey"] for path in LAMBDA_SAMPLES if "routeKey" in read(path)}
    assert samples == routes


def test_queue_samples_come_from_the_queue_of_their_function() -> None:
    functions = resources("AWS::Serverless::Function")
    for path in LAMBDA_SAMPLES:
        for record in read(path).get("Records", []):
            if record.get("eventSource") != "aws:sqs":
                continue
            logical_id = "".join(word.capitalize() for word in path.parent.name.split("_"))
            queue = record["eventSourceARN"].split(":")[-1].split("-")[1]
            assert queue in set(functions[logical_id]["Events"])


def test_the_stream_sample_passes_the_mappings_filter() -> None:
    (mapping,) = resources("AWS::Serverless::Function")["PublishLedger"]["Events"].values()
    (pattern,) = mapping["Properties"]["FilterCriteria"]["Filters"]
    for record in read("lambda/publish_ledger/outbox-inserted.json")["Records"]:
        assert matches(json.loads(pattern["Pattern"]), record)


@pytest.mark.parametrize("path", sorted(EVENTS_FOLDER.rglob("*.json")), ids=name_of)
def test_samples_name_no_account_but_the_local_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(?<![0-9a-f-])\d{12}(?![0-9a-f])", text)) <= {"000000000000"}


def _bodies(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(record["body"]) for record in event["Records"]]


def _names(model: BaseModel) -> set[str]:
    return _keys(model.model_dump(mode="json"))


def _keys(document: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in document.items():
        found.add(prefix + name)
        if isinstance(value, dict) and name not in {"attributes"}:
            found |= _keys(value, f"{prefix}{name}.")
    return found
