"""Reacts to ``POST /redrive``: makes parked messages lie where they came from again, and puts down who did so."""

from __future__ import annotations

from typing import Any

from ekiden.contracts.api import RedriveMessages, RedriveReport
from ekiden.runtime.container import Container, container
from ekiden.runtime.http import Reply, answer, caller, json_body
from ekiden.runtime.observability import count, logger, metrics
from ekiden.runtime.queue import parse

SECONDS = 15
"""For one call. The API and the function give up after 30 s; a caller with more to redrive calls again."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Reply:
    """Lambda's entry point."""
    parts = parts or container()

    def redrive() -> tuple[int, RedriveReport]:
        request = parse(RedriveMessages, json_body(event))
        actor = caller(event)
        report = parts.redrive(
            request.queue, reason=request.reason, actor=actor, before=request.before, seconds=SECONDS
        )
        logger.info("redriven", extra={"actor": actor, "why": request.reason, **report.model_dump(mode="json")})
        count("MessagesRedriven", sum(queue.redriven for queue in report.queues))
        metrics.flush_metrics()
        return 200, report

    return answer(redrive)
