"""Whole batches scored at once: pairs of ids or single ids in, values and statuses out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden_engine.evaluation_held_out import NODE_STATUSES, STATUSES, status_codes
from ekiden_engine.graph import Target
from ekiden_engine.metrics import THRESHOLD
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.serving_ids import present
from ekiden_engine.serving_links import known_ends, link_scores
from ekiden_engine.serving_model import Served, ServedModel

ALL_STATUSES: Final = (*STATUSES, "invalid", NODE_STATUSES[1])
INVALID: Final = len(STATUSES)
"""Status code of a row that is no pair of ids, or no id."""
FALLBACK_NODE: Final = INVALID + 1
CHUNK_NUMBERS: Final = 4_000_000
"""Class probabilities held at a time."""

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Numbers, or scores of links: `values` float32 [m], `codes` uint8 [m] into `ALL_STATUSES`; the value of an invalid
    row means nothing."""

    values: FloatArray
    codes: Codes


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The most probable class of each row: `names` (text) and its probability `scores` (float32), arrays [m]. Where a
    row may have several classes both are lists of those from probability 0.5 on, in the order of the classes."""

    names: pa.Array
    scores: pa.Array
    codes: Codes


def score_pairs(model: ServedModel, served: Served, source: pa.Array, dest: pa.Array) -> Scores | Classes:
    """Score pairs of ids (binary arrays [m]); a row where either is null or empty is invalid."""
    valid = present(source) & present(dest)
    everything = bool(valid.all())
    if not everything:
        rows = pa.array(valid)
        source, dest = source.filter(rows), dest.filter(rows)
    s, d = model.index(served.ends[0]).of(source), model.index(served.ends[2]).of(dest)
    known = known_ends(served, s, d) if served.is_link else served.edge_predictor.known(s, d)
    codes = status_codes(*known)
    return _answered(model, served, (s, d), codes, None if everything else valid)


def score_nodes(model: ServedModel, served: Served, nodes: pa.Array) -> Scores | Classes:
    """Score ids of nodes (binary array [m]); a row that is null or empty is invalid."""
    valid = present(nodes)
    everything = bool(valid.all())
    if not everything:
        nodes = nodes.filter(pa.array(valid))
    index = model.index(str(served.target.node)).of(nodes)
    codes = np.where(served.node_predictor.known(index), 0, FALLBACK_NODE).astype(np.uint8)
    return _answered(model, served, (index,), codes, None if everything else valid)


def _answered(
    model: ServedModel,
    served: Served,
    index: tuple[IndexArray, ...],
    codes: Codes,
    valid: npt.NDArray[np.bool_] | None,
) -> Scores | Classes:
    """Predict the valid rows, and put them where they belong."""
    if served.target.is_classification:
        found = _classes(served, index, codes)
        if valid is None:
            return found
        place = pa.array(np.cumsum(valid) - 1, mask=~valid)
        return Classes(found.names.take(place), found.scores.take(place), _spread(codes, valid))
    if served.is_link:
        values = link_scores(model, served, index[0], index[1])
    else:
        values = served.node_predictor.predict(*index) if len(index) == 1 else served.edge_predictor.predict(*index)
    if valid is None:
        return Scores(values, codes)
    every = np.zeros(len(valid), np.float32)
    every[valid] = values
    return Scores(every, _spread(codes, valid))


def _spread(codes: Codes, valid: npt.NDArray[np.bool_]) -> Codes:
    every = np.full(len(valid), INVALID, np.uint8)
    every[valid] = codes
    return every


def _classes(served: Served, index: tuple[IndexArray, ...], codes: Codes) -> Classes:
    """In chunks: a batch may have a million rows, and each a hundred classes."""
    target, rows = served.target, len(codes)
    step = max(1, CHUNK_NUMBERS // max(1, len(target.classes)))
    names, scores = [], []
    for start in range(0, max(rows, 1), step):
        part = [one[start : start + step] for one in index]
        found = served.node_predictor.predict(*part) if len(part) == 1 else served.edge_predictor.predict(*part)
        name, score = _several(target, found) if target.multi_label else _best(target, found)
        names.append(name)
        scores.append(score)
    return Classes(pa.concat_arrays(names), pa.concat_arrays(scores), codes)


def _best(target: Target, probability: FloatArray) -> tuple[pa.Array, pa.Array]:
    best = probability.argmax(1) if len(probability) else np.empty(0, np.int64)
    return _named(target, best), pa.array(probability[np.arange(len(best)), best], pa.float32())


def _several(target: Target, probability: FloatArray) -> tuple[pa.Array, pa.Array]:
    rows, classes = np.nonzero(probability >= THRESHOLD)
    offsets = pa.array(np.searchsorted(rows, np.arange(len(probability) + 1)).astype(np.int32))
    score = pa.array(probability[rows, classes], pa.float32())
    return pa.ListArray.from_arrays(offsets, _named(target, classes)), pa.ListArray.from_arrays(offsets, score)


def _named(target: Target, classes: npt.NDArray[np.integer]) -> pa.Array:
    names = pa.array(target.classes, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(classes.astype(np.int32)), names).cast(pa.string())
