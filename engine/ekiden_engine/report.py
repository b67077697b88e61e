"""`report.html`: one self-contained page about a training, for people: no script, no external resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from ekiden_engine import report_charts as charts
from ekiden_engine import report_tables as tables
from ekiden_engine.evaluation_held_out import TargetEvaluation
from ekiden_engine.evaluation_words import baseline_name, figure_name
from ekiden_engine.models.base import Curve
from ekiden_engine.report_page import PAGE
from ekiden_engine.report_target import target_section
from ekiden_engine.report_timeline import StageSpan

REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """What the page shows: the spec's name, the content of evaluation.json, and per target, in the order of the
    document's, learning curves and evaluation; the stages so far."""

    name: str
    document: Mapping[str, Any]
    curves: Sequence[Sequence[Curve]]
    evaluations: Sequence[TargetEvaluation]
    timeline: Sequence[StageSpan]


def render_report(data: ReportData) -> str:
    """The page as HTML text; everything that comes from the user is escaped."""
    document = data.document
    model = str(document["model"])
    sections = [
        target_section(entry, model, evaluation, curves, f"target-{number}")
        for number, (entry, evaluation, curves) in enumerate(
            zip(document["targets"], data.evaluations, data.curves, strict=True)
        )
    ]
    return Template(PAGE).substitute(
        title=escape(data.name),
        kicker=escape(_kicker(document)),
        summary=_summary(document, data.evaluations) if len(sections) > 1 else "",
        targets="".join(sections),
        run=_run(data),
        foot=_foot(document),
    )


def _kicker(document: Mapping[str, Any]) -> str:
    targets = document["targets"]
    return str(document["model"]) + (f" · {len(targets)} targets" if len(targets) > 1 else "")


def _summary(document: Mapping[str, Any], evaluations: Sequence[TargetEvaluation]) -> str:
    """A line per target, with a link to its part."""
    body = ""
    for number, (entry, evaluation) in enumerate(zip(document["targets"], evaluations, strict=True)):
        best = evaluation.strongest_baseline
        other = (
            "" if best is None else f"{baseline_name(best)} {evaluation.baselines[best][evaluation.metric.name]:.4f}"
        )
        body += (
            f'<tr><th scope="row"><a href="#target-{number}">{escape(entry["target"]["name"])}</a></th>'
            f"<td>{escape(figure_name(evaluation.metric.name))}</td><td>{tables.value(evaluation.metric.value)}</td>"
            f"<td>{escape(other)}</td></tr>"
        )
    head = "<tr><th>target</th><th>figure</th><th>model</th><th>strongest baseline</th></tr>"
    return f'<div class="card scroll"><table class="columns"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _run(data: ReportData) -> str:
    document = data.document
    counts = document["targets"][0]["counts"] if document["targets"] else {"nodes": {}, "edges": {}}
    svg = charts.timeline(data.timeline)
    stages = (
        f"<figure><h3>Timeline of the stages</h3>{svg}"
        "<figcaption>Training is shown up to the writing of this report.</figcaption></figure>"
        if svg
        else ""
    )
    words = {"memory_gib": "memory, GiB"}
    environment = [(words.get(k, k), v) for k, v in (document.get("environment") or {}).items() if v is not None]
    return "".join(
        (
            stages,
            tables.facts("Nodes", counts["nodes"].items()),
            tables.facts("Edges", counts["edges"].items()),
            tables.facts("Machine", environment),
            tables.facts("Versions", (document.get("versions") or {}).items()),
        )
    )


def _foot(document: Mapping[str, Any]) -> str:
    run = document.get("run_id")
    seconds = sum((entry.get("training") or {}).get("seconds", 0.0) for entry in document["targets"])
    parts = [*([f"Run {run}"] if run else []), f"trained in {charts.duration(seconds)}"]
    if any((entry.get("training") or {}).get("stopped") for entry in document["targets"]):
        parts.append("stopped on request before it was finished")
    return escape(" · ".join(parts))
