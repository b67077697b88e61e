"""Reacts to a job-state event: makes the ledger know what became of the job. The event only wakes."""

from __future__ import annotations

from typing import Any

from ekiden.contracts.events import Envelope
from ekiden.contracts.job_events import jobs_of, says_it_runs
from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import Response


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Response:
    """Lambda's entry point."""
    parts = parts or container()

    def wake(envelope: Envelope) -> None:
        parts.observe_job.woken_by(
            jobs_of(envelope), running=says_it_runs(envelope), actor=envelope.id or envelope.source
        )

    return parts.consumer.each_event(event, wake)
