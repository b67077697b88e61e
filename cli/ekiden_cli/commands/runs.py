"""``validate``, ``run``, ``runs``, ``show``, ``watch``, ``logs``: start runs and look at them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ekiden_cli.console import command, err, note, out, print_json, print_whole
from ekiden_cli.errors import CliError, Exit, usage
from ekiden_cli.options import Cloud, Json, RequestId, RunId, Stack

if TYPE_CHECKING:
    from ekiden_cli.api import ApiClient, View

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="Pipeline spec (YAML), or a folder with spec.yaml.")]
STAGES = ("export", "process", "train", "deploy")


@command
def validate(spec: SpecPath, json_output: Json = False) -> None:
    """Check a spec: faults with their paths, before anything costs money.

    If graph.source is a local folder, its labels, properties and the ends of its edges are checked against the spec
    too; of a custom model in a local folder, its scripts and what a search needs. Exit code 2 if there is a fault.

    Examples:

        ekiden validate spec.yaml

        ekiden validate spec.yaml --json
    """
    from ekiden_cli.graphs import read_spec

    try:
        found = read_spec(spec)
    except CliError as error:
        if not json_output or error.code != "INVALID_SPEC":
            raise
        faults = [{"path": path, "message": message} for path, message in error.faults]
        print_json({"valid": False, "faults": faults})
        raise typer.Exit(int(Exit.USAGE)) from None
    if json_output:
        targets = [target.model_dump(include={"node", "edge", "property"}) for target in found.spec.predicts]
        asked = [
            {"task": target.task, **{name: value for name, value in fields.items() if value is not None}}
            for target, fields in zip(found.spec.predicts, targets, strict=True)
        ]
        checked = {"graph_checked": found.folder is not None, "model": found.spec.model.name, "predicts": asked}
        print_json({"valid": True, "faults": [], **checked})
        return
    from ekiden_cli.submission import predictions

    where = f"{len(found.files())} files in {found.folder}" if found.folder else found.spec.graph.source
    out().print(f"{spec} is valid: {predictions(found.spec)}, from {where}", markup=False, soft_wrap=True)
    if found.folder is None:
        note("note  the graph in S3 was not looked at: the export of the run checks labels, properties and values")
    if found.spec.model.source is not None and found.scripts is None:
        searched = (
            ", and the data processing if model-hpo-configuration.json is" if found.spec.model.searches_in else ""
        )
        note(f"note  the scripts in S3 were not looked at: the training job says so if one is missing{searched}")


@command
def run(
    spec: SpecPath,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run to its end.")] = False,
    request_id: RequestId = None,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Run a pipeline: upload the graph and a custom model's scripts if local, submit the spec, follow it with --watch.

    Without --watch the command returns as soon as the run is accepted. With it, the exit code is 1 if the
    run fails. Ctrl-C stops the watching, never the run. Without --request-id each call starts a run of its own.

    Examples:

        ekiden run spec.yaml --watch

        ekiden run spec.yaml --request-id nightly-2026-11-21 --json

        ekiden run spec.yaml --cloud aws --stack ekiden-prod
    """
    from ekiden_cli.graphs import read_spec

    found = read_spec(spec)
    from ekiden_cli.connect import connect
    from ekiden_cli.submission import submit

    client = connect(cloud, stack, announce=True)
    accepted = submit(client, found, request_id)
    run_id = str(accepted["run_id"])
    if watch:
        note(f"run    {run_id}")
        follow_to_end(client, run_id, json_output)
    elif json_output:
        print_json(accepted)
    else:
        out().print(run_id, markup=False)
        note(f"next  ekiden watch {run_id}{client.target.flags}")


