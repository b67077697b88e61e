"""Feature encoders: fitted on a column of text, kept as plain JSON, applied to other columns of text.

Each encoder has `fit(config, values)`, `transform(values) -> float32 [n, width]`, `names` and `width`.
Semantics are those of "Feature encoding in Neptune ML" in the Amazon Neptune user guide.
"""

from ekiden_engine.features.encoders import (
    SUPPORTED,
    FeatureBook,
    FittedEncoder,
    encoder_from_json,
    fit_encoder,
)

__all__ = ["SUPPORTED", "FeatureBook", "FittedEncoder", "encoder_from_json", "fit_encoder"]
