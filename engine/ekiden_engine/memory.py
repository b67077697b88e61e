"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MEMINFO: Final = Path("/proc/meminfo")
GROUPS: Final = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Limit and use of a container, as the two versions of control groups tell them."""


def available_bytes() -> int | None:
    """What the machine has left, or the container if that is less; None where neither tells."""
    found = [] if (machine := _of_machine()) is None else [machine]
    for limit, used in GROUPS:
        bound, now = _number(limit), _number(used)
        if bound is not None:
            found.append(max(bound - (now or 0), 0))
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _number(path: Path) -> int | None:
    """None also for `max`, which is no limit."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
