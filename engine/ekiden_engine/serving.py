"""Scoring pairs of ids with a loaded model, vectorised from strings to scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiden_engine.evaluation import STATUSES, status_codes
from ekiden_engine.model_folder import LoadedModel
from ekiden_engine.models.base import EdgePredictor, FloatArray, IndexArray

INVALID = len(STATUSES)
"""Status code of a row that is not a pair of ids."""
ALL_STATUSES = (*STATUSES, "invalid")


class IdIndex:
    """Ids to node indices. The table is built once: pyarrow's `index_in` would hash every id at each call."""

    def __init__(self, ids: pa.Array) -> None:
        """`ids`: distinct, in index order."""
        self._index = {name: i for i, name in enumerate(ids.cast(pa.binary()).to_pylist())}

    def of(self, wanted: pa.Array) -> IndexArray:
        """int32 [m], -1 where an id is unknown; `wanted`: binary or large_binary, without nulls.

        Each distinct id of the batch is looked up once.
        """
        encoded = wanted.dictionary_encode()
        get = self._index.get
        names = encoded.dictionary.to_pylist()
        found = np.fromiter((get(name, -1) for name in names), np.int32, len(names))
        return found[encoded.indices.to_numpy(zero_copy_only=False)] if len(names) else np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """`values` float32 [m], `codes` uint8 [m]: index into `ALL_STATUSES`; the value of an invalid row means
    nothing."""

    values: FloatArray
    codes: npt.NDArray[np.uint8]


class PairScorer:
    """A model and its ids."""

    def __init__(self, model: LoadedModel) -> None:
        """Build the id tables; one is enough if both ends have the same node type."""
        self.config = model.config
        self._predictor: EdgePredictor = model.predictor
        self._source = IdIndex(model.source_ids)
        same = model.config.edge[0] == model.config.edge[2]
        self._dest = self._source if same else IdIndex(model.dest_ids)

    def score(self, source: pa.Array, dest: pa.Array) -> Scores:
        """Score pairs of ids (binary arrays [m]); a row where either is null or empty is invalid.

        Memory beyond the arrays is bounded: the predictor works in chunks.
        """
        valid = _present(source) & _present(dest)
        everything = bool(valid.all())
        if not everything:
            rows = pa.array(valid)
            source, dest = source.filter(rows), dest.filter(rows)
        s, d = self._source.of(source), self._dest.of(dest)
        values, codes = self._predictor.predict(s, d), status_codes(*self._predictor.known(s, d))
        if everything:
            return Scores(values, codes)
        all_values = np.zeros(len(valid), np.float32)
        all_codes = np.full(len(valid), INVALID, np.uint8)
        all_values[valid], all_codes[valid] = values, codes
        return Scores(all_values, all_codes)


def _present(ids: pa.Array) -> npt.NDArray[np.bool_]:
    filled = pc.fill_null(pc.greater(pc.binary_length(ids), 0), False)
    found: npt.NDArray[np.bool_] = filled.to_numpy(zero_copy_only=False)
    return found
