"""Nodes and edges that were not there at training, encoded from the properties that a request gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden_engine.features.base import FloatMatrix
from ekiden_engine.features.book import FeatureBook
from ekiden_engine.features.encoders import AnyEncoder, EdgeType, side_by_side
from ekiden_engine.numbers import BadValue

Scalar: TypeAlias = str | float | bool | None
PropertyValue: TypeAlias = Scalar | Sequence[Scalar]


def encode_rows(
    book: FeatureBook, kind: str | EdgeType, properties: Mapping[str, PropertyValue]
) -> npt.NDArray[np.float32]:
    """The features float32 [f] of one node of label `kind` (or one edge of that type), as at training.

    See `encode_many`.
    """
    row: npt.NDArray[np.float32] = encode_many(book, kind, [properties])[0]
    return row


def encode_many(book: FeatureBook, kind: str | EdgeType, rows: Sequence[Mapping[str, PropertyValue]]) -> FloatMatrix:
    """The features float32 [n, f] of `rows`: by property, a text, a number, true or false, or a list of those.

    A property that is absent, null or an empty text is missing: its imputer fills it, or, for categories, dates and
    text, its columns are zero. Properties that are no feature are ignored, as they are at training.
    A type without features gives [n, 0].

    Raises `BadValue` with the row's number and the property's name: a missing number without imputer, text where a
    number is due, several values where the feature takes one. `BadData`: see `SbertEncoder.transform`.
    """
    blocks = []
    for encoder in book.encoders(kind):
        cells = [_cell(encoder, row.get(encoder.column), number) for number, row in enumerate(rows)]
        try:
            blocks.append(encoder.transform(pa.chunked_array([pa.array(cells, pa.string())])))
        except BadValue as bad:
            raise _named(encoder.column, bad.row, bad.value, bad.problem, bad.code) from None
    return side_by_side(blocks, len(rows))


def _cell(encoder: AnyEncoder, value: PropertyValue, row: int) -> str | None:
    """A value as it would stand in the exported CSV file."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _text(value)
    texts = [text for item in value if (text := _text(item)) is not None]
    if not texts:
        return None
    separator: str | None = getattr(encoder, "separator", None)
    if separator is not None:
        return separator.join(text.replace(separator, f"\\{separator}") for text in texts)
    if len(texts) > 1:
        raise _named(encoder.column, row, None, "a list, and this feature takes one value", "UNEVEN_VALUES")
    return texts[0]


def _text(value: Scalar) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _named(column: str, row: int, value: str | None, problem: str, code: str) -> BadValue:
    return BadValue(row, value, f'property "{column[:100]}": {problem}', code)
