"""Files of word vectors in word2vec's text format: a line `words dimensions`, then per line a word and its numbers.

fastText's `.vec` files have the same format. A `.gz` file is read as it is.
"""

from __future__ import annotations

import gzip
import shutil
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa

from ekiden.contracts.spec import PipelineSpec
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features.base import FloatMatrix

MOST_FREQUENT = 50_000
"""Words that are kept from the start of the file whether or not the graph has them: such files are sorted by frequency,
and texts that come later hold other words."""

MAX_DIMENSIONS = 2_000

VECTORS_FOLDER = "vectors"
"""Folder of an export that holds copies of the vectors files."""


def read_vectors(folder: Path, name: str, wanted: Collection[str]) -> tuple[pa.StringArray, FloatMatrix]:
    """Words of `wanted` and the file's most frequent ones, in its order, with their vectors float32 [n, d].

    Words are normalised like text (NFKC, lower case); of several that become equal, the first counts.
    Raises `BadData`: NO_VECTORS_FILE, BAD_VECTORS with file and line.
    """
    path = folder / name
    if name.startswith("/") or ".." in Path(name).parts or not path.is_file():
        raise BadData("NO_VECTORS_FILE", f"vectors names {quoted(name)}, which is not there")
    try:
        with _open(path) as lines:
            words, vectors = _read(lines, name, frozenset(wanted))
    except (OSError, EOFError) as error:
        raise BadData("BAD_VECTORS", f"{name}: {str(error)[:200]}") from error
    return pa.array(words, pa.string()), vectors


def vectors_files(spec: PipelineSpec) -> dict[int, str]:
    """The vectors file that the feature at each position of the spec names, relative to the graph's folder."""
    named = ((index, getattr(feature, "vectors", None)) for index, feature in enumerate(spec.features))
    return {index: name for index, name in named if name is not None}


def copy_vectors(source: Path, target: Path, spec: PipelineSpec) -> None:
    """Copy the vectors files that the spec's features name from the graph's folder into the export.

    Raises `BadData` NO_VECTORS_FILE.
    """
    for index, name in vectors_files(spec).items():
        if not (source / name).is_file():
            place = f"features[{index}].vectors"
            raise BadData("NO_VECTORS_FILE", f"{place} names {quoted(name)}, which graph.source does not hold")
        copy = target / VECTORS_FOLDER / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, copy)


def _read(lines: IO[bytes], name: str, wanted: frozenset[str]) -> tuple[list[str], FloatMatrix]:
    header = lines.readline(100).split()
    if len(header) != 2 or not all(part.isdigit() for part in header) or not 0 < int(header[1]) <= MAX_DIMENSIONS:
        raise BadData("BAD_VECTORS", f"{name}:1: must be the number of words and of dimensions, such as 400000 300")
    dimensions = int(header[1])
    words: dict[str, None] = {}
    rows = []
    for number, line in enumerate(lines, start=2):
        first, _, rest = line.rstrip(b" \r\n").partition(b" ")
        if not first:
            continue
        word = unicodedata.normalize("NFKC", first.decode("utf-8", "replace")).lower()
        if word in words or (number > MOST_FREQUENT + 1 and word not in wanted):
            continue
        try:
            row = np.array(rest.split(b" "), dtype=np.float32)
        except ValueError:
            raise BadData("BAD_VECTORS", f"{name}:{number}: the vector of {quoted(word)} holds no number") from None
        if len(row) != dimensions or not np.isfinite(row).all():
            raise BadData(
                "BAD_VECTORS", f"{name}:{number}: {quoted(word)} has {len(row)} numbers; line 1 says {dimensions}"
            )
        words[word] = None
        rows.append(row)
    if not rows:
        raise BadData("BAD_VECTORS", f"{name} holds no vector")
    return list(words), np.stack(rows)


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")
