"""The report: self-contained, escaped, honest about small numbers."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from ekiden_engine import report_charts as charts
from ekiden_engine.evaluation import HeldOut
from ekiden_engine.models.base import Curve, CurvePoint
from ekiden_engine.report import ReportData, render_report
from ekiden_engine.report_svg import ticks
from ekiden_engine.report_timeline import StageSpan, read_timeline

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
NASTY = '<script>alert("x")</script>&\'"'


def make_held_out(count: int = 400, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    actual = rng.integers(1, 6, count).astype(np.float32)
    return HeldOut(
        split="test",
        source=rng.integers(0, 50, count).astype(np.int32),
        dest=rng.integers(0, 50, count).astype(np.int32),
        actual=actual,
        predicted=(3 + 0.4 * (actual - 3) + rng.normal(scale=0.5, size=count)).astype(np.float32),
        global_mean=np.full(count, 3, np.float32),
        user_item_bias=np.full(count, 3.1, np.float32),
        source_degree=rng.integers(0, 300, count),
        dest_degree=rng.integers(0, 9, count),
        status=np.zeros(count, np.uint8),
    )


def make_data(**changes: Any) -> ReportData:
    """A report's input; `changes` replace entries of the evaluation, except `name`, `held_out`, `timeline`,
    `curves`."""
    figures = {"rmse": 0.9, "mae": 0.7, "r2": 0.3, "count": 400}
    worse = {**figures, "rmse": 1.0}
    evaluation = {
        **figures,
        "evaluated_on": "test",
        "baselines": {"global_mean": worse, "user_item_bias": worse},
        "splits": {"train": worse, "valid": {"rmse": None, "mae": None, "r2": None, "count": 0}, "test": figures},
        "counts": {"nodes": {"user": 50}, "edges": {"e": 1}, "target": {"train": 4000}, "statuses": {"scored": 400}},
        "run_id": "movielens-20261120-100000-abcdef",
        "model": "rgcn",
        "target": {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"},
        "hyperparameters": {"num-hidden": "32"},
        "seeds": [0, 1],
        "training": {"seconds": 12.3, "stopped": False, "threads": 1},
        "versions": {"torch": "2.13.0"},
    }
    points = tuple(CurvePoint(i, 1 - i / 30, 1 - i / 40 + (i > 6) * (i - 6) / 25, i / 10) for i in range(1, 11))
    return ReportData(
        name=changes.pop("name", "movielens"),
        held_out=changes.pop("held_out", make_held_out()),
        curves=changes.pop("curves", (Curve(0, 1.0, 6, True, points), Curve(0, 3.0, 2, False, points))),
        timeline=changes.pop("timeline", [StageSpan("export", "SUCCEEDED", START, START + timedelta(seconds=3))]),
        evaluation={**evaluation, **changes},
    )


class Page(HTMLParser):
    """Collects tags, attributes, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    html = render_report(make_data())
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", html)
    assert {name for name, _ in page.attributes}.isdisjoint({"src", "href", "onload", "onclick"})
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_it_shows_the_headline_beside_the_baselines_and_all_charts() -> None:
    html = render_report(make_data())
    assert "<span>0.9000</span> RMSE" in html
    assert "10.0 % below user and item biases" in html
    titles = (
        "Learning curve",
        "Predicted against actual",
        "Error by degree of the user",
        "Error by degree of the movie",
    )
    for title in (*titles, "Timeline of the stages", "Hyperparameters"):
        assert f"<h2>{title}</h2>" in html
    assert html.count("<svg") == 5


@pytest.mark.parametrize("field", ["name", "edge", "property", "model", "run_id", "hyperparameter", "stage"])
def test_text_from_the_user_is_escaped_wherever_it_appears(field: str) -> None:
    edge = [NASTY, "rated", NASTY] if field == "edge" else ["user", "rated", "movie"]
    possible: dict[str, dict[str, Any]] = {
        "name": {"name": NASTY},
        "model": {"model": NASTY},
        "run_id": {"run_id": NASTY},
        "hyperparameter": {"hyperparameters": {NASTY: NASTY}},
        "stage": {"timeline": [StageSpan(NASTY, NASTY, START, START)]},
    }
    changes = possible.get(field, {})
    wanted = NASTY if field == "property" else "rating"
    html = render_report(make_data(target={"edge": edge, "property": wanted, "type": "regression"}, **changes))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert Page(html).open == []


