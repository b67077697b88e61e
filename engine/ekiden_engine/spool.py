"""Rows sorted into types while files stream by: kept in memory up to a limit, then on disk as Arrow files."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

K = TypeVar("K", bound=Hashable)


class TypeSpool(Generic[K]):
    """Tables by key, in the order in which they came. A context manager: leaving it removes its files."""

    def __init__(self, limit_bytes: int, folder: Path | None = None) -> None:
        """Spill below `folder` (default: the system's temporary folder) once `limit_bytes` are held."""
        self._held: dict[K, list[pa.Table]] = {}
        self._spilled: dict[K, list[Path]] = {}
        self._bytes = 0
        self._limit = limit_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="ekiden-spool-", dir=folder))
        self._files = 0

    def __enter__(self) -> Self:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was spilled."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._held.keys() | self._spilled.keys())

    def add(self, key: K, table: pa.Table) -> None:
        """Append rows; tables of one key may have different columns."""
        self._held.setdefault(key, []).append(table)
        self._bytes += table.nbytes
        if self._bytes > self._limit:
            self._spill()

    def keys(self) -> list[K]:
        """The keys, sorted by their text."""
        return sorted(self._held.keys() | self._spilled.keys(), key=str)

    def tables(self, key: K) -> Iterator[pa.Table]:
        """The rows of one key, in order, some at a time."""
        for path in self._spilled.get(key, ()):
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                yield reader.read_all()
        yield from self._held.get(key, ())

    def _spill(self) -> None:
        for key, tables in self._held.items():
            path = self._folder / f"{self._files}.arrow"
            self._files += 1
            joined = pa.concat_tables(tables, promote_options="default")
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, joined.schema) as writer:
                writer.write_table(joined)
            self._spilled.setdefault(key, []).append(path)
        self._held.clear()
        self._bytes = 0


def group_rows(table: pa.Table, codes: npt.NDArray[np.int64]) -> Iterator[tuple[int, pa.Table]]:
    """Split `table` by `codes` [rows] into (code, rows), codes ascending, order of rows kept within each."""
    if not len(codes):
        return
    if (codes == codes[0]).all():
        yield int(codes[0]), table
        return
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    bounds = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
    rearranged = table.take(pa.array(order))
    for start, stop in itertools.pairwise(bounds):
        yield int(ordered[start]), rearranged.slice(start, stop - start)
