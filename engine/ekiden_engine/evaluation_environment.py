"""What figures depend on besides the model: how rows were split, and where the training ran."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from ekiden.contracts.spec_targets import Target

CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")


def environment(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB (None if unknown), threads of the training, device."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "device": device,
    }


def split_rule(target: Target) -> dict[str, Any]:
    """How the spec had a target's rows split, for its entry `split` in evaluation.json.

    Files may hold any split, one by time among them; their names are all that is known of it.
    """
    files = target.custom_split_filenames
    if files is not None:
        given = {name: value for name, value in files.model_dump().items() if value is not None}
        return {"rule": "files", "files": given}
    return {"rule": "random", "rates": list(target.split)}


def _cpu_model() -> str:
    for line in _lines(CPU_INFO):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()[:100]
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    for line in _lines(MEMORY_INFO):
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return round(int(value.split()[0]) / 2**20, 1)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
