"""From the checkout to a running stack: `sam build`, then `sam deploy`, each only when something changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from . import daemon
from .state import ACCESS_KEY, REGION, SECRET_KEY, STACK, CloudError, Home, locked, session_env

SAM_VERSION = "1.170.0"
_INPUTS = ("template.yaml", "samconfig.toml", "layers", "functions")
_KEPT_BUILDS = 3
_BUILD_LIMIT = 300.0  # seconds
_DEPLOY_LIMIT = 300.0
_REPORTED_REASONS = 5

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What the running cloud says about the stack: its status, its tags, its outputs."""

    status: str
    build: str
    outputs: Mapping[str, str]

    @property
    def usable(self) -> bool:
        """Whether the last deployment ended well."""
        return self.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def sam(project: Path) -> Path:
    """The SAM CLI of the project. Raises CloudError where it is missing."""
    found = project / ".tools" / "sam" / "bin" / "sam"
    if not found.exists():
        raise CloudError("The SAM CLI is not installed.", "Run `make setup`: it creates .tools/sam.")
    return found


def digest_of(project: Path) -> str:
    """SHA-256 over everything that `sam build` and `sam deploy` read, in hex."""
    total = hashlib.sha256()
    for path in sorted(_input_files(project)):
        content = path.read_bytes()
        total.update(f"{path.relative_to(project).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _input_files(project: Path) -> Iterator[Path]:
    for name in _INPUTS:
        top = project / name
        if top.is_file():
            yield top
        for folder, folders, files in os.walk(top):
            folders[:] = [f for f in folders if f != "__pycache__" and not f.endswith(".egg-info")]
            yield from (Path(folder) / file for file in files if not file.endswith(".pyc"))


def build(project: Path, home: Home, digest: str, progress: Progress) -> Path:
    """The built template for `digest`, built now unless an earlier build of the same inputs lies ready.

    Builds are shared by all clouds under one root. Raises CloudError with the end of SAM's output.
    """
    builds = home.root / "build"
    target = builds / digest[:16]
    template = target / "template.yaml"
    builds.mkdir(parents=True, exist_ok=True)
    with locked(builds / ".lock"):
        if template.exists():
            os.utime(target)
            return template
        progress("building the functions and their layer (sam build)")
        unfinished = builds / f".{digest[:16]}"
        shutil.rmtree(unfinished, ignore_errors=True)
        log = home.logs / "sam-build.log"
        _run(
            [sam(project), "build", "--cached", "--parallel", "--config-file", project / "samconfig.toml",
             "--config-env", "local", "--template-file", project / "template.yaml",
             "--build-dir", unfinished, "--cache-dir", builds / ".cache"],
            env=_tool_environment({}),
            cwd=project,
            log=log,
            limit=_BUILD_LIMIT,
            what="sam build",
        )  # fmt: skip
        unfinished.replace(target)
        _forget_old(builds, keep=target)
    return template


def _forget_old(builds: Path, keep: Path) -> None:
    finished = [b for b in builds.iterdir() if b.is_dir() and not b.name.startswith(".") and b != keep]
    finished.sort(key=lambda b: b.stat().st_mtime, reverse=True)
    for old in finished[_KEPT_BUILDS - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def deploy(project: Path, home: Home, template: Path, digest: str, endpoint_url: str, progress: Progress) -> Stack:
    """Deploy the built template, unmodified, with the parameters of samconfig.toml's `local`.

    Raises CloudError with the reasons of the resources that failed.
    """
    cloudformation = client("cloudformation", endpoint_url)
    present = find_stack(endpoint_url)
    if present is not None and present.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
        # CloudFormation accepts nothing but deletion for a stack whose creation failed.
        cloudformation.delete_stack(StackName=STACK)
    progress("deploying the stack (sam deploy)")
    try:
        _run(
            [sam(project), "deploy", "--config-file", project / "samconfig.toml", "--config-env", "local",
             "--template-file", template, "--stack-name", STACK, "--tags", f"ekiden:build={digest}"],
            env=_tool_environment(session_env(endpoint_url, endpoint_url)),
            cwd=project,
            log=home.logs / "sam-deploy.log",
            limit=_DEPLOY_LIMIT,
            what="sam deploy",
        )  # fmt: skip
    except CloudError as error:
        reasons = _failures(cloudformation)
        if reasons:
            message = "The stack could not be deployed:\n" + "\n".join(reasons)
            raise CloudError(message, error.remedy) from error
        raise
    stack = find_stack(endpoint_url)
    if stack is None or not stack.usable:
        status = stack.status if stack else "missing"
        raise CloudError(f"After sam deploy the stack is {status}.", f"See {home.logs / 'sam-deploy.log'}.")
    return stack


def find_stack(endpoint_url: str) -> Stack | None:
    """The stack in the cloud at `endpoint_url`, or None where there is none."""
    try:
        found: Any = client("cloudformation", endpoint_url).describe_stacks(StackName=STACK)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return Stack(found["StackStatus"], tags.get("ekiden:build", ""), outputs)


def client(service: str, endpoint_url: str) -> Any:
    """A boto3 client for the cloud at `endpoint_url`, whatever the environment says about AWS."""
    return boto3.session.Session().client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(proxies={}, connect_timeout=2, read_timeout=30, retries={"max_attempts": 2}),
    )


def _failures(cloudformation: Any) -> list[str]:
    with contextlib.suppress(ClientError):
        events = cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
        failed = [event for event in events if event.get("ResourceStatus", "").endswith("_FAILED")]
        return [
            f"{event.get('LogicalResourceId')}: {event.get('ResourceStatusReason', 'no reason given')[:200]}"
            for event in failed[-_REPORTED_REASONS:]
        ]
    return []


def _tool_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, for pip's index and proxy, without its AWS account; our Python comes first."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SAM_CLI_"))}
    env.update(extra)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["SAM_CLI_TELEMETRY"] = "0"
    env["SAM_CLI_POLL_DELAY"] = "0.5"
    return env


def _run(argv: list[Path | str], *, env: Mapping[str, str], cwd: Path, log: Path, limit: float, what: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            code = subprocess.run(  # noqa: S603 - our own tools, our own arguments
                [str(part) for part in argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise CloudError(f"{what} took longer than {limit:.0f} s.", f"See {log}.") from error
    if code != 0:
        raise CloudError(f"{what} failed with exit code {code}.\n{daemon.tail(log)}", f"See {log}.")
