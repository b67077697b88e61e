"""Reacts to ``ScorePairs`` commands: makes their results exist, with one endpoint call for the whole batch."""

from __future__ import annotations

from typing import Any

from ekiden.contracts.events import ScorePairs
from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import Response


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Response:
    """Lambda's entry point."""
    parts = parts or container()
    return parts.consumer.batch(event, ScorePairs, parts.score_parts)
