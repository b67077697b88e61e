"""`predictions.parquet`: what was predicted for every held-out row, ids as in the graph.

- Property of edges: `source`, `target`; property of nodes: `node`. Then `actual`, `predicted`, a column per baseline,
  and `status` (how the row was scored).
- Numbers are float32. Classes are names, with `probability` of the predicted one, and `probabilities` of all, in the
  order of the file's metadata `classes` (JSON). With several classes a row, `actual`, `predicted` and the baselines are
  lists of names, and there is no `probability`.
- Links: a row per query. `source_type`, `relation`, `target_type`; `direction` (tail: the target is asked for); `node`;
  `truths` and their filtered `ranks`; `top`, the ten best candidates that training did not link to the node, with
  `top_scores`; `status`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ekiden_engine.evaluation_held_out import NODE_STATUSES, HeldOutLinks, HeldOutValues, TargetEvaluation
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.metrics import THRESHOLD, FloatArray

CLASSES_KEY = b"classes"


def write_predictions(path: Path, graph: EncodedGraph, target: Target, evaluation: TargetEvaluation) -> None:
    """Write the held-out rows of `evaluation` (made by `evaluate` of the same graph and target) to `path`."""
    held = evaluation.held_out
    table = _links(graph, held) if isinstance(held, HeldOutLinks) else _values(graph, target, held)
    pq.write_table(table, path, compression="zstd")


def _values(graph: EncodedGraph, target: Target, held: HeldOutValues) -> pa.Table:
    columns: dict[str, pa.Array] = {end.role: graph.node(end.label).ids.take(pa.array(end.nodes)) for end in held.ends}
    if target.is_regression:
        columns |= {"actual": pa.array(held.actual), "predicted": pa.array(held.predicted)}
        columns |= {name: pa.array(values) for name, values in held.baselines.items()}
    else:
        classes, k = pa.array(target.classes, pa.string()), len(target.classes)
        columns["actual"] = _sets(held.actual, classes) if target.multi_label else _names(held.actual, classes)
        columns["predicted"] = _said(target, held.predicted, classes)
        if not target.multi_label:
            columns["probability"] = pa.array(held.predicted.max(1, initial=0.0))
        flat = pa.array(np.ascontiguousarray(held.predicted).ravel())
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, k)
        columns |= {name: _said(target, values, classes) for name, values in held.baselines.items()}
    columns["status"] = _names(held.status, pa.array(held.statuses))
    table = pa.table(columns)
    return (
        table
        if target.is_regression
        else table.replace_schema_metadata({CLASSES_KEY: json.dumps(list(target.classes)).encode()})
    )


def _said(target: Target, probability: FloatArray, classes: pa.Array) -> pa.Array:
    """What a classifier says: the most probable class, or all from the threshold on."""
    if target.multi_label:
        return _sets(probability >= THRESHOLD, classes)
    return _names(probability.argmax(1) if len(probability) else np.empty(0, np.int64), classes)


def _names(codes: npt.NDArray[np.integer], names: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), names).cast(pa.string())


def _sets(member: npt.NDArray[np.generic], names: pa.Array) -> pa.Array:
    """The names of the columns that are set in each row of `member` [m, k]."""
    rows, columns = np.nonzero(member)
    offsets = np.searchsorted(rows, np.arange(len(member) + 1))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), _names(columns, names))


def _links(graph: EncodedGraph, held: HeldOutLinks) -> pa.Table:
    """A row per query, in the order of the evaluation."""
    kinds = list(held.edge_types)
    listed = (held.top >= 0).sum(1)
    offsets = np.concatenate(([0], np.cumsum(listed))).astype(np.int32)
    position = np.repeat(np.arange(len(held.node)), np.diff(held.offsets))
    top_query, top_place = np.nonzero(held.top >= 0)
    return pa.table(
        {
            "source_type": _names(held.edge_type, pa.array([kind[0] for kind in kinds], pa.string())),
            "relation": _names(held.edge_type, pa.array([kind[1] for kind in kinds], pa.string())),
            "target_type": _names(held.edge_type, pa.array([kind[2] for kind in kinds], pa.string())),
            "direction": _names(held.head.astype(np.int32), pa.array(["tail", "head"])),
            "node": _ids(graph, held, np.arange(len(held.node)), held.node, given=True),
            "truths": pa.ListArray.from_arrays(
                pa.array(held.offsets.astype(np.int32)), _ids(graph, held, position, held.truth, given=False)
            ),
            "ranks": pa.ListArray.from_arrays(
                pa.array(held.offsets.astype(np.int32)), pa.array(held.ranks.filtered.astype(np.float32))
            ),
            "top": pa.ListArray.from_arrays(
                pa.array(offsets), _ids(graph, held, top_query, held.top[top_query, top_place], given=False)
            ),
            "top_scores": pa.ListArray.from_arrays(pa.array(offsets), pa.array(held.top_scores[top_query, top_place])),
            "status": _names(held.status, pa.array(NODE_STATUSES)),
        }
    )


def _ids(
    graph: EncodedGraph,
    held: HeldOutLinks,
    query: npt.NDArray[np.int64],
    nodes: npt.NDArray[np.int32],
    *,
    given: bool,
) -> pa.Array:
    """Ids of `nodes` [m], which belong to queries `query` [m] (ascending): their given end, or the end asked for."""
    parts = []
    side = held.edge_type[query] * 2 + held.head[query]
    bounds = [*np.flatnonzero(np.diff(side, prepend=-1)).tolist(), len(side)]
    for start, end in pairwise(bounds):
        source, _, dest = held.edge_types[int(side[start]) // 2]
        label = dest if bool(side[start] % 2) == given else source
        parts.append(graph.node(label).ids.take(pa.array(nodes[start:end])))
    return pa.chunked_array(parts, pa.string()).combine_chunks() if parts else pa.array([], pa.string())
