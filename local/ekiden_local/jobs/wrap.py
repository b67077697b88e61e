"""Stands between the job service and a job's process, so that the exit code reaches the disk whoever dies meanwhile.

Run as ``python -I -S wrap.py LOCK CONTROL LOG CWD PROGRAM [ARGUMENT…]`` with the job's environment. It imports nothing
outside the standard library and little of that: its start is part of every job's start.

The service hands over an open, flock-ed descriptor of ``CONTROL/lock``. The lock lives exactly as long as this process,
which gives the service (the one that started us or the next one) both "is it alive?" and a wake-up at the exit
without polling. Files written: ``process.json`` {pid, start} before the program runs, ``exit.json``
{code, signal, error, at} once it ended.

Whenever this process is killed, the service finds the program or there is none: the child that is to become the program
holds the lock until then, and becomes it only after its pid is on disk and its parent was still there.
"""

import os
import signal
import sys
import time

_KEPT_OFF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot; with the pid it names a process for good. "" without /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field, the program's name, may hold spaces and brackets.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path + ".tmp", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)


def _find(program: str) -> str:
    if "/" in program:
        return program
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(folder, program)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise FileNotFoundError(2, "No such file or directory", program)


def _become(program: str, argv: list[str], control: str, log: int, tell: int, wrapper: int) -> None:
    """In the child: be known, then be the program. Never returns."""
    try:
        for number in _KEPT_OFF:
            signal.signal(number, signal.SIG_DFL)  # from here on a stop is meant for the program
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        pid = os.getpid()
        _write(os.path.join(control, "process.json"), f'{{"pid":{pid},"start":"{process_start(pid)}"}}')
        if os.getppid() == wrapper:
            os.execv(program, argv)  # noqa: S606 - running it is the purpose
    except OSError as failure:
        os.write(tell, str(failure.errno).encode())
    finally:
        os._exit(127)


def main() -> None:
    """Start the program, record its pid, wait, record how it ended."""
    lock, control, log, cwd, *argv = sys.argv[1:]
    os.set_inheritable(int(lock), False)  # ours alone: the program must not keep the lock beyond our end
    for number in _KEPT_OFF:
        # A handler, not SIG_IGN: exec resets handlers to the default but hands SIG_IGN down to the program.
        signal.signal(number, lambda *_: None)
    code, ended_by, error = "null", "null", "null"
    try:
        os.chdir(cwd)
        program = _find(argv[0])
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        told, tell = os.pipe()  # closed by a successful exec
        wrapper = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(program, argv, control, log_fd, tell, wrapper)
        os.close(tell)
        refusal = int(os.read(told, 16) or 0)
        if refusal:
            raise OSError(refusal, os.strerror(refusal), argv[0])
    except OSError as failure:
        import json

        code, error = "127", json.dumps(f"{failure.strerror}: {failure.filename or argv[0]}")
    else:
        # WNOWAIT: the pid must not go to another process before exit.json says that it is free. It is never reaped
        # here; init does that once we are gone.
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:  # noqa: SIM105 - every import here delays the start of every job
            os.killpg(pid, signal.SIGKILL)  # as in a container: what PID 1 leaves behind dies with it
        except OSError:
            pass
        if ended is not None and ended.si_code != os.CLD_EXITED:
            ended_by = str(ended.si_status)
        elif ended is not None:
            code = str(ended.si_status)
    _write(
        os.path.join(control, "exit.json"),
        f'{{"code":{code},"signal":{ended_by},"error":{error},"at":{time.time():.3f}}}',
    )
    os._exit(0)  # no interpreter shutdown: the service is waiting for the lock


if __name__ == "__main__":
    main()
