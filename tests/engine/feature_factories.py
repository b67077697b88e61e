"""Columns and encoders for the tests of features."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.features import FittedEncoder, fit_encoder


def column(*values: str | None) -> pa.ChunkedArray:
    """A column of text as `process` reads it."""
    return pa.chunked_array([pa.array(values, pa.string())])


def make_config(kind: str, **options: Any) -> FeatureConfig:
    """The configuration of a feature of property `x`."""
    return FeatureConfig.model_validate({"feature": ("x", "x", kind), **options})


def fit(kind: str, values: pa.ChunkedArray, **options: Any) -> FittedEncoder:
    """An encoder of property `x`."""
    return fit_encoder(make_config(kind, **options), values)


def encode(kind: str, values: pa.ChunkedArray, **options: Any) -> list[Any]:
    """Values encoded by an encoder that was fitted on them."""
    result: list[Any] = fit(kind, values, **options).transform(values).tolist()
    return result


REVIEWS = (
    "a quiet film about the sea and the harbour",
    "the sea film is a quiet masterpiece",
    "a loud war film about soldiers",
    "soldiers march to war in a loud story",
    "a quiet story about the harbour",
    "the harbour and the sea again",
    "loud soldiers, loud war",
    "quiet sea",
)
"""Texts with two subjects: the sea, and war."""
