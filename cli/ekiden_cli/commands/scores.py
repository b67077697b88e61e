"""``score`` and ``scores``: predictions for many pairs, through the queue."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ekiden_cli.console import command, err, note, out, print_json
from ekiden_cli.errors import CliError, Exit, usage
from ekiden_cli.options import Cloud, Json, RequestId, Stack

if TYPE_CHECKING:
    from ekiden_cli.api import ApiClient, View

OutFile = typer.Option("--out", metavar="FILE", help="Results: .csv or .parquet, in the order of the pairs.")
_TERMINAL = frozenset({"COMPLETED", "FAILED"})


@command
def score(
    endpoint: Annotated[str, typer.Option(metavar="NAME", help="A deployed endpoint (deploy.endpoint of the spec).")],
    pairs: Annotated[Path, typer.Option(metavar="FILE", help="Pairs of node ids: .csv or .parquet.", dir_okay=False)],
    out_file: Annotated[Path, OutFile],
    source_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the source nodes.")] = "source",
    target_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the target nodes.")] = "target",
    request_id: RequestId = None,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Score pairs of nodes: upload, wait for the workers, write the results.

    The output has the columns source, target, score, status. A pair with a node the model never saw gets a
    fallback score and says so in status (fallback_source, fallback_target, fallback_both); a pair without
    ids is invalid.

    Examples:

        ekiden score --endpoint movielens --pairs pairs.csv --out scores.csv

        ekiden score --endpoint movielens --pairs p.parquet --out s.parquet --source-column user
        --target-column movie
    """
    from ekiden_cli.delimited import BadInput
    from ekiden_cli.pairs import canonical, check_out

    if not pairs.is_file():
        raise usage(f"there is no file {pairs}", "pairs are a CSV with the header source,target, or Parquet")
    check_out(out_file, pairs)
    from ekiden_cli.connect import connect

    client = connect(cloud, stack, announce=True)
    request_id = request_id or f"score-{uuid.uuid4().hex[:20]}"
    with tempfile.TemporaryDirectory(prefix="ekiden-") as folder:
        plain = Path(folder) / "pairs.csv"
        try:
            count = canonical(pairs, plain, source=source_column, target=target_column)
        except BadInput as error:
            raise usage(str(error)) from None
        # Named by content: other pairs under the same id are refused, and do not replace those of the first request.
        with plain.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        uri = _upload(client, plain, f"uploads/{request_id}-{digest[:16]}.csv")
    _submit(client, endpoint, uri, request_id)
    note(f"request {request_id}: {count:,} pairs")
    view = wait(client, request_id, again=_again(client, request_id, out_file))
    _finish(client, view, out_file, json_output)


