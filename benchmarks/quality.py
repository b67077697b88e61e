"""Quality of the models by task, beside their peers: one document of several parts.

    make bench NAME=quality                       all parts
    make bench NAME=quality ARGS="--part ratings" one part; the others stay as they were measured

A part is a module with `measure(data) -> (rows, details)`, which can also be run by itself. The data is not part of the
project: it is looked for in `$EKIDEN_SHARED/data`, else `../shared/data`; `--data` names another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, Row, machine, versions, write

ROOT = Path(__file__).resolve().parent.parent
NAME = "quality"


PARTS: Mapping[str, tuple[str, str]] = {
    "ratings": ("benchmarks.quality_ratings", "."),
    "nodes": ("benchmarks.quality_nodes", "cora"),
    "links": ("benchmarks.quality_links", "."),
}
"""Part to its module, and the folder of its data below the folder of all."""


def run(part: str, data: Path) -> tuple[list[Row], dict[str, Any]]:
    """Measure one part: its rows, and its entry in the document (with the machine and the time, for parts may be
    measured apart)."""
    module, folder = PARTS[part]
    rows, details = import_module(module).measure(data / folder)
    measured = {
        "machine": machine(),
        "versions": versions(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": [row.figure for row in rows],
    }
    return rows, measured | details


def before() -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Rows and entries by part, of the committed document."""
    path = RESULTS / f"{NAME}.json"
    if not path.exists():
        return {}, {}
    document = json.loads(path.read_text("utf-8"))
    entries = document.get("parts", {})
    by_figure = {row["figure"]: Row(**row) for row in document["rows"]}
    return {part: [by_figure[figure] for figure in entry["figures"]] for part, entry in entries.items()}, entries


def main() -> int:
    """Measure the parts asked for and write `results/quality.json`."""
    shared = Path(os.environ.get("EKIDEN_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), action="append", help="which part; may be repeated")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the data sets' folders")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data} is not there: pass --data with the folder of the data sets", file=sys.stderr)
        return 2
    rows, entries = before()
    for part in arguments.part or list(PARTS):
        rows[part], entries[part] = run(part, arguments.data)
    ordered = [part for part in PARTS if part in rows]
    every = [row for part in ordered for row in rows[part]]
    write(NAME, every, parts={part: entries[part] for part in ordered})
    return 0 if all(row.reached for row in every) else 1


if __name__ == "__main__":
    sys.exit(main())
