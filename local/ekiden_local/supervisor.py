"""Starts, finds and stops an embedded cloud: MiniStack, the job service, and Ekiden's stack in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from . import deploy, processes
from .doctor import Check, examine
from .processes import Settings
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
    write_cloud,
)

__all__ = ["Check", "Cloud", "CloudError", "doctor", "down", "load", "up"]


def up(
    name: str = "local",
    *,
    port: int | None = None,
    jobs_port: int | None = None,
    home: str | Path | None = None,
    auth: bool = True,
    images: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Cloud:
    """Bring the cloud `name` up with the stack of this checkout, doing only what is not done already.

    `port` is MiniStack's and `jobs_port` the job service's; left out, the running cloud's, else 4566 and the
    next, or the first free ones after them. `auth` makes MiniStack enforce IAM policies. `images` is a file that
    says which programs play container images (docs/job-service.md); left out, the ones it had last. `on_progress`
    is told in a few words about each step that takes time.

    Raises CloudError where a tool is missing, a port is taken, a process does not start or the stack is refused.
    """
    progress = on_progress or (lambda _: None)
    where = home_of(name, home)
    project = project_root()
    with locked(where.lock):
        settings = processes.ensure(
            where, project, port=port, jobs_port=jobs_port, auth=auth, images=images, progress=progress
        )
        endpoint = settings.endpoint_url
        digest = deploy.digest_of(project)
        stack = deploy.find_stack(endpoint)
        if stack is None or not stack.usable or stack.build != digest:
            template = deploy.build(project, where, digest, progress)
            stack = deploy.deploy(project, where, template, digest, endpoint, progress)
        cloud = _describe(where, settings, stack)
        if cloud != read_cloud(where):
            write_cloud(where, cloud)
        return cloud


def down(name: str = "local", *, purge: bool = False, home: str | Path | None = None) -> bool:
    """Stop the cloud `name`; jobs and endpoints that run in it end. False if it was not running.

    What it holds is kept for the next `up`, unless `purge`: then nothing of it is left.
    """
    where = home_of(name, home)
    if not where.path.exists():
        return False
    with locked(where.lock):
        was_running = processes.stop(where)
        if purge:
            shutil.rmtree(where.path)
    return was_running


def load(name: str = "local", *, home: str | Path | None = None) -> Cloud | None:
    """The cloud `name` if it is up and deployed, else None. Nothing is started."""
    where = home_of(name, home)
    known = read_cloud(where)
    if known is None or set(processes.pids(where)) != {processes.MINISTACK, processes.JOBS}:
        return None
    return known


def doctor(name: str = "local", *, home: str | Path | None = None) -> list[Check]:
    """Everything that could keep the cloud `name` from working, each with what to do about it."""
    return examine(home_of(name, home), project_root())


def _describe(where: Home, settings: Settings, stack: deploy.Stack) -> Cloud:
    try:
        api = stack.outputs["ApiId"]
        return Cloud(
            name=where.name,
            home=str(where.path),
            endpoint_url=settings.endpoint_url,
            sagemaker_url=settings.sagemaker_url,
            region=REGION,
            account=ACCOUNT,
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            stack=STACK,
            api_id=api,
            # MiniStack serves every API under one port; on AWS the output ApiUrl is the address.
            api_url=f"{settings.endpoint_url}/_aws/execute-api/{api}/$default",
            data_bucket=stack.outputs["DataBucketName"],
            ledger_table=stack.outputs["LedgerTableName"],
            event_bus=stack.outputs["EventBusName"],
            score_queue_url=stack.outputs["ScoreQueueUrl"],
            auth=settings.auth,
            build=stack.build,
            pids=processes.pids(where),
            ports={processes.MINISTACK: settings.port, processes.JOBS: settings.jobs_port},
        )
    except KeyError as missing:
        raise CloudError(
            f"The deployed stack has no output {missing}.", "Compare template.yaml with local/ekiden_local."
        ) from missing
