"""Reacts to ``POST /runs`` or a spec uploaded to ``specs/``: makes a run exist, its first stage about to start."""

from __future__ import annotations

from typing import Any

from ekiden.application.uploads import read_uploaded_spec
from ekiden.contracts.api import RunAccepted, SubmitRun
from ekiden.contracts.events import Envelope, ObjectCreated
from ekiden.domain.model import RunStatus
from ekiden.runtime.container import Container, container
from ekiden.runtime.http import answer, caller, is_http, json_body
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import parse


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> dict[str, Any]:
    """Lambda's entry point."""
    parts = parts or container()
    if is_http(event):
        return answer(lambda: _over_http(event, parts))
    return dict(parts.consumer.each_event(event, lambda envelope: _uploaded(envelope, parts)))


def _over_http(event: dict[str, Any], parts: Container) -> tuple[int, RunAccepted]:
    request = parse(SubmitRun, json_body(event))
    run_id = parts.submit_run(request.spec, request_id=request.request_id, actor=caller(event))
    return 202, RunAccepted(run_id=run_id, status=RunStatus.RUNNING)


def _uploaded(envelope: Envelope, parts: Container) -> None:
    upload = parse(ObjectCreated, envelope.detail)
    document, request_id = read_uploaded_spec(parts.objects, upload)
    parts.submit_run(document, request_id=request_id, actor=f"s3:{upload.object.key}")
