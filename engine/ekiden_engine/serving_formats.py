"""What `/invocations` understands: Neptune ML's v1 edge payload (JSON), pairs as CSV, pairs as an Arrow
stream.

CSV and Arrow are parsed and written without a Python loop over rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ekiden_engine.errors import quoted
from ekiden_engine.evaluation import SCORED
from ekiden_engine.serving import ALL_STATUSES, INVALID, PairScorer, Scores

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
MAX_JSON_EDGES = 10_000
MAX_ARROW_ROWS = 2_000_000
SIGNIFICANT = 6
"""Digits of a score in CSV."""
SPELLINGS: Final = (("headNodeId", "tailNodeId"), ("source", "target"))
"""How a pair may be spelled in JSON: Neptune ML's way, and that of the pairs files."""


class BadRequest(Exception):
    """The caller's fault: `code` is UPPER_SNAKE, the message says where and what to do."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        """`status`: of the HTTP answer."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def answer(scorer: PairScorer, content_type: str, body: bytes) -> tuple[str, bytes]:
    """The answer to one invocation: its content type (that of the request) and body.

    Raises `BadRequest`; rows of CSV and Arrow that are no pairs do not raise, they come back as `invalid`.
    """
    media = content_type.partition(";")[0].strip().lower() or JSON
    handler = HANDLERS.get(media)
    if handler is None:
        known = ", ".join(HANDLERS)
        raise BadRequest("UNSUPPORTED_MEDIA_TYPE", f"Content-Type {quoted(media)} is not one of {known}", status=415)
    return media, handler(scorer, body)


def score_csv(scorer: PairScorer, body: bytes) -> bytes:
    """`source,target` lines without header to `score,status` lines, one per line, in the same order.

    A line is a record: quoting (RFC 4180) may hide commas and quotes, not line ends.
    """
    source, dest = parse_pairs(body)
    return format_scores(scorer.score(source, dest))


def parse_pairs(body: bytes) -> tuple[pa.Array, pa.Array]:
    """Source and target ids as large_binary arrays, one element per line; null where a line is no pair."""
    text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").removesuffix(b"\n")
    if not text and not body:
        empty = pa.array([], pa.large_binary())
        return empty, empty
    lines = pc.split_pattern(pa.array([text], pa.large_binary()), b"\n").flatten()
    cells = pc.split_pattern(lines, b",")
    first = cells.offsets.to_numpy()[:-1]
    is_pair = pc.list_value_length(cells).to_numpy() == 2
    # a null index takes a null; the index under the mask must still be in range
    source = cells.values.take(pa.array(first, mask=~is_pair))
    dest = cells.values.take(pa.array(np.where(is_pair, first + 1, 0), mask=~is_pair))
    if b'"' not in text:
        return source, dest
    hit = pc.match_substring(lines, b'"')
    pairs = [_quoted_pair(line) for line in lines.filter(hit).to_pylist()]
    source = pc.replace_with_mask(source, hit, pa.array([s for s, _ in pairs], pa.large_binary()))
    dest = pc.replace_with_mask(dest, hit, pa.array([d for _, d in pairs], pa.large_binary()))
    return source, dest


def _quoted_pair(line: bytes) -> tuple[bytes | None, bytes | None]:
    try:
        cells = next(csv.reader([line.decode("utf-8", "surrogateescape")], strict=True))
    except (csv.Error, StopIteration):
        return None, None
    if len(cells) != 2:
        return None, None
    return cells[0].encode("utf-8", "surrogateescape"), cells[1].encode("utf-8", "surrogateescape")


def format_scores(scores: Scores) -> bytes:
    """`score,status` lines; the score with 6 significant digits, empty where the row is invalid."""
    values = scores.values.astype(np.float64)
    size = np.abs(values)
    digits = SIGNIFICANT - 1 - np.floor(np.log10(np.where(size > 0, size, 1))).astype(np.int64)
    factor = 10.0**digits
    rounded = pa.array(np.round(values * factor) / factor, mask=scores.codes == INVALID)
    out = pa.BufferOutputStream()
    pa_csv.write_csv(
        pa.table({"score": rounded, "status": _names(scores)}),
        out,
        pa_csv.WriteOptions(include_header=False, quoting_style="none"),
    )
    return bytes(out.getvalue())


