"""Reacts to ``POST /scores``, ``ScoresRequested`` or a pairs file uploaded to ``pairs/<endpoint>/``: makes a score
request exist, then its messages on the score queue."""

from __future__ import annotations

from typing import Any

from ekiden.application.uploads import uploaded_pairs
from ekiden.contracts.api import RequestScores, ScoresAccepted
from ekiden.contracts.events import Envelope, ObjectCreated, ScoresRequested
from ekiden.runtime.container import Container, container
from ekiden.runtime.http import answer, is_http, json_body
from ekiden.runtime.observability import logger
from ekiden.runtime.queue import one_of, parse


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> dict[str, Any]:
    """Lambda's entry point."""
    parts = parts or container()
    if is_http(event):
        return answer(lambda: (202, _accept(parse(RequestScores, json_body(event)), parts)))
    return dict(parts.consumer.each_event(event, lambda envelope: one_of(_ON, envelope)(envelope, parts)))


def _accept(request: RequestScores, parts: Container) -> ScoresAccepted:
    accepted = parts.accept_scores(request)
    return ScoresAccepted(request_id=accepted.request_id, status=accepted.status)


def _split(envelope: Envelope, parts: Container) -> None:
    parts.split_scores(parse(ScoresRequested, envelope.detail).data.request_id)


def _uploaded(envelope: Envelope, parts: Container) -> None:
    _accept(uploaded_pairs(parse(ObjectCreated, envelope.detail)), parts)


_ON = {"ScoresRequested": _split, "Object Created": _uploaded}
