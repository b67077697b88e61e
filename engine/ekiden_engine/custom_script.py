"""Runs a user's script as a child process: its lines go to the job's log, its metrics to the progress."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from ekiden_engine.errors import BadData
from ekiden_engine.log import log

TAIL = 8
"""Last lines of a script's standard error that its failure repeats."""
MAX_LINE = 300
GRACE_S = 90.0
"""Seconds from SIGTERM to SIGKILL for the script: less than the 120 that SageMaker gives the job."""
_LOOK_S = 0.2
_DRAIN_S = 2.0
"""Seconds without a line after which a script that has ended is not listened to any more: what it left running holds
its streams open."""


def run_script(
    script: Path,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None] = lambda line: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> bool:
    """Run `python script arguments` in `folder`; True if it ended by itself, False if it was asked to stop.

    `on_line` sees every line of either stream, in this thread; if it raises, the script is ended.
    Raises `BadData` CUSTOM_SCRIPT_FAILED with the exit code and the last lines of standard error.
    """
    command = [sys.executable, "-u", str(script), *arguments]
    process = subprocess.Popen(  # noqa: S603 - running the user's script is the purpose
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: queue.Queue[tuple[bool, str] | None] = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(stream, is_error, lines), daemon=True)
        for stream, is_error in ((process.stdout, False), (process.stderr, True))
    ]
    for reader in readers:
        reader.start()
    tail: deque[str] = deque(maxlen=TAIL)
    told = False
    killer: threading.Timer | None = None
    try:
        open_streams, silent = len(readers), 0.0
        while open_streams and silent < _DRAIN_S:
            if not told and stop_requested():
                told = True
                _signal(process, signal.SIGTERM)
                killer = threading.Timer(GRACE_S, _signal, (process, signal.SIGKILL))
                killer.start()
            try:
                entry = lines.get(timeout=_LOOK_S)
            except queue.Empty:
                silent = silent + _LOOK_S if process.poll() is not None else 0.0
                continue
            silent = 0.0
            if entry is None:
                open_streams -= 1
                continue
            is_error, line = entry
            log(line)
            if is_error and line.strip():
                tail.append(line.strip()[:MAX_LINE])
            on_line(line)
        code = process.wait()
    finally:
        if killer is not None:
            killer.cancel()
        _signal(process, signal.SIGKILL)  # the group: also what the script left behind
        process.wait()
    if code and not told:
        raise BadData("CUSTOM_SCRIPT_FAILED", f"{script.name} {_ending(code)}: {' | '.join(tail) or 'it said nothing'}")
    return not told


class MetricReader:
    """Finds metrics in lines, as SageMaker finds them in a training job's log."""

    def __init__(self, regexes: Sequence[tuple[str, str]]) -> None:
        """Name and expression, with one group around the number."""
        self._regexes = [(name, re.compile(regex)) for name, regex in regexes]

    def read(self, line: str) -> list[tuple[str, float]]:
        """Metrics in a line; text that is no number is no value."""
        found = []
        for name, regex in self._regexes:
            match = regex.search(line)
            try:
                value = float(match[1]) if match else None
            except (TypeError, ValueError):
                value = None
            if value is not None and abs(value) < float("inf"):
                found.append((name, value))
        return found


def install_requirements(source: Path, packages: Path) -> None:
    """`pip install` what `source/requirements.txt` names into the folder `packages`, once; nothing without the file.

    Raises `BadData` REQUIREMENTS_NOT_INSTALLED with pip's last lines.
    """
    file = source / "requirements.txt"
    if not file.is_file() or (packages / ".installed").exists():
        return
    log(f"installing {file.name}")
    packages.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "1", "--timeout", "15"]
    done = subprocess.run(  # noqa: S603 - the user's own requirements
        [*command, "--target", str(packages), "--requirement", str(file)],
        cwd=source,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = [line.strip()[:MAX_LINE] for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise BadData(
            "REQUIREMENTS_NOT_INSTALLED",
            f"pip could not install requirements.txt: {' | '.join(said[-3:]) or 'it said nothing'}. A job without a "
            "way to a package index installs from files: put wheels beside the scripts and begin requirements.txt with "
            "--no-index --find-links ./wheels",
        )
    (packages / ".installed").touch()


def _read(stream: IO[str] | None, is_error: bool, lines: queue.Queue[tuple[bool, str] | None]) -> None:
    if stream is not None:
        with stream:
            for line in stream:
                lines.put((is_error, line.rstrip("\n")))
    lines.put(None)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except (ProcessLookupError, PermissionError):
        return


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"was ended by signal {-code}{hint}"
