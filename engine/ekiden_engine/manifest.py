"""`manifest.json`: size and SHA-256 of every file of an artefact folder, checked before anything in it is
read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ekiden_engine.errors import BadData

MANIFEST = "manifest.json"


class FileEntry(BaseModel):
    """One file: POSIX path relative to the folder, bytes, SHA-256 in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The manifest of a folder, files sorted by path."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["ekiden.manifest.v1"] = "ekiden.manifest.v1"
    files: tuple[FileEntry, ...]

    def paths(self) -> frozenset[str]:
        """The relative paths that the manifest vouches for."""
        return frozenset(entry.path for entry in self.files)


def write_manifest(folder: Path, *, editable: Collection[str] = ()) -> Manifest:
    """Describe every file below `folder` in `manifest.json`: written last and by rename, so its presence
    means complete.

    `editable` names files that people may change afterwards (relative paths); they are left out.
    """
    skipped = {MANIFEST, *editable}
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in skipped:
            entries.append(FileEntry(path=name, bytes=path.stat().st_size, sha256=_sha256(path)))
    manifest = Manifest(files=tuple(entries))
    partial = folder / f".{MANIFEST}.partial"
    partial.write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
    os.replace(partial, folder / MANIFEST)
    return manifest


def check_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` and compare every file it names; files it does not name are not looked at.

    Raises `BadData` CORRUPT_ARTIFACT: no or unreadable manifest, a path outside the folder, a file that is
    missing or differs in size or hash.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BadData("CORRUPT_ARTIFACT", f"{folder.name}/{MANIFEST} is missing: the folder is incomplete") from error
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise BadData("CORRUPT_ARTIFACT", f"{folder.name}/{MANIFEST} {where}: {detail['msg']}") from error
    for entry in manifest.files:
        _check(folder, entry)
    return manifest


def _check(folder: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(entry.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise BadData("CORRUPT_ARTIFACT", f"{MANIFEST} names {entry.path[:200]}, which is outside the folder")
    path = folder / relative
    if not path.is_file():
        raise BadData("CORRUPT_ARTIFACT", f"{entry.path} is in {MANIFEST} but missing from {folder.name}")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BadData("CORRUPT_ARTIFACT", f"{entry.path} has {size} bytes, {MANIFEST} says {entry.bytes}")
    if _sha256(path) != entry.sha256:
        raise BadData("CORRUPT_ARTIFACT", f"{entry.path} does not have the SHA-256 that {MANIFEST} says")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
