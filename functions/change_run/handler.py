"""Reacts to an operator: ``POST /runs/{run_id}/cancel`` makes a run end, ``…/retry`` makes it go on."""

from __future__ import annotations

from typing import Any

from ekiden.contracts.api import CancelRun, RetryRun, RunChanged
from ekiden.domain.model import RunStatus
from ekiden.runtime.container import Container, container
from ekiden.runtime.http import Reply, answer, caller, json_body
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import parse


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Reply:
    """Lambda's entry point."""
    parts = parts or container()
    run_id = event["pathParameters"]["run_id"]

    def cancel() -> tuple[int, RunChanged]:
        request = parse(CancelRun, json_body(event))
        status = parts.cancel_run(run_id, reason=request.reason, actor=caller(event))
        return 202, RunChanged(run_id=run_id, status=status)

    def retry() -> tuple[int, RunChanged]:
        request = parse(RetryRun, json_body(event))
        stage = parts.retry_run(run_id, request.stage, reason=request.reason, actor=caller(event))
        return 202, RunChanged(run_id=run_id, status=RunStatus.RUNNING, stage=stage)

    return answer({"POST /runs/{run_id}/cancel": cancel, "POST /runs/{run_id}/retry": retry}[event["routeKey"]])
