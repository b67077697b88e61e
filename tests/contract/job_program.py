"""A container image for the Jobs port's contract: does what the file ``behaviour`` in its input says."""

from __future__ import annotations

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROOT = Path(os.environ.get("EKIDEN_ML_ROOT", "/opt/ml"))


def run() -> int:
    """A processing or training job."""
    (file,) = [*ROOT.glob("processing/input/graph/behaviour"), *ROOT.glob("input/data/graph/behaviour")]
    behaviour = file.read_text()
    print(f"told to {behaviour}", flush=True)
    if behaviour == "succeed":
        print("objective 0.5 (rmse, validation)", flush=True)
    if behaviour == "wait":
        time.sleep(60)
    code = {"succeed": 0, "reject": 65, "stumble": 75, "crash": 1}[behaviour]
    if code in {65, 75}:
        text = {65: "EMPTY_GRAPH: there are no edges", 75: "OUT_OF_SPACE: the disk is full"}[code]
        (ROOT / "output").mkdir(exist_ok=True)
        for name in ("failure", "message"):
            (ROOT / "output" / name).write_text(text)
    return code


class Model(BaseHTTPRequestHandler):
    """A model that rates every pair 3."""

    def do_GET(self) -> None:
        """``/ping``."""
        self._answer(b"")

    def do_POST(self) -> None:
        """``/invocations``."""
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        if b"poison" in lines[0]:
            self._answer(b'{"code": "BAD_PAIR", "message": "no poison"}', 400)
        elif b"fire" in lines[0]:
            self._answer(b'{"code": "BROKEN", "message": "the model is on fire"}', 500)
        else:
            self._answer(b"3,scored\n" * len(lines))

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Model).serve_forever()
    sys.exit(run())
