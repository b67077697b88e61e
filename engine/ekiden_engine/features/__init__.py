"""Feature encoders: fitted on a column of text, kept as JSON (and, for text, Parquet and safetensors), applied to other
columns of text.

Each encoder has `fit(config, values)`, `transform(values) -> float32 [n, width]`, `names` and `width`.
Semantics are those of "Feature encoding in Neptune ML" in the Amazon Neptune user guide; docs/features.md has them all.
"""

from ekiden_engine.features.base import UnusableColumn
from ekiden_engine.features.book import FeatureBook
from ekiden_engine.features.encoders import (
    SUPPORTED,
    EdgeEncoders,
    FittedEncoder,
    encoder_from_json,
    fit_encoder,
    side_by_side,
)
from ekiden_engine.features.rows import encode_many, encode_rows

__all__ = [
    "SUPPORTED",
    "EdgeEncoders",
    "FeatureBook",
    "FittedEncoder",
    "UnusableColumn",
    "encode_many",
    "encode_rows",
    "encoder_from_json",
    "fit_encoder",
    "side_by_side",
]
