"""One logger and one set of metrics for all functions. Ids are logged, never payloads."""

from __future__ import annotations

import os

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "ekiden")

logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Ekiden", service=SERVICE)


def count(name: str, value: float = 1) -> None:
    """Count something that operators watch."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
