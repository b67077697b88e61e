"""Tables of the report as HTML; everything is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ekiden_engine.evaluation_held_out import Example, Examples
from ekiden_engine.evaluation_words import baseline_name, figure_name

NOTHING = "–"  # noqa: RUF001  an en dash: nothing to show
MAX_TRIALS = 40


def value(number: object) -> str:
    """A figure: four places; an en dash for none."""
    if number is None:
        return NOTHING
    if isinstance(number, int):
        return f"{number:,}"
    if isinstance(number, float):
        text = f"{number:,.1f}" if abs(number) >= 100 else f"{number:.4f}"
        return text.replace("-0.0000", "0.0000")
    return escape(str(number))


def facts(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    """A section of names and values; nothing if there are none."""
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>'
        f"<td>{f'{shown:,}' if isinstance(shown, int) else escape(str(shown))}</td></tr>"
        for name, shown in rows
    )
    return f"<section><h3>{escape(title)}</h3><table>{body}</table></section>" if body else ""


def grid(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """A section with a table of columns, first column names; it scrolls within itself where it is too wide."""
    body = "".join(
        f'<tr><th scope="row">{value(row[0])}</th>' + "".join(f"<td>{value(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    if not body:
        return ""
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    under = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return (
        f'<section class="wide"><h3>{escape(title)}</h3><div class="scroll"><table class="columns">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>{under}</section>"
    )


def comparison(entry: Mapping[str, Any], model: str, names: Sequence[str], *, higher_is_better: bool) -> str:
    """The model's figures `names` beside every baseline's, the strongest first, with bars for the first figure."""
    first = names[0]
    others = sorted(
        entry["baselines"].items(), key=lambda kv: (kv[1].get(first) or 0.0) * (-1 if higher_is_better else 1)
    )
    rows = [(model, entry["metrics"], "a")]
    rows += [(baseline_name(name), found, "base") for name, found in others]
    longest = max((abs(row.get(first) or 0) for _, row, _ in rows), default=0) or 1

    def bar(row: Mapping[str, Any], css: str) -> str:
        return f'<i class="bar bg-{css}" style="width:{max(row.get(first) or 0, 0) / longest * 100:.1f}%"></i>'

    body = "".join(
        f'<tr><th scope="row">{escape(name)}{bar(row, css)}</th>'
        + "".join(f"<td>{value(row.get(figure))}</td>" for figure in names)
        + "</tr>"
        for name, row, css in rows
    )
    titles = "".join(f'<th scope="col">{escape(_title(name))}</th>' for name in names)
    left_out = "".join(
        f'<p class="note">{escape(baseline_name(name))} is left out: {escape(why)}.</p>'
        for name, why in entry.get("left_out", {}).items()
    )
    table = f'<table class="compare"><thead><tr><th></th>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>{left_out}'


def _title(name: str) -> str:
    shown = figure_name(name)
    return shown[:1].upper() + shown[1:]


def classes_table(entry: Mapping[str, Any]) -> str:
    """Figures per class."""
    rows: Sequence[Mapping[str, Any]] = entry.get("classes") or ()
    columns = ("count", "precision", "recall", "f1", "roc_auc", "average_precision")
    head = ("class", "rows", "precision", "recall", "F1", "ROC AUC", "avg. precision")
    return grid("By class", head, [(row["class"], *(row[name] for name in columns)) for row in rows])


def edge_types_table(entry: Mapping[str, Any]) -> str:
    """Ranking figures per direction, and per edge type if there are several."""
    columns = ("count", "mrr", "hits@1", "hits@10", "recall@20", "ndcg@20")
    head = ("", "link ends", "MRR", "hits@1", "hits@10", "recall@20", "NDCG@20")
    words = {"tail": "asked for the target", "head": "asked for the source"}
    rows = [(words[name], *(found[c] for c in columns)) for name, found in entry.get("directions", {}).items()]
    kinds = entry.get("edge_types") or ()
    if len(kinds) > 1:
        rows += [(str(found["edge_type"]), *(found[c] for c in columns)) for found in kinds]
    return grid("By direction and edge type" if len(kinds) > 1 else "By direction", head, rows)


def trials_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """What a search for hyperparameters tried, the best first. For people trials are counted from 1, as in the log."""
    if not trials:
        return ""
    names = sorted({name for trial in trials for name in trial["hyperparameters"]})
    metric = figure_name(str(trials[0]["metric"]))

    def place(trial: Mapping[str, Any]) -> tuple[bool, bool, int]:
        return (not trial["best"], trial["value"] is None, int(trial["number"]))

    rows = [
        (
            f"{int(trial['number']) + 1}{' (best)' if trial['best'] else ''}",
            trial["value"],
            str(trial["state"]).lower(),
            *(str(trial["hyperparameters"].get(name, "")) for name in names),
            f"{trial['seconds']:.1f}",
        )
        for trial in sorted(trials, key=place)[:MAX_TRIALS]
    ]
    left = len(trials) - MAX_TRIALS
    note = f"{left} more are in evaluation.json, where trials are counted from 0." if left > 0 else ""
    return grid("Trials of the search", ("trial", f"valid {metric}", "state", *names, "seconds"), rows, note)


def examples_tables(examples: Examples, links: bool) -> str:
    """The rows that the model was most right about, and most wrong about."""
    columns = (*examples.columns, "rank" if links else "actual", "top of the list" if links else "predicted")

    def cells(rows: Sequence[Example]) -> list[tuple[str, ...]]:
        return [(*row.ids, row.actual.removeprefix("rank "), row.predicted) for row in rows]

    return grid("Most wrong", columns, cells(examples.worst)) + grid("Most right", columns, cells(examples.best))
