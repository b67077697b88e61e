"""What people see: tables and panels made of the API's answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

View = Mapping[str, Any]

RUN_TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_STYLE = {
    "SUCCEEDED": "green", "COMPLETED": "green", "FAILED": "bold red", "TIMED_OUT": "bold red",
    "CANCELLED": "yellow", "CANCELLING": "yellow", "PENDING": "dim",
    "RUNNING": "cyan", "STARTING": "cyan", "ACCEPTED": "cyan",
}  # fmt: skip
_TAIL = 12  # lines of a failed job's log
_NAMES = {
    "user_item_bias": "user and item biases", "majority": "class frequencies",
    "end_priors": "class priors of both ends", "ease": "EASE", "ials": "iALS",
}  # fmt: skip
_FIGURES = {
    "rmse": "RMSE", "mae": "MAE", "r2": "R²", "accuracy": "accuracy", "f1_macro": "F1", "roc_auc": "ROC AUC",
    "mrr": "MRR", "hits@10": "hits@10", "recall@20": "recall@20", "ndcg@20": "NDCG@20",
}  # fmt: skip
_MARK = {"SUCCEEDED": "✔", "FAILED": "✘", "TIMED_OUT": "✘", "CANCELLED": "■", "PENDING": "·"}


def styled(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=_STYLE.get(status, ""))


def when(text: str | None) -> datetime | None:
    """Parse an ISO-8601 time; one without a zone is UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """Return ``4.2 s``, ``2 min 5 s`` or ``1 h 2 min``."""
    if seconds < 100:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def stage_span(stage: View, now: datetime) -> float | None:
    """Return seconds from a stage's first start to its end or ``now``; ``None`` before it starts."""
    starts = [t for t in (when(a.get("started_at")) for a in stage.get("attempts", ())) if t]
    ends = [t for t in (when(a.get("ended_at")) for a in stage.get("attempts", ())) if t]
    if not starts:
        return None
    is_over = stage["status"] in RUN_TERMINAL or stage["status"] == "TIMED_OUT"
    return ((max(ends) if is_over and ends else now) - min(starts)).total_seconds()


def last_job(stage: View) -> str:
    """Return the name of the job of the latest attempt."""
    attempts = stage.get("attempts") or ()
    return str(attempts[-1].get("job") or "") if attempts else ""


def stage_table(run: View, *, lines: Mapping[str, str] | None = None, spinner: Spinner | None = None) -> Table:
    """Return the stages of a run; ``lines`` holds the last log line by stage, for a live view."""
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "stage", "status", "time", "tries", "job"):
        table.add_column(title, no_wrap=title != "job", justify="right" if title in ("time", "tries") else "left")
    if lines is not None:
        table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for stage in run.get("stages", ()):
        status = str(stage["status"])
        busy = status in ("RUNNING", "STARTING")
        mark: RenderableType = spinner if busy and spinner else Text(_MARK.get(status, " "), _STYLE.get(status, ""))
        span = stage_span(stage, now)
        tries = len(stage.get("attempts") or ())
        cells: list[RenderableType] = [
            mark, str(stage["name"]), styled(status), "" if span is None else duration(span),
            str(tries) if tries > 1 else "", Text(last_job(stage), style="dim"),
        ]  # fmt: skip
        if lines is not None:
            cells.append(Text(lines.get(str(stage["name"]), "")))
        table.add_row(*cells)
    return table


def run_panel(run: View) -> Panel:
    """Return the stages and evaluation of a run; why it failed and where its files are come below it."""
    began, ended = when(run.get("created_at")), when(run.get("ended_at"))
    head = Text.assemble(styled(str(run["status"])), f"  {run.get('name', '')}")
    if began:
        head.append(f"  started {began:%Y-%m-%d %H:%M:%S} UTC, ")
        head.append(f"{'took' if ended else 'running for'} ")
        head.append(duration(((ended or datetime.now(UTC)) - began).total_seconds()))
    parts: list[RenderableType] = [head, Text(), stage_table(run)]
    if run.get("evaluation"):
        parts += [Text(), evaluation_table(run["evaluation"])]
    return Panel(Group(*parts), title=str(run["run_id"]), title_align="left", border_style="dim", expand=False)


def error_text(error: View) -> Text:
    """Return stage, code and message of a failed run, with the end of the job's log."""
    text = Text.assemble(
        (f"{error.get('stage')} failed: ", "bold red"), (str(error.get("code")), "bold"), f"  {error.get('message')}"
    )
    tail = tail_text(error)
    return Text("\n").join([text, tail]) if tail else text


def tail_text(error: View) -> Text:
    """Return the end of a failed job's log, without the lines that say the error's message again."""
    message = str(error.get("message") or "")
    lines = [str(line) for line in error.get("log_tail") or ()]
    tail = [line for line in lines if not message or message not in line][-_TAIL:]
    return Text("\n  ".join(["last lines of its log:", *tail]) if tail else "", style="dim")


def paths_text(run: View) -> Text:
    """Return where the endpoint and the run's files are, one a line, not to be wrapped; empty if there are none."""
    rows = dict(run.get("artifacts") or {})
    if run.get("endpoint") and run.get("status") == "SUCCEEDED":
        rows = {"endpoint": run["endpoint"], **rows}
    width = max((len(str(name)) for name in rows), default=0)
    lines = [Text.assemble((f"{name:<{width}}  ", "dim"), str(value)) for name, value in rows.items()]
    return Text("\n").join(lines)


