"""The report's part about one target: headline beside the baselines, figures, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ekiden_engine import report_charts as charts
from ekiden_engine import report_figures as figures
from ekiden_engine import report_tables as tables
from ekiden_engine.evaluation_held_out import HeldOutLinks, HeldOutValues, TargetEvaluation
from ekiden_engine.evaluation_words import (
    FEW_EDGES,
    baseline_name,
    evaluated_noun,
    few_rows_warning,
    figure_name,
    row_noun,
)
from ekiden_engine.models.base import Curve

TASK_NAMES = {
    "node_classification": "Node classification", "node_regression": "Node regression",
    "edge_classification": "Edge classification", "edge_regression": "Edge regression",
    "link_prediction": "Link prediction",
}  # fmt: skip
SPLIT_NAMES = {"test": "test", "valid": "validation", "train": "training"}
_COLUMNS = {
    "regression": ("rmse", "mae", "r2"),
    "classification": ("accuracy", "f1_macro", "roc_auc", "log_loss"),
    "multi_label": ("roc_auc", "average_precision", "f1_micro", "f1_macro"),
    "links": ("mrr", "hits@10", "recall@20", "ndcg@20"),
}


def target_section(
    entry: Mapping[str, Any], model: str, evaluation: TargetEvaluation, curves: Sequence[Curve], anchor: str
) -> str:
    """The part as HTML; `entry` is the target's in evaluation.json."""
    kicker = TASK_NAMES.get(entry["target"]["task"], entry["target"]["task"])
    drawn = [figure for figure in _figures(entry, model, evaluation, curves) if figure]
    compared = tables.comparison(
        entry, model, _columns(evaluation), higher_is_better=evaluation.metric.higher_is_better
    )
    wide = tables.trials_table(entry.get("trials") or ()) + tables.classes_table(entry) + tables.edge_types_table(entry)
    examples = tables.examples_tables(evaluation.examples, isinstance(evaluation.held_out, HeldOutLinks))
    return (
        f'<article id="{escape(anchor)}"><header><p class="kicker">{escape(kicker)}</p>'
        f"<h2>{escape(entry['target']['name'])}</h2></header>"
        f'<div class="card top"><div>{_headline(entry, evaluation)}</div>'
        f"<div>{compared}</div></div>"
        f'<div class="grid">{"".join(drawn)}</div><div class="stack">{wide}</div>'
        f'<div class="grid">{examples}</div>'
        f'<div class="facts">{_facts(entry, evaluation)}</div></article>'
    )


def _columns(evaluation: TargetEvaluation) -> Sequence[str]:
    target = evaluation.target
    if isinstance(evaluation.held_out, HeldOutLinks):
        return _COLUMNS["links"]
    if target.is_regression:
        return _COLUMNS["regression"]
    columns = _COLUMNS["multi_label" if target.multi_label else "classification"]
    first = evaluation.metric.name
    return (first, *(name for name in columns if name != first))


def _headline(entry: Mapping[str, Any], evaluation: TargetEvaluation) -> str:
    metric, target = evaluation.metric, evaluation.target
    count = int(entry["metrics"]["count"] or 0)
    split = SPLIT_NAMES[entry["evaluated_on"]]
    rows = f"{count:,} {split} {evaluated_noun(target, count)}"
    many = row_noun(target, 2)
    if metric.value is None:
        none = f"There was no {_kind(evaluation, 1)} to evaluate on." if not count else ""
        return f'<p class="lead">{escape(none or f"{figure_name(metric.name)} is not defined on {rows}.")}</p>'
    parts = _beside(entry, evaluation)
    text = f"on {rows}" + (f": {', '.join(parts)}" if parts else "") + "."
    if count == 1:
        text += f" One {evaluated_noun(target, 1)} says nothing about a model."
    elif target.is_regression and entry["metrics"]["r2"] is None:
        text += f" They all have the same {target.property}: R² is not defined."
    share = entry["counts"].get("queries", {}).get("share", 1.0)
    if share < 1:
        text += f" A random {share:.2g} of the queries was ranked."
    warnings = _warnings(entry, evaluation, split, many)
    warned = "".join(f' <strong class="warn">{escape(warning)}</strong>' for warning in warnings)
    big = f'<p class="big"><span>{metric.value:.4f}</span> {escape(figure_name(metric.name))}</p>'
    return f'{big}<p class="lead">{escape(text)}{warned}</p>'