def score_arrow(scorer: PairScorer, body: bytes) -> bytes:
    """Arrow stream with the columns `source` and `target` (or else its first two) to one with `score`,
    `status`."""
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
        names = table.column_names
        picked = ("source", "target") if {"source", "target"} <= set(names) else names[:2]
        if len(picked) != 2 or table.num_rows > MAX_ARROW_ROWS:
            raise BadRequest(
                "MALFORMED_ARROW", f"the stream must have two string columns and at most {MAX_ARROW_ROWS:,} rows"
            )
        source, dest = (
            table.column(name).cast(pa.large_string()).cast(pa.large_binary()).combine_chunks() for name in picked
        )
    except (pa.ArrowException, ValueError, OSError) as error:
        raise BadRequest("MALFORMED_ARROW", f"not an Arrow stream of pairs: {str(error)[:150]}") from error
    scores = scorer.score(source, dest)
    out = pa.BufferOutputStream()
    result = pa.table({"score": pa.array(scores.values, mask=scores.codes == INVALID), "status": _names(scores)})
    with pa.ipc.new_stream(out, result.schema) as writer:
        writer.write_table(result)
    return bytes(out.getvalue())


def score_json(scorer: PairScorer, body: bytes) -> bytes:
    """Neptune ML's v1 edge-property payload to its answer, each result with a `status` beside it."""
    source, dest = parse_payload(scorer, body)
    scores = scorer.score(pa.array(source, pa.large_binary()), pa.array(dest, pa.large_binary()))
    edges = [
        {"mlResults": [{"inferredValue": round(value, 6), "status": SCORED if code == 0 else "fallback"}]}
        for value, code in zip(scores.values.tolist(), scores.codes.tolist(), strict=True)
    ]
    return json.dumps({"output": {"edges": edges}}).encode()


def parse_payload(scorer: PairScorer, body: bytes) -> tuple[list[bytes], list[bytes]]:
    """Ids of the sources and targets. Raises `BadRequest` with the path of what is wrong."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("MALFORMED_JSON", f"the body is not JSON: {str(error)[:120]}") from error
    if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
        raise BadRequest("INVALID_PAYLOAD", 'data: expected {"version": "v1", "data": {…}}')
    if document.get("version", "v1") != "v1":
        raise BadRequest("INVALID_PAYLOAD", f"version: {quoted(document['version'])} is not v1")
    if document.get("mode") is not None:
        raise BadRequest(
            "UNSUPPORTED_MODE", f"mode: {quoted(document['mode'])} is not served; edge properties take no mode"
        )
    _check_parameters(scorer, document["data"].get("globalParameters"))
    edges = document["data"].get("edges")
    if not isinstance(edges, list) or len(edges) > MAX_JSON_EDGES:
        raise BadRequest(
            "INVALID_PAYLOAD", f"data.edges: expected a list of at most {MAX_JSON_EDGES:,} edges (more: send text/csv)"
        )
    pairs = [_pair(edge, f"data.edges[{i}]") for i, edge in enumerate(edges)]
    return [s for s, _ in pairs], [d for _, d in pairs]


def _check_parameters(scorer: PairScorer, parameters: Any) -> None:
    config = scorer.config
    if not isinstance(parameters, dict):
        raise BadRequest("INVALID_PAYLOAD", "data.globalParameters: expected an object with edgeType and property")
    edge_type = parameters.get("edgeType", config.edge[1])
    if edge_type not in (config.edge[1], list(config.edge)):
        raise BadRequest(
            "UNKNOWN_EDGE_TYPE",
            f"data.globalParameters.edgeType: {quoted(edge_type)} is not what this model predicts, which is "
            f"{quoted(config.edge[1])}",
        )
    if parameters.get("property") != config.property:
        raise BadRequest(
            "UNKNOWN_PROPERTY",
            f"data.globalParameters.property: {quoted(parameters.get('property'))} is not what this model predicts, "
            f"which is {quoted(config.property)}",
        )


def _pair(edge: Any, path: str) -> tuple[bytes, bytes]:
    keys = next((k for k in SPELLINGS if isinstance(edge, dict) and k[0] in edge), SPELLINGS[0])
    found = []
    for key in keys:
        value = edge.get(key) if isinstance(edge, dict) else None
        if not isinstance(value, str) or not value:
            raise BadRequest("INVALID_PAYLOAD", f"{path}.{key}: expected a node id (text, not empty)")
        found.append(value.encode("utf-8", "surrogatepass"))
    return found[0], found[1]


def _names(scores: Scores) -> pa.Array:
    codes = pa.array(scores.codes.astype(np.int8))
    return pa.DictionaryArray.from_arrays(codes, pa.array(ALL_STATUSES)).cast(pa.string())


HANDLERS: Final[dict[str, Callable[[PairScorer, bytes], bytes]]] = {
    JSON: score_json,
    CSV: score_csv,
    ARROW: score_arrow,
}
