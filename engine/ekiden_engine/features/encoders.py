"""From a feature's configuration to its fitted encoder, and from `features.json` back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ekiden.contracts.training_data import FeatureConfig, FeatureKind
from ekiden_engine.errors import BadData
from ekiden_engine.features.base import FloatMatrix
from ekiden_engine.features.bucket import BucketEncoder
from ekiden_engine.features.category import CategoryEncoder
from ekiden_engine.features.dates import DatetimeEncoder
from ekiden_engine.features.numerical import NumericalEncoder
from ekiden_engine.graph import EdgeType

FittedEncoder = Annotated[
    NumericalEncoder | CategoryEncoder | BucketEncoder | DatetimeEncoder, Field(discriminator="kind")
]
_ADAPTER: Final[TypeAdapter[FittedEncoder]] = TypeAdapter(FittedEncoder)
_KINDS: Final[dict[FeatureKind, type[NumericalEncoder | CategoryEncoder | BucketEncoder | DatetimeEncoder]]] = {
    "numerical": NumericalEncoder,
    "category": CategoryEncoder,
    "bucket_numerical": BucketEncoder,
    "datetime": DatetimeEncoder,
}
SUPPORTED: Final = tuple(_KINDS)
"""Feature types that can be encoded."""


def fit_encoder(config: FeatureConfig, values: pa.ChunkedArray) -> FittedEncoder:
    """Fit the encoder that `config` names on a string column. Raises `BadValue`; `KeyError` if it is not
    `SUPPORTED`."""
    return _KINDS[config.kind].fit(config, values)


def encoder_from_json(text: str | bytes) -> FittedEncoder:
    """Restore one encoder from its `model_dump_json`. Raises pydantic's `ValidationError`."""
    return _ADAPTER.validate_json(text)


class EdgeEncoders(BaseModel):
    """Encoders of an edge type."""

    model_config = ConfigDict(frozen=True)

    edge: EdgeType
    encoders: tuple[FittedEncoder, ...]


class FeatureBook(BaseModel):
    """`features.json`: the encoders of every node and edge type; their columns stand side by side in this
    order."""

    model_config = ConfigDict(frozen=True)

    version: Literal["ekiden.features.v1"] = "ekiden.features.v1"
    nodes: dict[str, tuple[FittedEncoder, ...]]
    edges: tuple[EdgeEncoders, ...] = ()

    def save(self, path: Path) -> None:
        """Write the book."""
        path.write_text(self.model_dump_json(indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> FeatureBook:
        """Read a book. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{path.name}: {str(error)[:200]}") from error


def side_by_side(blocks: list[FloatMatrix], rows: int) -> FloatMatrix:
    """The blocks [rows, …] as one matrix; [rows, 0] if there are none."""
    return np.concatenate([np.zeros((rows, 0), dtype=np.float32), *blocks], axis=1)
