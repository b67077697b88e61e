"""An embedded cloud under work, and somebody who kills its processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from botocore.exceptions import BotoCoreError, ClientError

from ekiden_local import daemon, ports, supervisor
from ekiden_local.deploy import client
from ekiden_local.state import Cloud, home_of, project_root
from tests.chaos import programs
from tests.chaos.alarm import Operator, parked
from tests.chaos.evidence import keep
from tests.chaos.lanes import Lane, Runner, Scorer
from tests.chaos.sabotage import unnoticed
from tests.chaos.verdict import Verdict, judge
from tests.chaos.victims import WEIGHTS, Hunter, Kind, belonging_to, watchers

NAME = "chaos"
FIRST_PORT = 4800
GRAPH = {
    "users.csv": "~id,~label\nu1,user\n",
    "movies.csv": "~id,~label\nm1,movie\n",
    "rated.csv": "~id,~from,~to,~label,rating:Double\ne1,u1,m1,rated,3\n",
}
RECONCILER = "ekiden-reconcile-jobs"
KILLS_PER_STEP = 4
"""Kills without a step forward, anywhere, after which the next one waits for a step: on a machine that has much else to
do, work that is killed faster than it moves would tell nothing."""
STEP_LIMIT = 15.0
UP_LIMIT = 120.0
WARM_UP = 45.0
"""Seconds after which everybody has been through a first run, on two idle cores. Where that takes longer everything
does, and everybody has as much more patience."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How hard it storms. Durations in seconds.

    ``visibility`` shortens the visibility timeout of the queues whose names hold its keys: a killed worker's messages
    come back after it. ``sweep`` calls the reconciler that often besides its schedule. ``alarm`` looks that often
    at the dead-letter queues. ``keep`` is a folder for the evidence of a storm that broke something.
    """

    kills: int
    seed: int
    runners: int
    scorers: int
    pace: float
    patience: float
    visibility: Mapping[str, int] = field(default_factory=dict)
    sweep: float | None = None
    alarm: float = 60.0
    keep: Path | None = None


@dataclass(slots=True)
class Report:
    """What happened."""

    verdict: Verdict
    kills: Counter[Kind] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    """Lambda workers killed, by function."""
    troubles: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    """What the verdict would not have noticed."""
    cut_off: int = 0
    """Invocations that a kill ended: in the handler, or while its worker started."""
    repeated: int = 0
    """CLI commands repeated because they were killed."""
    refused: int = 0
    """CLI commands repeated because they ended with an error."""
    parked: int = 0
    """Messages in dead-letter queues at the end."""
    redriven: int = 0
    """Messages of dead-letter queues that an operator sent again."""
    patience: float = 0.0
    """Seconds that a request was given."""
    struck: list[str] = field(default_factory=list)
    """When and whom."""
    run_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def violations(self) -> list[str]:
        """Everything that must not be."""
        return [*self.troubles, *self.verdict.violations, *(f"not noticed: {what}" for what in self.blind)]


@dataclass
class Storm:
    """One storm in one cloud, in ``folder``."""

    settings: Settings
    folder: Path
    say: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.notes = self.folder / "notes"
        self.checkout = self.folder / "checkout"
        self.over = threading.Event()
        self.lanes: list[Lane] = []

    def run(self) -> Report:
        """Bring the cloud up, let it work and kill, wait for every command's end, and judge."""
        self._copy()
        images = self.folder / "images.json"
        command = [sys.executable, "-I", "-S", programs.__file__, str(self.notes)]
        images.write_text(json.dumps({"images": {"ekiden-engine:*": {"command": command, "program": "ekiden-engine"}}}))
        port = ports.choose(None, FIRST_PORT)
        # A home of its own, but for the builds: one of this very code may lie ready.
        builds = home_of(NAME).root / "build"
        builds.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(parents=True)
        (self.home / "build").symlink_to(builds)
        with mock.patch.object(supervisor, "project_root", return_value=self.checkout):
            try:
                cloud = supervisor.up(NAME, port=port, home=self.home, images=images, on_progress=self.say)
                report = self._storm(cloud)
            finally:
                self.over.set()
                supervisor.down(NAME, home=self.home, purge=True)
        left = [f"pid {p.pid} is left of the cloud: {' '.join(p.command)[:150]}" for p in belonging_to(self.home)]
        report.verdict.running += left
        return report

    def _copy(self) -> None:
        """A copy of the code: who edits it meanwhile does not change what works here."""
        for part in ("cli", "engine", "functions", "layers", "local"):
            shutil.copytree(project_root() / part, self.checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("template.yaml", "samconfig.toml"):
            shutil.copy(project_root() / file, self.checkout)
        (self.checkout / ".tools").symlink_to(project_root() / ".tools")

    def _storm(self, cloud: Cloud) -> Report:
        began = time.monotonic()
        self._prepare(cloud)
        if self.settings.sweep is not None:
            threading.Thread(target=self._sweep, args=(cloud, self.settings.sweep), daemon=True).start()
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "EKIDEN_HOME": str(self.home),
            "EKIDEN_CLOUD": NAME,
            "PYTHONPATH": os.pathsep.join(str(self.checkout / part) for part in ("layers/shared", "local", "cli")),
        }
        operator = Operator(cloud, environment, self.settings.alarm, self.over)
        operator.start()
        stop = threading.Event()
        for number in range(self.settings.runners):
            runner = Runner(number, self.folder / f"runner-{number}", environment, self.settings.patience, stop)
            runner.graph = f"s3://{cloud.data_bucket}/graphs/chaos/"
            self.lanes.append(runner)
            if number < self.settings.scorers:
                scorer = Scorer(number, self.folder / f"scorer-{number}", environment, self.settings.patience, stop)
                scorer.ready = partial(bool, runner.runs)
                self.lanes.append(scorer)
        for lane in self.lanes:
            lane.start()
        report = Report(Verdict())
        self._kill(cloud, environment, report)
        stop.set()
        self.say(f"{sum(report.kills.values())} kills done; waiting for what has begun")
        for lane in self.lanes:
            lane.join(2 * report.patience + 30)
        report.troubles += [f"{lane.name} did not end" for lane in self.lanes if lane.is_alive()]
        report.troubles += [trouble for lane in self.lanes for trouble in lane.troubles]
        for trouble in report.troubles:
            self.say(trouble)
        self._settle(cloud, report)
        report.verdict = judge(cloud, self.lanes, self.notes)
        report.blind = unnoticed(cloud, self.lanes, self.notes)
        report.verdict.running += [f"job wrapper {pid} runs on" for pid in watchers(Path(cloud.home), "")]
        report.repeated = sum(lane.repeated for lane in self.lanes)
        report.refused = sum(lane.refused for lane in self.lanes)
        report.run_seconds = sorted(done.seconds for lane in self.lanes for done in lane.runs)
        log = (Path(cloud.home) / "logs/ministack.log").read_text()
        report.cut_off = log.count(" failed processing ") + log.count("Warm worker execution error")
        report.parked, report.redriven = parked(cloud), operator.redriven
        if self.settings.keep and report.violations:
            keep(cloud, self.lanes, self.notes, report.struck, self.settings.keep)
            self.say(f"evidence: {self.settings.keep}")
        report.seconds = time.monotonic() - began
        self.say("everything has ended; stopping the cloud")
        return report

    def _prepare(self, cloud: Cloud) -> None:
        for file, text in GRAPH.items():
            client("s3", cloud.endpoint_url).put_object(
                Bucket=cloud.data_bucket, Key=f"graphs/chaos/{file}", Body=text.encode()
            )
        sqs = client("sqs", cloud.endpoint_url)
        for url in sqs.list_queues()["QueueUrls"]:
            for name, seconds in self.settings.visibility.items():
                if name in url:
                    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})

    def _kill(self, cloud: Cloud, environment: dict[str, str], report: Report) -> None:
        chance = random.Random(self.settings.seed)
        hunter = Hunter(
            chance,
            Path(cloud.home),
            cloud.pids["ministack"],
            lambda: _service(cloud),
            lambda: daemon.running(home_of(NAME, self.home).pid_file("jobs")),
            lambda: {pid: lane.name for lane in self.lanes if (pid := lane.pid) is not None},
        )
        # Once everybody has been through a run, there is something to kill everywhere.
        began = time.monotonic()
        daemon.wait_until(self._warm, self.settings.patience)
        slowness = max(1.0, (time.monotonic() - began) / WARM_UP)
        report.patience = self.settings.patience * slowness
        for lane in self.lanes:
            lane.patience = report.patience
        said, steps, idle = time.monotonic(), self._steps(), 0
        while sum(report.kills.values()) < self.settings.kills and not self._in_trouble():
            (kind,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            killed = hunter.strike(kind)
            if killed is None:
                time.sleep(0.02)
                continue
            report.kills[kind] += 1
            report.struck.append(f"{time.time():.3f} {kind.value}: {killed}")
            if idle >= KILLS_PER_STEP:
                daemon.wait_until(partial(self._has_moved, steps), STEP_LIMIT * slowness)
            steps, before = self._steps(), steps
            idle = idle + 1 if steps == before else 0
            time.sleep(chance.expovariate(1 / self.settings.pace))
            if kind is Kind.WORKER:
                report.functions[killed] += 1
            if kind is Kind.KEEPER:
                # Nobody keeps the keeper: a person sees it and says `ekiden up`.
                report.troubles += _bring_up(environment)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                runs, scores = sum(len(lane.runs) for lane in self.lanes), sum(len(lane.scores) for lane in self.lanes)
                self.say(f"{sum(report.kills.values())} kills, {runs} runs and {scores} score requests ended")

    def _warm(self) -> bool:
        return self._in_trouble() or all(lane.runs or lane.scores for lane in self.lanes)

    def _has_moved(self, seen: int) -> bool:
        return self._steps() != seen

    def _steps(self) -> int:
        """How far all the work has come."""
        marks = sum(1 for folder in ("starts", "ends") for _ in (self.notes / folder).glob("*"))
        return marks + sum(len(lane.runs) + len(lane.scores) for lane in self.lanes)

    def _in_trouble(self) -> bool:
        return any(lane.troubles for lane in self.lanes)

    def _sweep(self, cloud: Cloud, pause: float) -> None:
        functions = client("lambda", cloud.endpoint_url)
        while not self.over.wait(pause):
            with contextlib.suppress(ClientError, BotoCoreError):
                functions.invoke(FunctionName=RECONCILER, Payload=b"{}")

    def _settle(self, cloud: Cloud, report: Report) -> None:
        """The ledger says that all is over; the job service has a moment to agree."""

        def idle() -> bool:
            health = _health(cloud)
            return health is not None and health["jobs"] == {"running": 0, "pending": 0} and not health["unsent_events"]

        if not daemon.wait_until(idle, 30):
            report.troubles.append(f"the job service is not idle 30 s after the last run: {_health(cloud)}")


def _bring_up(environment: dict[str, str]) -> list[str]:
    """`ekiden up`; what is wrong with it."""
    up = [sys.executable, "-m", "ekiden_cli", "up", "--name", NAME]
    try:
        done = subprocess.run(up, env=environment, capture_output=True, text=True, timeout=UP_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [f"`ekiden up` takes longer than {UP_LIMIT:g} s"]
    return [] if done.returncode == 0 else [f"`ekiden up` did not repair the cloud: {done.stderr[-300:]}"]


def _health(cloud: Cloud) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{cloud.sagemaker_url}/health", timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except OSError:
        return None


def _service(cloud: Cloud) -> int | None:
    health = _health(cloud)
    return int(health["pid"]) if health else None
