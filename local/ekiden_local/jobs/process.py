"""Child processes that outlive this service: started once, found again after a restart, their exit never lost."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .atomic import read_json
from .wrap import process_start

_WRAPPER = Path(__file__).with_name("wrap.py")
_WRAPPER_START_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` follows the shell: 128 + n for a process ended by signal n.

    `error` is set where the program could not be started at all, `lost` where nobody saw the end
    (the process that waits for it was itself killed).
    """

    code: int
    error: str | None = None
    lost: bool = False
    ended_at: float = 0.0


def _nothing() -> None:
    return


class Child:
    """A program under `wrap.py`, identified by its control folder.

    `on_exit` is called once, from a thread of its own, as soon as the process is gone.
    """

    def __init__(self, control: Path, wrapper: subprocess.Popen[bytes] | None, on_exit: Callable[[], None]) -> None:
        self._control = control
        self._wrapper = wrapper
        self._on_exit = on_exit
        self._over = threading.Event()
        self.exit: Exit | None = None
        threading.Thread(target=self._await, name=f"await {control.name}", daemon=True).start()

    @classmethod
    def spawn(
        cls,
        control: Path,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[], None] = _nothing,
    ) -> Child:
        """Start `argv` with stdout and stderr appended to `log`; the control folder is emptied first."""
        control.mkdir(parents=True, exist_ok=True)
        for name in ("process.json", "exit.json"):
            (control / name).unlink(missing_ok=True)
        lock = os.open(control / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wrapper = subprocess.Popen(  # noqa: S603 - running the user's program is the purpose
                [sys.executable, "-I", "-S", str(_WRAPPER), str(lock), str(control), str(log), str(cwd), *argv],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(lock,),  # the wrapper inherits the lock: there is no instant at which nobody holds it
                start_new_session=True,
            )
        finally:
            os.close(lock)
        return cls(control, wrapper, on_exit)

    @classmethod
    def adopt(cls, control: Path, on_exit: Callable[[], None] = _nothing) -> Child | None:
        """The child that an earlier service started in this control folder, or None where none ever was."""
        if _locked(control) or (control / "process.json").exists() or (control / "exit.json").exists():
            return cls(control, None, on_exit)
        return None

    def wait(self, timeout: float | None = None) -> Exit | None:
        """How it ended, or None after `timeout` seconds."""
        self._over.wait(timeout)
        return self.exit

    def terminate(self) -> None:
        """SIGTERM to the program, as `docker stop` does: to PID 1, not to its children."""
        self._signal(signal.SIGTERM, group=False)

    def kill(self) -> None:
        """SIGKILL to the program and all that it started."""
        self._signal(signal.SIGKILL, group=True)

    def _signal(self, number: signal.Signals, *, group: bool) -> None:
        deadline = time.monotonic() + _WRAPPER_START_LIMIT
        while not self._over.is_set():
            process = read_json(self._control / "process.json")
            if process is not None:
                # Between the two reads the process may end, but its pid stays taken until exit.json exists.
                if not (self._control / "exit.json").exists():
                    _send(process["pid"], number, group=group)
                return
            if time.monotonic() > deadline:
                return
            self._over.wait(0.005)  # the wrapper is a few milliseconds old and has not started the program yet

    def _await(self) -> None:
        lock = os.open(self._control / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # blocks until the wrapper is gone
        finally:
            os.close(lock)
        if self._wrapper is not None:
            self._wrapper.wait()
        self.exit = _read_exit(self._control)
        self._over.set()
        self._on_exit()


def end_leftover(control: Path) -> None:
    """Kill whatever still runs under a control folder and wait until it is gone."""
    child = Child.adopt(control)
    if child is not None:
        child.kill()
        child.wait(_WRAPPER_START_LIMIT)


def _read_exit(control: Path) -> Exit:
    written = read_json(control / "exit.json")
    if written is not None:
        ended_by = written["signal"]
        code = 128 + ended_by if ended_by is not None else written["code"]
        return Exit(code, written["error"], ended_at=written["at"])
    process = read_json(control / "process.json")
    if process is not None and process["start"] and process_start(process["pid"]) == process["start"]:
        # The wrapper was killed and its program lives on with nobody to record its end.
        _send(process["pid"], signal.SIGKILL, group=True)
    return Exit(128 + signal.SIGKILL, lost=True, ended_at=time.time())


def _send(pid: int, number: signal.Signals, *, group: bool) -> None:
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _locked(control: Path) -> bool:
    try:
        lock = os.open(control / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)
