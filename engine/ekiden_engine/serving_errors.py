"""What a caller is told when a request cannot be answered."""

from __future__ import annotations


class BadRequest(Exception):
    """The caller's fault: `code` is UPPER_SNAKE, the message says where and what to do."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        """`status`: of the HTTP answer."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def invalid(path: str, message: str) -> BadRequest:
    """INVALID_PAYLOAD at `path` of the JSON document."""
    return BadRequest("INVALID_PAYLOAD", f"{path}: {message}")
