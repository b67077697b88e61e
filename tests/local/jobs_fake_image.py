"""Programs that stand for container images in the job service's tests; the first argument chooses one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(os.environ["EKIDEN_ML_ROOT"])


def copy() -> int:
    """Training: the channels' files, one after the other, are the model; the environment is the output data."""
    print("epoch 1/1")
    parts = [f"{p.relative_to(ROOT)}={p.read_text()}" for p in sorted((ROOT / "input/data").rglob("*")) if p.is_file()]
    (ROOT / "model/sub").mkdir()
    (ROOT / "model/model.txt").write_text("\n".join(parts))
    (ROOT / "model/sub/config.json").write_text((ROOT / "input/config/hyperparameters.json").read_text())
    seen = {"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd()}
    seen["files"] = {p.name: json.loads(p.read_text()) for p in (ROOT / "input/config").iterdir()}
    (ROOT / "output/data/seen.json").write_text(json.dumps(seen))
    return 0


def tune() -> int:
    """Training with a quality that is a formula of its hyperparameters: best at x = 3, and better with kind b.

    A file GATE holds it back; x above FAIL_ABOVE fails.
    """
    given = json.loads((ROOT / "input/config/hyperparameters.json").read_text())
    gate = os.environ.get("GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    if float(given["x"]) > float(os.environ.get("FAIL_ABOVE", "inf")):
        (ROOT / "output/failure").write_text("BAD_HYPERPARAMETERS: x is too large")
        return 65
    error = (float(given["x"]) - 3) ** 2 + {"a": 1.0, "b": 0.0}[given["kind"]]
    print("loss=99.5")  # an earlier epoch's: the last one counts
    print(f"epoch 2 loss={error:.6f} done")
    (ROOT / "model/model.txt").write_text(json.dumps(given))
    return 0


def process() -> int:
    """Processing: counts the bytes of each input file."""
    inputs = ROOT / "processing/input"
    counts = {str(p.relative_to(inputs)): p.stat().st_size for p in sorted(inputs.rglob("*")) if p.is_file()}
    target = ROOT / "processing/output/counts"
    (target / "deep").mkdir(parents=True)
    (target / "deep/counts.json").write_text(json.dumps(counts))
    config = json.loads((ROOT / "config/processingjobconfig.json").read_text())
    hosts = json.loads((ROOT / "config/resourceconfig.json").read_text())["hosts"]
    seen = {"argv": sys.argv[2:], "config": config, "hosts": hosts, "arn": os.environ["PROCESSING_JOB_ARN"]}
    (target / "seen.json").write_text(json.dumps(seen))
    (ROOT / "output/message").write_text(f"{len(counts)} files counted")
    return 0


def fail() -> int:
    """Says why, and ends with the exit code for bad data."""
    text = "DANGLING_EDGE: edge e1 points to a vertex that does not exist"
    (ROOT / "output/failure").write_text(text)
    (ROOT / "output/message").write_text(text)
    print("about to fail")
    return 65


def wait() -> int:
    """Runs until a file appears (or SIGTERM comes), then writes a model. Says which pid it is."""
    stubborn = os.environ.get("STUBBORN") == "1"
    gate = Path(os.environ["GATE"])
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = not stubborn

    signal.signal(signal.SIGTERM, stop)
    (gate.parent / f"{gate.name}.pid").write_text(str(os.getpid()))
    while not stopped and not gate.exists():
        time.sleep(0.005)
    (ROOT / "model").mkdir(exist_ok=True)
    (ROOT / "model/model.txt").write_text("saved on SIGTERM" if stopped else "done")
    return 0


def keep() -> int:
    """Training with checkpoints: counts its starts, deletes one called old, waits for GATE; FAIL ends it badly."""
    folder = ROOT / "checkpoints"
    count = folder / "deep/count.txt"
    count.parent.mkdir(exist_ok=True)
    count.write_text(str(int(count.read_text()) + 1) if count.exists() else "1")
    (folder / "old").unlink(missing_ok=True)
    gate = os.environ.get("GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    (ROOT / "model/model.txt").write_text(count.read_text())
    return 75 if os.environ.get("FAIL") else 0


def serve() -> int:
    """A model server; what the body says decides how it answers."""
    if os.environ.get("BROKEN") == "1":
        print("MODEL_MISSING: no model here")
        return 65
    files = sorted(p for p in (ROOT / "model").rglob("*") if p.is_file())
    model = files[0].read_text() if files else ""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(200, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if body == b"crash":
                os._exit(3)
            if body == b"bad":
                self._answer(400, b'{"code":"BAD_PAIR","message":"no such column"}')
            elif body == b"model":
                self._answer(200, model.encode())
            elif body == b"pid":
                self._answer(200, str(os.getpid()).encode())
            elif body == b"headers":
                self._answer(200, json.dumps(dict(self.headers)).encode())
            elif body.startswith(b"slow"):
                time.sleep(0.3)
                self._answer(200, model.encode())
            else:
                self._answer(200, body)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", self.headers.get("Accept") or "text/plain")
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", "seen")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(
        {"copy": copy, "tune": tune, "process": process, "fail": fail, "wait": wait, "keep": keep, "serve": serve}[
            sys.argv[1]
        ]()
    )
