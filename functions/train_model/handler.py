"""Reacts to ``StageReady(train)``: makes a job exist that brings about the trained model."""

from __future__ import annotations

from typing import Any

from ekiden.domain.model import Stage
from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import Response
from ekiden.runtime.stages import starter


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Response:
    """Lambda's entry point."""
    parts = parts or container()
    return parts.consumer.each_event(event, starter(Stage.TRAIN, parts))
