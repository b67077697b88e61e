"""`bucket_numerical`: the buckets of a range that a number (or a window around it) falls into."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.features.base import Encoder, FloatMatrix, Imputer, fill_value
from ekiden_engine.features.numerical import missing_value
from ekiden_engine.numbers import BadValue, to_float64


class BucketEncoder(Encoder):
    """`buckets` equal parts of [low, high]; numbers outside fall into the first or last.

    With a window s, every bucket that overlaps [value - s/2, value + s/2] is marked. Touching at a bound is
    no overlap.
    """

    kind: Literal["bucket_numerical"] = "bucket_numerical"
    low: float
    high: float
    buckets: Annotated[int, Field(ge=1, le=10_000)]
    window: Annotated[float, Field(ge=0)]
    imputer: Imputer | None
    fill: float | None

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> BucketEncoder:
        """Take range, count and window from the configuration; learn the fill value."""
        if config.range is None or config.bucket_cnt is None:
            raise ValueError("bucket_numerical needs range and bucket_cnt")
        numbers = to_float64(values)
        present = numbers[~np.isnan(numbers)]
        if not len(present):
            raise BadValue(0, None, "missing, as in all other rows: there is nothing to learn from", "MISSING_VALUE")
        return cls(
            column=config.column,
            low=config.range[0],
            high=config.range[1],
            buckets=config.bucket_cnt,
            window=config.slide_window_size or 0.0,
            imputer=config.imputer,
            fill=None if config.imputer is None else fill_value(present, config.imputer),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """`property[from,to)` per bucket."""
        return tuple(f"{self.column}[{a:g},{b:g})" for a, b in itertools.pairwise(self.bounds.tolist()))

    @property
    def bounds(self) -> npt.NDArray[np.float64]:
        """The bounds of the buckets, float64 [buckets + 1]; the division comes last, so that 0.35 is that number."""
        step = np.arange(self.buckets + 1)
        bounds: npt.NDArray[np.float64] = (self.low * (self.buckets - step) + self.high * step) / self.buckets
        return bounds

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`; a missing value without imputer is a `BadValue`."""
        numbers = to_float64(values)
        missing = np.isnan(numbers)
        if missing.any():
            if self.fill is None:
                raise missing_value(int(missing.argmax()))
            numbers[missing] = self.fill
        # The bounds decide, not a division of the value: 0.29 is in [0.29, 0.3) whatever 0.29 / 0.01 rounds to.
        bounds, last = self.bounds, self.buckets - 1
        half = self.window / 2
        first_hit = np.clip(np.searchsorted(bounds, numbers - half, side="right") - 1, 0, last)
        final_hit = np.clip(np.searchsorted(bounds, numbers + half, side="left") - 1, 0, last) if half else first_hit
        final_hit = np.maximum(final_hit, first_hit)
        bucket = np.arange(self.buckets)[None, :]
        hit = (bucket >= first_hit[:, None]) & (bucket <= final_hit[:, None])
        return hit.astype(np.float32)
