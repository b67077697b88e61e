"""Text to numbers for whole columns at once; on failure, the first value that is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


class BadValue(Exception):
    """Row `row` (from 0) of the column at hand holds `value` (None: nothing), which is `problem`.

    Who knows file and line turns it into a `BadData`.
    """

    def __init__(self, row: int, value: str | None, problem: str, code: str = "NOT_A_NUMBER") -> None:
        """Keep the four; `code` is the error code that it will become."""
        super().__init__(problem)
        self.row = row
        self.value = value
        self.problem = problem
        self.code = code


def parse_numbers(
    column: pa.ChunkedArray | pa.Array, kind: pa.DataType, *, finite: bool = False
) -> pa.ChunkedArray | pa.Array:
    """Cast a string column to `kind` (an Arrow number type); null stays null, space around a number is
    ignored.

    `finite` also refuses NaN and infinities. Raises `BadValue` for the first value that does not fit.
    """
    try:
        numbers = pc.cast(column, kind)
    except pa.ArrowInvalid:
        # Arrow takes neither surrounding space nor a plus sign, other readers of the same file do.
        cleaned = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), r"^\+([0-9.])", r"\1")
        try:
            numbers = pc.cast(cleaned, kind)
        except pa.ArrowInvalid:
            row = _first_failure(cleaned, kind)
            problem = "not a number" if pa.types.is_floating(kind) else f"not a whole number that fits {kind}"
            raise BadValue(row, column[row].as_py(), problem) from None
    if finite:
        bad = pc.fill_null(pc.invert(pc.is_finite(numbers)), False)
        if pc.any(bad).as_py():
            row = pc.index(bad, True).as_py()
            raise BadValue(row, column[row].as_py(), "not a finite number")
    return numbers


def to_float64(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.float64]:
    """A string column as a new float64 array [n], NaN where it is null. Raises `BadValue`."""
    numbers = pc.fill_null(parse_numbers(column, pa.float64(), finite=True), np.nan)
    values: npt.NDArray[np.float64] = np.array(numbers.to_numpy(), dtype=np.float64)
    return values


def _first_failure(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> int:
    """Bisection: the cast itself is the only judge of what a number is, and it does not say where it
    failed."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(column.slice(low, middle - low), kind)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low
