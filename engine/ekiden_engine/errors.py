"""Errors that end a job, and the exit codes that tell the control plane whether a retry can help."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells the container platform (BSD `sysexits.h` numbers, where one fits)."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_DATA = 65
    TEMPORARY = 75


MAX_UNTRUSTED = 120
"""Characters of a user's value that an error may quote."""


def quoted(value: object) -> str:
    """Quote an untrusted value for an error message: one line, at most `MAX_UNTRUSTED` characters of it."""
    text = str(value)
    cut = text if len(text) <= MAX_UNTRUSTED else text[:MAX_UNTRUSTED] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut) + '"'


class EngineError(Exception):
    """A failure with a stable `code` (UPPER_SNAKE), a message for people, and the exit code of the process.

    The message says what is wrong, where (file, row, column), and what to do about it.
    """

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, code: str, message: str) -> None:
        """Keep `code` and `message`; `str(error)` is the message alone."""
        super().__init__(message)
        self.code = code
        self.message = message


class BadData(EngineError):
    """The user's graph, spec or artefact cannot be used: trying again cannot help."""

    exit_code = ExitCode.BAD_DATA


class Temporary(EngineError):
    """Something outside failed for now (disk, network): trying again may help."""

    exit_code = ExitCode.TEMPORARY


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine's memory or that of its GPU did not suffice; torch's own error is known by its name, so that
    nobody loads torch to ask."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
