"""What the encoders share: their base, and several values in one cell."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from ekiden.contracts.feature_config import Imputer as Imputer

FloatMatrix = npt.NDArray[np.float32]


class UnusableColumn(Exception):
    """A column as a whole cannot be encoded as asked: `problem` says why and what to do, `code` is the error code."""

    def __init__(self, problem: str, code: str = "UNUSABLE_FEATURE") -> None:
        """Keep both."""
        super().__init__(problem)
        self.problem = problem
        self.code = code


class Encoder(BaseModel):
    """A fitted encoder of one property; a frozen pydantic model, so `model_dump_json` is its file format.

    Encoders of text also have arrays, which lie in files of their own: see `stored.StoredEncoder`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    column: str

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """A name per output column."""

    @abstractmethod
    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """Encode a string column [n] (null: missing) as float32 [n, width].

        Raises `BadValue` with the row of a value that cannot be encoded.
        """

    @property
    def width(self) -> int:
        """Number of output columns."""
        return len(self.names)


def split_cells(values: pa.ChunkedArray, separator: str) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Take cells with several values apart.

    Returns the values, trimmed, empty ones dropped, and for each the row that it stands in (ascending).
    A backslash before the separator makes it text, as in Gremlin CSV.
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    escaped = "\\" + separator
    # U+E000 is a private character: no text means anything by it.
    hidden = pc.replace_substring(column, escaped, "\ue000")
    lists = pc.split_pattern(hidden, separator)
    tokens = pc.utf8_trim_whitespace(pc.replace_substring(lists.flatten(), "\ue000", separator))
    rows = pc.list_parent_indices(lists)
    keep = pc.not_equal(tokens, "")
    kept_rows: npt.NDArray[np.int64] = pc.filter(rows, keep).to_numpy(zero_copy_only=False).astype(np.int64)
    return pc.filter(tokens, keep), kept_rows


def fill_value(present: npt.NDArray[np.float64], imputer: Imputer) -> float:
    """What stands for a missing number: the mean, the median, or the most frequent value (of several, the
    least)."""
    if imputer == "mean":
        return float(present.mean())
    if imputer == "median":
        return float(np.median(present))
    values, counts = np.unique(present, return_counts=True)
    return float(values[counts.argmax()])
