"""`ekiden doctor`: what could keep the embedded cloud from working, found before it does."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from . import daemon, deploy, ministack, ports, processes
from .state import Home

_DISK_NEEDED = 3 * 2**30  # bytes: a build, the saved state, and a few runs with their artefacts
_TORCH = "2.13.0"
_MINISTACK_NEEDS = {
    "ministack": ministack.VERSION,
    "aws-sam-translator": ministack.SAM_TRANSLATOR_VERSION,
    "boto3": "",  # the functions' boto3; any version
}
_SAM_NEEDS = {"aws-sam-cli": deploy.SAM_VERSION}


class Status(StrEnum):
    """`warn` is worth knowing, `fail` keeps the cloud from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` says what to do and is empty when the status is ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def examine(home: Home, project: Path) -> list[Check]:
    """All checks, in the order in which they matter."""
    return [
        _python(),
        _torch(),
        _tool("MiniStack", project / ".tools" / "ministack", _MINISTACK_NEEDS),
        _tool("SAM CLI", project / ".tools" / "sam", _SAM_NEEDS),
        _disk(home),
        _proxy(),
        *_processes(home),
        *_stack(home, project),
    ]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check("python", Status.OK, version)
    remedy = "Install Python 3.11 and run `make setup` again: the functions run on 3.11."
    return Check("python", Status.FAIL, version, remedy)


def _torch() -> Check:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Check("torch", Status.FAIL, "not installed", "Run `make setup`: the engine trains with it.")
    if version.split("+")[0] == _TORCH:
        return Check("torch", Status.OK, version)
    return Check("torch", Status.WARN, version, f"Run `make setup`: results are known for {_TORCH}.")


def _tool(name: str, environment: Path, needs: dict[str, str]) -> Check:
    found = {
        dist.metadata["Name"].lower(): dist.version
        for folder in environment.glob("lib/python3*/site-packages")
        for dist in importlib.metadata.distributions(path=[str(folder)])
        if dist.metadata["Name"]
    }
    wrong = [
        f"{package} {found.get(package, 'missing')}{f' instead of {version}' if version else ''}"
        for package, version in needs.items()
        if package not in found or (version and found[package] != version)
    ]
    if wrong:
        return Check(name, Status.FAIL, ", ".join(wrong), f"Run `make setup`: it fills {environment}.")
    return Check(name, Status.OK, ", ".join(f"{package} {found[package]}" for package in needs))


def _disk(home: Home) -> Check:
    folder = next(p for p in (home.root, *home.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free under {folder}"
    if free >= _DISK_NEEDED:
        return Check("disk", Status.OK, detail)
    remedy = "Free some space, or put the cloud elsewhere with EKIDEN_HOME."
    return Check("disk", Status.WARN, detail, remedy)


def _proxy() -> Check:
    proxy = os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy")
    exempt = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    if proxy and "127.0.0.1" not in exempt and exempt.strip() != "*":
        return Check(
            "proxy",
            Status.WARN,
            "HTTP_PROXY is set and does not exempt 127.0.0.1",
            "Put 127.0.0.1,localhost into NO_PROXY before you use the AWS CLI or others with this cloud.",
        )
    return Check("proxy", Status.OK, "not in the way")


def _processes(home: Home) -> Iterator[Check]:
    up = f"Run `ekiden up --name {home.name}`: it starts what is missing. The logs are in {home.logs}."
    settings, running = processes.recorded(home), processes.pids(home)
    for service, url in _health(settings).items():
        port = int(url.split(":")[2].split("/")[0])
        pid = running.get(service)
        if pid is None:
            free = "its port is free" if ports.is_free(port) else f"port {port} is taken, `up` takes another"
            yield Check(service, Status.WARN, f"not running, {free}", f"Run `ekiden up --name {home.name}`.")
        elif daemon.answers(url):
            yield Check(service, Status.OK, f"pid {pid} answers on port {port}")
        else:
            yield Check(service, Status.FAIL, f"pid {pid} does not answer on port {port}", up)


def _health(settings: processes.Settings | None) -> dict[str, str]:
    settings = settings or processes.Settings(ports.DEFAULT_PORT, ports.DEFAULT_PORT + 1, auth=True)
    return {
        processes.MINISTACK: f"{settings.endpoint_url}/_ministack/health",
        processes.JOBS: f"{settings.sagemaker_url}/health",
    }


def _stack(home: Home, project: Path) -> Iterator[Check]:
    settings = processes.recorded(home)
    if settings is None or processes.MINISTACK not in processes.pids(home):
        return
    repair = f"Run `ekiden up --name {home.name}`: it deploys what has changed."
    try:
        stack = deploy.find_stack(settings.endpoint_url)
    except (ClientError, BotoCoreError) as error:
        yield Check("stack", Status.FAIL, f"cannot be described: {str(error)[:200]}", repair)
        return
    if stack is None:
        yield Check("stack", Status.FAIL, "not deployed", repair)
    elif not stack.usable:
        yield Check("stack", Status.FAIL, stack.status, repair)
    elif stack.build != deploy.digest_of(project):
        yield Check("stack", Status.WARN, f"{stack.status}, older than this checkout", repair)
    else:
        yield Check("stack", Status.OK, f"{stack.status}, this checkout's code")
