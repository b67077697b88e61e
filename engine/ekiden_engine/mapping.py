"""Node ids as Parquet, ids to indices, and file names for any label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ekiden_engine.errors import BadData


def file_stems(names: Iterable[str]) -> list[str]:
    """A file name (without ending) per name, safe on any file system and in S3 keys: encoded, short,
    distinct.

    Names that differ only in case get a number, since some file systems would merge them; long ones end in a
    hash.
    """
    stems: list[str] = []
    seen: set[str] = set()
    for index, name in enumerate(names):
        stem = quote(name, safe="")
        if len(stem) > 120:
            stem = f"{stem[:96]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        while stem.casefold() in seen:
            stem = f"{stem}-{index}"
        seen.add(stem.casefold())
        stems.append(stem)
    return stems


def to_indices(wanted: pa.Array | pa.ChunkedArray, ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Position of each wanted id in `ids` (distinct strings), int32, -1 where it is absent (or null).

    Builds a hash table of all `ids` at each call: call it with many wanted ids at once.
    """
    found = pc.fill_null(pc.index_in(wanted, value_set=ids, skip_nulls=True), -1)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return np.ascontiguousarray(found.to_numpy(zero_copy_only=False), dtype=np.int32)


def write_mapping(path: Path, ids: pa.Array) -> None:
    """Write node ids, in index order, as Parquet with one string column `id`."""
    pq.write_table(pa.table({"id": ids}), path, compression="zstd")


def read_mapping(path: Path) -> pa.StringArray:
    """Read what `write_mapping` wrote. Raises `BadData` CORRUPT_ARTIFACT if it is anything else."""
    try:
        column = pq.read_table(path, columns=["id"], memory_map=False).column("id").cast(pa.string())
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BadData("CORRUPT_ARTIFACT", f"{path.name}: {str(error)[:200]}") from error
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())
