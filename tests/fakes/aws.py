"""An AWS for tests, on moto or MiniStack, with resources as the template defines them."""

from __future__ import annotations

import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from ekiden.adapters.dynamodb_client import Table
from ekiden_local.state import ACCESS_KEY, REGION, SECRET_KEY
from tests.fakes.template import table_definition


@dataclass(frozen=True)
class Aws:
    """An AWS to put resources into."""

    endpoint_url: str | None
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: Any) -> Any:
        """A client that talks to it and to nothing else."""
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint_url,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                config=Config(retries={"mode": "standard", "total_max_attempts": 2}),
            )
        return self.clients[service]

    def ledger_table(self) -> Table:
        """A new table, defined as the template defines the ledger."""
        client, name = self.client("dynamodb"), f"ledger-{uuid.uuid4().hex[:12]}"
        client.create_table(TableName=name, **table_definition())
        return Table(client, name)

    def bucket(self) -> str:
        """A new bucket with versions, as the data bucket has."""
        client, name = self.client("s3"), f"bucket-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def queue(self) -> str:
        """The URL of a new queue."""
        return str(self.client("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex[:12]}")["QueueUrl"])


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
