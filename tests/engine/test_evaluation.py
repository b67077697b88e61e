"""Evaluation of properties of nodes and edges: figures beside baselines, what is said of them, and the predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ekiden.contracts.spec_targets import Target as SpecTarget
from ekiden.contracts.tasks import Task
from ekiden_engine import evaluation_values
from ekiden_engine.errors import BadData
from ekiden_engine.evaluation import (
    FEW_EDGES,
    HeldOutValues,
    TargetEvaluation,
    environment,
    evaluate,
    few_rows_warning,
    headline,
    split_rule,
    write_predictions,
)
from ekiden_engine.evaluation_held_out import MAX_TYPES, graph_counts
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.baselines import SHRINKAGE, EndPriors
from tests.engine.evaluation_factories import (
    CLASSES,
    EDGE,
    KnownEdges,
    KnownNodes,
    edge_class_graph,
    make_edges,
    make_labels,
    make_nodes,
    paper_graph,
    rating_graph,
)


def look_up(graph: EncodedGraph) -> KnownEdges:
    """A predictor that is right about every edge of the first type."""
    edges = graph.edges[0]
    values = edges.labels[0].values
    assert values is not None
    table = {(s, d): v for s, d, v in zip(edges.source.tolist(), edges.dest.tolist(), values, strict=True)}
    target = graph.targets[0]

    def answer(source: np.ndarray, dest: np.ndarray) -> np.ndarray:
        found = np.array([table[s, d] for s, d in zip(source.tolist(), dest.tolist(), strict=True)])
        return np.eye(len(target.classes))[found] if target.is_classification and not target.multi_label else found

    return KnownEdges(answer)


def evaluate_first(graph: EncodedGraph, predictor: Any) -> TargetEvaluation:
    return evaluate(graph, graph.targets[0], predictor)


def held_out(evaluation: TargetEvaluation) -> HeldOutValues:
    assert isinstance(evaluation.held_out, HeldOutValues)
    return evaluation.held_out


def read(path: Path, evaluation: TargetEvaluation, graph: EncodedGraph) -> dict[str, list[Any]]:
    write_predictions(path, graph, graph.targets[0], evaluation)
    return dict(pq.read_table(path).to_pydict())


def test_the_document_has_the_test_edges_figures_beside_those_of_baselines_on_the_same_edges() -> None:
    # GIVEN a model that is always half a point too high
    graph = rating_graph()
    edges = graph.edges[0]
    values = edges.labels[0].values
    assert values is not None
    right = look_up(graph)

    # WHEN
    found = evaluate_first(graph, KnownEdges(lambda s, d: right.predict(s, d) + 0.5))
    document = found.document()

    # THEN
    labels = edges.labels[0]
    tests = labels.rows(Split.TEST)
    mean = values[labels.rows(Split.TRAIN)].mean()
    expected = float(np.sqrt(np.mean((values[tests] - mean) ** 2)))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["target"]["name"] == "user-rated-movie.rating"
    assert document["evaluated_on"] == "test"
    assert document["metric"] == {"name": "rmse", "value": 0.5, "higher_is_better": False}
    assert document["metrics"] == document["splits"]["test"]
    assert document["metrics"]["count"] == len(tests) == document["baselines"]["user_item_bias"]["count"]
    assert document["baselines"]["global_mean"]["rmse"] == pytest.approx(expected, rel=1e-5)
    assert document["baselines"]["user_item_bias"]["rmse"] < expected
    assert document["counts"]["target"] == {**labels.counts()}
    assert document["counts"]["nodes"] == {"user": 60, "movie": 40}
    assert document["counts"]["edges"] == {"user-rated-movie": 1200}
    assert sum(part["count"] for part in document["calibration"]) == len(tests)
    for part in document["calibration"]:
        assert part["predicted"] == pytest.approx(part["actual"] + 0.5)
    for table, end in zip(document["by_degree"], ("user", "movie"), strict=True):
        assert table["end"] == end
        assert sum(bucket["count"] for bucket in table["buckets"]) == len(tests)
        assert all(bucket["model"] == pytest.approx(0.5) for bucket in table["buckets"])
        assert "user_item_bias" in table["buckets"][0], "the strongest baseline is beside the model"


@pytest.mark.parametrize(("have", "evaluated_on"), [([0, 1], "valid"), ([0], "train")])
def test_without_test_edges_the_next_best_split_is_evaluated_and_named(have: list[int], evaluated_on: str) -> None:
    graph = rating_graph()
    edges = graph.edges[0]
    labels = edges.labels[0]
    split = np.where(np.isin(labels.split, have), labels.split, Split.NONE).astype(np.uint8)
    graph = replace(graph, edges=(replace(edges, labels=(replace(labels, split=split),)),))
    found = evaluate_first(graph, look_up(rating_graph()))
    assert found.document()["evaluated_on"] == evaluated_on
    assert found.metrics["count"] == len(held_out(found).actual) > 0
    assert found.counts["target"]["unused"] > 0
    assert headline(found).startswith(f"{evaluated_on} rmse 0.0000 on ")


def test_every_held_out_edge_is_in_the_table_with_its_ids_and_what_stood_in_for_unseen_nodes(tmp_path: Path) -> None:
    # GIVEN three ratings to learn from and two to predict, one of them by a user without any
    labels = make_labels([0, 0, 0, 2, 2], np.array([5, 4, 1, 2, 3], np.float32))
    edges = make_edges(EDGE, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)], (labels,))
    target = Target(task=Task.EDGE_REGRESSION, edge=EDGE, property="rating", label_min=1, label_max=5)
    graph = EncodedGraph((make_nodes("user", 3), make_nodes("movie", 2)), (edges,), (target,))

    # WHEN
    found = evaluate_first(graph, KnownEdges(lambda s, d: s + 10.0 * d, unseen=(2,)))
    table = read(tmp_path / "p.parquet", found, graph)

    # THEN
    assert table["source"] == ["u1", "u2"]
    assert table["target"] == ["m1", "m1"]
    assert table["actual"] == [2.0, 3.0]
    assert table["predicted"] == [11.0, 12.0]
    assert table["status"] == ["scored", "fallback_source"]
    assert table["global_mean"] == pytest.approx([10 / 3] * 2)
    assert set(table) == {"source", "target", "actual", "predicted", "global_mean", "user_item_bias", "status"}
    source, dest = held_out(found).ends
    assert source.degree.tolist() == [1, 0]
    assert dest.degree.tolist() == [1, 1]
    assert found.counts["statuses"]["fallback_source"] == 1


def test_classes_of_edges_are_scored_by_probability_and_stand_in_the_table_by_name(tmp_path: Path) -> None:
    graph = edge_class_graph()
    found = evaluate_first(graph, look_up(graph))
    table = read(tmp_path / "p.parquet", found, graph)
    document = found.document()
    tests = graph.edges[0].labels[0].rows(Split.TEST)

    assert document["target"]["classes"] == list(CLASSES)
    assert found.metrics["accuracy"] == found.metrics["f1_macro"] == found.metrics["roc_auc"] == 1.0
    assert document["baselines"].keys() == {"majority", "end_priors"}
    assert 0 < document["baselines"]["majority"]["accuracy"] < document["baselines"]["end_priors"]["accuracy"] < 1
    assert np.array(document["confusion"]).sum() == np.trace(document["confusion"]) == len(tests)
    assert [row["class"] for row in document["classes"]] == sorted(
        CLASSES, key=lambda name: -table["actual"].count(name)
    )
    assert table["actual"] == table["predicted"]
    assert table["probability"] == [1.0] * len(tests)
    assert all(sum(row) == 1.0 for row in table["probabilities"])
    assert set(table["majority"]) == {max(CLASSES, key=table["actual"].count)}
    metadata = pq.read_metadata(tmp_path / "p.parquet").metadata
    assert json.loads(metadata[b"classes"]) == list(CLASSES)


def test_several_classes_of_an_edge_are_lists_in_the_table(tmp_path: Path) -> None:
    graph = edge_class_graph(multi_label=True)
    found = evaluate_first(graph, look_up(graph))
    table = read(tmp_path / "p.parquet", found, graph)
    assert found.metric.name == "roc_auc"
    assert table["actual"] == table["predicted"]
    assert {len(row) for row in table["actual"]} == {1, 2, 3}
    assert "probability" not in table
    assert "confusion" not in found.document()
    assert found.baselines["end_priors"]["f1_micro"] > found.baselines["majority"]["f1_micro"]  # type: ignore[operator]


@pytest.mark.parametrize("multi_label", [False, True])
def test_classes_of_nodes_have_a_node_column_and_degrees_over_all_edge_types(tmp_path: Path, multi_label: bool) -> None:
    graph = paper_graph(multi_label=multi_label)
    values = graph.nodes[0].labels[0].values
    assert values is not None
    answers = values if multi_label else np.eye(3)[values]
    found = evaluate_first(graph, KnownNodes(answers, unseen=tuple(range(0, 300, 2))))
    table = read(tmp_path / "p.parquet", found, graph)
    tests = graph.nodes[0].labels[0].rows(Split.TEST)
    assert table["node"] == [f"p{i}" for i in tests]
    assert table["actual"] == table["predicted"]
    assert table["status"] == ["fallback" if i % 2 == 0 else "scored" for i in tests]
    (end,) = held_out(found).ends
    edges = graph.edges[0]
    assert end.degree.tolist() == [int((edges.source == i).sum() + (edges.dest == i).sum()) for i in tests]
    assert found.metrics["accuracy"] == 1.0
    assert found.baselines["majority"]["roc_auc"] == 0.5


def test_nodes_are_evaluated_beside_their_neighbours_and_their_features_or_it_is_said_why_not() -> None:
    graph = paper_graph()
    found = evaluate_first(graph, KnownNodes(np.full((300, 3), 1 / 3)))
    assert found.baselines.keys() == {"majority", "label_propagation", "logistic_regression"}
    assert found.strongest_baseline == "label_propagation"
    assert found.baselines["logistic_regression"]["accuracy"] > found.baselines["majority"]["accuracy"]  # type: ignore[operator]

    bare = replace(graph.nodes[0], features=np.zeros((300, 0), np.float32), feature_names=())
    alone = EncodedGraph((bare,), (make_edges(("paper", "cites", "paper"), []),), graph.targets)
    found = evaluate_first(alone, KnownNodes(np.full((300, 3), 1 / 3)))
    assert "logistic_regression" not in found.baselines
    assert found.document()["left_out"]["logistic_regression"] == "the nodes have no features"


def test_numbers_of_nodes_are_evaluated_beside_the_mean(tmp_path: Path) -> None:
    graph = paper_graph(Task.NODE_REGRESSION)
    values = graph.nodes[0].labels[0].values
    assert values is not None
    found = evaluate_first(graph, KnownNodes(values - 1))
    assert found.metrics["mae"] == pytest.approx(1.0)
    assert "user_item_bias" not in found.baselines
    mean = values[graph.nodes[0].labels[0].rows(Split.TRAIN)].mean()
    assert read(tmp_path / "p.parquet", found, graph)["global_mean"][0] == pytest.approx(mean)
    assert "nodes" in headline(found)


@pytest.mark.parametrize(
    ("counts", "name"),
    [([50, 50], "accuracy"), ([30, 70], "f1_macro"), ([20] * 7, "accuracy"), ([90, 5, 5], "f1_macro")],
)
def test_f1_is_the_headline_where_the_training_classes_are_uneven(counts: list[int], name: str) -> None:
    values = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    target = Target(task=Task.NODE_CLASSIFICATION, node="n", property="p", classes=tuple("abcdefg"[: len(counts)]))
    labels = make_labels(np.zeros(len(values)), values)
    assert evaluation_values.headline_metric(target, labels) == (name, True)


def test_examples_are_the_rows_that_the_model_was_most_right_and_most_wrong_about() -> None:
    graph = rating_graph()
    tests = graph.edges[0].labels[0].rows(Split.TEST)
    edges = graph.edges[0]
    off = {(int(edges.source[r]), int(edges.dest[r])): float(i) for i, r in enumerate(tests)}
    right = look_up(graph)

    def answer(source: np.ndarray, dest: np.ndarray) -> np.ndarray:
        wrong = [off.get((s, d), 0.0) for s, d in zip(source.tolist(), dest.tolist(), strict=True)]
        return right.predict(source, dest) + wrong

    found = evaluate_first(graph, KnownEdges(answer)).examples
    assert found.columns == ("user", "movie")
    assert [e.ids for e in found.best] == [(f"u{edges.source[r]}", f"m{edges.dest[r]}") for r in tests[:5]]
    assert [e.ids for e in found.worst] == [(f"u{edges.source[r]}", f"m{edges.dest[r]}") for r in tests[:-6:-1]]


def test_the_headline_is_a_line_with_the_baselines_best_first() -> None:
    graph = rating_graph()
    found = evaluate_first(graph, look_up(graph))
    rmse = {name: figures["rmse"] for name, figures in found.baselines.items()}
    count = found.metrics["count"]
    assert headline(found) == (
        f"test rmse 0.0000 on {count} edges (biases {rmse['user_item_bias']:.4f}, mean {rmse['global_mean']:.4f})"
    )


def test_few_rows_are_called_what_they_are() -> None:
    graph, papers = rating_graph(), paper_graph()
    assert FEW_EDGES == 100
    assert few_rows_warning(graph.targets[0], 1).startswith("only 1 labelled edge to train on, 100 or more are")
    assert few_rows_warning(papers.targets[0], 12).startswith("only 12 labelled nodes to train on")
    assert few_rows_warning(Target(task=Task.LINK_PREDICTION), 12).startswith("only 12 links to train on")


def test_no_labelled_row_at_all_gives_no_figures_and_no_failure(tmp_path: Path) -> None:
    for graph in (rating_graph(), edge_class_graph(), edge_class_graph(multi_label=True)):
        edges = graph.edges[0]
        none = replace(edges.labels[0], split=np.full(len(edges), Split.NONE, np.uint8))
        empty = replace(graph, edges=(replace(edges, labels=(none,)),))
        found = evaluate_first(empty, look_up(graph) if graph.targets[0].is_regression else KnownEdges(
            lambda s, d: np.empty((0, 3))
        ))  # fmt: skip
        assert found.metric.value is None
        assert found.metrics["count"] == 0
        assert "is not defined on 0 edges" in headline(found)
        json.dumps(found.document(), allow_nan=False)
        assert read(tmp_path / "p.parquet", found, empty)["actual"] == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_model_that_says_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(BadData, match=r"user-rated-movie.rating: .* predictions; train with a smaller lr") as caught:
        evaluate_first(rating_graph(), KnownEdges(lambda s, d: np.where(s == 3, wrong, 1.0)))
    assert caught.value.code == "DIVERGED"


def test_training_rows_beyond_the_limit_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_values, "TRAIN_SAMPLE", 50)
    found = evaluate_first(rating_graph(), look_up(rating_graph()))
    assert found.splits["train"]["count"] == 50
    assert found.counts["target"]["train"] > 500


def test_the_class_priors_of_both_ends_multiply_as_naive_bayes_says() -> None:
    # GIVEN user 0 with classes 0, 0, 1 and movie 1 with classes 1, 1; class shares 2/4, 2/4
    source, dest = np.array([0, 0, 0, 1], np.int32), np.array([0, 0, 1, 1], np.int32)
    label = np.array([0, 0, 1, 1], np.int32)
    priors = EndPriors.fit(source, dest, label, (3, 2), 2)

    # WHEN
    found = priors.predict(np.array([0, 2], np.int32), np.array([1, 1], np.int32))

    # THEN
    user = (np.array([2, 1]) + SHRINKAGE / 2) / (3 + SHRINKAGE)
    movie = (np.array([0, 2]) + SHRINKAGE / 2) / (2 + SHRINKAGE)
    both = user * movie / 0.5
    assert found[0] == pytest.approx(both / both.sum(), rel=1e-6)
    assert found[1] == pytest.approx(movie / movie.sum(), rel=1e-6), "an unseen user says nothing"


def test_of_very_many_edge_types_the_largest_are_counted_one_by_one() -> None:
    edges = tuple(make_edges(("n", f"r{i}", "n"), [(0, 1)] * (i + 1)) for i in range(MAX_TYPES + 3))
    counts = graph_counts(EncodedGraph((make_nodes("n", 2),), edges, ()))["edges"]
    assert len(counts) == MAX_TYPES + 1
    assert counts[f"n-r{MAX_TYPES + 2}-n"] == MAX_TYPES + 3
    assert counts["(3 more types)"] == 1 + 2 + 3


def test_the_split_is_told_as_the_spec_has_it() -> None:
    edge = {"edge": EDGE, "property": "rating", "type": "regression"}
    files = {"train": "until-2019.csv", "test": "from-2020.csv"}
    assert split_rule(SpecTarget.model_validate({**edge, "split_rate": [0.6, 0.2, 0.2]})) == {
        "rule": "random",
        "rates": [0.6, 0.2, 0.2],
    }
    by_files = SpecTarget.model_validate({**edge, "custom_split_filenames": files})
    assert split_rule(by_files) == {"rule": "files", "files": files}


def test_the_environment_names_processor_memory_and_threads() -> None:
    found = environment(2, "cuda: a card")
    assert found["threads"] == 2
    assert found["device"] == "cuda: a card"
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["memory_gib"] is None or found["memory_gib"] > 0
    json.dumps(found)