def _beside(entry: Mapping[str, Any], evaluation: TargetEvaluation) -> list[str]:
    """How far the headline is from each baseline's: a share of an error, a difference of a score."""
    metric, held = evaluation.metric, evaluation.held_out
    mine = metric.value or 0.0
    known = {name: f for name, found in entry["baselines"].items() if (f := found.get(metric.name)) is not None}
    order = sorted(known, key=lambda name: known[name], reverse=metric.higher_is_better)
    if metric.higher_is_better:
        return [
            f"{abs(mine - known[name]):.3f} {'above' if mine >= known[name] else 'below'} {baseline_name(name)}"
            for name in order
        ]
    biggest = float(np.abs(held.actual).max(initial=0.0)) if isinstance(held, HeldOutValues) else 0.0
    parts = []
    for name in order:
        if known[name] > 1e-6 * biggest:  # else it is dust, and nothing is a share of it
            change = (1 - mine / known[name]) * 100
            parts.append(f"{abs(change):.1f} % {'below' if change >= 0 else 'above'} {baseline_name(name)}")
    return parts


def _warnings(entry: Mapping[str, Any], evaluation: TargetEvaluation, split: str, many: str) -> list[str]:
    warnings = []
    if split == "validation":
        warnings.append(f"There were no test {many}; the validation {many} also decided when training stopped.")
    elif split == "training":
        warnings.append(f"There were no test {many}; these are the {many} that the model was trained on.")
    if 0 < (trained := entry["counts"]["target"].get("train", 0)) < FEW_EDGES:
        warning = few_rows_warning(evaluation.target, trained)
        warnings.append(f"{warning[0].upper()}{warning[1:]}.")
    best = evaluation.strongest_baseline
    if best is not None and evaluation.metric.value is not None:
        other = evaluation.baselines[best][evaluation.metric.name]
        if other is not None and evaluation.metric.better(other, evaluation.metric.value):
            name = baseline_name(best)
            warnings.append(f"{name[0].upper()}{name[1:]} alone {'do' if name.endswith('s') else 'does'} better.")
    return warnings


def _figures(
    entry: Mapping[str, Any], model: str, evaluation: TargetEvaluation, curves: Sequence[Curve]
) -> Iterable[str]:
    held, target, best = evaluation.held_out, evaluation.target, evaluation.strongest_baseline
    beside = [] if best is None else [("base", baseline_name(best))]
    yield _learning_figure(evaluation, curves, best)
    if isinstance(held, HeldOutLinks):
        ranks = {"model": held.ranks.filtered}
        names = [best] if best is not None else []
        names += [name for name in ("popularity",) if name in held.baselines and name != best]
        ranks |= {name: held.baselines[name].filtered for name in names}
        keys = [("a", model), *zip(figures.SERIES[1:], map(baseline_name, names), strict=False)]
        caption = "The share of held-out links whose other end is within the first so many of the ranked list."
        yield _figure("Hits by length of the list", figures.hits_chart(ranks, model), caption, keys)
    elif target.is_regression:
        caption = f"How predictions spread for each actual {target.property}. The dot is the median."
        keys = [("a", "predictions"), ("b", "a perfect model")]
        yield _figure("Predicted against actual", charts.violins(held.actual, held.predicted), caption, keys)
        svg = figures.calibration_chart(entry["calibration"], probability=False)
        caption = (
            "Tenths of the rows, from the lowest predictions to the highest; on the dashed line the mean is right."
        )
        yield _figure("Calibration", svg, caption, [("a", "predictions"), ("b", "a perfect model")])
    else:
        caption = "Actual classes are rows, predicted ones columns; the shade is the share of the row."
        svg = figures.confusion_chart(entry.get("confusion") or (), target.classes)
        yield _figure("Confusion", svg, caption, [("a", "right"), ("b", "wrong")])
        svg = figures.calibration_chart(entry["calibration"], probability=True)
        what = (
            "Every probability against how often it came true"
            if target.multi_label
            else ("How sure the model is against how often it is right")
        )
        caption = f"{what}; hollow: fewer than {figures.FEW}."
        yield _figure("Calibration", svg, caption, [("a", "predictions"), ("b", "a perfect model")])
        svg = figures.precision_recall_chart(evaluation.precision_recall)
        keys = [
            (css, f"{name} ({area:.3f})")
            for css, (name, area, _) in zip(figures.SERIES, evaluation.precision_recall, strict=False)
        ]
        yield _figure("Precision and recall", svg, "In brackets the average precision.", keys)
    word = "Error" if target.is_regression else "Hits" if isinstance(held, HeldOutLinks) else "Accuracy"
    roles = len({table["end"] for table in entry["by_degree"]}) < len(entry["by_degree"])
    for table in entry["by_degree"]:
        end = f"{table['role']} {table['end']}" if roles else table["end"]
        caption = f"How the figure depends on what a node brings. Hollow: fewer than {figures.FEW} rows."
        shown = figures.degree_chart({**table, "end": end}, model)
        yield _figure(f"{word} by degree of the {end}", shown, caption, [("a", model), *beside])


