"""Properties of nodes and edges in Neptune ML's v1 payload: values, scores, classes, statuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import Target
from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_errors import BadRequest
from tests.engine.serving_factories import (
    LIKES,
    MOODS,
    RATED,
    ask,
    body,
    every_target,
    genres,
    links,
    make_served,
    mood,
    rank,
    rating,
    topic,
    values,
)

MODEL = make_served()
PAIR = {"headNodeId": "ada", "tailNodeId": "heat"}


def test_a_number_of_an_edge_has_a_value_and_a_status_and_no_score() -> None:
    edges = [PAIR, {"source": "bob", "target": "alien"}]
    assert ask(MODEL, edges, edgeType="rated", property="rating", topk=1) == [
        {"mlResults": [{"inferredValue": 3.01, "status": "scored"}]},
        {"mlResults": [{"inferredValue": 3.1, "status": "scored"}]},
    ]


@pytest.mark.parametrize(
    ("head", "tail", "value", "cold"),
    [
        ("nobody", "heat", 2.91, {"head": "unknown"}),
        ("zoe", "heat", 3.31, {"head": "nothing_known"}),
        ("ada", "nothing", 3.0, {"tail": "unknown"}),
        ("nobody", "nothing", 3.5, {"head": "unknown", "tail": "unknown"}),
    ],
)
def test_an_end_that_training_never_saw_is_a_fallback_and_named(
    head: str, tail: str, value: float, cold: dict[str, str]
) -> None:
    (entry,) = ask(MODEL, [{"headNodeId": head, "tailNodeId": tail}], property="rating")
    assert entry == {"mlResults": [{"inferredValue": value, "status": "fallback"}], "cold": cold}


@pytest.mark.parametrize("edge_type", [None, "rated", list(RATED)])
def test_the_edge_type_may_be_a_relation_a_triple_or_left_out(edge_type: Any) -> None:
    assert values(ask(MODEL, [PAIR], property="rating", edgeType=edge_type)[0]) == [3.01]


def test_classes_of_an_edge_come_best_first_as_many_as_asked_for() -> None:
    results = ask(MODEL, [PAIR], property="mood", topk=10)[0]["mlResults"]
    assert [(r["inferredValue"], r["score"], r["status"]) for r in results] == [
        (MOODS[1], 0.6, "scored"),
        (MOODS[2], 0.3, "scored"),
        (MOODS[0], 0.1, "scored"),
    ]
    assert values(ask(MODEL, [PAIR], property="mood")[0]) == [MOODS[1]]
    assert values(ask(MODEL, [PAIR], property="mood", topk=3, threshold=0.2)[0]) == [MOODS[1], MOODS[2]]
    assert ask(MODEL, [PAIR], property="mood", threshold=0.7) == [{"mlResults": []}]


def test_a_class_of_a_node_has_its_probability() -> None:
    entries = ask(MODEL, [{"nodeId": "heat"}, {"nodeId": "zoe"}], kind="nodes", property="topic")
    assert entries == [
        {"mlResults": [{"inferredValue": "war", "score": 0.8, "status": "scored"}]},
        {
            "mlResults": [{"inferredValue": "drama", "score": 0.7, "status": "fallback"}],
            "cold": {"node": "nothing_known"},
        },
    ]


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, ["SF", "Noir"]),
        ({"threshold": 0.7}, ["SF"]),
        ({"threshold": 0.05}, ["SF", "Noir", "Fun"]),
        ({"threshold": 0.05, "topk": 2}, ["SF", "Noir"]),
        ({"topk": 1}, ["SF"]),
        ({"topk": 3}, ["SF", "Noir", "Fun"]),
    ],
)
def test_where_a_node_may_have_several_classes_all_above_the_threshold_come_or_the_topk(
    parameters: dict[str, Any], wanted: list[str]
) -> None:
    assert values(ask(MODEL, ["alien"], kind="nodes", property="genres", **parameters)[0]) == wanted


def test_no_class_above_the_threshold_is_an_empty_list() -> None:
    assert ask(MODEL, ["solaris"], kind="nodes", property="genres") == [{"mlResults": []}]


def test_a_number_of_a_node_has_a_value() -> None:
    (entry,) = ask(MODEL, [{"nodeId": "cem"}], kind="nodes", property="rank")
    assert entry == {"mlResults": [{"inferredValue": 20.0, "status": "scored"}]}


def test_a_property_of_two_node_types_is_answered_by_the_type_that_has_the_id() -> None:
    entries = ask(MODEL, ["cem", "up", {"nodeId": "zoe", "nodeType": "movie"}], kind="nodes", property="rank")
    assert [values(entry) for entry in entries] == [[20.0], [30.0], [40.0]]
    (entry,) = ask(MODEL, ["zoe"], kind="nodes", property="rank", nodeType="user")
    assert values(entry) == [30.0]


def test_the_older_form_is_answered_as_the_newer_one() -> None:
    document = {"vertices": ["alien", "heat"], "topk": 1, "property": "topic"}
    found = json.loads(answer(MODEL, JSON, json.dumps(document).encode())[1])
    assert found == {"output": {"nodes": ask(MODEL, ["alien", "heat"], kind="nodes", property="topic")}}
    assert [values(entry) for entry in found["output"]["nodes"]] == [["drama"], ["war"]]


def test_a_link_given_with_both_ends_gets_its_score() -> None:
    model = make_served(links(LIKES))
    edges = [PAIR, {"headNodeId": "bob", "tailNodeId": "heat"}, {"headNodeId": "x", "tailNodeId": "heat"}]
    first, second, cold = ask(model, edges)
    assert first == {"mlResults": [{"inferredValue": 0.0, "score": 0.0, "status": "scored"}]}
    assert values(second) == [2.0]
    assert (cold["mlResults"][0]["status"], cold["cold"]) == ("fallback", {"head": "unknown"})
    assert values(cold) == [0.75]  # the mean user


def test_no_edges_or_nodes_are_no_error() -> None:
    assert ask(MODEL, [], property="rating") == []
    assert ask(MODEL, [], kind="nodes", property="topic") == []
    assert ask(MODEL, [], "predict_tail", edgeType="likes") == []
    assert ask(MODEL, [], "embed_knn", kind="nodes", tailNodeType="movie") == []


PROBLEMS: list[tuple[bytes, str, str]] = [
    (b"{", "MALFORMED_JSON", "not JSON"),
    (b"[]", "INVALID_PAYLOAD", "data: expected"),
    (b'{"data": []}', "INVALID_PAYLOAD", "data: expected"),
    (b'{"version": "v2", "data": {}}', "INVALID_PAYLOAD", "version"),
    (b'{"data": {"globalParameters": []}}', "INVALID_PAYLOAD", "data.globalParameters: expected an object"),
    (b'{"data": {"globalParameters": {}}}', "INVALID_PAYLOAD", "data.edges: expected a list"),
    (b'{"vertices": "alien", "property": "topic"}', "INVALID_PAYLOAD", "vertices: expected a list"),
    (b'{"vertices": ["alien"], "topk": 0}', "INVALID_PAYLOAD", "topk: expected a whole number from 1 to 10,000"),
    (body([PAIR], "guess"), "UNSUPPORTED_MODE", "predict_tail, predict_head, embed_knn"),
    (body([PAIR], property="rating", topk=0), "INVALID_PAYLOAD", "data.globalParameters.topk"),
    (body([PAIR], property="rating", topk=True), "INVALID_PAYLOAD", "data.globalParameters.topk"),
    (body([PAIR], property="mood", threshold=2), "INVALID_PAYLOAD", "data.globalParameters.threshold"),
    (body([PAIR], property="rating", exclude_flag="all"), "INVALID_PAYLOAD", "exclude_flag: expected mask or null"),
    (body([PAIR], property=7), "INVALID_PAYLOAD", "data.globalParameters.property: expected text"),
    (body([PAIR], edgeType=["a", "b"], property="rating"), "INVALID_PAYLOAD", "edgeType: expected a relation"),
    (body([PAIR] * 10_001, property="rating"), "INVALID_PAYLOAD", "at most 10,000 (more: send text/csv)"),
    (body(["ada"], property="rating"), "INVALID_PAYLOAD", "data.edges[0]: expected an object"),
    (
        body([PAIR, {"headNodeId": 7}], property="rating"),
        "INVALID_PAYLOAD",
        "data.edges[1].headNodeId: expected a node",
    ),
    (body([{"source": "ada"}], property="rating"), "INVALID_PAYLOAD", "data.edges[0].tailNodeId: expected a node id"),
    (body([{"source": "", "target": "x"}], property="rating"), "INVALID_PAYLOAD", "data.edges[0].source"),
    (body([{}], kind="nodes", property="topic"), "INVALID_PAYLOAD", "data.nodes[0].nodeId: expected a node id"),
    (body([3], kind="nodes", property="topic"), "INVALID_PAYLOAD", "data.nodes[0]: expected an object"),
    (
        body([PAIR], property="mark"),
        "UNKNOWN_PROPERTY",
        'property: "mark" is no edge property that this model predicts',
    ),
    (body([PAIR], edgeType="seen", property="rating"), "UNKNOWN_EDGE_TYPE", 'edgeType: "seen" is not what this model'),
    (
        body([PAIR], edgeType=["movie", "rated", "user"], property="rating"),
        "UNKNOWN_EDGE_TYPE",
        "user-rated-movie.rating (edge_regression), user-rated-movie.mood (edge_classification)",
    ),
    (body([PAIR], headNodeType="critic", property="rating"), "UNKNOWN_NODE_TYPE", 'there are "user", "movie"'),
    (body([PAIR], headNodeType="movie", property="rating"), "UNKNOWN_EDGE_TYPE", "headNodeType"),
    (body([PAIR]), "AMBIGUOUS_TARGET", "user-rated-movie.rating (edge_regression), user-rated-movie.mood"),
    (body(["heat"], kind="nodes"), "AMBIGUOUS_TARGET", "give data.globalParameters.property"),
    (body(["heat"], kind="nodes", property="age"), "UNKNOWN_PROPERTY", '"age" is no node property'),
    (body(["ada"], kind="nodes", property="topic", nodeType="user"), "UNKNOWN_PROPERTY", '"topic" of "user"'),
    (body(["ada"], kind="nodes", property="topic", nodeType="dog"), "UNKNOWN_NODE_TYPE", '"dog" is not a node type'),
    (body(["zoe"], kind="nodes", property="rank"), "AMBIGUOUS_NODE", "several node types have it; give nodeType"),
    (
        body(["x"], kind="nodes", property="rank"),
        "AMBIGUOUS_NODE",
        "no node type has it; give nodeType, one of user, mov",
    ),
    (
        body([{"nodeId": "x", "nodeType": "dog"}], kind="nodes", property="rank"),
        "UNKNOWN_NODE_TYPE",
        "data.nodes[0].nodeType",
    ),
    (
        body([{**PAIR, "headNodeType": "movie"}], property="rating"),
        "UNKNOWN_NODE_TYPE",
        'is not the type asked for, which is "user"',
    ),
]


@pytest.mark.parametrize(("given", "code", "says"), PROBLEMS)
def test_a_request_that_cannot_be_answered_says_where_and_what(given: bytes, code: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(MODEL, JSON, given)
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert says in caught.value.message


def test_an_error_lists_what_the_model_predicts_but_not_endlessly() -> None:
    many = [rank("user", 4)[1]] * 15
    targets = [
        (Target(task=Task.NODE_REGRESSION, node="user", property=f"p{i}", label_min=0, label_max=1), one)
        for i, one in enumerate(many)
    ]
    with pytest.raises(BadRequest) as caught:
        ask(make_served(*targets), ["ada"], kind="nodes", property="q")
    assert "user.p9 (node_regression) and 5 more" in caught.value.message


def test_a_long_wrong_value_is_not_echoed_whole() -> None:
    with pytest.raises(BadRequest) as caught:
        ask(MODEL, [PAIR], property="x" * 5000)
    assert len(caught.value.message) < 900


@pytest.mark.parametrize("task", [rating, mood, topic, genres, links])
def test_a_model_of_one_target_needs_no_parameters(task: Any) -> None:
    model = make_served(task())
    if task is links:
        with pytest.raises(BadRequest, match="several targets fit"):
            ask(model, [PAIR])
    elif task in (rating, mood):
        assert len(ask(model, [PAIR])[0]["mlResults"]) == 1
    else:
        assert values(ask(model, ["alien"], kind="nodes")[0])[0] in ("drama", "SF")


def test_more_results_than_an_answer_holds_are_refused() -> None:
    count = 5001
    classes = tuple(f"c{i}" for i in range(20))
    target = Target(task=Task.NODE_CLASSIFICATION, node="user", property="kind", classes=classes)
    predictor = type(rank("user", 4)[1])({"scores": np.full((4, 20), 0.05, np.float32)}, {"label": "user"})
    model = make_served((target, predictor))
    assert len(ask(model, ["ada"] * 100, kind="nodes", topk=20)) == 100
    with pytest.raises(BadRequest) as caught:
        ask(model, ["ada"] * count, kind="nodes", topk=20)
    assert caught.value.code == "TOO_MANY_RESULTS"


def test_the_model_says_what_it_predicts() -> None:
    assert str(MODEL).startswith("user-rated-movie.rating (edge_regression), user-rated-movie.mood")
    assert len(MODEL.served) == len(every_target()) + 1
