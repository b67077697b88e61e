"""The two processes of an embedded cloud: MiniStack, and the job service that speaks SageMaker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import daemon, ministack, ports
from .jobs.process import end_leftover
from .state import CloudError, Home, locked, session_env, write_text

MINISTACK = "ministack"
JOBS = "jobs"

_JOBS_START_LIMIT = 30.0  # seconds
_JOBS_STOP_LIMIT = 40.0  # it ends its jobs and endpoints first


@dataclass(frozen=True, slots=True)
class Settings:
    """What the processes of a cloud were started with."""

    port: int
    jobs_port: int
    auth: bool

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service but SageMaker is."""
        return ministack.url(self.port)

    @property
    def sagemaker_url(self) -> str:
        """Where SageMaker and its runtime are."""
        return ministack.url(self.jobs_port)


def ensure(
    home: Home,
    project: Path,
    *,
    port: int | None,
    jobs_port: int | None,
    auth: bool,
    progress: Callable[[str], None],
) -> Settings:
    """Both processes running and answering; only what does not run is started.

    Raises CloudError where they run with other settings than the ones asked for, or do not start.
    """
    last = recorded(home)
    if last is not None and _answers(home, MINISTACK, f"{last.endpoint_url}/_ministack/health"):
        wanted = Settings(port or last.port, jobs_port or last.jobs_port, auth)
        if wanted != last:
            raise CloudError(
                f"The cloud {home.name!r} already runs on the ports {last.port} and {last.jobs_port}"
                f" with IAM {'enforced' if last.auth else 'not enforced'}.",
                f"Stop it with `ekiden down --name {home.name}`, or take another --name to run a second one.",
            )
        if not _answers(home, JOBS, f"{last.sagemaker_url}/health"):
            # The jobs themselves outlive the service: the new one finds them again.
            daemon.stop(home.pid_file(JOBS), grace=_JOBS_STOP_LIMIT)
            progress(f"starting the job service on port {last.jobs_port} again")
            _start_jobs(home, project, last)
        return last
    stop(home)
    # The same ports as before, where they are free: bookmarks and shells keep working after a restart.
    first = last.port if last else ports.DEFAULT_PORT
    with locked(home.root / ".locks" / ".ports"):  # two clouds that start together may not choose the same ports
        chosen = ports.choose(port, first)
        settings = Settings(chosen, ports.choose(jobs_port, chosen + 1, taken={chosen}), auth)
        progress(f"starting MiniStack {ministack.VERSION} on port {settings.port}")
        ministack.start(home, project, settings.port, settings.jobs_port, auth=auth)
        write_text(_settings_file(home), json.dumps(asdict(settings)) + "\n")
        progress(f"starting the job service on port {settings.jobs_port}")
        _start_jobs(home, project, settings)
    return settings


def stop(home: Home) -> bool:
    """Stop both processes and whatever the job service started. False if neither ran."""
    # The job service first: what it still has to write goes to S3 and CloudWatch Logs in MiniStack.
    jobs = daemon.stop(home.pid_file(JOBS), grace=_JOBS_STOP_LIMIT)
    for process in home.jobs.rglob("process.json"):
        if not (process.parent / "exit.json").exists():
            end_leftover(process.parent)  # of a job service that was killed and could not end it
    cloud = daemon.stop(home.pid_file(MINISTACK), grace=ministack.STOP_LIMIT)
    return jobs or cloud


def recorded(home: Home) -> Settings | None:
    """What the processes were last started with, running or not."""
    try:
        return Settings(**json.loads(_settings_file(home).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def pids(home: Home) -> dict[str, int]:
    """The pid of each process that runs."""
    found = {service: daemon.running(home.pid_file(service)) for service in (MINISTACK, JOBS)}
    return {service: pid for service, pid in found.items() if pid is not None}


def _answers(home: Home, service: str, url: str) -> bool:
    return daemon.running(home.pid_file(service)) is not None and daemon.answers(url)


def _settings_file(home: Home) -> Path:
    return home.path / "settings.json"


def _start_jobs(home: Home, project: Path, settings: Settings) -> None:
    home.jobs.mkdir(parents=True, exist_ok=True)
    env = ministack.base_environment(path_first=Path(sys.executable).parent)
    env.update(session_env(settings.endpoint_url, settings.sagemaker_url))
    # A job is a child of the job service: both find the project's packages, installed or not.
    env["PYTHONPATH"] = os.pathsep.join(str(project / part) for part in ("local", "engine", "layers/shared"))
    log = home.logs / "jobs.log"
    pid = daemon.spawn(
        [
            sys.executable,
            "-m",
            "ekiden_local.jobs",
            f"--port={settings.jobs_port}",
            f"--home={home.jobs}",
            "--stop-children-on-exit",  # only a stop by request comes as a signal; a crash spares them
        ],
        env=env,
        cwd=home.path,
        log=log,
        pid_file=home.pid_file(JOBS),
    )
    health = f"{settings.sagemaker_url}/health"
    daemon.await_healthy("The job service", pid, health, log, limit=_JOBS_START_LIMIT)
