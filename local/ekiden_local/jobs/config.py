"""Settings of the job service, from the command line and the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .images import ImageTable


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be chosen. Durations are seconds.

    `endpoint_url` is where S3, EventBridge and CloudWatch Logs live. `max_jobs` jobs run at a time, the rest wait.
    `stop_grace` lies between SIGTERM and SIGKILL for jobs, `endpoint_stop_grace` for endpoints
    (120 and 30 on SageMaker).
    """

    home: Path
    images: ImageTable
    endpoint_url: str
    host: str = "127.0.0.1"
    port: int = 0
    region: str = "us-east-1"
    account: str = "000000000000"
    max_jobs: int = 2
    stop_grace: float = 120.0
    endpoint_stop_grace: float = 30.0
    health_timeout: float = 240.0
    invocation_timeout: float = 60.0
    keep_roots: bool = False
    stop_children_on_exit: bool = False

    def arn(self, resource: str, name: str) -> str:
        """ARN of a resource; SageMaker writes the name in lower case."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{resource}/{name.lower()}"