def _learning_figure(evaluation: TargetEvaluation, curves: Sequence[Curve], best: str | None) -> str:
    if not curves:
        return ""
    metric = curves[0].metric
    level = evaluation.baselines[best].get(metric) if best is not None else None
    beside = [] if level is None or best is None else [("base", f"{baseline_name(best)}, held-out rows")]
    caption = f"One line per ensemble member ({sum(c.kept for c in curves)}); the dot is the epoch that was kept."
    train = "training" if metric in charts.ERRORS else "training loss, to its own scale"
    keys = [("a", "validation"), ("b", train), *beside]
    return _figure(
        "Learning curve", charts.learning_curve(curves, None if level is None else float(level)), caption, keys
    )


def _figure(title: str, svg: str, caption: str, legend: Iterable[tuple[str, str]]) -> str:
    if not svg:
        return ""
    keys = "".join(f'<span><i class="bg-{css}"></i>{escape(text)}</span>' for css, text in legend)
    return (
        f'<figure><h3>{escape(title)}</h3><p class="legend">{keys}</p>{svg}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _facts(entry: Mapping[str, Any], evaluation: TargetEvaluation) -> str:
    counts, metric, target = entry["counts"], evaluation.metric.name, evaluation.target
    statuses = {name.replace("_", " "): n for name, n in counts["statuses"].items() if n}
    splits = [
        (name, f"{tables.value(row[metric])}  ({row['count']:,} {evaluated_noun(target, row['count'])})")
        for name, row in entry["splits"].items()
        if row["count"]
    ]
    others = [(figure_name(name), tables.value(number)) for name, number in entry["metrics"].items()]
    training = entry.get("training") or {}
    spent = []
    if training:
        threads = "1 thread" if training["threads"] == 1 else f"{training['threads']} threads"
        spent.append(("trained in", f"{charts.duration(training['seconds'])} on {threads}"))
        if training.get("stopped"):
            spent.append(("stopped", "on request, before it was finished"))
    spent.append(("seeds", ", ".join(map(str, entry.get("seeds") or ())) or "none"))
    if split := entry.get("split"):
        files = split.get("files") or {}
        rates = " / ".join(f"{rate:g}" for rate in split.get("rates", ()))
        spent.append(("split", f"random, {rates}" if rates else f"by files: {', '.join(map(str, files.values()))}"))
    kind = _kind(evaluation, 2)
    return "".join(
        (
            tables.facts(f"{kind[0].upper()}{kind[1:]} by split", counts["target"].items()),
            tables.facts(f"{figure_name(metric)} by split", splits),
            tables.facts("All figures, held out", others),
            tables.facts("Held out, by how they were scored", statuses.items()),
            tables.facts("Training", spent),
            tables.facts("Hyperparameters", (entry.get("hyperparameters") or {}).items()),
        )
    )


def _kind(evaluation: TargetEvaluation, count: int) -> str:
    noun = row_noun(evaluation.target, count)
    return noun if isinstance(evaluation.held_out, HeldOutLinks) else f"labelled {noun}"
