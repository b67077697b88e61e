"""The engine's stages and its server as tiny programs, so that a run takes a second or two of real processes.

Run as ``python -I -S programs.py FOLDER export|process|train|serve``. Each start is a file of its own in
``FOLDER/starts``, each end one in ``FOLDER/ends``: what the jobs themselves tell of how often they ran, and when.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BEFORE = {"process": "export", "train": "process"}
BAD_DATA = 65


def note(folder: Path, job: str) -> None:
    """One more file named ``<job>.<nanoseconds>.<pid>``."""
    folder.mkdir(parents=True, exist_ok=True)
    os.close(os.open(folder / f"{job}.{time.time_ns()}.{os.getpid()}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def work(folder: Path, root: Path, stage: str) -> int:
    """Reads what the stage before left, takes its time, and leaves something with a manifest."""
    job, run_id = root.parent.name, os.environ["EKIDEN_RUN_ID"]
    note(folder / "starts", job)
    print(f"{stage} of {run_id} began")
    before = None
    if stage in BEFORE:
        found = root / ("input/data/processed" if stage == "train" else "processing/input/export") / "result.json"
        before = json.loads(found.read_text())
        if (before["run_id"], before["stage"]) != (run_id, BEFORE[stage]):
            (root / "output/failure").write_text(f"OUT_OF_ORDER: {found.name} tells of {before}")
            (root / "output/message").write_text(f"OUT_OF_ORDER: {found.name} tells of {before}")
            return BAD_DATA
    time.sleep(0.05 + zlib.crc32(job.encode()) % 250 / 1000)
    out = root / {"export": "processing/output/export", "process": "processing/output/processed"}.get(stage, "model")
    out.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"run_id": run_id, "stage": stage, "job": job, "before": before and before["job"]})
    (out / "result.json").write_text(body)
    (out / "manifest.json").write_text(json.dumps({"result.json": hashlib.sha256(body.encode()).hexdigest()}))
    if stage == "train":
        (out / "evaluation.json").write_text(json.dumps({"evaluated_on": "test", "count": 1, "rmse": 1.0}))
    print(f"{stage} of {run_id} ended")
    note(folder / "ends", job)
    return 0


def score_of(line: str) -> str:
    """What the server makes of a pair: a score that anybody can compute again."""
    return f"{1 + zlib.crc32(line.encode()) % 400 / 100:.6g}"


def serve(port: int) -> None:
    """Answers pairs as CSV lines with a score each."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
            self._answer("".join(f"{score_of(line)},scored\n" for line in lines).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main() -> int:
    """One stage, or the server."""
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "serve":
        serve(int(os.environ["SAGEMAKER_BIND_TO_PORT"]))
        return 0
    return work(folder, Path(os.environ["EKIDEN_ML_ROOT"]), mode)


if __name__ == "__main__":
    sys.exit(main())
