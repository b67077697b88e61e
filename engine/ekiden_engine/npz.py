"""Arrays in `.npz` files whose large members can be mapped into memory instead of being read.

They are ordinary npz files without compression; only, every array begins at a multiple of 64 bytes.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

MAPPED_BYTES: Final = 64 << 20
"""Members from this size on are mapped: the system then keeps in memory what is in use, and can drop the rest."""

_ALIGNMENT: Final = 64
_LOCAL_HEADER: Final = 30
_PADDING_ID: Final = 0xD935
"""Of an extra field that means nothing but its length; other tools that align zip members use it too."""
_ZIP64_BYTES: Final = 20


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an npz file; the same arrays give the same bytes. Objects are refused (`ValueError`)."""
    with path.open("wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            before = raw.tell() + _LOCAL_HEADER + len(member.filename.encode()) + _ZIP64_BYTES + 4
            padding = -before % _ALIGNMENT
            member.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as stream:
                npy.write_array(stream, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """The named arrays of an npz file, whoever wrote it; large ones are mapped, and writing to them changes no file.

    Raises what `numpy.load` raises: `OSError`, `ValueError`, `KeyError` for a missing name, `BadZipFile`.
    """
    found = {}
    with np.load(path, allow_pickle=False) as archive, path.open("rb") as raw:
        for name in names:
            mapped = _map(path, raw, archive.zip.getinfo(f"{name}.npy"))
            found[name] = archive[name] if mapped is None else mapped
    return found


def _map(path: Path, raw: IO[bytes], member: zipfile.ZipInfo) -> npt.NDArray[Any] | None:
    """The member's array, mapped; None if it is small, compressed, not aligned, or of a later version of the format."""
    if member.file_size < MAPPED_BYTES or member.compress_type != zipfile.ZIP_STORED:
        return None
    raw.seek(member.header_offset + _LOCAL_HEADER - 4)
    lengths = struct.unpack("<HH", raw.read(4))
    raw.seek(sum(lengths), 1)
    if npy.read_magic(raw) != (1, 0):
        return None
    shape, fortran, kind = npy.read_array_header_1_0(raw)
    start = raw.tell()
    if kind.hasobject or start % kind.alignment:
        return None
    array = np.memmap(path, kind, "c", start, shape, "F" if fortran else "C")
    return np.asarray(array)
