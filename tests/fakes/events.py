"""Events as Lambda gets them, made to measure; the samples that ship are in ``events/``."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

SAMPLE_SPEC: dict[str, Any] = {
    "version": 1,
    "name": "movielens",
    "graph": {"source": "s3://ekiden-data/graphs/movielens-0a1b2c3d/"},
    "targets": [{"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}],
    "features": [{"node": "user", "property": "age", "type": "numerical"}],
    "model": {"hyperparameters": {"num-hidden": 32, "lr": 0.01, "enable-early-stop": True}},
}


def bus_event(source: str, detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    """EventBridge's envelope."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": detail_type,
        "source": source,
        "account": "000000000000",
        "time": "2026-11-20T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }


def sqs_event(*bodies: dict[str, Any] | str) -> dict[str, Any]:
    """A batch of messages; their ids are ``message-0`` and so on."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"handle-{number}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795176000000"},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:work",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def failed(*numbers: int) -> dict[str, list[dict[str, str]]]:
    """The partial-batch response that gives these messages back."""
    return {"batchItemFailures": [{"itemIdentifier": f"message-{number}"} for number in numbers]}


def http_event(
    route: str,
    body: Any = None,
    *,
    path: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    raw: str | None = None,
) -> dict[str, Any]:
    """An HTTP API event, payload format 2.0."""
    method, _, resource = route.partition(" ")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": resource,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {
            "accountId": "000000000000",
            "http": {"method": method, "path": resource, "sourceIp": "127.0.0.1"},
            "authorizer": {"iam": {"userArn": "arn:aws:iam::000000000000:user/ada"}},
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }
    if body is not None or raw is not None:
        event["body"] = raw if raw is not None else json.dumps(body)
    if path:
        event["pathParameters"] = path
    if query:
        event["queryStringParameters"] = query
    return event


def lambda_context(function: str) -> SimpleNamespace:
    """What Lambda tells a function about itself."""
    return SimpleNamespace(
        function_name=f"ekiden-{function.replace('_', '-')}",
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:ekiden-{function.replace('_', '-')}",
        aws_request_id="0f6a9cd4-5b8d-4b86-9f2f-000000000000",
    )
