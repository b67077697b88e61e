"""Errors of the command line: each says what happened, what to do next, and which exit code that is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes, part of the stable surface."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class CliError(Exception):
    """Ends a command: ``message`` is what happened, ``hint`` what to do next."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        exit_code: Exit = Exit.FAILED,
        code: str = "FAILED",
        faults: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.code = code
        self.faults = tuple(faults)

    def to_json(self) -> dict[str, Any]:
        """Return the form printed by ``--json``: the same shape as an error of the HTTP API."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            error["hint"] = self.hint
        if self.faults:
            error["faults"] = [{"path": path, "message": message} for path, message in self.faults]
        return {"error": error}


def usage(message: str, hint: str = "", code: str = "BAD_INPUT") -> CliError:
    """Return an error about what the user typed or the file they named (exit code 2)."""
    return CliError(message, hint=hint, exit_code=Exit.USAGE, code=code)
