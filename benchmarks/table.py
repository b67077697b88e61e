"""Renders the README's table of figures from ``benchmarks/results/*.json``.

make bench-table            rewrites the table between the markers in README.md
make bench-table ARGS=--check   fails if the README is not current
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLACES = {
    ROOT / "README.md": ("main-job", "quality", "engine", "neighbours", "transitions", "scoring", "simulation"),
    ROOT / "docs" / "reliability.md": ("simulation", "simulation-1000000", "teeth", "chaos"),
}
"""Which results are shown where."""
COMMANDS = {
    "simulation": "make simulate",
    "simulation-1000000": "make simulate RUNS=1000000",
    "teeth": "make teeth",
    "chaos": "make chaos",
}
"""How results come about that are not ``make bench NAME=…``."""
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value < 10 else f"{value:.3g}"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    unit = f" {row['unit']}" if row["unit"] else ""
    sign = "≤" if row["better"] == "lower" else "≥"
    peers = " · ".join(f"{name} {number(value)}{unit}" for name, value in row["peers"].items())
    return f"| {row['figure']} | {number(row['value'])}{unit} | {sign} {number(row['goal'])}{unit} | {peers} |"


def table(names: tuple[str, ...]) -> str:
    """The committed figures of ``names``, in that order; those that are not there yet are left out."""
    parts = []
    for name in names:
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        command = COMMANDS.get(name, f"make bench NAME={name}")
        parts.append(
            f"\n`{command}` on {result['machine']['cores']} cores, {result['measured_at'][:10]}\n\n"
            "| Figure | Measured | Goal | Beside, in the same run |\n|---|---|---|---|\n"
            + "\n".join(line(row) for row in result["rows"])
        )
    return "\n".join(parts)


def main() -> int:
    """Rewrite or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the tables are current")
    check = parser.parse_args().check
    stale = 0
    for path, names in PLACES.items():
        text = path.read_text()
        head, rest = text.split(BEGIN)
        new = f"{head}{BEGIN}\n{table(names)}\n\n{END}{rest.split(END)[1]}"
        if check and new != text:
            print(f"{path.name} does not show the committed figures: run `make bench-table`", file=sys.stderr)
            stale = 1
        elif not check:
            path.write_text(new)
    return stale


if __name__ == "__main__":
    sys.exit(main())
