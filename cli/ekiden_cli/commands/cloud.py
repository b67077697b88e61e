"""``up``, ``down``, ``doctor``: the embedded cloud on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ekiden_cli.console import command, note, out, print_json
from ekiden_cli.errors import CliError, Exit, usage
from ekiden_cli.options import CloudName, Json
from ekiden_cli.target import home

if TYPE_CHECKING:
    from ekiden_local.supervisor import Cloud

_MARKS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command
def up(
    name: CloudName = "local",
    port: Annotated[
        int | None, typer.Option(help="Port of the AWS services. Default: a free one.", min=1, max=65535)
    ] = None,
    jobs_port: Annotated[int | None, typer.Option(help="Port of the job service.", min=1, max=65535)] = None,
    auth: Annotated[bool, typer.Option(help="Enforce IAM, as AWS does.")] = True,
    json_output: Json = False,
) -> None:
    """Start the embedded cloud and deploy the template to it; does nothing if it runs already.

    Examples:

        ekiden up

        ekiden up --name second --port 4600 --jobs-port 4601
    """
    if port is not None and port == jobs_port:
        raise usage(f"--port and --jobs-port are both {port}", "choose two ports, or leave one out")
    began = time.monotonic()
    cloud = start(name, port=port, jobs_port=jobs_port, auth=auth)
    if json_output:
        print_json({**dataclasses.asdict(cloud), "env": cloud.session_env()})
        return
    out().print(f"cloud {name} is up after {time.monotonic() - began:.1f} s", markup=False)
    for what in ("endpoint_url", "sagemaker_url", "api_url", "data_bucket"):
        if value := getattr(cloud, what, None):
            out().print(f"  {what:<14} {value}", markup=False, soft_wrap=True)
    flag = "" if name == "local" else f" --cloud {name}"
    note(f"next  ekiden run SPEC --watch{flag}   (`ekiden generate --out graph` writes a spec to start from)")


@command
def down(
    name: CloudName = "local",
    purge: Annotated[bool, typer.Option("--purge", help="Delete its data too: runs, models, buckets.")] = False,
    json_output: Json = False,
) -> None:
    """Stop the embedded cloud. Its data stays, unless --purge.

    Examples:

        ekiden down

        ekiden down --name second --purge
    """
    from ekiden_local import supervisor

    with _remedies():
        was_running = supervisor.down(name, purge=purge, home=home())
    if json_output:
        print_json({"name": name, "stopped": was_running, "purged": purge})
        return
    done = f"cloud {name} is stopped" if was_running else f"cloud {name} was not running"
    out().print(done + (", its data deleted" if purge else ""), markup=False)


@command
def doctor(name: CloudName = "local", json_output: Json = False) -> None:
    """Check everything the embedded cloud needs, and say what to do about what is wrong.

    Exit code 1 if a check fails.

    Examples:

        ekiden doctor

        ekiden doctor --name second --json
    """
    from ekiden_local import supervisor

    with _remedies():
        checks = supervisor.doctor(name, home=home())
    good = all(check.status != "fail" for check in checks)
    if json_output:
        print_json({"name": name, "ok": good, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for check in checks:
            remedy = f"\n→ {check.remedy}" if check.remedy else ""
            mark = Text(check.status.value, style=_MARKS[check.status.value])
            table.add_row(mark, Text(check.name), Text(check.detail + remedy))
        out().print(table)
    if not good:
        raise typer.Exit(int(Exit.FAILED))


def start(name: str, *, port: int | None = None, jobs_port: int | None = None, auth: bool = True) -> Cloud:
    """Start (or find running) the embedded cloud, with its progress on stderr."""
    from ekiden_local import supervisor

    with _remedies():
        return supervisor.up(name, port=port, jobs_port=jobs_port, home=home(), auth=auth, on_progress=note)


@contextlib.contextmanager
def _remedies() -> Iterator[None]:
    """Turn the supervisor's errors, which bring their remedy, into the command line's."""
    from ekiden_local.state import CloudError

    try:
        yield
    except CloudError as error:
        raise CliError(str(error), hint=error.remedy, code="CLOUD") from None
