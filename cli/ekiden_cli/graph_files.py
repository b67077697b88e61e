"""Which files of a graph's folder count, and whether those that the spec names are there and look right."""

from __future__ import annotations

import difflib
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec_parts import SpecParts

_ENDINGS = (".csv", ".csv.gz")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the spec names at ``path``; ``name`` is relative to the graph's folder.

    ``columns`` are those that a split file must have; a file without any is one of word vectors.
    """

    path: str
    name: str
    columns: tuple[str, ...] = ()


def csv_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield ``(name relative to the folder, path)`` of each CSV file that is not hidden, sorted."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.name.lower().endswith(_ENDINGS) or not path.is_file():
            continue
        if not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def named_files(spec: SpecParts) -> list[NamedFile]:
    """Return the custom split files and the vectors files that the spec names."""
    found = []
    for number, target in spec.targets.items():
        custom = target.custom_split_filenames
        columns = ("~id",) if target.node is not None else ("~from", "~to")
        for part, name in (custom.model_dump(exclude_none=True) if custom else {}).items():
            found.append(NamedFile(f"targets[{number}].custom_split_filenames.{part}", _plain(name), columns))
    for number, feature in spec.features.items():
        if (name := getattr(feature, "vectors", None)) is not None:
            found.append(NamedFile(f"features[{number}].vectors", _plain(name)))
    return found


def file_faults(named: list[NamedFile], folder: Path) -> Iterator[Fault]:
    """Yield which of the files are missing, or do not begin as such a file does."""
    from ekiden.contracts.base import Fault, shorten

    for file in named:
        path = folder / file.name
        if path.is_file():
            wrong = _wrong_split(path, file) if file.columns else _wrong_vectors(path)
            if wrong:
                yield Fault(file.path, f"{shorten(file.name)} {wrong}")
            continue
        message = f"there is no file {shorten(file.name)} in the graph's folder"
        others = [other.relative_to(folder).as_posix() for other in folder.rglob("*") if other.is_file()]
        near = difflib.get_close_matches(file.name, others, n=1)
        yield Fault(file.path, f"{message}; did you mean {shorten(near[0])}?" if near else message)


def _plain(name: str) -> str:
    """Return the name without ``./``, as files are listed and uploaded."""
    return PurePosixPath(name).as_posix()


def _wrong_split(path: Path, file: NamedFile) -> str:
    from ekiden_cli.delimited import header_of

    try:
        header = [column.split(":")[0] for column in header_of(path, ",")]
    except (ValueError, OSError, EOFError):
        return "does not begin with a line of CSV"
    missing = [column for column in file.columns if column not in header]
    if not missing:
        return ""
    subject = "nodes" if file.columns == ("~id",) else "edges"
    return f"has no column {missing[0]}: a split of {subject} needs {','.join(file.columns)}"


def _wrong_vectors(path: Path) -> str:
    """Return why the file is not in word2vec's text format, as far as its first line tells."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as source:
            first = source.readline(100).split()
    except (OSError, EOFError) as error:
        return f"cannot be read: {str(error)[:100]}"
    if len(first) == 2 and all(part.isdigit() for part in first):
        return ""
    return (
        "does not begin with the number of words and of dimensions, such as 400000 300: give word2vec's text format "
        "(fastText's .vec has it)"
    )
