"""Processes to try the supervisor on."""

from __future__ import annotations

import os
import subprocess
import sys

from ekiden_local import daemon
from ekiden_local.state import Home


def start_sleeper(home: Home, script: str = "import time; print('up', flush=True); time.sleep(60)") -> int:
    """A daemon that sleeps, or runs `script`; its pid file is called `sleeper`."""
    home.path.mkdir(parents=True, exist_ok=True)
    return daemon.spawn(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"]},
        cwd=home.path,
        log=home.logs / "sleeper.log",
        pid_file=home.pid_file("sleeper"),
    )


def still_runs(pid: int) -> bool:
    """Whether a process that is not our child runs; one that nobody has collected yet does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() not in ("", "Z", "Zs")