def test_a_model_that_is_worse_than_a_baseline_says_so_and_missing_test_edges_are_a_warning() -> None:
    html = render_report(make_data(rmse=1.1, evaluated_on="valid"))
    assert "10.0 % above user and item biases" in html
    assert "There were no test edges" in html


def test_a_report_without_any_held_out_edge_still_renders() -> None:
    none = {"rmse": None, "mae": None, "r2": None, "count": 0}
    html = render_report(
        make_data(
            held_out=make_held_out(0),
            timeline=[],
            curves=(),
            baselines={"global_mean": none, "user_item_bias": none},
            **none,
        )
    )
    assert "There was no labelled edge to evaluate on." in html
    assert "<svg" not in html


def test_violins_are_drawn_per_rating_and_a_few_predictions_as_dots() -> None:
    actual = np.array([1] * 50 + [2] * 3, np.float32)
    predicted = np.concatenate([np.linspace(0, 2, 50), [1.5, 2.0, 2.5]]).astype(np.float32)
    root = ET.fromstring(charts.violins(actual, predicted))
    assert len(root.findall("path[@class='violin']")) == 1
    assert len(root.findall("circle[@class='fill-a']")) == 3
    labels = [text.text for text in root.findall("text")]
    assert {"1", "2", "actual", "predicted"} <= set(labels)


def test_continuous_labels_are_put_into_a_handful_of_violins() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=5000).astype(np.float32)
    root = ET.fromstring(charts.violins(actual, actual + rng.normal(size=5000).astype(np.float32)))
    assert 5 <= len(root.findall("path[@class='violin']")) <= charts.MAX_VIOLINS


@pytest.mark.parametrize(("low", "high"), [(-1.3, 0.9), (0, 1), (3, 17), (0.5, 10), (-4, 250), (0.13, 0.19)])
def test_the_groups_of_continuous_labels_have_round_names(low: float, high: float) -> None:
    actual = np.linspace(low, high, 997, dtype=np.float32)
    root = ET.fromstring(charts.violins(actual, actual))
    names = [t.text or "" for t in root.findall("text[@class='tick mid']")]
    assert 4 <= len(names) <= charts.MAX_VIOLINS
    assert all(len(name.strip("-")) <= 4 for name in names), names


def test_a_chart_of_errors_never_goes_below_zero() -> None:
    zero = tuple(CurvePoint(i, 0.0, 0.0, 0.1) for i in (1, 2, 3))
    none = np.zeros(3, np.float32)
    for svg in (
        charts.learning_curve((Curve(0, 1.0, 1, True, zero),), 0.0),
        charts.degree_error(np.array([1, 1, 2]), {"model": none}, "user"),
    ):
        ticks_shown = [float(t.text or "") for t in ET.fromstring(svg).findall("text[@class='tick end']")]
        assert min(ticks_shown) == 0.0


def test_labels_that_are_all_alike_leave_no_empty_sentence_and_no_number_that_is_not_defined() -> None:
    perfect = {"rmse": 0.0, "mae": 0.0, "r2": None}
    html = render_report(
        make_data(**perfect, baselines={name: {**perfect, "count": 400} for name in ("global_mean", "user_item_bias")})
    )
    assert "on 400 test edges. They all have the same rating: R² is not defined." in html
    assert "<td>–</td>" in html  # noqa: RUF001
    assert ">none<" not in html


@pytest.mark.parametrize("value", [0.0, 3.7, -1e12, 1e25])
def test_labels_that_are_all_alike_can_be_drawn_whatever_their_size(value: float) -> None:
    alike = np.full(60, value, np.float32)
    assert len(ET.fromstring(charts.violins(alike, alike)).findall("text")) >= 3


