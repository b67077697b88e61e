"""Options that several commands share."""

from __future__ import annotations

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
CloudName = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Which embedded cloud; several run side by side.")
]
