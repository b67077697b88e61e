"""``ekiden``: the command line. A graph goes in, scores come out; the same commands locally and on AWS."""

from __future__ import annotations

import typer

from ekiden_cli.commands import cloud, data, demo, operate, runs, scores

EPILOG = """
Start:  ekiden up  ·  ekiden generate --out graph  ·  ekiden run graph/spec.yaml --watch

Exit codes: 0 done, 1 the run or request failed, 2 wrong usage or input.
"""

app = typer.Typer(
    name="ekiden",
    help="A property graph in, predictions out: one spec, one command, on AWS or on this machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CLOUD, _GRAPH, _RUN, _SCORE = "Embedded cloud", "Graphs", "Runs", "Scores"

app.command(rich_help_panel=_CLOUD)(cloud.up)
app.command(rich_help_panel=_CLOUD)(cloud.down)
app.command(rich_help_panel=_CLOUD)(cloud.doctor)
app.command(rich_help_panel=_GRAPH, no_args_is_help=True)(data.generate)
app.add_typer(data.imports, name="import", rich_help_panel=_GRAPH)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.validate)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.run)
app.command("runs", rich_help_panel=_RUN)(runs.runs)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.show)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.watch)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(runs.logs)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(operate.cancel)
app.command(rich_help_panel=_RUN, no_args_is_help=True)(operate.retry)
app.command(rich_help_panel=_RUN)(operate.redrive)
app.command(rich_help_panel=_SCORE, no_args_is_help=True)(scores.score)
app.command("scores", rich_help_panel=_SCORE, no_args_is_help=True)(scores.scores)
app.command(hidden=True)(demo.demo)

if __name__ == "__main__":
    app()
