"""The report: self-contained, escaped, honest about small numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.report import render_report
from ekiden_engine.report_timeline import StageSpan
from tests.engine.evaluation_factories import (
    EDGE,
    KnownNodes,
    link_graph,
    make_edges,
    make_labels,
    make_nodes,
    own_kind,
    paper_graph,
)
from tests.engine.report_factories import (
    NASTY,
    START,
    constant,
    evaluate_first,
    every_task,
    good_ratings,
    make_curves,
    make_data,
    ratings,
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


def check_page(html: str) -> None:
    """Well formed, nothing from elsewhere, no script."""
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", html)
    links = {value for name, value in page.attributes if name == "href"}
    assert all(link is not None and link.startswith("#") for link in links)
    assert {name for name, _ in page.attributes}.isdisjoint({"src", "onload", "onclick"})
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S).lower().replace("nano", "")


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    html = render_report(make_data())
    check_page(html)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_it_shows_the_headline_beside_the_baselines_and_all_charts() -> None:
    evaluation = good_ratings()
    html = render_report(make_data(evaluation))
    rmse, bias = evaluation.metric.value, evaluation.baselines["user_item_bias"]["rmse"]
    assert rmse is not None
    assert bias is not None
    assert f"<span>{rmse:.4f}</span> RMSE" in html
    assert f"{(1 - rmse / bias) * 100:.1f} % below user and item biases" in html
    titles = (
        "Learning curve",
        "Predicted against actual",
        "Calibration",
        "Error by degree of the user",
        "Error by degree of the movie",
    )
    for title in (*titles, "Timeline of the stages", "Hyperparameters", "Most wrong", "Most right", "Machine"):
        assert f"<h3>{title}</h3>" in html
    assert html.count("<svg") == 6


@pytest.mark.parametrize(
    ("task", "titles"),
    [
        ("edge classification", ("Confusion", "Calibration", "Precision and recall", "By class")),
        ("edge classes", ("Calibration", "Precision and recall", "By class")),
        ("node classification", ("Confusion", "Accuracy by degree of the paper")),
        ("node regression", ("Predicted against actual", "Error by degree of the paper")),
        ("links", ("Hits by length of the list", "Hits by degree of the given node", "By direction")),
    ],
)
def test_every_task_has_its_figures(task: str, titles: tuple[str, ...]) -> None:
    evaluation = every_task()[task]
    html = render_report(make_data(evaluation, curves=make_curves(evaluation.metric.name)))
    check_page(html)
    for title in titles:
        assert f"<h3>{title}" in html
    assert f"<span>{evaluation.metric.value:.4f}</span>" in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)


def test_several_targets_are_parts_of_one_page_with_a_summary_that_links_to_them() -> None:
    evaluations = list(every_task().values())
    html = render_report(make_data(*evaluations))
    check_page(html)
    for number, evaluation in enumerate(evaluations):
        assert f'<article id="target-{number}">' in html
        assert f'<a href="#target-{number}">{evaluation.target.name}</a>' in html
    assert "rgcn · 6 targets" in html
    assert 'href="#target-0"' not in render_report(make_data(evaluations[0]))


def test_the_trials_of_a_search_are_a_table_with_the_best_first() -> None:
    def trial(number: int, value: float | None, best: bool) -> dict[str, Any]:
        return {
            "number": number, "value": value, "best": best, "metric": "rmse", "epochs": 4,
            "state": "COMPLETE" if value else "FAILED", "seconds": 1.5, "hyperparameters": {"lr": f"0.0{number}"},
        }  # fmt: skip

    trials = [trial(0, 0.9, False), trial(1, None, False), trial(2, 0.8, True)]
    html = render_report(make_data(entry={"trials": trials}))
    assert "<h3>Trials of the search</h3>" in html
    # people count from 1, as the log of the search does
    assert html.index(">3 (best)<") < html.index('<th scope="row">1</th><td>0.9000') < html.index(">failed<")
    assert "counted from 0" in render_report(make_data(entry={"trials": trials * 20}))
    assert "Trials of the search" not in render_report(make_data())


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("right", [0, 2, 9])
def test_the_model_is_most_right_only_about_rows_that_it_got_right(right: int, multi_label: bool) -> None:
    # GIVEN a model that gets few rows right, and is nearly as sure of the truth of the others
    graph = paper_graph(multi_label=multi_label)
    labels = graph.nodes[0].labels[0]
    assert labels.values is not None
    truth = labels.values if multi_label else np.eye(3)[labels.values]
    answers = np.where(truth, 0.45, 0.04) + (0.0 if multi_label else 0.47 * np.roll(truth, 1, axis=1))
    rows = labels.rows(Split.TEST)[:right]
    answers[rows] = np.where(truth[rows], 0.9, 0.05)
    names = ("a 5%", "b, c", "d")
    graph = replace(graph, targets=(graph.targets[0].model_copy(update={"classes": names}),))

    html = render_report(make_data(evaluate_first(graph, KnownNodes(answers))))

    # THEN only those are listed as right
    found = re.findall(r"<tr>(<th scope=\"row\">p\d+</th>.*?)</tr>", html.partition("<h3>Most right</h3>")[2])
    shown = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found]
    assert len(shown) == min(right, 5)
    assert {row for row, _, _ in shown} <= {f"p{row}" for row in rows}
    for row, actual, predicted in shown:
        kinds = [names[kind] for kind in np.flatnonzero(truth[int(row[1:])])]
        assert actual == ", ".join(kinds)
        assert predicted == ", ".join(f"{kind} 90%" for kind in kinds)
    assert "<h3>Most wrong</h3>" in html


@pytest.mark.parametrize(
    "field", ["name", "edge", "property", "model", "run_id", "hyperparameter", "stage", "class", "id"]
)
def test_text_from_the_user_is_escaped_wherever_it_appears(field: str) -> None:
    evaluation = every_task()["edge classification"] if field == "class" else good_ratings()
    target = evaluation.target
    if field == "edge":
        target = target.model_copy(update={"edge": (NASTY, "rated", NASTY)})
    elif field == "property":
        target = target.model_copy(update={"property": NASTY})
    elif field == "class":
        target = target.model_copy(update={"classes": (NASTY, "b", "c")})
    examples = evaluation.examples
    if field == "id":
        first = replace(examples.worst[0], ids=(NASTY, NASTY))
        examples = replace(examples, worst=(first,))
    possible: dict[str, dict[str, Any]] = {
        "name": {"name": NASTY},
        "model": {"model": NASTY},
        "run_id": {"run_id": NASTY},
        "hyperparameter": {"entry": {"hyperparameters": {NASTY: NASTY}}},
        "stage": {"timeline": [StageSpan(NASTY, NASTY, START, START)]},
    }
    html = render_report(make_data(replace(evaluation, target=target, examples=examples), **possible.get(field, {})))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert Page(html).open == []


def test_a_model_that_is_worse_than_a_baseline_says_so() -> None:
    html = render_report(make_data(good_ratings(scale=2.0)))
    assert re.search(r"\d % above user and item biases", html)
    assert "User and item biases alone do better." in html
    assert "alone do better" not in render_report(make_data())


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"rule": "random", "rates": [0.8, 0.1, 0.1]}, "random, 0.8 / 0.1 / 0.1"),
        ({"rule": "files", "files": {"train": "a.csv", "test": "b.csv"}}, "by files: a.csv, b.csv"),
    ],
)
def test_the_split_is_told(split: dict[str, Any], words: str) -> None:
    assert words in render_report(make_data(entry={"split": split}))


def test_missing_test_rows_are_a_warning() -> None:
    html = render_report(make_data(constant(20, split=Split.VALID)))
    assert "There were no test edges; the validation edges also decided when training stopped." in html


def test_a_report_without_any_held_out_edge_still_renders() -> None:
    labels = make_labels([255] * 3, np.full(3, np.nan, np.float32))
    target = Target(task=Task.EDGE_REGRESSION, edge=EDGE, property="rating")
    edges = make_edges(EDGE, [(0, 0), (0, 1), (1, 0)], (labels,))
    graph = EncodedGraph((make_nodes("user", 2), make_nodes("movie", 2)), (edges,), (target,))
    html = render_report(make_data(ratings(lambda s, d: s + 0.0, graph), timeline=[], curves=()))
    assert "There was no labelled edge to evaluate on." in html
    assert "<svg" not in html
    check_page(html)


def test_labels_that_are_all_alike_leave_no_empty_sentence_and_no_number_that_is_not_defined() -> None:
    html = render_report(make_data(constant(40)))
    assert "on 40 test edges. They all have the same rating: R² is not defined." in html
    assert "<td>–</td>" in html  # noqa: RUF001
    assert ">none<" not in html


def test_one_edge_and_few_training_edges_are_called_what_they_are() -> None:
    html = render_report(make_data(constant(1)))
    assert "on 1 test edge." in html
    assert "One edge says nothing about a model." in html
    assert "Only 4 labelled edges to train on, 100 or more are advisable" in html
    assert "to train on, 100" not in render_report(make_data())
    trained = render_report(make_data(constant(20, split=Split.TRAIN)))
    assert "these are the edges that the model was trained on" in trained


def test_links_without_any_held_out_one_still_render() -> None:
    graph = link_graph()
    edges = graph.edges[0]
    none = make_labels(np.full(len(edges), 255))
    empty = replace(graph, edges=(replace(edges, labels=(none,)),))
    html = render_report(make_data(evaluate_first(empty, own_kind(graph)), curves=()))
    assert "There was no link to evaluate on." in html
    check_page(html)
