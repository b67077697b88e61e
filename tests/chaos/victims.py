"""Whom to kill: the processes that do the work, found by what the system says of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ekiden_local.jobs.wrap import process_start

PROC = Path("/proc")
_WORKER = re.compile(r"ministack-lambda-ekiden-([a-z-]+?)-[a-z0-9_]{8}/")
_LOOK = 0.003  # s in which a worker that is busy shows it
_HUNT = 0.5  # s to wait for one that is at work


class Kind(StrEnum):
    """What is killed."""

    WORKER = "Lambda worker"
    SERVICE = "job service"
    KEEPER = "job service and its keeper"
    CLI = "CLI"
    WATCHER = "a job with what watches it"
    PROGRAM = "a job's program"


WEIGHTS = {Kind.WORKER: 50, Kind.SERVICE: 16, Kind.CLI: 16, Kind.WATCHER: 10, Kind.PROGRAM: 8, Kind.KEEPER: 2}
REST = 4.0
"""Seconds that a function, the job service or a user is left alone after a kill: who is killed without a pause never
comes to where a kill could do harm. The job service mostly has them from its new start, which its keeper puts off the
more often it ends: else it would be there for as long as it is not, and the work would wait more than it is cut off."""
YOUNG = 0.2
"""Share of the job service's kills that come as soon as it is back."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    command: tuple[str, ...]


def processes() -> list[Process]:
    """Everything that runs; what ends while it is looked at is left out."""
    found = []
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found.append(Process(int(entry.name), int(fields[1]), tuple(command)))
    return found


def belonging_to(home: Path) -> list[Process]:
    """What runs for the cloud whose folder is ``home``, by its command line or its environment."""
    found = []
    for process in processes():
        with contextlib.suppress(OSError):
            environment = (PROC / str(process.pid) / "environ").read_bytes().decode(errors="replace")
            if process.pid != os.getpid() and str(home) in "\0".join([*process.command, environment]):
                found.append(process)
    return found


def workers(ministack: int) -> dict[int, str]:
    """MiniStack's Lambda workers: pid and function."""
    return {
        process.pid: match[1]
        for process in processes()
        if process.parent == ministack and (match := _WORKER.search(" ".join(process.command)))
    }


def watchers(home: Path, name_ends: str) -> dict[int, Path]:
    """The wrappers of running jobs (not of endpoints) whose names end so: pid and control folder."""
    jobs = str(home / "jobs" / "jobs") + os.sep
    return {
        process.pid: Path(word)
        for process in processes()
        if any(word.endswith("wrap.py") for word in process.command)
        for word in process.command
        if word.startswith(jobs) and word.endswith("/control") and Path(word).parent.name.endswith(name_ends)
    }


def programs(home: Path, name_ends: str) -> list[int]:
    """The programs of those jobs."""
    found = []
    for control in watchers(home, name_ends).values():
        with contextlib.suppress(OSError, ValueError, KeyError):
            pid = int(json.loads((control / "process.json").read_text())["pid"])
            if not (control / "exit.json").exists():  # until then the pid is no other process's
                found.append(pid)
    return found


def busy(pids: list[int]) -> list[int]:
    """Those that were on a processor within the last moment."""
    before = {pid: _cpu_time(pid) for pid in pids}
    time.sleep(_LOOK)
    return [pid for pid in pids if _cpu_time(pid) > before[pid]]


def _soon(look: Callable[[], list[int]]) -> list[int]:
    """What ``look`` finds, as soon as it finds something; empty if it does not within half a second."""
    end = time.monotonic() + _HUNT
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.001)
    return found


def _cpu_time(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return 0


def _age(pid: int) -> float:
    """Seconds since a process began."""
    started = process_start(pid)
    ticks = float(started) if started else float("inf")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def kill(pid: int) -> bool:
    """``kill -9``; False if it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Hunter:
    """Chooses and kills, by a seeded generator."""

    random: random.Random
    home: Path
    ministack: int
    service: Callable[[], int | None]
    """The job service's pid now."""
    keeper: Callable[[], int | None]
    clis: Callable[[], dict[int, str]]
    """The commands that run now: pid and user."""
    _struck: dict[str, float] = field(default_factory=dict)

    def strike(self, kind: Kind) -> str | None:
        """Kill one of ``kind`` and say whom; None if there is none just now."""
        match kind:
            case Kind.WORKER:
                return self._worker()
            case Kind.SERVICE:
                pid = self.service()
                is_ripe = pid is not None and (self.random.random() < YOUNG or _age(pid) >= REST)
                return self._one({pid: "job service"} if pid and is_ripe else {})
            case Kind.KEEPER:
                return self._one({pid: "job service" for pid in [self.keeper()] if pid})
            case Kind.CLI:
                return self._one(self.clis())
            case Kind.WATCHER:
                # Only of first attempts: a stage whose every attempt was killed may fail its run, and rightly.
                return self._one({pid: f"job {pid}" for pid in _soon(lambda: list(watchers(self.home, "-1")))})
            case Kind.PROGRAM:
                return self._one({pid: f"program {pid}" for pid in _soon(lambda: programs(self.home, "-1"))})

    def _worker(self) -> str | None:
        """Mostly one that works at this moment, a little later: in the middle of what it does."""
        known = self._rested(workers(self.ministack))
        at_work: list[int] = []
        if self.random.random() < 0.8:
            at_work = _soon(lambda: busy(list(known)))
            time.sleep(self.random.uniform(0, 0.01))
        return self._one({pid: known[pid] for pid in at_work} or known)

    def _one(self, candidates: dict[int, str]) -> str | None:
        """Kill one of the candidates (pid and name) and say its name."""
        rested = self._rested(candidates)
        victim = self.random.choice(sorted(rested)) if rested else None
        if victim is None or not kill(victim):
            return None
        self._struck[rested[victim]] = time.monotonic()
        return rested[victim]

    def _rested(self, candidates: dict[int, str]) -> dict[int, str]:
        now = time.monotonic()
        return {pid: name for pid, name in candidates.items() if now - self._struck.get(name, -REST) >= REST}
