"""The engine, but a pipeline called `moody` meets a passing trouble at the first attempt of each of its jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TEMPORARY = 75

if __name__ == "__main__":
    root = Path(os.environ["EKIDEN_ML_ROOT"])
    # The job's name ends with the attempt's number; a server has no job.
    if os.environ.get("EKIDEN_RUN_ID", "").startswith("moody-") and root.parent.name.endswith("-export-1"):
        for file in ("failure", "message"):
            (root / "output" / file).write_text("NO_SPACE: the disk is full just now")
        sys.exit(TEMPORARY)
    os.execv(sys.executable, [sys.executable, "-m", "ekiden_engine", *sys.argv[1:]])
