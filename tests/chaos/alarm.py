"""Somebody whom the alarm of the dead-letter queues wakes, and who then says ``ekiden redrive``.

A message that five receives did not get through is parked, and an alarm says so: in a storm that kills whoever takes
it, and half of the time whatever it needs, some are. What it is about waits until it is sent again.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from ekiden_local.deploy import client
from ekiden_local.state import Cloud

LIMIT = 120.0
"""Seconds that a redrive may take."""


@dataclass
class Operator(threading.Thread):
    """Looks at the dead-letter queues every ``pause`` seconds until ``over``. ``env`` is the environment of the CLI."""

    cloud: Cloud
    env: dict[str, str]
    pause: float
    over: threading.Event
    redriven: int = 0
    """Messages sent again."""

    def __post_init__(self) -> None:
        super().__init__(name="operator", daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Look, and redrive what lies there."""
        while not self.over.wait(self.pause):
            # The cloud may be busy, or its worker be killed: the alarm stays, and so it is done again.
            with contextlib.suppress(ClientError, BotoCoreError, subprocess.TimeoutExpired, ValueError, KeyError):
                if parked(self.cloud):
                    self._redrive()

    def _redrive(self) -> None:
        command = [sys.executable, "-m", "ekiden_cli", "redrive", "--reason", "the alarm rang", "--json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=LIMIT, check=False)
        self.redriven += sum(queue["redriven"] for queue in json.loads(done.stdout)["queues"])


def parked(cloud: Cloud) -> int:
    """Messages in all dead-letter queues."""
    sqs = client("sqs", cloud.endpoint_url)
    queues = [url for url in sqs.list_queues()["QueueUrls"] if "Dlq" in url]
    name = "ApproximateNumberOfMessages"
    return sum(int(sqs.get_queue_attributes(QueueUrl=u, AttributeNames=[name])["Attributes"][name]) for u in queues)
