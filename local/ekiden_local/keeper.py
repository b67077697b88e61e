"""Keeps a service running: starts it again when it was killed.

Run as ``python -I -S keeper.py PROGRAM [ARGUMENT…]``. It imports little and stays small: it does nothing but wait.

SIGTERM and SIGINT are passed on, and end both. A service that cannot even begin is not started again. It gets the
reading end of a pipe as its standard input and ends when the keeper dies, so that there never is a service that nobody
keeps, in the way of the next one.
"""

import signal
import subprocess
import sys
import time
from types import FrameType

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # s before a new start; a service that keeps dying is started ever more slowly
_LONG_LIFE = 30.0  # s after which an end counts as the first one again


def main(command: list[str]) -> int:
    """Keep `command` running until it ends by itself or is asked to. Returns its exit code."""
    service: subprocess.Popen[bytes] | None = None
    asked: int | None = None
    pause = _FIRST_PAUSE
    began_once = False

    def pass_on(number: int, _: FrameType | None) -> None:
        nonlocal asked
        asked = number
        if service is not None:
            service.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        began = time.monotonic()
        service = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - what it is for
        if asked is not None:
            service.send_signal(asked)  # it came before there was anybody to pass it on to
        code = service.wait()
        if service.stdin is not None:
            service.stdin.close()
        if asked is not None or code == 0 or (code > 0 and not began_once):
            return max(code, 0)
        began_once = True
        pause = _FIRST_PAUSE if time.monotonic() - began > _LONG_LIFE else min(_LONGEST_PAUSE, pause)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        _say(f"the service ended with {how}; starting it again in {pause:.1f} s")
        time.sleep(pause)
        if asked is not None:
            return 0
        pause *= 2


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