def test_one_edge_and_few_training_edges_are_called_what_they_are() -> None:
    counts = make_data().evaluation["counts"] | {"target": {"train": 1}}
    html = render_report(make_data(count=1, r2=None, evaluated_on="train", counts=counts, held_out=make_held_out(1)))
    assert "on 1 training edge: " in html
    assert "One edge says nothing about a model." in html
    assert "these are the edges that the model was trained on" in html
    assert "Only 1 labelled edge to train on, 100 or more are advisable" in html
    assert "labelled edges to train on" not in render_report(make_data())


@pytest.mark.parametrize(
    ("start", "seconds", "shown"),
    [(0, 0, "under 1 s"), (0, 4, "4 s"), (500_000, 4, "4.0 s"), (1, 0.25, "0.2 s"), (0, 75, "1 min 15 s")],
)
def test_a_stage_lasts_as_long_as_was_measured_and_no_finer(start: int, seconds: float, shown: str) -> None:
    begin = START.replace(microsecond=start)
    assert charts.span_duration(StageSpan("process", "SUCCEEDED", begin, begin + timedelta(seconds=seconds))) == shown


def test_error_by_degree_is_the_rmse_of_each_bucket_hollow_where_edges_are_few() -> None:
    degree = np.array([0] * 40 + [1] * 40 + [700] * 2)
    error = np.array([2.0] * 40 + [1.0] * 40 + [0.5] * 2, np.float32)
    root = ET.fromstring(charts.degree_error(degree, {"model": error}, "user"))
    titles = [title.text for title in root.iter("title")]
    assert titles == [
        "model: RMSE 2.0000 on 40 edges (0 training edges)",
        "model: RMSE 1.0000 on 40 edges (1 training edges)",
        "model: RMSE 0.5000 on 2 edges (512+ training edges)",
    ]
    assert [c.get("class") for c in root.findall("circle")] == ["fill-a", "fill-a", "fill-card ring-a"]


def test_the_timeline_has_a_bar_per_stage_and_marks_failures() -> None:
    spans = [
        StageSpan("export", "SUCCEEDED", START, START + timedelta(seconds=2)),
        StageSpan("process", "FAILED", START + timedelta(seconds=3), START + timedelta(seconds=200)),
    ]
    root = ET.fromstring(charts.timeline(spans))
    assert [bar.get("class") for bar in root.findall("rect")] == ["fill-a", "fill-bad"]
    assert [t.text for t in root.iter("title")] == ["export: succeeded, 2 s", "process: failed, 3 min 17 s"]


def test_the_stages_are_read_from_the_environment_in_order_of_time() -> None:
    entries = [
        {
            "name": "process",
            "status": "SUCCEEDED",
            "started_at": "2026-11-20T10:00:05Z",
            "ended_at": "2026-11-20T10:00:07.5Z",
        },
        {
            "name": "export",
            "status": "SUCCEEDED",
            "started_at": "2026-11-20T10:00:00",
            "ended_at": "2026-11-20T10:00:04Z",
        },
    ]
    spans = read_timeline(json.dumps(entries))
    assert [(s.name, s.seconds) for s in spans] == [("export", 4.0), ("process", 2.5)]


@pytest.mark.parametrize(
    "text",
    ["", "not json", "{}", "[1, null]", '[{"name": "x"}]', '[{"started_at": 3, "ended_at": []}]',
     '[{"name": "x", "started_at": "2026-01-02T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"}]'],
)  # fmt: skip
def test_a_timeline_that_makes_no_sense_is_left_out_and_fails_nothing(text: str) -> None:
    assert read_timeline(text) == []


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 5, [1, 2, 3, 4, 5]), (0.87, 0.93, [0.88, 0.9, 0.92]), (3, 3, [3])],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)
    assert all(t == int(t) for t in ticks(low, high * 3, whole=True))
