"""Metrics, baselines beside the model, and the table of predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ekiden_engine.evaluation import Metrics, evaluate, write_predictions
from ekiden_engine.graph import Split
from tests.engine.factories import make_encoded_graph
from tests.engine.model_factories import fit, make_graph


def test_metrics_are_those_of_the_text_books() -> None:
    found = Metrics.of(np.array([1, 2, 3, 4], np.float32), np.array([1, 2, 3, 2], np.float32))
    assert found.rmse == pytest.approx(1.0)
    assert found.mae == pytest.approx(0.5)
    assert found.count == 4
    assert found.r2 == pytest.approx(1 - 4 / 5)


def test_metrics_that_are_undefined_are_none_and_not_nan() -> None:
    assert Metrics.of(np.empty(0, np.float32), np.empty(0, np.float32)) == Metrics(None, None, None, 0)
    alike = Metrics.of(np.array([3, 3], np.float32), np.array([2, 3], np.float32))
    assert alike.r2 is None
    assert alike.mae == pytest.approx(0.5)
    many = np.full(60, 3.7, np.float32)  # their float32 mean is not quite 3.7
    assert Metrics.of(many, many).r2 is None


def test_the_document_has_the_test_edges_figures_on_top_and_baselines_on_the_same_edges() -> None:
    # GIVEN
    graph = make_encoded_graph()
    edges = graph.edges[0]
    assert edges.label is not None

    # WHEN
    document = evaluate(graph, graph.targets[0], fit(graph).predictor).document()

    # THEN
    tests = edges.rows(Split.TEST)
    mean = edges.label[edges.rows(Split.TRAIN)].mean()
    expected = float(np.sqrt(np.mean((edges.label[tests] - mean) ** 2)))
    assert document["evaluated_on"] == "test"
    assert document["count"] == len(tests) == document["baselines"]["user_item_bias"]["count"]
    assert document["rmse"] == document["splits"]["test"]["rmse"]
    assert document["baselines"]["global_mean"]["rmse"] == pytest.approx(expected, rel=1e-5)
    assert document["counts"]["target"]["train"] == len(edges.rows(Split.TRAIN))
    assert document["counts"]["nodes"] == {"user": 40, "movie": 30}
    assert document["counts"]["edges"] == {"user-rated-movie": 600}


@pytest.mark.parametrize(("have", "evaluated_on"), [([0, 1], "valid"), ([0], "train")])
def test_without_test_edges_the_next_best_split_is_evaluated_and_named(have: list[int], evaluated_on: str) -> None:
    graph = make_encoded_graph()
    edges = graph.edges[0]
    split = np.where(np.isin(edges.split, have), edges.split, Split.NONE).astype(np.uint8)
    graph = replace(graph, edges=(replace(edges, split=split),))
    found = evaluate(graph, graph.targets[0], fit(graph).predictor)
    assert found.document()["evaluated_on"] == evaluated_on
    assert found.metrics.count == len(found.held_out.actual) > 0
    assert found.counts["target"]["unused"] > 0


def test_every_held_out_edge_is_in_the_table_with_its_ids_and_what_stood_in_for_unseen_nodes(tmp_path: Path) -> None:
    # GIVEN three ratings to learn from and two to predict, one of them by a user without any
    graph = make_graph(
        {"user": 3, "movie": 2},
        {("user", "rated", "movie"): ([0, 0, 1, 1, 2], [0, 1, 0, 1, 1])},
        [5.0, 4.0, 1.0, 2.0, 3.0],
        [0, 0, 0, 2, 2],
    )

    # WHEN
    found = evaluate(graph, graph.targets[0], fit(graph).predictor)
    write_predictions(tmp_path, graph, graph.targets[0], found.held_out)

    # THEN
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert table["source"] == ["u1", "u2"]
    assert table["target"] == ["m1", "m1"]
    assert table["actual"] == [2.0, 3.0]
    assert table["status"] == ["scored", "fallback_source"]
    assert table["global_mean"] == pytest.approx([10 / 3] * 2)
    assert set(table) == {"source", "target", "actual", "predicted", "global_mean", "user_item_bias", "status"}
    assert found.held_out.source_degree.tolist() == [1, 0]
    assert found.held_out.dest_degree.tolist() == [1, 1]
    assert found.counts["statuses"]["fallback_source"] == 1
