"""Evaluation of link prediction, held against brute force over all candidates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine import evaluation_link_baselines, evaluation_link_queries, evaluation_links
from ekiden_engine.errors import BadData
from ekiden_engine.evaluation import HeldOutLinks, TargetEvaluation, evaluate, headline, write_predictions
from ekiden_engine.evaluation_link_baselines import link_baselines
from ekiden_engine.graph import EncodedGraph, Split, Target
from tests.engine.evaluation_factories import (
    KnownLinks,
    link_graph,
    make_edges,
    make_labels,
    make_nodes,
    own_kind,
)


def held_out(evaluation: TargetEvaluation) -> HeldOutLinks:
    assert isinstance(evaluation.held_out, HeldOutLinks)
    return evaluation.held_out


def brute_force(graph: EncodedGraph, predictor: KnownLinks) -> list[float]:
    """Filtered rank of every test link, first of all targets, then of all sources, one edge type after the other."""
    found = []
    for number, edges in enumerate(graph.edges):
        split = edges.labels[0].split
        links = set(zip(edges.source.tolist(), edges.dest.tolist(), strict=True))
        scores = predictor.queries(number, "tail", np.arange(50)) @ predictor.items(number, "tail").T
        tests = [(int(edges.source[i]), int(edges.dest[i])) for i in np.flatnonzero(split == Split.TEST)]
        for u, m in sorted(tests):
            rivals = [scores[u, x] for x in range(40) if (u, x) not in links]
            found.append(1 + sum(r > scores[u, m] for r in rivals))
        for u, m in sorted(tests, key=lambda link: (link[1], link[0])):
            rivals = [scores[x, m] for x in range(50) if (x, m) not in links]
            found.append(1 + sum(r > scores[u, m] for r in rivals))
    return found


@pytest.mark.parametrize("relations", [1, 3])
def test_ranks_are_those_of_brute_force_in_both_directions(relations: int) -> None:
    graph = link_graph(relations=relations)
    predictor = own_kind(graph, noise=0.8)
    found = evaluate(graph, graph.targets[0], predictor)
    expected = brute_force(graph, predictor)
    assert held_out(found).ranks.filtered.tolist() == expected
    assert found.metric.value == found.metrics["mrr"] == pytest.approx(np.mean(1 / np.array(expected)))
    tests = sum(int((e.labels[0].split == Split.TEST).sum()) for e in graph.edges)
    assert found.metrics["count"] == 2 * tests
    assert found.counts["target"]["test"] == tests


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = link_graph()
    whole = evaluate(graph, graph.targets[0], own_kind(graph))
    monkeypatch.setattr(evaluation_link_queries, "BLOCK", 100)
    parts = evaluate(graph, graph.targets[0], own_kind(graph))
    assert parts.document() == whole.document()
    assert held_out(parts).top.tolist() == held_out(whole).top.tolist()


def test_the_document_has_directions_edge_types_degrees_and_popularity() -> None:
    graph = link_graph(relations=3)
    found = evaluate(graph, graph.targets[0], own_kind(graph))
    document = found.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["metric"]["name"] == "mrr"
    assert document["target"]["name"] == "all edge types"
    assert document["metrics"]["mrr"] > document["baselines"]["popularity"]["mrr"]
    tail, head = document["directions"]["tail"], document["directions"]["head"]
    assert tail["count"] == head["count"] == document["counts"]["target"]["test"]
    mean = (tail["mrr"] + head["mrr"]) / 2
    assert document["metrics"]["mrr"] == pytest.approx(mean)
    assert {row["edge_type"] for row in document["edge_types"]} == {
        "user-took-movie", "user-took1-movie", "user-took2-movie",
    }  # fmt: skip
    assert sum(row["count"] for row in document["edge_types"]) == document["metrics"]["count"]
    for table in document["by_degree"]:
        assert sum(bucket["count"] for bucket in table["buckets"]) == document["metrics"]["count"]
        assert {"model", "popularity"} <= table["buckets"][0].keys()
    assert {name for name, split in document["splits"].items() if split["count"]} == {"train", "valid", "test"}
    assert headline(found).endswith(f"(popularity {document['baselines']['popularity']['mrr']:.4f})")
    assert " link ends " in headline(found)


def test_every_query_is_in_the_table_with_the_ten_best_that_training_did_not_have(tmp_path: Path) -> None:
    # GIVEN user 0 with movie 1 in training, movies 3 and 4 held out; scores fall with the index of the movie
    edges = make_edges(("user", "saw", "movie"), [(0, 1), (0, 3), (0, 4), (1, 0)], (make_labels([0, 2, 2, 0]),))
    target = Target(task=Task.LINK_PREDICTION, edge=edges.edge_type)
    graph = EncodedGraph((make_nodes("user", 2), make_nodes("movie", 6)), (edges,), (target,))
    scores = np.tile(-np.arange(6.0), (2, 1)) - np.array([[0.5], [0.0]])

    # WHEN
    found = evaluate(graph, target, KnownLinks({edges.edge_type: scores}))
    write_predictions(tmp_path / "p.parquet", graph, target, found)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()

    # THEN
    assert [(row["direction"], row["node"], row["truths"]) for row in rows] == [
        ("tail", "u0", ["m3", "m4"]), ("head", "m3", ["u0"]), ("head", "m4", ["u0"]),
    ]  # fmt: skip
    assert rows[0]["top"] == ["m0", "m2", "m3", "m4", "m5"], "without the movie of the training"
    assert rows[0]["top_scores"] == [-0.5, -2.5, -3.5, -4.5, -5.5]
    assert rows[0]["ranks"] == [3.0, 3.0], "behind two that are not true"
    assert rows[1]["top"] == ["u1", "u0"]
    assert rows[1]["ranks"] == [2.0]
    assert {row["relation"] for row in rows} == {"saw"}
    assert {row["status"] for row in rows} == {"scored"}


def test_a_link_that_is_there_twice_is_one_truth_even_if_training_has_it_too() -> None:
    edges = make_edges(("user", "saw", "movie"), [(0, 1), (0, 1), (0, 1)], (make_labels([0, 2, 2]),))
    target = Target(task=Task.LINK_PREDICTION, edge=edges.edge_type)
    graph = EncodedGraph((make_nodes("user", 2), make_nodes("movie", 3)), (edges,), (target,))
    found = evaluate(graph, target, KnownLinks({edges.edge_type: np.eye(2, 3, 1)}))
    assert held_out(found).truth.tolist() == [1, 0]
    assert held_out(found).ranks.filtered.tolist() == [1.0, 1.0]


def test_more_scores_than_the_budget_are_sampled_by_query_and_the_share_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graph = link_graph(relations=3)
    whole = evaluate(graph, graph.targets[0], own_kind(graph))
    monkeypatch.setattr(evaluation_links, "MAX_SCORES", 3000)
    found = evaluate(graph, graph.targets[0], own_kind(graph))
    assert 0.1 < found.counts["queries"]["share"] < 0.9
    assert 0 < found.counts["queries"]["ranked"] < whole.counts["queries"]["ranked"]
    assert found.metric.value == pytest.approx(whole.metric.value, abs=0.15)
    again = evaluate(graph, graph.targets[0], own_kind(graph))
    assert again.document() == found.document(), "the same sample every time"
    write_predictions(tmp_path / "p.parquet", graph, graph.targets[0], found)
    assert pq.read_metadata(tmp_path / "p.parquet").num_rows == found.counts["queries"]["ranked"]


def test_without_test_links_the_validation_links_are_ranked() -> None:
    graph = link_graph()
    edges = graph.edges[0]
    split = np.where(edges.labels[0].split == Split.TEST, Split.NONE, edges.labels[0].split)
    graph = EncodedGraph(
        graph.nodes,
        (make_edges(edges.edge_type, list(zip(edges.source, edges.dest, strict=True)), (make_labels(split),)),),
        graph.targets,
    )
    found = evaluate(graph, graph.targets[0], own_kind(graph))
    assert found.held_out.split == "valid"
    assert found.splits["test"]["count"] == 0
    assert found.metrics["count"] == 2 * int((split == Split.VALID).sum())


def test_a_model_that_says_no_number_is_refused() -> None:
    graph = link_graph()
    with pytest.raises(BadData, match="predictions; train with a smaller lr"):
        evaluate(graph, graph.targets[0], KnownLinks({graph.edges[0].edge_type: np.full((50, 40), np.nan)}))


def test_ease_and_ials_stand_beside_on_one_edge_type_and_it_is_said_why_not_on_several() -> None:
    graph = link_graph()
    found = evaluate(graph, graph.targets[0], own_kind(graph))
    mrr = {name: figures["mrr"] for name, figures in found.baselines.items()}
    assert mrr.keys() == {"popularity", "ease", "ials"}
    assert mrr["ease"] > 3 * mrr["popularity"]  # type: ignore[operator]
    assert mrr["ials"] > 3 * mrr["popularity"]  # type: ignore[operator]
    assert found.left_out == {}
    several = evaluate(link_graph(relations=2), Target(task=Task.LINK_PREDICTION), own_kind(link_graph(relations=2)))
    assert several.baselines.keys() == {"popularity"}
    assert several.document()["left_out"]["ease"] == "it knows one edge type, and these are several"


def test_ease_answers_both_ways_with_one_table_of_scores() -> None:
    graph = link_graph()
    scorer = link_baselines(graph, graph.targets[0]).scorers["ease"]
    tail, head = scorer(0, "tail", np.arange(50, dtype=np.int32)), scorer(0, "head", np.arange(40, dtype=np.int32))
    assert tail.shape == (50, 40)
    assert np.allclose(tail, head.T, atol=1e-6)


def test_ease_takes_the_sources_for_items_where_the_destinations_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN 40 movies taken by 50 users, which is the graph of 50 users who took 40 movies turned round
    graph = link_graph()
    edges = graph.edges[0]
    pairs = list(zip(edges.dest.tolist(), edges.source.tolist(), strict=True))
    turned = make_edges(("movie", "taken_by", "user"), pairs, edges.labels)
    target = Target(task=Task.LINK_PREDICTION, edge=turned.edge_type)
    turned_graph = EncodedGraph(graph.nodes, (turned,), (target,))
    expected = link_baselines(graph, graph.targets[0]).scorers["ease"](0, "tail", np.arange(50, dtype=np.int32))

    # WHEN
    monkeypatch.setattr(evaluation_link_baselines, "MAX_EASE", 45)
    found = link_baselines(turned_graph, target)

    # THEN
    assert np.allclose(found.scorers["ease"](0, "head", np.arange(50, dtype=np.int32)), expected, atol=1e-6)
    assert np.allclose(found.scorers["ease"](0, "tail", np.arange(40, dtype=np.int32)), expected.T, atol=1e-6)


def test_too_large_a_table_is_left_out_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_link_baselines, "MAX_EASE", 30)
    monkeypatch.setattr(evaluation_link_baselines, "MAX_IALS", 100)
    graph = link_graph()
    found = link_baselines(graph, graph.targets[0])
    assert found.scorers.keys() == {"popularity"}
    assert found.left_out == {
        "ease": "it takes at most 30 nodes at the smaller end, here are 40",
        "ials": "it takes at most 100 training links, here are 263",
    }


def test_no_held_out_link_at_all_gives_no_figures_and_no_failure(tmp_path: Path) -> None:
    edges = make_edges(("user", "saw", "movie"), [(0, 1), (1, 1)], (make_labels([255, 255]),))
    target = Target(task=Task.LINK_PREDICTION, edge=edges.edge_type)
    graph = EncodedGraph((make_nodes("user", 2), make_nodes("movie", 3)), (edges,), (target,))
    found = evaluate(graph, target, KnownLinks({edges.edge_type: np.eye(2, 3)}))
    assert found.metric.value is None
    assert headline(found) == "train mrr is not defined on 0 link ends"
    json.dumps(found.document(), allow_nan=False)
    assert found.left_out["ials"] == "there are no training links"
    write_predictions(tmp_path / "p.parquet", graph, target, found)
    assert pq.read_metadata(tmp_path / "p.parquet").num_rows == 0
