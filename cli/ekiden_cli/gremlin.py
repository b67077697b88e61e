"""Write Neptune's bulk-load format (Gremlin CSV) from Arrow columns, and the spec that goes with it.

Rows are joined in Arrow's C++ kernels and written as one buffer per chunk: about two million rows a second
on one core. ``pyarrow.csv.write_csv`` is not used because it either quotes every string or refuses those
that need quotes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CHUNK_ROWS = 500_000
_NEEDS_QUOTES = '[",\\r\\n]'


@dataclass(frozen=True, slots=True)
class GraphFolder:
    """A graph written to disk.

    ``folder`` holds ``vertices-*.csv``, ``edges-rated.csv`` and ``spec`` (its ``graph.source`` is the folder
    itself); ``counts`` maps ``users``, ``movies`` and ``ratings`` to numbers of records.
    """

    folder: Path
    spec: Path
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the form printed by ``--json``."""
        return {
            "folder": str(self.folder),
            "spec": str(self.spec),
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }


def as_text(values: pa.Array | np.ndarray[Any, Any] | Sequence[Any]) -> pa.Array:
    """Return ``values`` as strings ready to stand in a CSV cell; null becomes empty."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        special = pc.match_substring_regex(array, _NEEDS_QUOTES)
        if pc.any(special).as_py():
            doubled = pc.replace_substring(array, '"', '""')
            quoted = pc.binary_join_element_wise('"', doubled, '"', "")
            array = pc.if_else(special, quoted, array)
    return pc.fill_null(pc.cast(array, pa.string()), "")


def write_rows(path: Path, columns: Mapping[str, Any]) -> int:
    """Write one CSV file with the header ``columns.keys()``; return the number of rows.

    Each value is an Arrow array, a numpy array or a list; all have the same length.
    """
    arrays = [v if isinstance(v, pa.Array) else pa.array(v) for v in columns.values()]
    rows = len(arrays[0])
    with path.open("wb") as sink:
        sink.write((",".join(columns) + "\n").encode())
        for start in range(0, rows, CHUNK_ROWS):
            sink.write(join_rows([a.slice(start, CHUNK_ROWS) for a in arrays]))
    return rows


def join_rows(columns: Sequence[pa.Array]) -> memoryview:
    """Return the CSV lines of some columns of equal length, each line ended by a newline."""
    cells = [as_text(column) for column in columns]
    line = pc.binary_join_element_wise(*cells, ",") if len(cells) > 1 else cells[0]
    # Joined with an empty string, each line gets the second separator, a newline, at its end.
    return _data_bytes(pc.binary_join_element_wise(line, "", "\n"))


def _data_bytes(strings: pa.StringArray) -> memoryview:
    """Return the concatenated bytes of a string array without copying them."""
    _, offsets, data = strings.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(strings) + 1, offset=strings.offset * 4)
    return memoryview(data)[int(ends[0]) : int(ends[-1])]


def write_spec(
    path: Path,
    *,
    name: str,
    title: str,
    features: Sequence[str],
    split: str,
) -> None:
    """Write the spec of a rating graph; ``split`` and ``features`` are YAML put in as they stand."""
    lines = [
        f"# {title}",
        f"# Check it with `ekiden validate {path.name}`, run it with `ekiden run {path.name} --watch`.",
        "version: 1",
        f"name: {name}",
        "engine: sagemaker",
        "graph:",
        "  source: .            # this folder, uploaded by `ekiden run`; s3://bucket/prefix/ works too",
        "targets:",
        "  - edge: [user, rated, movie]",
        "    property: rating",
        "    type: regression",
        f"    {split}",
        *(["features:"] + [f"  - {feature}" for feature in features] if features else []),
        "model:",
        "  name: rgcn",
        "  hyperparameters: {seed: 0}        # the rest as the engine has it; num-hidden, num-epochs, lr, seeds …",
        "  instance_type: ml.m5.xlarge",
        "deploy:",
        f"  endpoint: {name}",
        "  instance_type: ml.m5.large",
        "  instance_count: 1",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
