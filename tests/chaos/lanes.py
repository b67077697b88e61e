"""Users who run pipelines and score pairs, over and over, and repeat a command that was killed under their hands."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.programs import score_of

PAIRS = 40
RESULT = ["source", "target", "score", "status"]


@dataclass(frozen=True, slots=True)
class Done:
    """A request that came to its end: ``name`` is the run's id, or the score request's."""

    request_id: str
    name: str
    status: str
    seconds: float


@dataclass
class Lane(threading.Thread):
    """One user. ``env`` is the environment of the CLI, ``patience`` the seconds a request may take."""

    number: int
    folder: Path
    env: dict[str, str]
    patience: float
    over: threading.Event
    runs: list[Done] = field(default_factory=list)
    scores: list[Done] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    repeated: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        super().__init__(name=f"{type(self).__name__} {self.number}", daemon=True)
        self._current: subprocess.Popen[str] | None = None

    __hash__ = threading.Thread.__hash__

    @property
    def endpoint(self) -> str:
        """Each number has an endpoint of its own: deployments to one must wait for each other."""
        return f"lane-{self.number}"

    @property
    def pid(self) -> int | None:
        """The CLI process that runs now."""
        current = self._current
        return current.pid if current is not None and current.poll() is None else None

    def run(self) -> None:
        """Go on until told to stop; what has begun is brought to its end."""
        self.folder.mkdir(parents=True)
        turn = 0
        while not self.over.is_set() and not self.troubles:
            turn += 1
            self.take(turn)

    def take(self, turn: int) -> None:
        """One request, from its beginning to its end."""
        raise NotImplementedError

    def _ekiden(self, *words: str | Path) -> dict[str, Any] | None:
        """The command's JSON document. It is repeated while it is killed, or cannot reach what was killed."""
        end = time.monotonic() + self.patience
        while True:
            self._current = subprocess.Popen(
                [sys.executable, "-m", "ekiden_cli", *map(str, words)],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                out, err = self._current.communicate(timeout=max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._current.kill()
                out, err = self._current.communicate()
            code = self._current.returncode
            if code == 0 or (code == 1 and '"stages"' in out):
                view: dict[str, Any] = json.loads(out)
                return view
            if time.monotonic() > end:
                said = f"{out}{err}"[-400:].replace("\n", " ")
                self.troubles.append(f"ekiden {' '.join(map(str, words))} did not end: {code} {said}")
                return None
            if code == -signal.SIGKILL:
                self.repeated += 1
            else:
                self.refused += 1
                (self.folder / "refused.log").open("a").write(f"{words}: {code}\n{out}{err}\n")
                time.sleep(1.0)  # as a person would, who reads what it says and tries again


class Runner(Lane):
    """Runs pipelines."""

    graph: str = ""

    def take(self, turn: int) -> None:
        """One run."""
        began, request_id = time.monotonic(), f"{self.endpoint}-run-{turn}"
        view = self._ekiden("run", self._spec(), "--watch", "--json", "--request-id", request_id)
        if view is not None:
            self.runs.append(Done(request_id, view["run_id"], view["status"], time.monotonic() - began))
            if view["status"] != "SUCCEEDED":
                self.troubles.append(f"run {view['run_id']} is {view['status']}: {view['error']}")

    def _spec(self) -> Path:
        path = self.folder / "spec.json"
        target = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
        spec = {"version": 1, "name": self.endpoint, "graph": {"source": self.graph}, "targets": [target]}
        path.write_text(json.dumps(spec))
        return path


class Scorer(Lane):
    """Has pairs scored by the endpoint of its number, once that is there."""

    ready: Callable[[], bool] = staticmethod(lambda: True)

    def take(self, turn: int) -> None:
        """One score request, and a look at what came back."""
        if not self.ready():
            time.sleep(0.2)
            return
        began, request_id = time.monotonic(), f"{self.endpoint}-score-{turn}"
        pairs, out = self.folder / "pairs.csv", self.folder / f"{request_id}.csv"
        wanted = [[f"user-{self.number}-{row}", f"movie-{row % 7}"] for row in range(PAIRS)]
        with pairs.open("w", newline="") as text:
            csv.writer(text, lineterminator="\n").writerows([["source", "target"], *wanted])
        where = ("--endpoint", self.endpoint, "--pairs", pairs, "--out", out)
        view = self._ekiden("score", *where, "--json", "--request-id", request_id)
        if view is None:
            return
        self.scores.append(Done(request_id, view["request_id"], view["status"], time.monotonic() - began))
        with out.open(newline="") as text:
            found = list(csv.reader(text))
        if found != [RESULT, *([*pair, score_of(",".join(pair)), "scored"] for pair in wanted)]:
            self.troubles.append(f"scores of {request_id} are not those of its pairs: {found[:3]}…")
