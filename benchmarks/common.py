"""What all benchmarks share: rows of figures, the machine and versions they were taken on, and where they go."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("boto3", "faiss-cpu", "gensim", "numba", "numpy", "optuna", "pyarrow", "torch", "torch_geometric")


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: `value` in `unit`, its `goal`, whether lower or higher is better, and `peers` in the same unit.

    Peers are measured in the same run.
    """

    figure: str
    value: float
    unit: str
    goal: float
    better: Literal["lower", "higher"]
    peers: Mapping[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the value is at the goal or beyond."""
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def write(name: str, rows: Sequence[Row], **more: Any) -> Path:
    """Write `benchmarks/results/<name>.json`, print the rows, and return the path.

    `more` goes into the document as it is: seeds, sizes, whatever a reader needs to repeat the run.
    """
    document = {
        "benchmark": name,
        "machine": machine(),
        "versions": versions(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
        "rows": [_rounded(asdict(row)) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        unit = f" {row.unit}" if row.unit else ""
        beside = "".join(f"; {peer} {value:,.4g}" for peer, value in row.peers.items())
        mark = "reached" if row.reached else "MISSED"
        print(f"{row.figure}: {row.value:,.4g}{unit} (goal {sign} {row.goal:,g}, {mark}{beside})")
    return path


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, operating system, load when measuring ended."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(terse=True),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python and the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "value": float(f"{row['value']:.6g}"),
        "peers": {name: float(f"{value:.6g}") for name, value in row["peers"].items()},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
