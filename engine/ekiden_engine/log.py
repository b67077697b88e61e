"""Progress for people: one line each on standard output, which the platform ships to CloudWatch Logs."""

from __future__ import annotations


def log(message: str) -> None:
    """Print one line at once (containers buffer standard output when it is a pipe)."""
    print(message, flush=True)  # noqa: T201
