"""``ekiden demo``, which ``make demo`` calls."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ekiden_cli.console import command, err, note, out, print_json
from ekiden_cli.options import CloudName, Json

if TYPE_CHECKING:
    from ekiden_cli.api import View
    from ekiden_cli.demo import Clock, Prediction


@command
def demo(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="MovieLens-like ratings; default: a generated graph.")
    ] = None,
    name: CloudName = "local",
    json_output: Json = False,
) -> None:
    """Go through everything once: cloud up, graph in, run watched, pairs scored, results shown.

    Examples:

        ekiden demo

        ekiden demo --data ml-100k
    """
    from ekiden_cli import demo as steps
    from ekiden_cli.commands.cloud import start
    from ekiden_cli.connect import connect
    from ekiden_cli.graphs import read_spec
    from ekiden_cli.submission import submit
    from ekiden_cli.target import home
    from ekiden_cli.watch import check, follow

    clock = steps.Clock(lambda step: err().rule(step, align="left", style="dim"))
    with clock.step("start the embedded cloud and deploy the template"):
        start(name)
    folder = home() / "demo"
    with clock.step(f"import {data}" if data else "generate a rating graph"):
        graph = steps.make_graph(data, folder / "graph")
        note(", ".join(f"{count:,} {what}" for what, count in graph.counts.items()) + f" in {graph.folder}")
    client = connect(name, None)
    with clock.step("upload the graph and submit the run"):
        run_id = str(submit(client, read_spec(graph.spec))["run_id"])
        note(f"run    {run_id}")
    with clock.step("export, process, train, deploy"):
        run = follow(client, run_id)
        if run.get("error"):
            from ekiden_cli.render import tail_text

            err().print(tail_text(run["error"]), soft_wrap=True)
        check(run, client.target.flags)
    with clock.step("score pairs through the queue"):
        pairs = steps.choose_pairs(graph.folder)
        note(f"{len(pairs)} pairs to endpoint {run['endpoint']}")
        view = steps.request_scores(client, str(run["endpoint"]), pairs)
        predictions = steps.read_results(client, str(view["results"]), steps.read_titles(graph.folder))
    with clock.step("fetch the report"):
        files = steps.fetch_files(client, run, folder)
    if json_output:
        print_json(steps.summary(run, predictions, files, clock))
        return
    _show(run, steps.best(predictions), files, clock, name)


def _show(run: View, predictions: list[Prediction], files: dict[str, Path], clock: Clock, name: str) -> None:
    from rich.table import Table

    from ekiden_cli.demo import evaluation_of
    from ekiden_cli.render import duration, evaluation_table, paths_text

    console = out()
    table = Table(title="\nBest guesses for movies not yet rated", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("user", "movie", "predicted", "status"):
        table.add_column(title, justify="right" if title == "predicted" else "left")
    before = None
    for p in predictions:
        if before not in (None, p.user):
            table.add_section()
        user = "" if p.user == before else p.user
        before = p.user
        value = "" if p.predicted is None else f"{p.predicted:.2f}"
        table.add_row(user, p.title, value, p.status, style="" if p.status == "scored" else "yellow")
    console.print(table)
    if evaluation := evaluation_of(run, files):
        console.print()
        console.print(evaluation_table(evaluation))

    spent = Table(
        title="\nWhat each step took", title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0)
    )
    for step, seconds in clock.steps.items():
        spent.add_row(step, duration(seconds))
    spent.add_row("in all", duration(sum(clock.steps.values())), style="bold")
    console.print(spent)

    console.print("\nWhere things are", style="italic")
    for what, path in files.items():
        console.print(f"{what:<14}  {path}", markup=False, soft_wrap=True)
    console.print(paths_text(run), soft_wrap=True)
    flag = "" if name == "local" else f" --cloud {name}"
    console.print("\nHow to go on", style="italic")
    for text, what in (
        *_activation(),
        (f"ekiden show {run['run_id']}{flag}", "the run: stages, evaluation, files"),
        (f"ekiden logs {run['run_id']} --stage train{flag}", "what the training wrote"),
        (
            f"ekiden score --endpoint {run['endpoint']} --pairs pairs.csv --out scores.csv{flag}",
            "score your own pairs",
        ),
        ("ekiden run SPEC --watch" + flag, "your own graph: Gremlin CSV files and a spec"),
        (
            "ekiden down" + ("" if name == "local" else f" --name {name}"),
            "stop the embedded cloud; it is still running",
        ),
    ):
        console.print(f"  {text}", markup=False, soft_wrap=True, style="cyan")
        console.print(f"      {what}", markup=False, soft_wrap=True, style="dim")


def _activation() -> list[tuple[str, str]]:
    """Return how to make ``ekiden`` and its tools known to the shell, if it does not know them."""
    if shutil.which("ekiden"):
        return []
    folder = os.path.relpath(sys.prefix)
    return [(f"source {shlex.quote(folder)}/bin/activate", "first, once per shell: so that it finds `ekiden`")]
