"""`datetime`: the year, month, weekday and hour of a date, one-hot."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiden.contracts.feature_config import DATETIME_PARTS, DatetimePart, FeatureConfig
from ekiden_engine.features.base import Encoder, FloatMatrix, Imputer, fill_value
from ekiden_engine.numbers import BadValue

_ZONE = r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$"
_FINER_THAN_MICROSECONDS = r"(\.\d{6})\d+"
_MICROSECONDS = pa.timestamp("us", tz="UTC")


class DatetimeEncoder(Encoder):
    """A column per value that a part had in training (Monday is weekday 1); a part with a single value is
    dropped.

    A missing date becomes `fill` (microseconds since 1970, UTC), which the imputer learnt; without an imputer it leaves
    the columns 0, and so does a part's value that training did not have.
    """

    kind: Literal["datetime"] = "datetime"
    parts: dict[DatetimePart, tuple[int, ...]]
    fill: int | None = None

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> DatetimeEncoder:
        """Collect the values of each part. Raises `BadValue` for text that is no ISO 8601 date."""
        moments = _moments(values)
        if moments.null_count == len(moments):
            raise BadValue(0, None, "missing, as in all other rows: there is nothing to learn from", "MISSING_VALUE")
        parts = {}
        for part in config.datetime_parts or DATETIME_PARTS:
            seen = sorted(int(v) for v in pc.unique(pc.drop_null(_part(moments, part))).to_pylist())
            if len(seen) > 1:
                parts[part] = tuple(seen)
        return cls(column=config.column, parts=parts, fill=_fill(moments, config.imputer))

    @property
    def names(self) -> tuple[str, ...]:
        """`property.part=value` per column."""
        return tuple(f"{self.column}.{part}={v}" for part, seen in self.parts.items() for v in seen)

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`."""
        moments = _moments(values)
        if self.fill is not None:
            moments = pc.fill_null(moments, pa.scalar(self.fill, pa.int64()).cast(_MICROSECONDS))
        blocks: list[FloatMatrix] = [np.zeros((len(values), 0), dtype=np.float32)]
        for part, seen in self.parts.items():
            found: npt.NDArray[np.int64] = pc.fill_null(pc.cast(_part(moments, part), pa.int64()), -1).to_numpy(
                zero_copy_only=False
            )
            blocks.append((found[:, None] == np.asarray(seen)[None, :]).astype(np.float32))
        return np.concatenate(blocks, axis=1)


def _fill(moments: pa.Array, imputer: Imputer | None) -> int | None:
    """Microseconds since 1970 of the mean, median or most frequent moment."""
    if imputer is None:
        return None
    present = pc.drop_null(moments).cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64)
    # Doubles are exact to the microsecond until the year 2255; parts of a date do not ask for more.
    return round(fill_value(present, imputer))


def _part(moments: pa.Array, part: DatetimePart) -> pa.Array:
    if part == "weekday":
        return pc.day_of_week(moments, count_from_zero=False)
    return {"year": pc.year, "month": pc.month, "hour": pc.hour}[part](moments)


def _moments(values: pa.ChunkedArray) -> pa.Array:
    """ISO 8601 dates, with or without time and zone (none means UTC), as UTC timestamps.

    Arrow's cast wants the zone always or never, so each kind is cast on its own.
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    column = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), _FINER_THAN_MICROSECONDS, r"\1")
    zoned = pc.match_substring_regex(column, _ZONE)
    with_zone = _cast(pc.if_else(zoned, column, None), _MICROSECONDS)
    without = pc.assume_timezone(_cast(pc.if_else(zoned, None, column), pa.timestamp("us")), "UTC")
    return pc.coalesce(with_zone, without)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist()):
            try:
                pa.array([value], pa.string()).cast(kind)
            except pa.ArrowInvalid:
                problem = "no ISO 8601 date such as 2026-11-20 or 2026-11-20T08:30:00Z"
                raise BadValue(row, value, problem, "NOT_A_DATE") from None
        raise
