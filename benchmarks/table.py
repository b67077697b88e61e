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
README = ROOT / "README.md"
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


def table() -> str:
    """All committed figures."""
    parts = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        result = json.loads(path.read_text())
        machine = result["machine"]
        parts.append(
            f"\n`make bench NAME={path.stem}` on {machine['cores']} cores, {result['measured_at'][:10]}\n\n"
            "| Figure | Measured | Goal | Beside, in the same run |\n|---|---|---|---|\n"
            + "\n".join(line(row) for row in result["rows"])
        )
    return "\n".join(parts)


def main() -> int:
    """Rewrite or check the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the README is current")
    check = parser.parse_args().check
    text = README.read_text()
    head, rest = text.split(BEGIN)
    new = f"{head}{BEGIN}\n{table()}\n\n{END}{rest.split(END)[1]}"
    if check:
        if new != text:
            print("README.md does not show the committed figures: run `make bench-table`", file=sys.stderr)
        return int(new != text)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
