"""Vendor errors, translated at the boundary by one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from ekiden.errors import ContractViolation, DependencyUnavailable, NotFound, Permanent, PipelineError

THROTTLED_OR_DOWN = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "ExpiredToken",  # the next invocation has fresh credentials
        "ExpiredTokenException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ResourceLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
        "429",
        "500",
        "502",
        "503",
        "504",
    }
)
MISSING = frozenset(
    {
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchVersion",
        "NotFound",
        "404",
        "ResourceNotFoundException",
        "ResourceNotFound",
    }
)
REFUSED = frozenset({"ValidationException", "ValidationError", "InvalidParameterValue", "InvalidArgument"})


def code_of(error: ClientError) -> str:
    """AWS's code of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """AWS's text of the error, at most 500 characters."""
    return str(error.response.get("Error", {}).get("Message", "") or error)[:500]


def translate(error: ClientError | BotoCoreError) -> PipelineError:
    """The vendor's error as one of ours: by code, never by message text."""
    if isinstance(error, ParamValidationError):
        return ContractViolation(str(error)[:500], code="INVALID_REQUEST")
    if not isinstance(error, ClientError):
        return DependencyUnavailable(str(error)[:500])
    code, message = code_of(error), message_of(error)
    if code in THROTTLED_OR_DOWN:
        return DependencyUnavailable(f"{code}: {message}")
    if code in MISSING:
        return NotFound(message, code=code)
    if code in REFUSED:
        return ContractViolation(message, code=code)
    return Permanent(message, code=code or "AWS_ERROR")


@contextmanager
def translated() -> Iterator[None]:
    """Vendor errors that leave the block leave it as ours."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise translate(error) from error
