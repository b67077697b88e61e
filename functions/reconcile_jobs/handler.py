"""Reacts to the clock: makes true what lost events, crashes, due retries and passed deadlines left open."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import count, logger, metrics

BUDGET = 50
"""Calls to SageMaker in one sweep: less than one a second, whatever the number of runs."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> dict[str, Any]:
    """Lambda's entry point."""
    parts = parts or container()
    result = asdict(parts.reconcile_jobs(budget=BUDGET, actor="reconciler"))
    log = logger.error if result["troubles"] else logger.info
    log("swept", extra=result)
    count("ReconcilerSweeps")
    count("ReconcilerRepairs", result["moved"])
    count("ReconcilerTroubles", len(result["troubles"]))
    metrics.flush_metrics()
    return result
