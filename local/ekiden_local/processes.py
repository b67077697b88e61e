"""The two processes of an embedded cloud: MiniStack, and the job service that speaks SageMaker."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import daemon, keeper, ministack, ports
from .jobs.process import end_leftover
from .state import CloudError, Home, locked, session_env, write_text

MINISTACK = "ministack"
JOBS = "jobs"

_JOBS_START_LIMIT = 30.0  # seconds
_JOBS_STOP_LIMIT = 40.0  # it ends its jobs and endpoints first
_PORT_LIMIT = 10.0  # until a service whose keeper was killed has noticed


@dataclass(frozen=True, slots=True)
class Settings:
    """What the processes of a cloud were started with. `images`: a file of programs for the job service's images."""

    port: int
    jobs_port: int
    auth: bool
    images: str | None = None

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
    images: Path | None,
    progress: Callable[[str], None],
) -> Settings:
    """Both processes running and answering; only what does not run, or runs old code, is started.

    Raises CloudError where they run with other settings than the ones asked for, or do not start.
    """
    last = recorded(home)
    file = str(images.resolve()) if images else last.images if last else None
    if last is not None and _answers(home, MINISTACK, f"{last.endpoint_url}/_ministack/health"):
        wanted = Settings(port or last.port, jobs_port or last.jobs_port, auth, file)
        if replace(wanted, images=last.images) != last:
            raise CloudError(
                f"The cloud {home.name!r} already runs on the ports {last.port} and {last.jobs_port}"
                f" with IAM {'enforced' if last.auth else 'not enforced'}.",
                f"Stop it with `ekiden down --name {home.name}`, or take another --name to run a second one.",
            )
        if not _answers(home, JOBS, f"{last.sagemaker_url}/health"):
            progress(f"starting the job service on port {last.jobs_port} again")
        elif _code_of(project, wanted) != _running_code(home):
            progress("starting the job service again, because its code or images changed; its jobs go on")
        else:
            return last
        # Killed, not stopped: that way jobs and endpoints outlive it, and the new service finds them again.
        daemon.kill(home.pid_file(JOBS))
        daemon.wait_until(lambda: ports.is_free(wanted.jobs_port), _PORT_LIMIT)
        write_text(_settings_file(home), json.dumps(asdict(wanted)) + "\n")
        _start_jobs(home, project, wanted)
        return wanted
    stop(home)
    # The same ports as before, where they are free: bookmarks and shells keep working after a restart.
    first = last.port if last else ports.DEFAULT_PORT
    with locked(home.root / ".locks" / ".ports"):  # two clouds that start together may not choose the same ports
        chosen = ports.choose(port, first)
        settings = Settings(chosen, ports.choose(jobs_port, chosen + 1, taken={chosen}), auth, file)
        progress(f"starting MiniStack {ministack.VERSION} on port {settings.port}")
        ministack.start(home, project, settings.port, settings.jobs_port, auth=auth)
        write_text(_settings_file(home), json.dumps(asdict(settings)) + "\n")
        progress(f"starting the job service on port {settings.jobs_port}")
        _start_jobs(home, project, settings)
    return settings


def stop(home: Home) -> bool:
    """Stop both processes and whatever the job service started. False if neither ran."""
    # The job service first: what it still has to write goes to S3 and CloudWatch Logs in MiniStack.
    jobs = daemon.stop(home.pid_file(JOBS), grace=_JOBS_STOP_LIMIT, patience=_JOBS_STOP_LIMIT)
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
    """The pid of each process that runs; for the job service that of its keeper."""
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
    write_text(_code_file(home), _code_of(project, settings))
    pid = daemon.spawn(
        [
            *(sys.executable, "-I", "-S", keeper.__file__),
            *(sys.executable, "-m", "ekiden_local.jobs"),
            f"--port={settings.jobs_port}",
            f"--home={home.jobs}",
            "--stop-children-on-exit",  # only a stop by request comes as a signal; a crash spares them
            "--lifeline",
            *([f"--images={settings.images}"] if settings.images else []),
        ],
        env=env,
        cwd=home.path,
        log=log,
        pid_file=home.pid_file(JOBS),
    )
    health = f"{settings.sagemaker_url}/health"
    daemon.await_healthy("The job service", pid, health, log, limit=_JOBS_START_LIMIT)


def _code_of(project: Path, settings: Settings) -> str:
    """SHA-256 over what the job service runs: its code, and the table of images it was given."""
    package = project / "local" / "ekiden_local"  # PYTHONPATH's first choice
    if not package.is_dir():
        package = Path(__file__).parent
    total = hashlib.sha256()
    for path in (package / "keeper.py", *sorted((package / "jobs").glob("*.py"))):
        total.update(f"{path.name}\0".encode() + path.read_bytes())
    if settings.images:
        total.update(f"{settings.images}\0".encode() + Path(settings.images).read_bytes())
    return total.hexdigest()


def _code_file(home: Home) -> Path:
    return home.path / "jobs.code"


def _running_code(home: Home) -> str:
    try:
        return _code_file(home).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
