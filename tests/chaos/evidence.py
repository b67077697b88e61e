"""What is kept of a storm that broke something: logs, the ledger, parked messages and the job service's records."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from ekiden_local.deploy import client
from ekiden_local.state import Cloud
from tests.chaos.lanes import Lane

FETCHED = 100
"""Messages read of each queue."""


def keep(cloud: Cloud, lanes: list[Lane], notes: Path, struck: list[str], folder: Path) -> None:
    """Copy what tells of the storm into ``folder``, before the cloud is stopped."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    home = Path(cloud.home)
    (folder / "kills.log").write_text("\n".join(struck))
    shutil.copytree(home / "logs", folder / "logs", dirs_exist_ok=True)
    shutil.copytree(notes, folder / "notes", dirs_exist_ok=True)
    for record in home.glob("jobs/*/*/*.json"):
        shutil.copy(record, folder / f"{record.parent.parent.name}-{record.parent.name}-{record.name}")
    for control in home.glob("jobs/jobs/*/*/control/*.json"):
        shutil.copy(control, folder / f"{control.parent.parent.name}-{control.name}")
    for lane in lanes:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(lane.folder / "refused.log", folder / f"{type(lane).__name__}-{lane.number}-refused.log")
    for part in (_ledger, _queues, _logs):
        with contextlib.suppress(ClientError, BotoCoreError):
            part(cloud, folder)


def _ledger(cloud: Cloud, folder: Path) -> None:
    pages = client("dynamodb", cloud.endpoint_url).get_paginator("scan").paginate(TableName=cloud.ledger_table)
    items = [item for page in pages for item in page["Items"]]
    (folder / "ledger.json").write_text(json.dumps(items, indent=1, default=str))


def _queues(cloud: Cloud, folder: Path) -> None:
    sqs = client("sqs", cloud.endpoint_url)
    told = {}
    for url in sqs.list_queues()["QueueUrls"]:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        messages: list[object] = []
        while "Dlq" in url and len(messages) < FETCHED:
            found = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], VisibilityTimeout=600
            ).get("Messages", [])
            if not found:
                break
            messages += found
        told[url] = {"attributes": attributes, "messages": messages}
    (folder / "queues.json").write_text(json.dumps(told, indent=1, default=str))


def _logs(cloud: Cloud, folder: Path) -> None:
    logs = client("logs", cloud.endpoint_url)
    for group in logs.describe_log_groups()["logGroups"]:
        name = str(group["logGroupName"])
        if not name.startswith("/aws/lambda/"):
            continue
        lines = []
        for stream in logs.describe_log_streams(logGroupName=name)["logStreams"]:
            found = logs.get_log_events(
                logGroupName=name, logStreamName=stream["logStreamName"], startFromHead=True, limit=10_000
            )
            lines += [(event["timestamp"], event["message"]) for event in found["events"]]
        text = "\n".join(f"{at} {message.rstrip()}" for at, message in sorted(lines))
        (folder / f"lambda-{name.rpartition('/')[2]}.log").write_text(text)
