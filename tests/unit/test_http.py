"""The HTTP front: what comes in is bounded, what goes out is JSON."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import pytest

from ekiden.contracts.api import MAX_BODY_BYTES, ErrorBody, RunAccepted
from ekiden.domain.model import RunStatus
from ekiden.errors import (
    AlreadyDone,
    Conflict,
    ContractViolation,
    DependencyUnavailable,
    LostRace,
    NotFound,
    Permanent,
    StageRejected,
)
from ekiden.runtime.http import answer, caller, is_http, json_body, query_choice, query_integer, query_text
from tests.fakes.events import http_event


def body(text: str) -> dict[str, Any]:
    return json_body({"body": text})


def refused(text: str) -> ContractViolation:
    with pytest.raises(ContractViolation) as error:
        body(text)
    return error.value


def test_an_object_is_read() -> None:
    assert body('{"a": [1, 2.5, "ü", null, true]}') == {"a": [1, 2.5, "ü", None, True]}
    encoded = base64.b64encode('{"a": "ü"}'.encode()).decode()
    assert json_body({"body": encoded, "isBase64Encoded": True}) == {"a": "ü"}


def test_a_body_up_to_the_limit_is_read_and_not_a_byte_more() -> None:
    frame = len('{"a": ""}')
    assert len(body('{"a": "%s"}' % ("x" * (MAX_BODY_BYTES - frame)))["a"]) == MAX_BODY_BYTES - frame
    error = refused('{"a": "%s"}' % ("x" * (MAX_BODY_BYTES - frame + 1)))
    assert error.code == "BODY_TOO_LARGE"
    assert "65,537 bytes" in error.message
    assert refused('{"a": "%s"}' % ("ü" * (MAX_BODY_BYTES // 2))).code == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("[1]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "a key stands twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": Infinity}', "Infinity is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": ' + "[" * 12 + "]" * 12 + "}", "nested more than 12 deep"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "not JSON|nested"),
        ("[" * 30_000, "not JSON"),
        ('{"a": ' + "1" * 5000 + "}", "not JSON"),
        ('{"a": 1} x', "not JSON"),
        ("\ud800", "neither UTF-8 nor base64"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    error = refused(text)
    assert error.code == "INVALID_JSON"
    assert any(part in error.message for part in message.split("|"))


def test_a_body_that_is_not_the_base64_it_says_is_refused() -> None:
    with pytest.raises(ContractViolation, match="neither UTF-8 nor base64"):
        json_body({"body": "%%%", "isBase64Encoded": True})
    with pytest.raises(ContractViolation, match="not JSON"):
        json_body({"body": base64.b64encode(b"\xff\xfe").decode(), "isBase64Encoded": True})
    with pytest.raises(ContractViolation, match="not JSON"):
        json_body({"body": None})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContractViolation("x", faults=(("a.b", "wrong"),)), 400),
        (ContractViolation("x", code="BODY_TOO_LARGE"), 413),
        (Permanent("x"), 400),
        (StageRejected("x"), 400),
        (NotFound("x"), 404),
        (Conflict("x"), 409),
        (LostRace("x"), 503),
        (DependencyUnavailable("x"), 503),
        (AlreadyDone("x"), 503),
        (KeyError("run_id"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_answered_as_json_with_its_status(error: Exception, status: int) -> None:
    def fail() -> Any:
        raise error

    reply = answer(fail)

    assert reply["statusCode"] == status
    assert reply["headers"]["content-type"] == "application/json"
    told = ErrorBody.model_validate_json(reply["body"]).error
    assert told.code
    if isinstance(error, KeyError):
        assert "run_id" not in reply["body"], "what broke inside is for the log"
    if getattr(error, "faults", ()):
        assert [(fault.path, fault.message) for fault in told.faults] == [("a.b", "wrong")]


def test_an_answer_is_json_and_nothing_is_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reply = answer(lambda: (202, RunAccepted(run_id="r", status=RunStatus.RUNNING)))
    assert (reply["statusCode"], json.loads(reply["body"])) == (202, {"run_id": "r", "status": "RUNNING"})


def test_the_caller_is_the_signer() -> None:
    assert caller(http_event("GET /runs")) == "arn:aws:iam::000000000000:user/ada"
    for context in ({}, {"authorizer": None}, {"authorizer": {"iam": None}}):
        assert caller({"requestContext": context}) == "http"
    assert caller({}) == "http"
    assert is_http(http_event("GET /runs"))
    assert not is_http({"Records": []})


@pytest.mark.parametrize("text", ["0", "-1", "101", "1.5", "x", "", "٣", " 5", "9" * 5000, "0000000100000000"])
def test_a_number_in_the_query_is_whole_and_bounded(text: str) -> None:
    with pytest.raises(ContractViolation, match="whole number from 1 to 100"):
        query_integer({"queryStringParameters": {"limit": text}}, "limit", 100)


def test_what_the_query_gives_is_taken() -> None:
    event = {"queryStringParameters": {"limit": "100", "status": "FAILED", "token": "[1, null]"}}
    assert query_integer(event, "limit", 100) == 100
    assert query_choice(event, "status", RunStatus) is RunStatus.FAILED
    assert query_text(event, "token") == "[1, null]"
    assert query_integer({}, "limit", 100) is None
    assert query_choice({"queryStringParameters": None}, "status", RunStatus) is None
    with pytest.raises(
        ContractViolation, match="one of RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED, found 'failed'"
    ):
        query_choice({"queryStringParameters": {"status": "failed"}}, "status", RunStatus)
