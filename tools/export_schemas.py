"""Write what others build on from the contracts: JSON Schemas and the OpenAPI document.

python tools/export_schemas.py            writes docs/schemas/ and docs/openapi.json
python tools/export_schemas.py --check    only says whether they are current (exit code 1 if not)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ekiden.contracts import api, events
from ekiden.contracts.spec import PipelineSpec, spec_json_schema
from ekiden.domain.model import RunStatus, Stage

ROOT = Path(__file__).resolve().parents[1]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/components/schemas/{model}"
MESSAGES: tuple[type[BaseModel], ...] = (events.ScorePairs, events.DeadLetter)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route of the API."""

    route: str
    name: str
    summary: str
    answer: type[BaseModel]
    status: int = 200
    body: type[BaseModel] | None = None
    query: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: tuple[int, ...] = (400, 404)


PATH_PARAMETERS = {"run_id": "A run's id", "request_id": "A score request's id"}

OPERATIONS = (
    Operation(
        route="POST /runs",
        name="submitRun",
        summary="Start a run of a pipeline spec; the same request_id never starts a second one",
        body=api.SubmitRun,
        answer=api.RunAccepted,
        status=202,
        errors=(400, 409, 413),
    ),
    Operation(
        route="GET /runs",
        name="listRuns",
        summary="The newest runs, newest first",
        answer=api.RunList,
        query={
            "status": {"type": "string", "enum": [status.value for status in RunStatus]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        },
        errors=(400,),
    ),
    Operation(
        route="GET /runs/{run_id}",
        name="getRun",
        summary="A run with its stages, attempts, evaluation, artefacts and error",
        answer=api.RunView,
    ),
    Operation(
        route="GET /runs/{run_id}/logs",
        name="getRunLogs",
        summary="What the run's jobs wrote: page by page from the start, or the last lines",
        answer=api.LogPage,
        query={
            "stage": {"type": "string", "enum": [stage.value for stage in Stage]},
            "next_token": {"type": "string", "description": "From the page before; a page may be empty before the end"},
            "tail": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "Only the last lines"},
        },
    ),
    Operation(
        route="GET /runs/{run_id}/history",
        name="getRunHistory",
        summary="Who moved the run, when and why, operators' acts included; oldest first",
        answer=api.RunHistory,
        errors=(404,),
    ),
    Operation(
        route="POST /runs/{run_id}/cancel",
        name="cancelRun",
        summary="Cancel a run: nothing more is started for it, and its job is stopped; asking again changes nothing",
        body=api.CancelRun,
        answer=api.RunChanged,
        status=202,
    ),
    Operation(
        route="POST /runs/{run_id}/retry",
        name="retryRun",
        summary="Let an ended run go on at the stage where it ended, or at an earlier one",
        body=api.RetryRun,
        answer=api.RunChanged,
        status=202,
        errors=(400, 404, 409),
    ),
    Operation(
        route="POST /redrive",
        name="redriveMessages",
        summary="Send parked messages to their queues again: one call's worth of one dead-letter queue or of all",
        body=api.RedriveMessages,
        answer=api.RedriveReport,
    ),
    Operation(
        route="POST /scores",
        name="requestScores",
        summary="Score pairs against an endpoint, inline or from a CSV file in the data bucket",
        body=api.RequestScores,
        answer=api.ScoresAccepted,
        status=202,
        errors=(400, 404, 409, 413),
    ),
    Operation(
        route="GET /scores/{request_id}",
        name="getScores",
        summary="A score request and its progress",
        answer=api.ScoresView,
    ),
)

ERRORS = {
    400: "The request does not keep its contract; `faults` says where",
    403: "Not signed (SigV4), or not allowed; answered by API Gateway itself",
    404: "There is no such run, request, endpoint, queue or object",
    409: "`request_id` was used for something else, or the run cannot go on as asked",
    413: "The body is too large; put pairs into a file in S3",
    429: "Too many requests; answered by API Gateway itself",
    500: "Something broke on our side",
    503: "A service that Ekiden needs did not answer; try again",
}
BY_GATEWAY = frozenset({403, 429})
ALWAYS = (403, 429, 500, 503)


def generate() -> dict[Path, str]:
    """Every generated file's text, by its path."""
    schemas = ROOT / "docs" / "schemas"
    files: dict[Path, dict[str, Any]] = {
        schemas / "pipeline-spec.schema.json": spec_json_schema(),
        ROOT / "docs" / "openapi.json": openapi(),
    }
    for kind, model in events.EVENTS.items():
        files[schemas / "events" / f"{kind}.v{events.SCHEMA_VERSION}.schema.json"] = _schema(model)
    for model in MESSAGES:
        files[schemas / "messages" / f"{model.__name__}.v{events.SCHEMA_VERSION}.schema.json"] = _schema(model)
    return {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in files.items()}


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the HTTP API."""
    bodies = [operation.body for operation in OPERATIONS if operation.body]
    answers: list[type[BaseModel]] = [*(operation.answer for operation in OPERATIONS), api.ErrorBody]
    wanted: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(PipelineSpec, "validation")]
    wanted += [(model, "validation") for model in bodies]
    wanted += [(model, "serialization") for model in dict.fromkeys(answers)]
    _, definitions = models_json_schema(wanted, ref_template=REFERENCE)
    schemas: dict[str, Any] = definitions["$defs"]
    # The handler takes any object, so that it can tell every fault; callers should send a spec.
    schemas["SubmitRun"]["properties"]["spec"] = {"$ref": REFERENCE.format(model="PipelineSpec")}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        method, _, path = operation.route.partition(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ekiden",
            "version": "1",
            "summary": "A property graph in, predictions out",
            "description": "Every request is signed with AWS Signature Version 4, service `execute-api`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": DIALECT,
        "security": [{"sigv4": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4, service execute-api",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
            "schemas": schemas,
        },
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in operation.query.items()
    ]
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    described["responses"] = {
        str(operation.status): {
            "description": (operation.answer.__doc__ or "").split("\n")[0],
            "content": _content(operation.answer),
        }
    } | {str(status): _error(status) for status in sorted({*operation.errors, *ALWAYS})}
    return described


def _error(status: int) -> dict[str, Any]:
    if status in BY_GATEWAY:
        message = {"type": "object", "properties": {"message": {"type": "string"}}}
        return {"description": ERRORS[status], "content": {"application/json": {"schema": message}}}
    return {"description": ERRORS[status], "content": _content(api.ErrorBody)}


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": DIALECT} | model.model_json_schema()


def stale() -> list[Path]:
    """Generated files that are missing or not current, and files beside them that nothing generates."""
    files = generate()
    found = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    return found + [path for path in (ROOT / "docs" / "schemas").rglob("*.json") if path not in files]


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/schemas/ and docs/openapi.json from the contracts.")
    parser.add_argument("--check", action="store_true", help="only say whether they are current")
    options = parser.parse_args(arguments)
    if options.check:
        for path in stale():
            sys.stdout.write(f"not current: {path.relative_to(ROOT)}\n")
        return 1 if stale() else 0
    for path, text in generate().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
