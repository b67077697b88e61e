"""The generated documents are current, valid, and say what the template and the handlers do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from ekiden.contracts.api import RunView, ScoresView, SubmitRun
from ekiden.contracts.spec import parse_spec
from tests.fakes import World
from tests.fakes.events import SAMPLE_SPEC, http_event
from tests.fakes.functions import ROOT
from tests.fakes.template import resources
from tools import export_schemas


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    return found


def test_the_committed_documents_are_current() -> None:
    assert export_schemas.stale() == [], "run `make schemas` and commit what it writes"


def test_the_api_has_the_templates_routes_and_all_of_them_are_signed() -> None:
    found = {f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods}
    routes = resources("AWS::ApiGatewayV2::Route").values()
    assert found == {route["RouteKey"] for route in routes}
    assert {route["AuthorizationType"] for route in routes} == {"AWS_IAM"}
    assert document()["security"] == [{"sigv4": []}]
    assert document()["components"]["securitySchemes"]["sigv4"]["x-amazon-apigateway-authtype"] == "awsSigv4"


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    schemas = document()["components"]["schemas"]
    references = set(_references(document()))
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "schemas").rglob("*.json")), ids=lambda path: path.name)
def test_every_schema_is_a_valid_one(path: Any) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_what_a_handler_answers_is_what_the_document_says() -> None:
    world = World()
    world.jobs.serve("movielens")
    run_id = world.submit()
    scores = http_event("POST /scores", {"endpoint": "movielens", "pairs": [["a", "b"]], "request_id": "s1"})
    events = [
        ("submit_run", http_event("POST /runs", {"spec": SAMPLE_SPEC})),
        ("submit_run", http_event("POST /runs", {"spec": {}})),
        ("submit_run", http_event("POST /runs", raw="x" * 70_000)),
        ("enqueue_scores", scores),
        ("enqueue_scores", http_event("POST /scores", {"endpoint": "nobody", "pairs": [["a", "b"]]})),
        ("show_status", http_event("GET /runs")),
        ("show_status", http_event("GET /runs", query={"limit": "0"})),
        ("show_status", http_event("GET /runs/{run_id}", path={"run_id": run_id})),
        ("show_status", http_event("GET /runs/{run_id}", path={"run_id": "nobody"})),
        ("show_status", http_event("GET /runs/{run_id}/logs", path={"run_id": run_id})),
        ("show_status", http_event("GET /scores/{request_id}", path={"request_id": "s1"})),
    ]
    for function, event in events:
        reply = world.call(function, event)
        method, _, path = event["routeKey"].partition(" ")
        told = document()["paths"][path][method.lower()]["responses"][str(reply["statusCode"])]
        schema = told["content"]["application/json"]["schema"] | {"components": document()["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(reply["body"]))


def test_a_published_request_body_is_taken() -> None:
    body = {"spec": SAMPLE_SPEC, "request_id": "r1"}
    schema = document()["components"]["schemas"]["SubmitRun"] | {"components": document()["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)
    assert parse_spec(SubmitRun.model_validate(body).spec).name == "movielens"


def test_the_shape_of_show_is_the_promised_one() -> None:
    """Others build on it: a change needs an entry in the changelog."""
    promised = {"run_id", "status", "stages", "evaluation", "artifacts", "error"}
    assert promised <= set(RunView.model_fields)
    assert {"messages", "pairs", "results", "status", "error"} <= set(ScoresView.model_fields)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
