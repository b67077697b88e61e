"""``ekiden``: the command line. A graph goes in, scores come out; the same commands locally and on AWS."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ekiden_cli.commands import cloud, data, demo, files, operate, runs, scores
from ekiden_cli.console import print_json

EPILOG = """
Start:  ekiden up  ·  ekiden generate --out graph  ·  ekiden run graph/spec.yaml --watch

Exit codes: 0 done, 1 the run or request failed, 2 wrong usage or input.
"""


class JsonGroup(TyperGroup):
    """Answers wrong usage with a JSON document on stdout too, if --json was given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember whether --json was given: a command that cannot be parsed does not say."""
        ctx.meta["ekiden.json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises what typer raises; that prints the usage on stderr."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # typer carries its own copy of click: its errors are known by what they can do.
            if ctx.meta.get("ekiden.json") and hasattr(error, "format_message"):
                message = " ".join(str(error.format_message()).split())
                print_json({"error": {"code": "USAGE", "message": message[:500]}})
            raise


app = typer.Typer(
    name="ekiden",
    cls=JsonGroup,
    help="A property graph in, predictions out: one spec, one command, on AWS or on this machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ekiden {importlib.metadata.version('ekiden')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A property graph in, predictions out: one spec, one command, on AWS or on this machine."""


_CLOUD, _GRAPH, _RUN, _SCORE = "Embedded cloud", "Graphs", "Runs", "Scores"

app.command(rich_help_panel=_CLOUD)(cloud.up)
app.command(rich_help_panel=_CLOUD)(cloud.down)
app.command(rich_help_panel=_CLOUD)(cloud.doctor)
app.command(rich_help_panel=_CLOUD)(files.env)
app.command(rich_help_panel=_GRAPH, no_args_is_help=True)(data.generate)
app.add_typer(data.imports, name="import", rich_help_panel=_GRAPH)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.validate)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.run)
app.command("runs", rich_help_panel=_RUN)(runs.runs)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.show)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.watch)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.logs)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(files.report)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(operate.cancel)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(operate.retry)
app.command(rich_help_panel=_RUN)(operate.redrive)
app.command(rich_help_panel=_SCORE, no_args_is_help=True)(scores.score)
app.command("scores", rich_help_panel=_SCORE, no_args_is_help=True)(scores.scores)
app.command(hidden=True)(demo.demo)

if __name__ == "__main__":
    app()
