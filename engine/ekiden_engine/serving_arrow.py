"""Batches as Arrow streams."""

from __future__ import annotations

import pyarrow as pa

from ekiden_engine.serving_batches import INVALID, Classes, Scores
from ekiden_engine.serving_csv import status_names
from ekiden_engine.serving_errors import BadRequest

MAX_ROWS = 2_000_000
PAIR = ("source", "target")
NODE = "node"


def read_table(body: bytes) -> pa.Table:
    """The stream as one table. Raises `BadRequest` MALFORMED_ARROW."""
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise BadRequest("MALFORMED_ARROW", f"not an Arrow stream: {str(error)[:150]}") from error
    if table.num_rows > MAX_ROWS or not table.num_columns:
        raise BadRequest("MALFORMED_ARROW", f"the stream must have a column, and at most {MAX_ROWS:,} rows")
    return table


def is_of_nodes(table: pa.Table) -> bool:
    """Whether the rows are single nodes: there is a column `node`, or only one column."""
    names = table.column_names
    return not set(names) >= set(PAIR) and (NODE in names or len(names) == 1)


def pairs_of(table: pa.Table) -> tuple[pa.Array, pa.Array]:
    """The columns `source` and `target`, or else the first two, as large_binary arrays. Raises `BadRequest`."""
    names = table.column_names
    source, dest = (_ids(table, name) for name in (PAIR if set(names) >= set(PAIR) else names[:2]))
    return source, dest


def nodes_of(table: pa.Table) -> pa.Array:
    """The column `node`, or else the only one, as a large_binary array. Raises `BadRequest`."""
    return _ids(table, NODE if NODE in table.column_names else table.column_names[0])


def format_answer(found: Scores | Classes) -> bytes:
    """A stream with `score` (float32) and `status`; for classes with `value` before them, where a row may have several
    as lists."""
    columns = {"value": found.names} if isinstance(found, Classes) else {}
    columns["score"] = (
        found.scores if isinstance(found, Classes) else pa.array(found.values, mask=found.codes == INVALID)
    )
    result = pa.table({**columns, "status": status_names(found.codes)})
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, result.schema) as writer:
        writer.write_table(result)
    return bytes(out.getvalue())


def _ids(table: pa.Table, name: str) -> pa.Array:
    try:
        return table.column(name).cast(pa.large_string()).cast(pa.large_binary()).combine_chunks()
    except (pa.ArrowException, KeyError) as error:
        raise BadRequest("MALFORMED_ARROW", f"column {name[:100]} is not text: {str(error)[:150]}") from error
