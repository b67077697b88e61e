"""Encoders with more data than JSON is for: words as Parquet, arrays as safetensors, beside `features.json`.

`features/<n>.parquet` has one column `word` (string); `features/<n>.safetensors` holds the arrays, whose first axis
mostly follows those words. Neither format can hold code.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PrivateAttr
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.features.base import Encoder
from ekiden_engine.mapping import to_indices

Array = npt.NDArray[Any]


class Store:
    """Distinct `words` and the `arrays` that belong to them."""

    def __init__(self, words: pa.StringArray, arrays: Mapping[str, Array]) -> None:
        """Keep both."""
        self.words = words
        self.arrays = dict(arrays)
        self._positions: dict[str, int] | None = None

    def positions(self, words: pa.Array) -> npt.NDArray[np.int32]:
        """Where each of `words` stands among the stored ones, -1 where it is unknown."""
        if len(words) * 8 > len(self.words) and self._positions is None:
            return to_indices(words, self.words)
        if self._positions is None:  # one request after another asks for a handful: hash the stored words once
            self._positions = {word: index for index, word in enumerate(self.words.to_pylist())}
        found = [self._positions.get(word, -1) for word in words.to_pylist()]
        return np.asarray(found, dtype=np.int32)

    def save(self, stem: Path) -> None:
        """Write `<stem>.parquet` and `<stem>.safetensors`."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"word": self.words}), stem.with_suffix(".parquet"), compression="zstd")
        contiguous = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        save_file(contiguous, stem.with_suffix(".safetensors"))

    @classmethod
    def load(cls, stem: Path) -> Store:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        name = f"{stem.parent.name}/{stem.name}"
        try:
            column = pq.read_table(stem.with_suffix(".parquet"), columns=["word"], memory_map=False).column("word")
            arrays = load_file(stem.with_suffix(".safetensors"))
        except (pa.ArrowException, OSError, KeyError, SafetensorError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{name}: {str(error)[:200]}") from error
        words = column.cast(pa.string()).combine_chunks()
        if words.null_count or len(words.unique()) != len(words):
            raise BadData("CORRUPT_ARTIFACT", f"{name}.parquet: words must be there and distinct")
        if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays.values()):
            raise BadData("CORRUPT_ARTIFACT", f"{name}.safetensors: numbers must be finite")
        return cls(words, arrays)


class StoredEncoder(Encoder):
    """An encoder with a `Store`; `file` is its stem, relative to `features.json`, once it is saved."""

    file: Annotated[str, Field(pattern=r"^(features/[0-9]{1,6})?$")] = ""
    _store: Store | None = PrivateAttr(default=None)

    @property
    def store(self) -> Store:
        """Words and arrays. Raises `RuntimeError` for an encoder whose files were not loaded."""
        if self._store is None:
            raise RuntimeError(f"the files of the encoder of {self.column} are not loaded: use FeatureBook.load")
        return self._store

    def attach(self, store: Store) -> None:
        """Take `store` as this encoder's. Raises `ValueError` if its arrays do not have the form that they must."""
        self.check(store)
        self._store = store

    def saved_as(self, stem: str) -> Self:
        """The same encoder with the stem of its files."""
        copy = self.model_copy(update={"file": stem})
        copy._store = self._store
        return copy

    @abstractmethod
    def check(self, store: Store) -> None:
        """Raise `ValueError` if the arrays of `store` do not have the form that this encoder needs."""


def wants(store: Store, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> Array:
    """The array `name` of `store`. Raises `ValueError` if it is absent, or of another type or shape (None: any)."""
    array = store.arrays.get(name)
    if array is None:
        raise ValueError(f"{name} is missing")
    fits = len(array.shape) == len(shape) and all(w in (None, n) for n, w in zip(array.shape, shape, strict=True))
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype}{array.shape}, not {np.dtype(dtype)}{shape}")
    return array
