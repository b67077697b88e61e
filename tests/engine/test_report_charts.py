"""The report's charts: what they draw, and that they can always be drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ekiden_engine import report_charts as charts
from ekiden_engine import report_figures as figures
from ekiden_engine.models.base import Curve, CurvePoint
from ekiden_engine.report_svg import ticks
from ekiden_engine.report_timeline import StageSpan, read_timeline
from tests.engine.report_factories import START


def test_a_score_has_its_loss_drawn_to_its_own_scale_and_an_error_in_its_own_units() -> None:
    points = tuple(CurvePoint(i, 50.0 - i, 0.5 + i / 100, 0.1) for i in range(1, 6))
    score = ET.fromstring(charts.learning_curve((Curve(0, "mrr", True, 5, True, points),), 0.4))
    shown = [float(t.text or "") for t in score.findall("text[@class='tick end']")]
    assert max(shown) <= 0.6, "the loss of 49 does not stretch the axis"
    assert len(score.findall("path[@class='line b thin']")) == 1
    error = ET.fromstring(charts.learning_curve((Curve(0, "rmse", False, 1, True, points),)))
    assert max(float(t.text or "") for t in error.findall("text[@class='tick end']")) >= 40


def test_an_epoch_that_diverged_is_left_out_of_the_curve() -> None:
    points = (
        CurvePoint(1, 1.0, 0.9, 0.1),
        CurvePoint(2, float("nan"), float("inf"), 0.2),
        CurvePoint(3, 0.8, 0.7, 0.3),
    )
    svg = charts.learning_curve((Curve(0, "rmse", False, 3, True, points),))
    assert "nan" not in svg
    assert "inf" not in svg


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


def degree_table(*buckets: tuple[str, int, float]) -> dict[str, Any]:
    rows = [{"degree": degree, "count": count, "model": value} for degree, count, value in buckets]
    return {"end": "user", "role": "source", "metric": "rmse", "buckets": rows}


def test_a_chart_of_errors_never_goes_below_zero() -> None:
    zero = tuple(CurvePoint(i, 0.0, 0.0, 0.1) for i in (1, 2, 3))
    for svg in (
        charts.learning_curve((Curve(0, "rmse", False, 1, True, zero),), 0.0),
        figures.degree_chart(degree_table(("1", 2, 0.0), ("2-3", 1, 0.0)), "rgcn"),
    ):
        ticks_shown = [float(t.text or "") for t in ET.fromstring(svg).findall("text[@class='tick end']")]
        assert min(ticks_shown) == 0.0


@pytest.mark.parametrize("value", [0.0, 3.7, -1e12, 1e25])
def test_labels_that_are_all_alike_can_be_drawn_whatever_their_size(value: float) -> None:
    alike = np.full(60, value, np.float32)
    assert len(ET.fromstring(charts.violins(alike, alike)).findall("text")) >= 3


@pytest.mark.parametrize(
    ("start", "seconds", "shown"),
    [(0, 0, "under 1 s"), (0, 4, "4 s"), (500_000, 4, "4.0 s"), (1, 0.25, "0.2 s"), (0, 75, "1 min 15 s")],
)
def test_a_stage_lasts_as_long_as_was_measured_and_no_finer(start: int, seconds: float, shown: str) -> None:
    begin = START.replace(microsecond=start)
    assert charts.span_duration(StageSpan("process", "SUCCEEDED", begin, begin + timedelta(seconds=seconds))) == shown


def test_error_by_degree_is_hollow_where_rows_are_few() -> None:
    root = ET.fromstring(figures.degree_chart(degree_table(("0", 40, 2.0), ("1", 40, 1.0), ("2-3", 2, 0.5)), "rgcn"))
    assert [title.text for title in root.iter("title")] == [
        "rgcn: RMSE 2.0000 on 40 rows (0 training edges)",
        "rgcn: RMSE 1.0000 on 40 rows (1 training edges)",
        "rgcn: RMSE 0.5000 on 2 rows (2-3 training edges)",
    ]
    assert [c.get("class") for c in root.findall("circle")] == ["fill-a", "fill-a", "fill-card ring-a"]


@pytest.mark.parametrize("k", [2, 7, 20])
def test_a_confusion_matrix_has_a_cell_per_pair_shaded_by_the_share_of_its_row(k: int) -> None:
    matrix = (np.eye(k, dtype=int) * 3 + 1).tolist()
    root = ET.fromstring(figures.confusion_chart(matrix, [f"class {i} with a long name" for i in range(k)]))
    cells = root.findall("rect")
    assert len(cells) == k * k
    assert float(cells[0].get("fill-opacity") or "") == pytest.approx(4 / (k + 3), abs=1e-3)
    assert figures.confusion_chart([[0, 0], [0, 0]], ["a", "b"]) == ""


def test_hits_grow_with_the_length_of_the_list() -> None:
    ranks = {"model": np.array([1.0, 2.0, 50.0]), "popularity": np.array([10.0, 20.0, 70.0])}
    titles = [title.text for title in ET.fromstring(figures.hits_chart(ranks, "transe")).iter("title")]
    assert "transe: 33.3% within the first 1" in titles
    assert "transe: 100.0% within the first 100" in titles
    assert "popularity: 33.3% within the first 10" in titles


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
