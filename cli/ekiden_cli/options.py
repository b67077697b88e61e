"""Options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

Cloud = Annotated[
    str | None,
    typer.Option(
        "--cloud",
        envvar="EKIDEN_CLOUD",
        metavar="NAME",
        help="`aws`, or the name of an embedded cloud. Default: a running embedded cloud, else AWS.",
    ),
]
Stack = Annotated[
    str | None,
    typer.Option("--stack", envvar="EKIDEN_STACK", metavar="NAME", help="Stack on AWS. Default: ekiden."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout; progress goes to stderr.")]


def _cloud_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
        raise typer.BadParameter("use up to 32 lower-case letters, digits and hyphens; begin with no hyphen")
    if name == "aws":
        raise typer.BadParameter("`aws` is the name of the real one: `--cloud aws`; choose another")
    return name


CloudName = Annotated[
    str,
    typer.Option(
        "--name", metavar="NAME", callback=_cloud_name, help="Which embedded cloud; several run side by side."
    ),
]


def _request_id(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", value):
        raise typer.BadParameter("use up to 128 letters, digits and _.:- ; begin with a letter or digit")
    return value


RequestId = Annotated[
    str | None,
    typer.Option(
        "--request-id",
        metavar="ID",
        callback=_request_id,
        help="Your own id for this request: however often the command is repeated with it, one request is made.",
    ),
]

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run; `latest` is the newest one.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the run's history beside who you are.")
]
