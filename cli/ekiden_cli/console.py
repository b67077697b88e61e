"""Where output goes: results to stdout, everything about getting there to stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from ekiden_cli.errors import CliError, Exit

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

P = ParamSpec("P")


@functools.cache
def out() -> Console:
    """Return the console on stdout, for results meant for people."""
    from rich.console import Console

    return Console(highlight=False)


@functools.cache
def err() -> Console:
    """Return the console on stderr, for progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_whole(table: RenderableType) -> None:
    """Print a table to stdout without shortening a cell, however narrow the terminal: ids are there to be copied."""
    from rich.console import Console
    from rich.measure import Measurement

    console = out()
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if needed > console.width:
        console = Console(highlight=False, width=needed)
    console.print(table)


def note(message: str) -> None:
    """Say something on stderr, without interpreting markup in it."""
    err().print(message, markup=False, soft_wrap=True)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command: turn errors into a message, a next step and the exit code; no traceback for users.

    With ``--json`` the error is a JSON document on stdout too. ``EKIDEN_DEBUG=1`` prints the traceback.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        import typer

        try:
            function(*args, **kwargs)
        except CliError as error:
            # Whoever was interrupted has said how to go on: that is no error to report.
            if error.exit_code is not Exit.INTERRUPTED:
                fail(error, as_json=bool(kwargs.get("json_output")))
            raise typer.Exit(int(error.exit_code)) from None
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(int(Exit.INTERRUPTED)) from None
        except BrokenPipeError:
            # `ekiden runs | head` closes the pipe: not an error. Keep Python from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except typer.Exit:
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: a message, not a traceback
            if os.environ.get("EKIDEN_DEBUG"):
                traceback.print_exc()
            text = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            problem = CliError(
                f"{type(error).__name__}: {text}",
                hint="EKIDEN_DEBUG=1 shows where it happened",
                code="UNEXPECTED",
            )
            fail(problem, as_json=bool(kwargs.get("json_output")))
            raise typer.Exit(int(problem.exit_code)) from None

    return wrapped


def fail(error: CliError, *, as_json: bool) -> None:
    """Print an error: message, faults with their paths, and the next step."""
    from rich.text import Text

    if as_json:
        print_json(error.to_json())
    console = err()
    console.print(Text.assemble(("error ", "bold red"), error.message), soft_wrap=True)
    for path, message in error.faults:
        console.print(Text.assemble("  ", (path, "bold"), "  " if path else "", message), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("next  ", "bold cyan"), error.hint), soft_wrap=True)
