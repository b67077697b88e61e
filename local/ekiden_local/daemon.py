"""Background processes that are found again: a pid file that a recycled pid cannot deceive."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .state import CloudError, write_text

_POLL = 0.05  # seconds
_TAIL = 15  # lines of a log that explain a failed start


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, pid_file: Path) -> int:
    """Start `argv` detached from this process and record it; returns its pid.

    The log of the start before is kept beside it with the suffix `.1`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the program is one of our own tools
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    write_text(pid_file, json.dumps({"pid": process.pid, "started": started_at(process.pid)}) + "\n")
    # The child is meant to outlive this object; alive() collects its exit status when it ends before us.
    process.returncode = 0
    return process.pid


def running(pid_file: Path) -> int | None:
    """The pid recorded in `pid_file` if that very process still runs; a stale file is removed."""
    try:
        raw = json.loads(pid_file.read_text(encoding="utf-8"))
        pid, started = int(raw["pid"]), raw["started"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pid, started = 0, None
    if 0 < pid < 2**31 and alive(pid) and started_at(pid) == started:
        return pid
    pid_file.unlink(missing_ok=True)
    return None


def alive(pid: int) -> bool:
    """Whether the process runs. One that has ended and waits to be collected, by us or by anybody else, does not."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    # In a container without an init, nobody ever collects a daemon that another process started.
    with contextlib.suppress(OSError, IndexError):
        if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def started_at(pid: int) -> str | None:
    """When the process started, in whatever unit the system tells it; None when it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        with contextlib.suppress(OSError):
            # The command name, in parentheses, may hold anything; field 22 is the 20th after it.
            return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        return None
    answer = subprocess.run(  # noqa: S603
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - systems without /proc; ps is wherever PATH says
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None


def stop(pid_file: Path, *, grace: float, patience: float = 5.0) -> bool:
    """End the recorded process and say whether one ran.

    It is asked first. After `patience` seconds its children are killed, so that a daemon that waits for one of them
    can end in order; after `grace` seconds it is killed itself.
    """
    pid = running(pid_file)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not alive(pid), min(patience, grace)):
        # Again and again: until it ends, it may start others.
        wait_until(lambda: not alive(pid) or _kill_children(pid), grace - patience)
    # The process itself, if it did not listen, and what it left behind: a daemon leads a process group of its own.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), grace)
    pid_file.unlink(missing_ok=True)
    return True


def kill(pid_file: Path) -> None:
    """End the recorded process and its group at once; for a daemon that loses nothing by it."""
    pid = running(pid_file)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), 5.0)
    pid_file.unlink(missing_ok=True)


def _kill_children(leader: int) -> bool:
    """Kill the other processes of the daemon's process group. Always False: there may be more of them."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid="],  # noqa: S607 - ps is wherever PATH says
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for pid, group in (map(int, line.split()) for line in listing.splitlines()):
        if group == leader and pid != leader:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return False


def wait_until(condition: Callable[[], bool], limit: float) -> bool:
    """Ask `condition` every 50 ms for at most `limit` seconds; whether it came true."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def answers(url: str, *, timeout: float = 1.0) -> bool:
    """Whether a GET on `url` is answered with 200. Proxies are ignored: the url is on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return int(response.status) == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


def await_healthy(what: str, pid: int, url: str, log: Path, *, limit: float) -> None:
    """Wait until `url` answers.

    Raises CloudError with the end of the log when the process dies, or is silent for `limit` seconds.
    """
    if wait_until(lambda: answers(url) or not alive(pid), limit) and alive(pid):
        return
    state = f"did not answer within {limit:.0f} s" if alive(pid) else "ended at once"
    raise CloudError(f"{what} {state}.\n{tail(log)}", f"The whole log is {log}.")


def tail(path: Path, lines: int = _TAIL) -> str:
    """The last lines of a text file, each cut at 200 characters; empty when there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(line[:200] for line in text.splitlines()[-lines:])
