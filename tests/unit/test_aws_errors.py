"""Vendor errors become ours by their codes, through one table."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.retries import standard

from ekiden.adapters import aws_errors
from ekiden.adapters.aws_errors import MISSING, REFUSED, THROTTLED_OR_DOWN, message_of, translate, translated
from ekiden.errors import ContractViolation, DependencyUnavailable, NotFound, Permanent, PipelineError, Transient


def client_error(code: str, message: str = "told") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


TABLE: list[tuple[str, type[PipelineError]]] = [
    *((code, DependencyUnavailable) for code in sorted(THROTTLED_OR_DOWN)),
    *((code, NotFound) for code in sorted(MISSING)),
    *((code, ContractViolation) for code in sorted(REFUSED)),
    ("AccessDeniedException", Permanent),
    ("403", Permanent),
    ("ResourceInUse", Permanent),
    ("SomethingNew", Permanent),
    ("", Permanent),
]


@pytest.mark.parametrize(("code", "kind"), TABLE)
def test_every_code_has_its_kind(code: str, kind: type[PipelineError]) -> None:
    error = translate(client_error(code))
    assert type(error) is kind
    assert "told" in error.message
    assert error.code


def test_no_code_stands_in_two_rows() -> None:
    assert not THROTTLED_OR_DOWN & MISSING
    assert not THROTTLED_OR_DOWN & REFUSED
    assert not MISSING & REFUSED


def test_whatever_botocore_itself_would_retry_is_transient_for_us_too() -> None:
    throttled: Any = standard.ThrottledRetryableChecker
    passing: Any = standard.TransientRetryableChecker
    codes = {*throttled._THROTTLED_ERROR_CODES, *passing._TRANSIENT_ERROR_CODES}
    codes |= {str(code) for code in passing._TRANSIENT_STATUS_CODES}
    assert codes - THROTTLED_OR_DOWN == set()


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        NoCredentialsError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_network_does_passes(error: BotoCoreError) -> None:
    assert isinstance(translate(error), Transient)


def test_a_request_that_cannot_even_be_sent_will_never_be() -> None:
    error = translate(ParamValidationError(report="Invalid length for parameter Key"))
    assert type(error) is ContractViolation
    assert error.code == "INVALID_REQUEST"


def test_errors_that_leave_the_block_are_ours_and_keep_their_cause() -> None:
    with pytest.raises(DependencyUnavailable, match="SlowDown: told") as caught, translated():
        raise client_error("SlowDown")
    assert isinstance(caught.value.__cause__, ClientError)
    with pytest.raises(KeyError), translated():
        raise KeyError("not of AWS")


def test_a_message_is_bounded() -> None:
    assert len(message_of(client_error("X", "m" * 5000))) == 500
    assert len(translate(client_error("SlowDown", "m" * 5000)).message) < 600
    assert aws_errors.code_of(ClientError({}, "Operation")) == ""
