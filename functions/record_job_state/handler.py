"""Reacts to a job-state event: makes the ledger know what became of the job. The event only wakes."""

from __future__ import annotations

from typing import Any

from ekiden.contracts.job_events import jobs_of
from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import Response


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Response:
    """Lambda's entry point."""
    parts = parts or container()
    observe = parts.observe_job
    return parts.consumer.each_event(
        event, lambda envelope: observe.woken_by(jobs_of(envelope), actor=envelope.id or envelope.source)
    )
