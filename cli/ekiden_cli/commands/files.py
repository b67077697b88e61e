"""``report`` and ``env``: a run's report as a file, and the way from other tools into an embedded cloud."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ekiden_cli.console import command, note, out, print_json
from ekiden_cli.errors import CliError, usage
from ekiden_cli.options import Cloud, CloudName, Json, RunId, Stack


@command
def report(
    run_id: RunId,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: RUN.html in this folder.", dir_okay=False)
    ] = None,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Fetch the report of a run that was trained: one HTML file to open in a browser.

    Examples:

        ekiden report latest

        ekiden report movielens-20261120-101500-abcdef --out report.html
    """
    from ekiden_cli.commands.runs import named
    from ekiden_cli.connect import connect
    from ekiden_cli.storage import download

    client = connect(cloud, stack)
    run_id = named(client, run_id)
    view = client.get_run(run_id)
    uri = (view.get("artifacts") or {}).get("report")
    if not uri:
        raise CliError(
            f"run {run_id} is {view['status']} and has no report: training writes it",
            hint=f"ekiden show {run_id}{client.target.flags}",
            code="NO_REPORT",
        )
    path = out_file or Path(f"{run_id}.html")
    try:
        download(client.target, str(uri), path)
    except OSError as error:
        raise usage(f"cannot write {path}: {error.strerror or error}", "choose another file with --out") from None
    if json_output:
        print_json({"run_id": run_id, "report": str(uri), "out": str(path)})
        return
    out().print(str(path), markup=False, soft_wrap=True)


@command
def env(name: CloudName = "local", json_output: Json = False) -> None:
    """Print shell commands under which boto3, the AWS CLI and SAM talk to a running embedded cloud.

    Examples:

        eval "$(ekiden env)"

        ekiden env --name second --json
    """
    from ekiden_cli.target import home, resolve
    from ekiden_local.state import session_env

    target = resolve(name)
    state = json.loads((home() / name / "cloud.json").read_text(encoding="utf-8"))
    endpoint = str(target.endpoint_url)
    found = session_env(endpoint, str(state.get("sagemaker_url") or endpoint))
    found |= {"AWS_ACCESS_KEY_ID": str(target.access_key), "AWS_SECRET_ACCESS_KEY": str(target.secret_key)}
    found |= {"AWS_REGION": target.region, "AWS_DEFAULT_REGION": target.region, "EKIDEN_CLOUD": name}
    if json_output:
        print_json({"name": name, "env": found})
        return
    # A profile or a session token of the real AWS would go with the local keys.
    sys.stdout.write("unset AWS_PROFILE AWS_SESSION_TOKEN\n")
    sys.stdout.writelines(f"export {key}={shlex.quote(value)}\n" for key, value in found.items())
    if sys.stdout.isatty():
        note(f'next  eval "$(ekiden env{"" if name == "local" else f" --name {name}"})"')
