"""Starts, finds and stops an embedded cloud: MiniStack, the job service, and Ekiden's stack in it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from . import daemon, deploy, ministack, ports
from . import doctor as _doctor
from .state import (
    ACCESS_KEY,
    ACCOUNT,
    REGION,
    SECRET_KEY,
    STACK,
    Cloud,
    CloudError,
    Home,
    home_of,
    locked,
    project_root,
    read_cloud,
    session_env,
    write_cloud,
)

__all__ = ["Check", "Cloud", "CloudError", "doctor", "down", "load", "up"]

Check = _doctor.Check

_JOBS_START_LIMIT = 30.0  # seconds
_JOBS_STOP_LIMIT = 40.0  # it ends its jobs and endpoints first


def up(
    name: str = "local",
    *,
    port: int | None = None,
    jobs_port: int | None = None,
    home: str | Path | None = None,
    auth: bool = True,
    on_progress: Callable[[str], None] | None = None,
) -> Cloud:
    """Bring the cloud `name` up with the stack of this checkout, doing only what is not done already.

    `port` is MiniStack's and `jobs_port` the job service's; left out, the running cloud's, else 4566 and the
    next, or the first free ones after them. `auth` makes MiniStack enforce IAM policies. `on_progress` is told
    in a few words about each step that takes time.

    Raises CloudError where a tool is missing, a port is taken, a process does not start or the stack is refused.
    """
    progress = on_progress or (lambda _: None)
    where = home_of(name, home)
    project = project_root()
    with locked(where.root / f"{name}.lock"):
        known = read_cloud(where)
        digest = deploy.digest_of(project)
        current = _processes(where, known, port, jobs_port, auth)
        if current is None:
            _stop_processes(where)
            current = _start(where, project, known, port, jobs_port, auth, progress)
        chosen, chosen_jobs = current
        endpoint = ministack.url(chosen)
        stack = deploy.find_stack(endpoint)
        if stack is None or not stack.usable or stack.build != digest:
            template = deploy.build(project, where, digest, progress)
            stack = deploy.deploy(project, where, template, digest, endpoint, progress)
        cloud = _describe(where, chosen, chosen_jobs, auth, stack)
        if cloud != known:
            write_cloud(where, cloud)
        return cloud


def down(name: str = "local", *, purge: bool = False, home: str | Path | None = None) -> bool:
    """Stop the cloud `name`; jobs and endpoints that run in it end. False if it was not running.

    What it holds is kept for the next `up`, unless `purge`: then nothing of it is left.
    """
    where = home_of(name, home)
    if not where.path.exists():
        return False
    with locked(where.root / f"{name}.lock"):
        was_running = _stop_processes(where)
        if purge:
            shutil.rmtree(where.path)
    return was_running


def load(name: str = "local", *, home: str | Path | None = None) -> Cloud | None:
    """The cloud `name` if it is up and deployed, else None. Nothing is started."""
    where = home_of(name, home)
    known = read_cloud(where)
    if known is None or any(daemon.running(where.pid_file(s)) is None for s in ("ministack", "jobs")):
        return None
    return known


def doctor(name: str = "local", *, home: str | Path | None = None) -> list[Check]:
    """Everything that could keep the cloud `name` from working, each with what to do about it."""
    return _doctor.examine(home_of(name, home), project_root())


def _processes(
    where: Home, known: Cloud | None, port: int | None, jobs_port: int | None, auth: bool
) -> tuple[int, int] | None:
    """The ports of the running cloud, or None where it has to be started (again).

    Raises CloudError where it runs with other settings than the ones asked for.
    """
    running = [daemon.running(where.pid_file(service)) for service in ("ministack", "jobs")]
    recorded = _read_ports(where)
    if None in running or recorded is None:
        return None
    if not (ministack.healthy(recorded[0]) and _jobs_healthy(recorded[1])):
        return None
    wanted = (port or recorded[0], jobs_port or recorded[1])
    if wanted != recorded or (known is not None and known.auth != auth):
        raise CloudError(
            f"The cloud {where.name!r} already runs on the ports {recorded[0]} and {recorded[1]}"
            f"{'' if known is None else f' with AUTH={str(known.auth).lower()}'}.",
            f"Stop it with `ekiden down --name {where.name}`, or choose another --name to run a second one.",
        )
    return recorded


def _start(
    where: Home,
    project: Path,
    known: Cloud | None,
    port: int | None,
    jobs_port: int | None,
    auth: bool,
    progress: Callable[[str], None],
) -> tuple[int, int]:
    # The same ports as before where they are free: bookmarks and shells keep working after a restart.
    first = known.ports.get("ministack", ports.DEFAULT_PORT) if known else ports.DEFAULT_PORT
    with locked(where.root / ".ports.lock"):  # two clouds that start together may not choose the same ports
        chosen = ports.choose(port, first)
        chosen_jobs = ports.choose(jobs_port, chosen + 1, taken={chosen})
        progress(f"starting MiniStack {ministack.VERSION} on port {chosen}")
        ministack.start(where, project, chosen, chosen_jobs, auth=auth)
        try:
            progress(f"starting the job service on port {chosen_jobs}")
            _start_jobs(where, project, chosen, chosen_jobs)
        except CloudError:
            ministack.stop(where)
            raise
    (where.path / "ports").write_text(f"{chosen} {chosen_jobs}\n", encoding="utf-8")
    return chosen, chosen_jobs


def _read_ports(where: Home) -> tuple[int, int] | None:
    try:
        first, second = (where.path / "ports").read_text(encoding="utf-8").split()
        return int(first), int(second)
    except (FileNotFoundError, ValueError):
        return None


def _start_jobs(where: Home, project: Path, port: int, jobs_port: int) -> None:
    where.jobs.mkdir(parents=True, exist_ok=True)
    env = ministack.base_environment(path_first=Path(sys.executable).parent)
    env.update(session_env(ministack.url(port), ministack.url(jobs_port)))
    # A job is a child of the job service: both find the project's packages, installed or not.
    env["PYTHONPATH"] = os.pathsep.join(str(project / part) for part in ("local", "engine", "layers/shared"))
    log = where.logs / "jobs.log"
    pid = daemon.spawn(
        [sys.executable, "-m", "ekiden_local.jobs", "--port", str(jobs_port), "--home", str(where.jobs)],
        env=env,
        cwd=where.path,
        log=log,
        pid_file=where.pid_file("jobs"),
    )
    health = f"{ministack.url(jobs_port)}/health"
    daemon.await_healthy("The job service", pid, health, log, limit=_JOBS_START_LIMIT)


def _jobs_healthy(port: int) -> bool:
    return daemon.answers(f"{ministack.url(port)}/health")


def _stop_processes(where: Home) -> bool:
    # The job service first: what it still has to write goes to S3 and CloudWatch Logs in MiniStack.
    jobs = daemon.stop(where.pid_file("jobs"), grace=_JOBS_STOP_LIMIT)
    cloud = ministack.stop(where)
    return jobs or cloud


def _describe(where: Home, port: int, jobs_port: int, auth: bool, stack: deploy.Stack) -> Cloud:
    pids = {service: daemon.running(where.pid_file(service)) or 0 for service in ("ministack", "jobs")}
    try:
        api = stack.outputs["ApiId"]
        return Cloud(
            name=where.name,
            home=str(where.path),
            endpoint_url=ministack.url(port),
            sagemaker_url=ministack.url(jobs_port),
            region=REGION,
            account=ACCOUNT,
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            stack=STACK,
            api_id=api,
            # MiniStack serves every API under one port; on AWS the output ApiUrl is the address.
            api_url=f"{ministack.url(port)}/_aws/execute-api/{api}/$default",
            data_bucket=stack.outputs["DataBucketName"],
            ledger_table=stack.outputs["LedgerTableName"],
            event_bus=stack.outputs["EventBusName"],
            score_queue_url=stack.outputs["ScoreQueueUrl"],
            auth=auth,
            build=stack.build,
            pids=pids,
            ports={"ministack": port, "jobs": jobs_port},
        )
    except KeyError as missing:
        raise CloudError(
            f"The deployed stack has no output {missing}.", "Compare template.yaml with local/ekiden_local."
        ) from missing
