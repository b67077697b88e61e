"""The columns that are to be predicted: read as text block by block, kept as numbers or as class codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import NO_CLASS, Split, SplitArray, Target
from ekiden_engine.numbers import BadValue, to_float64

LARGEST_LABEL = 1e30
"""Training computes in float32, whose sums overflow not far above."""
MAX_CLASSES = 10_000
"""More classes than this are ids, not classes; a dense row of probabilities each would also not fit."""

RowNumbers = npt.NDArray[np.int64]


class LabelColumn(Protocol):
    """One column to predict, of the rows of one node or edge type."""

    def append(self, values: pa.ChunkedArray) -> None:
        """More rows, as text (null: no label). Raises `BadValue`, its row counted from the first ever appended."""

    def override(self, rows: RowNumbers, values: pa.ChunkedArray) -> None:
        """Labels that a split file gives for some rows (null: it gives none). Raises `BadValue` with the position in
        `rows`."""

    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which rows have a label."""

    def finish(self, target: Target, split: SplitArray) -> tuple[Target, npt.NDArray[Any] | None]:
        """The target with what the labels say of it, and the values (see `Labels`)."""


class NumberColumn:
    """Labels of a regression: float32, NaN for none."""

    def __init__(self) -> None:
        """Without rows."""
        self._parts: list[npt.NDArray[np.float32]] = []
        self._count = 0

    def append(self, values: pa.ChunkedArray) -> None:
        """See `LabelColumn`."""
        try:
            self._parts.append(_numbers(values))
        except BadValue as bad:
            raise BadValue(self._count + bad.row, bad.value, bad.problem, bad.code) from None
        self._count += len(values)

    def override(self, rows: RowNumbers, values: pa.ChunkedArray) -> None:
        """See `LabelColumn`."""
        given = _numbers(values)
        present = ~np.isnan(given)
        self._whole()[rows[present]] = given[present]

    def labelled(self) -> npt.NDArray[np.bool_]:
        """See `LabelColumn`."""
        return ~np.isnan(self._whole())

    def finish(self, target: Target, split: SplitArray) -> tuple[Target, npt.NDArray[Any] | None]:
        """See `LabelColumn`; the range is that of the training rows."""
        values = self._whole()
        known = values[split == Split.TRAIN]
        return target.model_copy(update={"label_min": float(known.min()), "label_max": float(known.max())}), values

    def _whole(self) -> npt.NDArray[np.float32]:
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.empty(0, np.float32), *self._parts])]
        return self._parts[0]


class ClassColumn:
    """Labels of a classification: class codes, or with a separator a row of zeros and ones per class."""

    def __init__(self, separator: str | None) -> None:
        """`separator` stands between the classes of a row that has several; None: one class a row."""
        self._separator = separator
        self._parts: list[npt.NDArray[np.int32]] = []
        self._cells: dict[str, int] = {}

    def append(self, values: pa.ChunkedArray) -> None:
        """See `LabelColumn`."""
        self._parts.append(self._codes(values))

    def override(self, rows: RowNumbers, values: pa.ChunkedArray) -> None:
        """See `LabelColumn`."""
        given = self._codes(values)
        present = given >= 0
        self._whole()[rows[present]] = given[present]

    def labelled(self) -> npt.NDArray[np.bool_]:
        """See `LabelColumn`."""
        return self._whole() >= 0

    def finish(self, target: Target, split: SplitArray) -> tuple[Target, npt.NDArray[Any] | None]:
        """See `LabelColumn`; classes are in the order of their text. Raises `BadData` TOO_MANY_CLASSES, ONE_CLASS."""
        cells = [self._classes(cell) for cell in self._cells]
        classes = tuple(sorted({name for cell in cells for name in cell}))
        if len(classes) > MAX_CLASSES:
            raise BadData(
                "TOO_MANY_CLASSES",
                f"{quoted(target.name)} has {len(classes):,} different values, at most {MAX_CLASSES:,} can be classes: "
                "predict another property",
            )
        if len(classes) < 2:
            raise BadData("ONE_CLASS", f"every label of {quoted(target.name)} is {quoted(classes[0])}: nothing to tell")
        position = {name: index for index, name in enumerate(classes)}
        codes = self._whole()
        if self._separator is None:
            table = np.array([position[cell[0]] for cell in cells], np.int32)
            values: npt.NDArray[Any] = np.where(codes >= 0, table[np.maximum(codes, 0)], np.int32(NO_CLASS))
        else:
            hot = np.zeros((len(cells) + 1, len(classes)), np.uint8)  # the last row is for rows without a label
            for row, cell in enumerate(cells):
                hot[row, [position[name] for name in cell]] = 1
            values = hot[codes]
        return target.model_copy(update={"classes": classes, "multi_label": self._separator is not None}), values

    def _codes(self, values: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """Number of each cell's text among the distinct ones, -1 where there is none."""
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        encoded = pc.utf8_trim_whitespace(column.cast(pa.string())).dictionary_encode()
        table = np.array([self._number(cell) for cell in encoded.dictionary.to_pylist()] + [NO_CLASS], np.int32)
        found: npt.NDArray[np.int32] = table[pc.fill_null(encoded.indices, len(table) - 1).to_numpy()]
        return found

    def _number(self, cell: str) -> int:
        if not self._classes(cell):
            return NO_CLASS
        return self._cells.setdefault(cell, len(self._cells))

    def _classes(self, cell: str) -> tuple[str, ...]:
        if self._separator is None:
            return (cell,) if cell else ()
        return tuple(dict.fromkeys(part for raw in cell.split(self._separator) if (part := raw.strip())))

    def _whole(self) -> npt.NDArray[np.int32]:
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.empty(0, np.int32), *self._parts])]
        return self._parts[0]


class LinkColumn:
    """Links: every edge is one."""

    def __init__(self, count: Callable[[], int]) -> None:
        """`count` tells the number of edges once all are read."""
        self._count = count

    def append(self, values: pa.ChunkedArray) -> None:
        """Nothing to read."""

    def override(self, rows: RowNumbers, values: pa.ChunkedArray) -> None:
        """Nothing to override."""

    def labelled(self) -> npt.NDArray[np.bool_]:
        """See `LabelColumn`."""
        return np.ones(self._count(), np.bool_)

    def finish(self, target: Target, split: SplitArray) -> tuple[Target, npt.NDArray[Any] | None]:
        """See `LabelColumn`."""
        return target, None


def _numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    numbers = to_float64(values)
    if (large := np.abs(numbers) > LARGEST_LABEL).any():
        row = int(large.argmax())
        raise BadValue(row, values[row].as_py(), f"too large to learn from (at most {LARGEST_LABEL:g})")
    return numbers.astype(np.float32)