@command
def runs(
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 20,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """List runs, newest first.

    Examples:

        ekiden runs

        ekiden runs --status FAILED --limit 5 --json
    """
    from ekiden_cli.connect import connect

    listed = connect(cloud, stack).list_runs(status=status.upper() if status else None, limit=limit)
    if json_output:
        print_json(listed)
        return
    if not listed["runs"]:
        note(
            "no runs"
            + (f" with status {status.upper()}" if status else " yet: start one with `ekiden run SPEC --watch`")
        )
        return
    from ekiden_cli.render import runs_table

    print_whole(runs_table(listed["runs"]))


@command
def show(
    run_id: RunId,
    history: Annotated[bool, typer.Option("--history", help="Who moved the run, when and why.")] = False,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Show one run: stages, times, evaluation beside the baselines, where its files are, and why it failed.

    With --history its timeline instead: every move, and what operators did (cancel, retry, redrive).

    Examples:

        ekiden show latest

        ekiden show latest --history

        ekiden show movielens-20261120-101500-abcdef --json
    """
    from ekiden_cli.connect import connect

    client = connect(cloud, stack)
    run_id = named(client, run_id)
    view = client.get_history(run_id) if history else client.get_run(run_id)
    if json_output:
        print_json(view)
        return
    from ekiden_cli.render import error_text, history_table, paths_text, run_panel

    console = out()
    if history:
        console.print(history_table(view["history"]), soft_wrap=True)
        return
    console.print(run_panel(view))
    if view.get("error"):
        console.print(error_text(view["error"]), "", sep="\n", soft_wrap=True)
    console.print(paths_text(view), soft_wrap=True)


@command
def watch(run_id: RunId, cloud: Cloud = None, stack: Stack = None, json_output: Json = False) -> None:
    """Follow a run to its end. Exit code 1 if it fails; Ctrl-C leaves it running.

    Examples:

        ekiden watch latest

        ekiden watch movielens-20261120-101500-abcdef --json
    """
    from ekiden_cli.connect import connect

    client = connect(cloud, stack)
    follow_to_end(client, named(client, run_id), json_output)


@command
def logs(
    run_id: RunId,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="Only export, process, train or deploy.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Print what a run's jobs wrote.

    With --follow and --json each line is a JSON document of its own.

    Examples:

        ekiden logs latest --stage train

        ekiden logs latest --follow
    """
    if stage is not None and stage not in STAGES:
        raise usage(f"there is no stage {stage[:40]!r}", f"use one of {', '.join(STAGES)}")
    from ekiden_cli.connect import connect
    from ekiden_cli.logs import read

    client = connect(cloud, stack)
    read(
        client,
        named(client, run_id),
        stage=stage,
        follow=follow,
        as_json=json_output,
        write=sys.stdout.write,
    )


# -- shared with other commands


def named(client: ApiClient, run_id: str) -> str:
    """Return the id of the run that the user named; ``latest`` is the newest."""
    if not run_id.strip():
        raise usage("the id of the run is empty", "`ekiden runs` lists them; `latest` is the newest")
    if run_id != "latest":
        return run_id
    newest = client.list_runs(limit=1)["runs"]
    if not newest:
        raise usage("there are no runs yet", "start one with `ekiden run SPEC --watch`", "NO_RUNS")
    return str(newest[0]["run_id"])


def follow_to_end(client: ApiClient, run_id: str, json_output: bool) -> None:
    """Follow a run to its end and show what came of it; exit code 1 if it did not succeed."""
    from ekiden_cli.render import evaluation_table, paths_text, tail_text
    from ekiden_cli.watch import check, follow

    final = follow(client, run_id)
    if json_output:
        # The document says why a run failed: the exit code is all there is to add.
        print_json(final)
        if final["status"] != "SUCCEEDED":
            raise typer.Exit(int(Exit.FAILED))
        return
    if final.get("error"):
        # The message itself comes with the error at the end.
        err().print(tail_text(final["error"]), soft_wrap=True)
    check(final, client.target.flags)
    console = out()
    if final.get("evaluation"):
        console.print()
        console.print(evaluation_table(final["evaluation"]))
    console.print()
    console.print(paths_text(final), soft_wrap=True)
    if final.get("endpoint") and not _is_about_nodes(final):
        pairs = f"--pairs pairs.csv --out scores.csv{client.target.flags}"
        note(f"\nnext  ekiden score --endpoint {final['endpoint']} {pairs}")


def _is_about_nodes(view: View) -> bool:
    """Tell whether every target of a run is a property of nodes: there are no pairs to score then."""
    targets = (view.get("evaluation") or {}).get("targets") or []
    return bool(targets) and all(str((e.get("target") or {}).get("task")).startswith("node_") for e in targets)
