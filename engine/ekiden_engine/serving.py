"""What `/invocations` understands: Neptune ML's v1 payloads (JSON), and batches as CSV or as an Arrow stream.

docs/serving.md has every request with its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from ekiden_engine import serving_arrow, serving_csv
from ekiden_engine.errors import quoted
from ekiden_engine.serving_batches import Classes, Scores, score_nodes, score_pairs
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_links import likeliest_ends
from ekiden_engine.serving_model import Served, ServedModel
from ekiden_engine.serving_payload import parse_payload
from ekiden_engine.serving_routing import (
    batch_target,
    edge_target,
    link_target,
    named_target,
    node_targets,
    vector_targets,
)
from ekiden_engine.serving_values import edge_values, node_values
from ekiden_engine.serving_vectors import nearest

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"


def answer(model: ServedModel, content_type: str, body: bytes, attributes: str = "") -> tuple[str, bytes]:
    """The answer to one invocation: its content type (that of the request) and body.

    `attributes`: the header `X-Amzn-SageMaker-Custom-Attributes`. Raises `BadRequest`; rows of CSV and Arrow that are
    no ids do not raise, they come back as `invalid`.
    """
    media = content_type.partition(";")[0].strip().lower() or JSON
    handler = HANDLERS.get(media)
    if handler is None:
        known = ", ".join(HANDLERS)
        raise BadRequest("UNSUPPORTED_MEDIA_TYPE", f"Content-Type {quoted(media)} is not one of {known}", status=415)
    return media, handler(model, body, named_target(model, attributes))


def answer_json(model: ServedModel, body: bytes, allowed: tuple[Served, ...]) -> bytes:
    """Neptune ML's payload to its answer, with a status beside each value."""
    payload = parse_payload(body)
    kind, found = "edges", list[dict[str, Any]]()
    if payload.mode == "embed_knn":
        kind, found = "nodes", nearest(model, vector_targets(model, allowed), payload)
    elif payload.mode is not None:
        found = likeliest_ends(model, link_target(model, allowed, payload), payload)
    elif payload.nodes is not None:
        kind, found = "nodes", node_values(model, node_targets(model, allowed, payload), payload)
    else:
        found = edge_values(model, edge_target(model, allowed, payload), payload)
    return json.dumps({"output": {kind: found}}, allow_nan=False).encode()


def answer_csv(model: ServedModel, body: bytes, allowed: tuple[Served, ...]) -> bytes:
    """`source,target` lines, or for a node property one id per line, without header, to as many lines in the same
    order.

    A line is a record: quoting (RFC 4180) may hide commas and quotes, not line ends.
    """
    served = batch_target(model, allowed, nodes=None)
    found: Scores | Classes
    if served.edge is None:
        found = score_nodes(model, served, serving_csv.parse_nodes(body))
    else:
        found = score_pairs(model, served, *serving_csv.parse_pairs(body))
    return serving_csv.format_answer(found)


def answer_arrow(model: ServedModel, body: bytes, allowed: tuple[Served, ...]) -> bytes:
    """A stream of pairs (`source`, `target`, or the first two columns) or of nodes (`node`, or the only column) to one
    of values."""
    table = serving_arrow.read_table(body)
    of_nodes = serving_arrow.is_of_nodes(table)
    served = batch_target(model, allowed, nodes=of_nodes)
    found: Scores | Classes
    if of_nodes:
        found = score_nodes(model, served, serving_arrow.nodes_of(table))
    else:
        found = score_pairs(model, served, *serving_arrow.pairs_of(table))
    return serving_arrow.format_answer(found)


HANDLERS: Final[dict[str, Callable[[ServedModel, bytes, tuple[Served, ...]], bytes]]] = {
    JSON: answer_json,
    CSV: answer_csv,
    ARROW: answer_arrow,
}
