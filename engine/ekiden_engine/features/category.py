"""`category`: one-hot, or several-hot with a separator."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.features.base import Encoder, FloatMatrix, split_cells
from ekiden_engine.mapping import to_indices
from ekiden_engine.numbers import BadValue

MAX_CATEGORIES = 100
"""Neptune ML's limit: with more distinct values, the 99 most frequent keep a column and the others share
one."""

OTHER = "OTHER"


class CategoryEncoder(Encoder):
    """A column per category, most frequent first, and a last one for all others if there were more than 100.

    A missing value, or an unseen one where there is no such last column, is a row of zeros.
    """

    kind: Literal["category"] = "category"
    separator: str | None
    categories: tuple[str, ...]
    other: bool

    @model_validator(mode="after")
    def _categories_are_distinct(self) -> Self:
        if len(set(self.categories)) != len(self.categories) or self.width > MAX_CATEGORIES:
            raise ValueError(f"categories must be distinct and at most {MAX_CATEGORIES}")
        return self

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> CategoryEncoder:
        """Count the values; equally frequent ones are taken in the order of their text."""
        tokens = split_cells(values, config.separator)[0] if config.separator else pc.drop_null(values)
        if not len(tokens):
            raise BadValue(0, None, "missing, as in all other rows: there is nothing to learn from", "MISSING_VALUE")
        counted = pa.Table.from_struct_array(pc.value_counts(tokens))
        ranked = counted.sort_by([("counts", "descending"), ("values", "ascending")])["values"]
        other = len(ranked) > MAX_CATEGORIES
        categories = tuple(ranked[: MAX_CATEGORIES - 1 if other else MAX_CATEGORIES].to_pylist())
        return cls(column=config.column, separator=config.separator, categories=categories, other=other)

    @property
    def names(self) -> tuple[str, ...]:
        """`property=category` per column."""
        shown = (*self.categories, OTHER) if self.other else self.categories
        return tuple(f"{self.column}={category}" for category in shown)

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`; never raises."""
        matrix = np.zeros((len(values), self.width), dtype=np.float32)
        if self.separator:
            tokens, rows = split_cells(values, self.separator)
        else:
            tokens, rows = pc.drop_null(values), np.flatnonzero(pc.is_valid(values).to_numpy())
        if not len(tokens):
            return matrix
        columns = to_indices(tokens, pa.array(self.categories, pa.string()))
        if self.other:
            columns = np.where(columns < 0, np.int32(len(self.categories)), columns)
        known = columns >= 0
        matrix[rows[known], columns[known]] = 1.0
        return matrix
