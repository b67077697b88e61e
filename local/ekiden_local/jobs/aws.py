"""boto3 clients for the cloud beside this service: S3, EventBridge, CloudWatch Logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config


@dataclass(frozen=True, slots=True)
class Clients:
    """One client each, shared by all threads (boto3 clients are thread-safe)."""

    s3: Any
    events: Any
    logs: Any


def connect(endpoint_url: str, region: str) -> Clients:
    """Clients for the cloud at `endpoint_url`; without credentials in the environment, MiniStack's defaults."""
    session = boto3.Session(region_name=region)
    if session.get_credentials() is None:
        session = boto3.Session("test", "test", region_name=region)

    def client(name: Any, **options: Any) -> Any:
        return session.client(name, endpoint_url=endpoint_url, config=Config(connect_timeout=2, **options))

    # Events and logs have back-off of their own, which must not hold up a thread for long.
    once = {"total_max_attempts": 1}
    return Clients(
        s3=client(
            "s3",
            s3={"addressing_style": "path"},
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
        events=client("events", retries=once, read_timeout=10),
        logs=client("logs", retries=once, read_timeout=10),
    )
