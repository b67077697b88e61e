"""The HTTP front: an API Gateway event (payload format 2.0) in, JSON out, errors by kind."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from ekiden.contracts.api import MAX_BODY_BYTES, ApiError, ApiFault, ErrorBody
from ekiden.contracts.base import shorten
from ekiden.errors import Conflict, ContractViolation, NotFound, Permanent, PipelineError
from ekiden.runtime.observability import logger

MAX_DEPTH = 12

E = TypeVar("E", bound=StrEnum)

Reply = dict[str, Any]


def answer(handle: Callable[[], tuple[int, BaseModel]]) -> Reply:
    """What ``handle`` gives as an API Gateway answer; its errors as 4xx or 503, the unforeseen as 500."""
    try:
        status, body = handle()
        return _reply(status, body)
    except PipelineError as error:
        return _reply(_status_of(error), _error_body(error))
    except Exception:  # noqa: BLE001  a caller gets JSON whatever happened, the log gets the trace
        logger.exception("unforeseen error")
        unforeseen = ApiError(code="INTERNAL_ERROR", message="something broke on our side; the log has details")
        return _reply(500, ErrorBody(error=unforeseen))


def is_http(event: Mapping[str, Any]) -> bool:
    """Whether the event came over HTTP rather than from a queue."""
    return "requestContext" in event


def caller(event: Mapping[str, Any]) -> str:
    """Who calls: the signer's ARN."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    return str((authorizer.get("iam") or {}).get("userArn") or "http")


def json_body(event: Mapping[str, Any]) -> dict[str, Any]:
    """The body as plain data.

    Raises:
        ContractViolation: too large, no JSON object, nested too deep, a duplicate key, NaN or infinity.
    """
    text = event.get("body") or ""
    try:
        raw = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except ValueError:
        raise ContractViolation("the body is neither UTF-8 nor base64", code="INVALID_JSON") from None
    if len(raw) > MAX_BODY_BYTES:
        raise ContractViolation(
            f"the body has {len(raw):,} bytes, at most {MAX_BODY_BYTES:,} are taken; put pairs into a file in S3",
            code="BODY_TOO_LARGE",
        )
    try:
        body = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        message = error.args[0] if isinstance(error, _NotPlain) else "the body is not JSON"
        raise ContractViolation(message, code="INVALID_JSON") from None
    if not isinstance(body, dict):
        raise ContractViolation("the body must be a JSON object", code="INVALID_JSON")
    if _depth(body) > MAX_DEPTH:
        raise ContractViolation(f"the body is nested more than {MAX_DEPTH} deep", code="INVALID_JSON")
    return body


def query_text(event: Mapping[str, Any], name: str) -> str | None:
    """A query parameter as it came."""
    return (event.get("queryStringParameters") or {}).get(name)


def query_integer(event: Mapping[str, Any], name: str, maximum: int) -> int | None:
    """A whole number between 1 and ``maximum`` from the query string; ``None`` if it is not given.

    Raises:
        ContractViolation: it is none.
    """
    text = query_text(event, name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= maximum:
        raise ContractViolation(f"{name} must be a whole number from 1 to {maximum}", code="INVALID_QUERY")
    return int(text)


def query_choice(event: Mapping[str, Any], name: str, choices: type[E]) -> E | None:
    """One of an enumeration's values from the query string; ``None`` if it is not given.

    Raises:
        ContractViolation: it is none of them.
    """
    text = query_text(event, name)
    if text is None:
        return None
    try:
        return choices(text)
    except ValueError:
        raise ContractViolation(
            f"{name} must be one of {', '.join(choices)}, found {shorten(text)}", code="INVALID_QUERY"
        ) from None


class _NotPlain(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _NotPlain("a key stands twice in the same object")
    return result


def _no_constant(name: str) -> None:
    raise _NotPlain(f"{name} is not a JSON number")


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _status_of(error: PipelineError) -> int:
    match error:
        case NotFound():
            return 404
        case Conflict():
            return 409
        case Permanent():
            return 413 if error.code == "BODY_TOO_LARGE" else 400
        case _:
            return 503


def _error_body(error: PipelineError) -> ErrorBody:
    faults = [ApiFault(path=path, message=message) for path, message in getattr(error, "faults", ())]
    return ErrorBody(error=ApiError(code=error.code, message=error.message, faults=faults))


def _reply(status: int, body: BaseModel) -> Reply:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": body.model_dump_json(),
    }