def evaluation_entries(evaluation: View) -> list[View]:
    """Return what a run's ``evaluation.json`` says of each target; that of earlier versions is about one."""
    targets = evaluation.get("targets")
    if isinstance(targets, list):
        return [entry for entry in targets if isinstance(entry, Mapping)]
    return [{**evaluation, "metrics": evaluation}]


def evaluation_table(evaluation: View) -> RenderableType:
    """Return the model beside its baselines, a table for each target."""
    entries = evaluation_entries(evaluation)
    tables: list[RenderableType] = []
    for entry in entries:
        tables += [Text()] if tables else []
        tables.append(target_table(entry, named=len(entries) > 1))
    return Group(*tables)


def target_table(entry: View, *, named: bool = False) -> Table:
    """Return one target's figures: the model's in the first row, then the baselines'."""
    target = entry.get("target") or {}
    columns = _columns(entry)
    rows = f"on the {entry.get('evaluated_on', 'test')} {_rows(str(target.get('task', '')))}"
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(Text(f"{target.get('name')}, {rows}" if named else rows))
    for name in columns:
        table.add_column(_FIGURES[name], justify="right")
    baselines = {name: found for name, found in (entry.get("baselines") or {}).items() if isinstance(found, Mapping)}
    table.add_row("model", *_cells(entry.get("metrics"), columns), style="bold")
    for name, found in baselines.items():
        table.add_row(_NAMES.get(str(name), str(name).replace("_", " ")), *_cells(found, columns), style="dim")
    return table


def _columns(entry: View) -> tuple[str, ...]:
    """Return the figures of the target's task; the one that stands for the model is first."""
    metrics = entry.get("metrics") or {}
    if "mrr" in metrics:
        return ("mrr", "hits@10", "recall@20", "ndcg@20")
    if "roc_auc" not in metrics:
        return ("rmse", "mae", "r2")
    first = str((entry.get("metric") or {}).get("name"))
    return tuple(sorted(("accuracy", "f1_macro", "roc_auc"), key=lambda name: name != first))


def _rows(task: str) -> str:
    if task == "link_prediction":
        return "links"
    return "nodes" if task.startswith("node_") else "edges"


def _cells(values: Any, columns: tuple[str, ...]) -> list[str]:
    found = values if isinstance(values, Mapping) else {}
    numbers = (found.get(name) for name in columns)
    return [f"{number:.4f}" if isinstance(number, int | float) else "" for number in numbers]


def runs_table(runs: list[View]) -> Table:
    """Return one line per run, newest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("run", "status", "stage", "started (UTC)", "took"):
        table.add_column(title, no_wrap=True)
    for run in runs:
        began, changed = when(run.get("created_at")), when(run.get("updated_at"))
        took = duration((changed - began).total_seconds()) if began and changed else ""
        if run["status"] not in RUN_TERMINAL and began:
            took = duration((datetime.now(UTC) - began).total_seconds())
        started = f"{began:%Y-%m-%d %H:%M:%S}" if began else ""
        table.add_row(str(run["run_id"]), styled(str(run["status"])), str(run.get("stage") or ""), started, took)
    return table


def history_table(history: list[View]) -> Table:
    """Return the timeline of a run: when, who, what; oldest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("what", overflow="fold")
    for line in history:
        at = when(line.get("at"))
        moment = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}" if at else ""
        table.add_row(Text(moment, style="dim"), Text(who(str(line["actor"])), "cyan"), Text(str(line["what"])))
    return table


def who(actor: str) -> str:
    """Return who or what moved a run, for people: the end of a caller's ARN, or the kind of event.

    >>> who("arn:aws:sts::000000000000:assumed-role/Operator/ada")
    'Operator/ada'
    >>> who("RUN#movielens-20261120-101500-abcdef/4/1")
    'event 4/1 of the run'
    >>> who("6a7e8feb-b491-4cf7-a9f1-bf3703467718")
    'job event 6a7e8feb'
    """
    if actor.startswith("arn:"):
        resource = actor.rsplit(":", 1)[-1]
        kind, _, name = resource.partition("/")
        return name if kind in ("user", "assumed-role") and name else resource
    if actor.startswith("RUN#"):
        return f"event {'/'.join(actor.split('/')[1:])} of the run"
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", actor):
        return f"job event {actor[:8]}"
    return actor


def redriven_table(queues: list[View]) -> Table:
    """Return what a redrive did, one line per queue."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("queue", "redriven", "kept", "parked again", "left"):
        table.add_column(title, no_wrap=True, justify="left" if title == "queue" else "right")
    for queue in queues:
        counts = (f"{queue[name]:,}" if queue[name] else "" for name in ("redriven", "kept", "later", "remaining"))
        table.add_row(str(queue["queue"]), *counts)
    return table


def scores_text(view: View) -> Text:
    """Return the progress or outcome of a score request."""
    pairs, messages = view.get("pairs") or {}, view.get("messages") or {}
    text = Text.assemble(
        (str(view["request_id"]), "bold"),
        "  ",
        styled(str(view["status"])),
        f"  endpoint {view.get('endpoint')}",
    )
    text.append(f"\npairs {pairs.get('total', 0):,}: scored {pairs.get('scored', 0):,}, ")
    text.append(f"fallback {pairs.get('fallback', 0):,}, invalid {pairs.get('invalid', 0):,}")
    text.append(f"\nmessages {messages.get('done', 0)} of {messages.get('total', 0)} done")
    text.append(f"\nresults {view.get('results')}")
    if error := view.get("error"):
        text.append(f"\n{error.get('code')}: {error.get('message')}", style="bold red")
    return text