@command
def scores(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Id that `ekiden score` printed.")],
    out_file: Annotated[Path | None, OutFile] = None,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Show a score request; with --out wait for it and fetch its results.

    Examples:

        ekiden scores score-0123456789abcdef0123

        ekiden scores score-0123456789abcdef0123 --out scores.parquet
    """
    from ekiden_cli.connect import connect

    client = connect(cloud, stack)
    if out_file is not None:
        from ekiden_cli.pairs import check_out

        check_out(out_file)
        view = wait(client, request_id, again=_again(client, request_id, out_file))
        _finish(client, view, out_file, json_output)
        return
    view = client.get_scores(request_id)
    if json_output:
        print_json(view)
        return
    from ekiden_cli.render import scores_text

    out().print(scores_text(view), soft_wrap=True)


def wait(client: ApiClient, request_id: str, *, again: str, pause: float | None = None) -> View:
    """Show a score request's progress until it ends; return the last view.

    ``again`` is the command that resumes the waiting: it is printed after Ctrl-C.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ekiden_cli.watch import interval

    pause = interval(client) if pause is None else pause
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("messages"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=err(), transient=True) as bar:
            task = bar.add_task("score", total=None)
            while True:
                view = client.get_scores(request_id)
                messages = view.get("messages") or {}
                bar.update(task, completed=messages.get("done", 0), total=messages.get("total") or None)
                if view["status"] in _TERMINAL:
                    return view
                time.sleep(pause)
    except KeyboardInterrupt:
        note(f"\nthe request goes on without you; fetch it later with `{again}`")
        raise CliError("stopped waiting", exit_code=Exit.INTERRUPTED, code="INTERRUPTED") from None


def _finish(client: ApiClient, view: View, out_file: Path, json_output: bool) -> None:
    from ekiden_cli.pairs import merge

    if view["status"] == "FAILED":
        error = view.get("error") or {}
        raise CliError(
            f"request {view['request_id']} failed: {error.get('code', 'UNKNOWN')}: "
            f"{error.get('message', 'no reason given')}",
            hint=_hint(str(error.get("code")), str(view["request_id"]), client.target.flags),
            code=str(error.get("code", "FAILED")),
        )
    try:
        rows = merge(client.target, str(view["results"]), out_file, expected=int(view["pairs"]["total"]))
    except OSError as error:
        raise CliError(
            f"cannot write {out_file}: {error.strerror or error}",
            hint=f"the scores are there: `{_again(client, str(view['request_id']), Path('OTHER.csv'))}`",
            code="CANNOT_WRITE",
        ) from None
    if json_output:
        print_json({**view, "out": str(out_file), "rows": rows})
        return
    counts = view["pairs"]
    text = f"{rows:,} pairs in {out_file}: {counts['scored']:,} scored, {counts['fallback']:,} fallback"
    out().print(f"{text}, {counts['invalid']:,} invalid", markup=False, soft_wrap=True)
    if counts["fallback"] and not counts["scored"]:
        note("note  none of the pairs has both nodes in the graph of the model: are these the ~id of its vertices?")


def _again(client: ApiClient, request_id: str, out_file: Path) -> str:
    """Return the command that waits for a request and fetches its results."""
    return f"ekiden scores {request_id} --out {shlex.quote(str(out_file))}{client.target.flags}"


def _hint(code: str, request_id: str, flags: str) -> str:
    if code.startswith("INVALID_PAIRS") or code == "NO_PAIRS":
        return "correct the pairs, then score them as a new request"
    if code == "PAIRS_CHANGED":
        return "the file of the pairs was replaced meanwhile: score it again"
    return f"how far it came: `ekiden scores {request_id}{flags}`; then score the pairs again"


def _submit(client: ApiClient, endpoint: str, uri: str, request_id: str) -> None:
    """Submit the request; where there is no such endpoint, name those that recent runs deployed."""
    try:
        client.submit_scores(endpoint, pairs_uri=uri, request_id=request_id)
    except CliError as error:
        if error.code in ("UNKNOWN_ENDPOINT", "ENDPOINT_NOT_IN_SERVICE"):
            error.hint = _deployed(client, endpoint)
        raise


def _deployed(client: ApiClient, endpoint: str) -> str:
    import difflib

    names: dict[str, None] = {}
    try:
        for run in client.list_runs(status="SUCCEEDED", limit=10)["runs"]:
            if name := client.get_run(str(run["run_id"])).get("endpoint"):
                names[str(name)] = None
    except CliError:
        return "an endpoint is deployed by a run that succeeded"
    if not names:
        return "no run has deployed one yet: `ekiden run SPEC --watch`"
    if near := difflib.get_close_matches(endpoint, list(names), n=1):
        return f"did you mean {near[0]}?"
    return f"recent runs deployed {', '.join(list(names)[:5])}"


def _upload(client: ApiClient, path: Path, key: str) -> str:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from ekiden_cli.storage import upload_file

    with Progress(
        TextColumn("uploading the pairs"), BarColumn(), DownloadColumn(), console=err(), transient=True
    ) as bar:
        task = bar.add_task("upload", total=None)
        return upload_file(
            client.target,
            path,
            key,
            progress=lambda sent, total: bar.update(task, completed=sent, total=total),
        )
