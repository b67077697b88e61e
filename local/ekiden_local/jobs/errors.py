"""What a caller of the API sees (`ApiError`) and what ends a job (`JobFailure`)."""

from __future__ import annotations

ECHO_LIMIT = 200
"""At most this many characters of what a caller sent are repeated in an error text."""


class ApiError(Exception):
    """An error answer of the API: `code` becomes botocore's ``Error.Code``."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class JobFailure(Exception):
    """A job or a deployment cannot go on. `reason` becomes ``FailureReason``.

    The first word of `reason` is SageMaker's class of failure: ``ClientError`` (the request or its data is wrong),
    ``AlgorithmError`` (the user's program failed) or ``InternalServerError`` (worth another try).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Interrupted(Exception):
    """The work was told to stop (StopJob, or the service is going down)."""


def validation(message: str) -> ApiError:
    """The error that SageMaker gives for nearly everything that is wrong with a request."""
    return ApiError("ValidationException", message)


def clip(text: str, limit: int = ECHO_LIMIT) -> str:
    """Untrusted text, shortened so that it can be repeated in an error."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
