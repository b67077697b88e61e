"""`numerical`: a number, or a fixed number of numbers, normalised."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import model_validator

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.features.base import Encoder, FloatMatrix, Imputer, fill_value, split_cells
from ekiden_engine.numbers import BadValue, to_float64

Norm = Literal["none", "min-max", "standard"]


class NumericalEncoder(Encoder):
    """`(value - shift) / scale` per dimension, missing values replaced by `fill` before.

    `min-max`: shift is the least value, scale the range. `standard`: scale is the *sum* of the values, as
    Neptune ML defines it (no z-score). A scale of 0 (constant or zero-sum column) becomes 1.
    """

    kind: Literal["numerical"] = "numerical"
    norm: Norm
    imputer: Imputer | None
    separator: str | None
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    fill: tuple[float, ...] | None

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Self:
        if len(self.scale) != len(self.shift) or (self.fill is not None and len(self.fill) != len(self.shift)):
            raise ValueError("shift, scale and fill must have one number per dimension")
        if 0.0 in self.scale:
            raise ValueError("scale must not be 0")
        return self

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> NumericalEncoder:
        """Learn from the present values. Raises `BadValue` for a non-number; with no value at all, too."""
        matrix = number_matrix(values, config.separator, None)
        present = ~np.isnan(matrix[:, 0])
        if not present.any():
            raise BadValue(0, None, "missing, as in all other rows: there is nothing to learn from", "MISSING_VALUE")
        known = matrix[present]
        norm: Norm = config.norm or "none"
        if norm == "min-max":
            shift, scale = known.min(axis=0), np.ptp(known, axis=0)
        elif norm == "standard":
            shift, scale = np.zeros(known.shape[1]), known.sum(axis=0)
            # Values that cancel out leave rounding noise for a sum; dividing by it would overflow.
            scale = np.where(np.abs(scale) <= 1e-12 * np.abs(known).max(axis=0), 0.0, scale)
        else:
            shift, scale = np.zeros(known.shape[1]), np.ones(known.shape[1])
        scale = np.where(scale == 0.0, 1.0, scale)
        fill = None
        if config.imputer is not None:
            fill = tuple(fill_value(known[:, d], config.imputer) for d in range(known.shape[1]))
        return cls(
            column=config.column,
            norm=norm,
            imputer=config.imputer,
            separator=config.separator,
            shift=tuple(shift.tolist()),
            scale=tuple(scale.tolist()),
            fill=fill,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The property's name, numbered if it has several dimensions."""
        if len(self.shift) == 1:
            return (self.column,)
        return tuple(f"{self.column}[{d}]" for d in range(len(self.shift)))

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`; a missing value without imputer is a `BadValue`."""
        matrix = number_matrix(values, self.separator, len(self.shift))
        missing = np.isnan(matrix[:, 0])
        if missing.any():
            if self.fill is None:
                raise missing_value(int(missing.argmax()))
            matrix[missing] = self.fill
        result: FloatMatrix = ((matrix - np.asarray(self.shift)) / np.asarray(self.scale)).astype(np.float32)
        return result


def missing_value(row: int) -> BadValue:
    """The error for a missing number where no imputer is named: Neptune ML stops there as well."""
    return BadValue(row, None, "missing; fill it or name an imputer (mean, median, most_frequent)", "MISSING_VALUE")


def number_matrix(values: pa.ChunkedArray, separator: str | None, width: int | None) -> npt.NDArray[np.float64]:
    """Numbers [n, width], NaN in the whole row where the cell is empty; `width` None: as many as the first
    cell has."""
    if separator is None:
        return to_float64(values)[:, None]
    tokens, rows = split_cells(values, separator)
    try:
        numbers = to_float64(tokens)
    except BadValue as bad:
        raise BadValue(int(rows[bad.row]), bad.value, bad.problem) from None
    counts = np.bincount(rows, minlength=len(values))
    present = counts > 0
    wanted = width or (int(counts[present][0]) if present.any() else 1)
    uneven = present & (counts != wanted)
    if uneven.any():
        row = int(uneven.argmax())
        problem = f"{counts[row]} numbers where other rows have {wanted}"
        raise BadValue(row, values[row].as_py(), problem, "UNEVEN_VALUES")
    matrix = np.full((len(values), wanted), np.nan)
    matrix[present] = numbers.reshape(-1, wanted)
    return matrix
