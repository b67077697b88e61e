"""`none`: numbers as they are, for models that encode for themselves."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.features.base import Encoder, FloatMatrix
from ekiden_engine.features.numerical import missing_value, number_matrix
from ekiden_engine.numbers import BadValue


class RawEncoder(Encoder):
    """The numbers of a cell, unchanged; `dimensions` is 0 where training cells held text: text cannot stand in a matrix
    of numbers, and stays in the exported CSV file only, where a custom model may read it.

    A missing number stops, as with `numerical` without an imputer.
    """

    kind: Literal["none"] = "none"
    separator: str | None
    dimensions: Annotated[int, Field(ge=0, le=100_000)]

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> RawEncoder:
        """Find out whether the cells are numbers, and how many each has; never raises."""
        try:
            dimensions = number_matrix(values, config.separator, None).shape[1]
        except BadValue:
            dimensions = 0
        if values.null_count == len(values):
            dimensions = 0
        return cls(column=config.column, separator=config.separator, dimensions=dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        """The property's name, numbered if it has several dimensions."""
        if self.dimensions == 1:
            return (self.column,)
        return tuple(f"{self.column}[{d}]" for d in range(self.dimensions))

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`."""
        if not self.dimensions:
            return np.zeros((len(values), 0), dtype=np.float32)
        matrix = number_matrix(values, self.separator, self.dimensions)
        missing = np.isnan(matrix[:, 0])
        if missing.any():
            raise missing_value(int(missing.argmax()))
        return matrix.astype(np.float32)
