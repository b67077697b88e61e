"""Follow a run to its end: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ekiden_cli.api import ApiClient, View
from ekiden_cli.console import err, note
from ekiden_cli.errors import CliError, Exit
from ekiden_cli.render import RUN_TERMINAL, duration, last_job, stage_span, stage_table, when

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_BUSY = ("STARTING", "RUNNING")
_LINE_EVERY = 5.0  # seconds between log lines of one stage when output is not a terminal


def interval(client: ApiClient) -> float:
    """Return seconds between two looks: an embedded cloud is near and free, AWS is neither."""
    return 0.5 if client.target.is_local else 3.0


def follow(client: ApiClient, run_id: str, *, pause: float | None = None, console: Console | None = None) -> View:
    """Show the run's progress on stderr until it ends; return the last view of it.

    Interrupting (Ctrl-C) leaves the run running; the way back is printed.
    """
    console = console or err()
    pause = interval(client) if pause is None else pause
    try:
        return _live(client, run_id, pause, console) if console.is_terminal else _plain(client, run_id, pause, console)
    except KeyboardInterrupt:
        note(f"\nthe run goes on without you; watch it again with `ekiden watch {run_id}{client.target.flags}`")
        raise CliError("stopped watching", exit_code=Exit.INTERRUPTED, code="INTERRUPTED") from None


def check(run: View, flags: str = "") -> None:
    """Raise ``CliError`` (exit code 1) with stage, code and message if the run did not succeed.

    ``flags`` are the options that the next command needs to find the cloud.
    """
    if run["status"] == "SUCCEEDED":
        return
    error = run.get("error") or {}
    run_id = run["run_id"]
    if run["status"] == "CANCELLED":
        raise CliError(f"run {run_id} was cancelled", code="CANCELLED")
    raise CliError(
        f"run {run_id} failed in {error.get('stage', 'an unknown stage')}: {error.get('code', 'UNKNOWN')}: "
        f"{error.get('message', 'no reason given')}",
        hint=f"the whole log: `ekiden logs {run_id} --stage {error.get('stage', 'export')}{flags}`",
        code=str(error.get("code", "FAILED")),
    )


def _views(client: ApiClient, run_id: str, pause: float) -> Iterator[tuple[View, dict[str, str]]]:
    """Yield the run and the last log line of each busy stage until the run has ended."""
    lines: dict[str, str] = {}
    while True:
        run = client.get_run(run_id)
        for stage in run.get("stages", ()):
            if stage["status"] in _BUSY:
                lines.update(_last_line(client, run, stage))
            elif stage["status"] != "FAILED":
                lines.pop(str(stage["name"]), None)
        yield run, lines
        if run["status"] in RUN_TERMINAL:
            return
        time.sleep(pause)


def _last_line(client: ApiClient, run: View, stage: View) -> dict[str, str]:
    """Return the newest log line of the stage's latest attempt; none that is older than the run.

    An endpoint's log goes on over its updates, so its last line may be about an earlier run.
    """
    name = str(stage["name"])
    try:
        page = client.get_logs(str(run["run_id"]), stage=name, tail=1)
    except CliError:
        # The line is decoration: a log that is not there yet must not end the watching.
        return {}
    found = page.get("lines") or ()
    written, began = when(found[-1].get("timestamp")) if found else None, when(run.get("created_at"))
    if not found or (written and began and written < began):
        return {}
    if int(found[-1].get("attempt") or 1) < len(stage.get("attempts") or ()):
        return {}
    return {name: str(found[-1]["message"]).strip()}


def _live(client: ApiClient, run_id: str, pause: float, console: Console) -> View:
    from rich.console import Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", style="cyan")
    latest: tuple[View, dict[str, str]] | None = None

    def picture() -> RenderableType:
        # Drawn anew at each refresh, so that times run on between two looks at the API.
        if latest is None:
            return Text(f"{run_id}  …")
        run, lines = latest
        began, ended = when(run.get("created_at")), when(run.get("ended_at"))
        took = duration(((ended or datetime.now(UTC)) - began).total_seconds()) if began else ""
        head = Text.assemble((run_id, "bold"), f"  {str(run['status']).lower()}  {took}")
        over = run["status"] in RUN_TERMINAL
        return Group(head, stage_table(run, lines=None if over else lines, spinner=spinner))

    with Live(get_renderable=picture, console=console, refresh_per_second=8, transient=False):
        for view in _views(client, run_id, pause):
            latest = (view[0], dict(view[1]))
    if latest is None:
        raise AssertionError("a run has at least one view")
    return latest[0]


def _plain(client: ApiClient, run_id: str, pause: float, console: Console) -> View:
    known: dict[str, str] = {}
    said: dict[str, tuple[float, str]] = {}
    run: View = {}
    for run, lines in _views(client, run_id, pause):
        if run["status"] == "CANCELLING" and known.get("") != "CANCELLING":
            _say(console, "the run  CANCELLING")
        known[""] = str(run["status"])
        for stage in run.get("stages", ()):
            name, status = str(stage["name"]), str(stage["status"])
            if known.get(name, "PENDING") != status:
                span = stage_span(stage, datetime.now(UTC))
                took = f"  {duration(span)}" if span is not None and status not in _BUSY else ""
                _say(console, f"{name:<8} {status}{took}  {last_job(stage)}".rstrip(), _moment(stage))
            known[name] = status
            line = lines.get(name)
            at, before = said.get(name, (0.0, ""))
            if line and line != before and time.monotonic() - at >= _LINE_EVERY:
                said[name] = (time.monotonic(), line)
                _say(console, f"{name:<8} {line}")
    return run


def _moment(stage: View) -> datetime | None:
    """Return when a stage came to its status: it may have been a while before it was looked at."""
    attempts = stage.get("attempts") or ()
    if not attempts:
        return None
    return when(attempts[-1].get("started_at" if stage["status"] in _BUSY else "ended_at"))


def _say(console: Console, text: str, at: datetime | None = None) -> None:
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    console.print(f"{moment:%H:%M:%S} {text}", markup=False, soft_wrap=True)
