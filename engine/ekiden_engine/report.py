"""`report.html`: one self-contained page about a training, for people: no script, no external resource."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

import numpy as np

from ekiden_engine import report_charts as charts
from ekiden_engine.evaluation import FEW_EDGES, HeldOut, few_edges_warning
from ekiden_engine.models.base import Curve
from ekiden_engine.report_page import PAGE
from ekiden_engine.report_timeline import StageSpan

REPORT_FILE = "report.html"
BASELINE_NAMES = {"user_item_bias": "User and item biases", "global_mean": "Global mean"}


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """What the page shows: the spec's name, the content of evaluation.json, learning curves, held-out edges
    and stages."""

    name: str
    evaluation: dict[str, Any]
    curves: Sequence[Curve]
    held_out: HeldOut
    timeline: Sequence[StageSpan]


def render_report(data: ReportData) -> str:
    """The page as HTML text; everything that comes from the user is escaped."""
    evaluation, held = data.evaluation, data.held_out
    source, relation, dest = evaluation["target"]["edge"]
    errors = {
        str(evaluation["model"]): held.predicted - held.actual,
        BASELINE_NAMES["user_item_bias"]: held.user_item_bias - held.actual,
    }
    same = source == dest
    source_name, dest_name = (f"source {source}", f"target {dest}") if same else (source, dest)
    bias = evaluation["baselines"]["user_item_bias"]["rmse"]
    figures = [
        _figure(
            "Learning curve",
            charts.learning_curve(data.curves, bias),
            f"One line per ensemble member ({sum(c.kept for c in data.curves)}); the dot is the epoch that was kept.",
            [("a", "validation"), ("b", "training"), ("base", "biases")],
        ),
        _figure(
            "Predicted against actual",
            charts.violins(held.actual, held.predicted),
            f"How predictions spread for each actual {evaluation['target']['property']}. The dot is the median.",
            [("a", "predictions"), ("b", "a perfect model")],
        ),
        *(
            _figure(
                f"Error by degree of the {end}",
                charts.degree_error(degree, errors, end),
                f"How the error depends on what a node brings. Hollow: fewer than {charts.FEW} edges.",
                [("a", str(evaluation["model"])), ("base", "user and item biases")],
            )
            for end, degree in ((source_name, held.source_degree), (dest_name, held.dest_degree))
        ),
    ]
    stages = _figure(
        "Timeline of the stages",
        charts.timeline(data.timeline),
        "Training is shown up to the writing of this report.",
        [],
    )
    return Template(PAGE).substitute(
        title=escape(f"{data.name}: {evaluation['target']['property']}"),
        kicker=escape(f"{source} {relation} {dest}"),
        headline=_headline(evaluation, held),
        comparison=_comparison(evaluation),
        figures="".join(figures),
        tables=stages + _tables(evaluation),
        foot=_foot(data),
    )


def _headline(evaluation: dict[str, Any], held: HeldOut) -> str:
    rmse, count = evaluation["rmse"], evaluation["count"]
    if rmse is None:
        return '<p class="lead">There was no labelled edge to evaluate on.</p>'
    parts = []
    dust = 1e-6 * float(np.abs(held.actual).max(initial=0.0))
    for name, words in (("user_item_bias", "user and item biases"), ("global_mean", "the global mean")):
        other = evaluation["baselines"][name]["rmse"]
        if other is not None and other > dust:
            change = (1 - rmse / other) * 100
            parts.append(f"{abs(change):.1f} % {'below' if change >= 0 else 'above'} {words}")
    split = {"test": "test", "valid": "validation", "train": "training"}[evaluation["evaluated_on"]]
    text = f"on {count:,} {split} edge{'' if count == 1 else 's'}" + (f": {', '.join(parts)}" if parts else "") + "."
    if count == 1:
        text += " One edge says nothing about a model."
    elif evaluation["r2"] is None:
        text += f" They all have the same {evaluation['target']['property']}: R² is not defined."
    warnings = []
    if split == "validation":
        warnings.append("There were no test edges; the validation edges also decided when training stopped.")
    elif split == "training":
        warnings.append("There were no test edges; these are the edges that the model was trained on.")
    if 0 < (trained := evaluation["counts"]["target"].get("train", 0)) < FEW_EDGES:
        warning = few_edges_warning(trained)
        warnings.append(f"{warning[0].upper()}{warning[1:]}.")
    warned = "".join(f' <strong class="warn">{escape(warning)}</strong>' for warning in warnings)
    return f'<p class="big"><span>{rmse:.4f}</span> RMSE</p><p class="lead">{escape(text)}{warned}</p>'


def _comparison(evaluation: dict[str, Any]) -> str:
    rows = [(str(evaluation["model"]), evaluation, "a")]
    rows += [(BASELINE_NAMES[name], evaluation["baselines"][name], "base") for name in BASELINE_NAMES]
    most = max((row["rmse"] or 0 for _, row, _ in rows), default=0) or 1
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="bar"><i class="bg-{css}" style="width:{(row["rmse"] or 0) / most * 100:.1f}%"></i></td>'
        f"<td>{_value(row['rmse'])}</td><td>{_value(row['mae'])}</td><td>{_value(row['r2'])}</td></tr>"
        for name, row, css in rows
    )
    head = '<tr><th></th><th class="bar"></th><th>RMSE</th><th>MAE</th><th>R²</th></tr>'
    return f'<table class="compare"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _value(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001  an en dash: nothing to show
    return f"{value:.4f}".replace("-0.0000", "0.0000")


def _figure(title: str, svg: str, caption: str, legend: Iterable[tuple[str, str]]) -> str:
    if not svg:
        return ""
    keys = "".join(f'<span><i class="bg-{css}"></i>{escape(text)}</span>' for css, text in legend)
    return (
        f'<figure><h2>{escape(title)}</h2><p class="legend">{keys}</p>{svg}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _tables(evaluation: dict[str, Any]) -> str:
    counts = evaluation["counts"]
    statuses = {name.replace("_", " "): n for name, n in counts["statuses"].items() if n}
    splits = [
        (f"{name} RMSE", f"{_value(row['rmse'])}  ({row['count']:,} edges)")
        for name, row in evaluation["splits"].items()
        if row["count"]
    ]
    return "".join(
        (
            _table("Nodes", counts["nodes"].items()),
            _table("Edges", counts["edges"].items()),
            _table("Labelled edges by split", counts["target"].items()),
            _table("Held-out pairs by how they were scored", statuses.items()),
            _table("Error by split", splits),
            _table("Hyperparameters", evaluation["hyperparameters"].items()),
            _table("Versions", evaluation["versions"].items()),
        )
    )


def _table(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>'
        f"<td>{f'{value:,}' if isinstance(value, int) else escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<section><h2>{escape(title)}</h2><table>{body}</table></section>" if body else ""


def _foot(data: ReportData) -> str:
    training = data.evaluation["training"]
    run = data.evaluation["run_id"]
    threads = "thread" if training["threads"] == 1 else "threads"
    parts = [
        *([f"Run {run}"] if run else []),
        f"trained in {charts.duration(training['seconds'])} on {training['threads']} {threads}",
        *(["stopped on request before it was finished"] if training["stopped"] else []),
        f"seeds {', '.join(map(str, data.evaluation['seeds']))}",
    ]
    return escape(" · ".join(parts))
