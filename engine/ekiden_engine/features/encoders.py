"""From a feature's configuration to its fitted encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ekiden.contracts.feature_config import FeatureConfig, FeatureKind
from ekiden_engine.features.automatic import as_category, resolve
from ekiden_engine.features.base import FloatMatrix, UnusableColumn
from ekiden_engine.features.bucket import BucketEncoder
from ekiden_engine.features.category import CategoryEncoder
from ekiden_engine.features.dates import DatetimeEncoder
from ekiden_engine.features.numerical import NumericalEncoder
from ekiden_engine.features.raw import RawEncoder
from ekiden_engine.features.sbert import SbertEncoder
from ekiden_engine.features.tfidf import TfidfEncoder
from ekiden_engine.features.word_vectors import WordVectorEncoder

AnyEncoder = (
    NumericalEncoder
    | CategoryEncoder
    | BucketEncoder
    | DatetimeEncoder
    | RawEncoder
    | TfidfEncoder
    | WordVectorEncoder
    | SbertEncoder
)
FittedEncoder = Annotated[AnyEncoder, Field(discriminator="kind")]
"""Any fitted encoder. Those of text (`StoredEncoder`) have files beside `features.json`."""

EdgeType = tuple[str, str, str]
"""Source node label, relation, destination node label."""

_ADAPTER: Final[TypeAdapter[FittedEncoder]] = TypeAdapter(FittedEncoder)
_KINDS: Final[Mapping[FeatureKind, type[AnyEncoder]]] = {
    "numerical": NumericalEncoder,
    "category": CategoryEncoder,
    "bucket_numerical": BucketEncoder,
    "datetime": DatetimeEncoder,
    "none": RawEncoder,
    "text_tfidf": TfidfEncoder,
    "text_word2vec": WordVectorEncoder,
    "word2vec": WordVectorEncoder,
    "text_fasttext": WordVectorEncoder,
    "text_sbert": SbertEncoder,
    "text_sbert128": SbertEncoder,
    "text_sbert512": SbertEncoder,
}
SUPPORTED: Final = ("auto", *_KINDS)
"""Feature types that can be encoded: all of the v2.0 format."""


def fit_encoder(config: FeatureConfig, values: pa.ChunkedArray, *, folder: Path | None = None) -> FittedEncoder:
    """Fit the encoder that `config` names on a string column; for `auto`, the one that the values ask for.

    `folder` is the export, in which a vectors file lies. Raises `BadValue` for a value, `UnusableColumn` for a column
    as a whole, `BadData` for what is missing beside the graph (vectors file, SBERT model, package).
    """
    if config.kind == "auto":
        try:
            return fit_encoder(resolve(config, values), values, folder=folder)
        except UnusableColumn:  # a choice of ours, not the user's: texts of stop words alone, say
            return CategoryEncoder.fit(as_category(config), values)
    kind = _KINDS[config.kind]
    if kind is WordVectorEncoder:
        return WordVectorEncoder.fit(config, values, folder)
    return kind.fit(config, values)


def encoder_from_json(text: str | bytes) -> FittedEncoder:
    """Restore one encoder from its `model_dump_json`, without its files. Raises pydantic's `ValidationError`."""
    return _ADAPTER.validate_json(text)


class EdgeEncoders(BaseModel):
    """Encoders of an edge type."""

    model_config = ConfigDict(frozen=True)

    edge: EdgeType
    encoders: tuple[FittedEncoder, ...]


def side_by_side(blocks: list[FloatMatrix], rows: int) -> FloatMatrix:
    """The blocks [rows, …] as one matrix; [rows, 0] if there are none."""
    return np.concatenate([np.zeros((rows, 0), dtype=np.float32), *blocks], axis=1)
