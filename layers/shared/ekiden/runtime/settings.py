"""Environment variables, typed: a misconfigured function fails at its first use with the variables' names."""

from __future__ import annotations

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
class JobSettings:
    """What functions need that start jobs. Functions that only describe them have neither."""

    engine_image_uri: str = ""
    job_role_arn: str = ""


T = TypeVar("T", LedgerSettings, BusSettings, ScoreQueueSettings, QueueSettings, JobSettings)


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
