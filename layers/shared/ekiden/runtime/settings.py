"""Environment variables, typed: a misconfigured function fails at its first use with the variables' names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from typing import TypeVar


class MisconfiguredFunction(Exception):
    """Environment variables that the function needs are missing."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """What every function needs that touches the ledger."""

    ledger_table: str
    data_bucket: str


@dataclass(frozen=True, slots=True)
class BusSettings:
    """The bus to publish on."""

    event_bus_name: str


@dataclass(frozen=True, slots=True)
class ScoreQueueSettings:
    """The queue that the score workers read."""

    score_queue_url: str


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Where a queue-fed function parks messages that can never succeed."""

    dead_letter_queue_url: str


@dataclass(frozen=True, slots=True)
class WorkQueueSettings:
    """The queue a function is fed from. Without it, what fails comes again when the queue says."""

    work_queue_url: str = ""


@dataclass(frozen=True, slots=True)
class RedriveSettings:
    """Every dead-letter queue, and where what lies in it came from."""

    redrive_queues: str
    """JSON: the queue's name → ``{"parked": URL, "work": URL}``. Without ``work`` it holds positions in the stream."""

    def ways(self) -> dict[str, tuple[str, str | None]]:
        """URLs of the dead-letter queue and of the queue it belongs to, by name.

        Raises:
            MisconfiguredFunction: the variable is not what it should be.
        """
        try:
            ways = {name: (urls["parked"], urls.get("work")) for name, urls in json.loads(self.redrive_queues).items()}
        except (ValueError, AttributeError, KeyError, TypeError):
            ways = {}
        if not ways or not all(isinstance(url, str) for pair in ways.values() for url in pair if url is not None):
            raise MisconfiguredFunction('REDRIVE_QUEUES must be JSON like {"Scores": {"parked": "URL", "work": "URL"}}')
        return ways


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What functions need that start jobs. Functions that only describe them have neither."""

    engine_image_uri: str = ""
    job_role_arn: str = ""


T = TypeVar(
    "T",
    LedgerSettings,
    BusSettings,
    ScoreQueueSettings,
    QueueSettings,
    WorkQueueSettings,
    RedriveSettings,
    JobSettings,
)


def read(kind: type[T]) -> T:
    """Settings of ``kind`` from the environment: field ``ledger_table`` is variable ``LEDGER_TABLE``.

    Raises:
        MisconfiguredFunction: names every variable that is missing and has no default.
    """
    found = {field.name: os.environ.get(field.name.upper(), field.default) for field in fields(kind)}
    missing = [name.upper() for name, value in found.items() if not isinstance(value, str)]
    if missing:
        raise MisconfiguredFunction(f"environment variables are missing: {', '.join(missing)}")
    return kind(**{name: str(value) for name, value in found.items()})
