"""Ids of nodes to their indices, for batches as for single ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiden_engine.models.base import IndexArray


class IdIndex:
    """Ids to node indices. The table is built once: pyarrow's `index_in` would hash every id at each call."""

    def __init__(self, ids: pa.Array) -> None:
        """`ids`: distinct, in index order."""
        self._index = {name: i for i, name in enumerate(ids.cast(pa.binary()).to_pylist())}

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self._index)

    def __contains__(self, name: str) -> bool:
        return encoded_id(name) in self._index

    def find(self, name: str | None) -> int:
        """The index of one id, -1 if it is unknown or None."""
        return -1 if name is None else self._index.get(encoded_id(name), -1)

    def of(self, wanted: pa.Array) -> IndexArray:
        """int32 [m], -1 where an id is unknown; `wanted`: binary or large_binary, without nulls.

        Each distinct id of the batch is looked up once.
        """
        encoded = wanted.dictionary_encode()
        get = self._index.get
        names = encoded.dictionary.to_pylist()
        found = np.fromiter((get(name, -1) for name in names), np.int32, len(names))
        return found[encoded.indices.to_numpy(zero_copy_only=False)] if len(names) else np.empty(0, np.int32)

    def of_texts(self, wanted: Iterable[str | None]) -> IndexArray:
        """int32 [m], -1 where an id is unknown or None."""
        return np.array([self.find(name) for name in wanted], np.int32)


def present(ids: pa.Array) -> npt.NDArray[np.bool_]:
    """Where there is an id: neither null nor empty; bool [m]."""
    filled = pc.fill_null(pc.greater(pc.binary_length(ids), 0), False)
    found: npt.NDArray[np.bool_] = filled.to_numpy(zero_copy_only=False)
    return found


def encoded_id(name: str) -> bytes:
    """An id as tables hold it; JSON can escape halves of characters, which no table has."""
    return name.encode("utf-8", "surrogatepass")
