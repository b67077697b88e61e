"""Run a command within a limit of memory, and say what it took.

    python measured.py GIB COMMAND ...

The last line printed is JSON: wall seconds, processor seconds, and the peak of resident memory in MiB. This runs as a
small process of its own because Linux lets a child begin with the peak of the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> int:
    """Run it; the exit status is the command's."""
    limited = ["sh", "-c", f'ulimit -v {int(sys.argv[1]) << 20}; exec "$@"', "sh", *sys.argv[2:]]
    started = time.perf_counter()
    child = subprocess.Popen(limited, stdout=sys.stderr)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }
    print(json.dumps(found))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
