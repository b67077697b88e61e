"""Answers ``GET`` requests: shows what the ledger knows. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from ekiden.domain.model import RunStatus, Stage
from ekiden.runtime.container import Container, container
from ekiden.runtime.http import Reply, answer, query_choice, query_integer, query_text
from ekiden.runtime.observability import logger


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> Reply:
    """Lambda's entry point."""
    show = (parts or container()).show_status
    path = event.get("pathParameters") or {}

    def runs() -> BaseModel:
        return show.runs(query_choice(event, "status", RunStatus), query_integer(event, "limit", 100) or 20)

    def run_logs() -> BaseModel:
        stage, token = query_choice(event, "stage", Stage), query_text(event, "next_token")
        return show.run_logs(path["run_id"], stage, token, query_integer(event, "tail", 1000))

    routes: dict[str, Callable[[], BaseModel]] = {
        "GET /runs": runs,
        "GET /runs/{run_id}": lambda: show.run(path["run_id"]),
        "GET /runs/{run_id}/history": lambda: show.history(path["run_id"]),
        "GET /runs/{run_id}/logs": run_logs,
        "GET /scores/{request_id}": lambda: show.score_request(path["request_id"]),
    }
    return answer(lambda: (200, routes[event["routeKey"]]()))
