"""Of which type a node is that a request asks about: as it says, or as its id or its description tell."""

from __future__ import annotations

from typing import Any

import pytest

from ekiden_engine.serving import CSV, answer
from ekiden_engine.serving_errors import BadRequest
from tests.engine.serving_factories import ask, make_served, topic, values

MODEL = make_served()
TOPIC = make_served(topic())
KNN = "embed_knn"


def edges(*neighbours: tuple[str, str]) -> dict[str, Any]:
    """A description by neighbours (edge type, id)."""
    return {"neighbours": [{"edgeType": kind, "nodeId": name} for kind, name in neighbours]}


def near(node: Any, **parameters: Any) -> dict[str, Any]:
    (entry,) = ask(MODEL, [node], KNN, "nodes", **parameters)
    return entry


@pytest.mark.parametrize(
    ("node", "label"),
    [
        (edges(("likes", "alien")), "user"),
        (edges(("likes", "ada")), "movie"),
        (edges(("likes", "alien"), ("likes", "stranger")), "user"),
        ({"neighbours": [{"edgeType": "knows", "nodeId": "stranger", "direction": "out"}]}, "user"),
        ({"neighbours": [{"edgeType": "likes", "nodeId": "zoe", "direction": "out"}]}, "user"),
        (edges(("likes", "zoe")) | {"properties": {"year": 1999}}, "movie"),
    ],
)
def test_a_new_node_is_of_the_only_type_that_its_description_fits(node: dict[str, Any], label: str) -> None:
    for given in (node, {**node, "nodeId": "new"}):
        for wanted in ("user", "movie"):
            said = near({**given, "nodeType": label}, tailNodeType=wanted, topk=3)
            assert near(given, tailNodeType=wanted, topk=3) == said
            # as a node of the other type it would be another answer
            assert said.get("ignoredNeighbours", 0) == str(node).count("stranger")


@pytest.mark.parametrize(
    "node",
    [
        edges(("likes", "zoe")),  # a user and a movie
        edges(("likes", "stranger")),
        edges(("likes", "alien"), ("likes", "ada")),
        {"properties": {"title": "x"}},
        {"nodeId": "new", "properties": {"year": 1, "age": 1}},
    ],
)
def test_a_new_node_that_several_types_fit_must_say_its_type(node: dict[str, Any]) -> None:
    for parameters in ({}, {"tailNodeType": "movie"}):
        with pytest.raises(BadRequest) as caught:
            near(node, **parameters)
        assert caught.value.code == "AMBIGUOUS_NODE"
        assert caught.value.message == "data.nodes[0]: give nodeType, the type of the new node, one of user, movie"


def test_an_edge_type_that_no_node_has_is_named_where_the_type_is_to_follow_from_it() -> None:
    with pytest.raises(BadRequest) as caught:
        near(edges(("likes", "alien"), ("met", "ada")))
    assert caught.value.code == "UNKNOWN_EDGE_TYPE"
    assert caught.value.message.startswith(
        'data.nodes[0].neighbours[1].edgeType: "met" is no edge of a "user" or "movie" node; there are user-rated-movie'
    )


def test_an_unknown_id_without_description_is_told_what_would_help() -> None:
    with pytest.raises(BadRequest) as caught:
        near({"nodeId": "zzz"})
    assert caught.value.message == (
        'data.nodes[0]: no node type has the id "zzz"; correct it, or describe the new node by neighbours or properties'
    )
    with pytest.raises(BadRequest, match=r"data\.nodes\[0\]: there is no id; .* describe the new node"):
        near({"neighbours": []})
    assert near({"nodeId": "zzz"}, tailNodeType="movie") == {"mlResults": [], "cold": {"node": "unknown"}}


def test_a_property_of_two_node_types_is_answered_for_a_new_node_of_the_type_that_fits() -> None:
    (entry,) = ask(MODEL, [edges(("likes", "ada"))], kind="nodes", property="rank")
    (said,) = ask(MODEL, [{**edges(("likes", "ada")), "nodeType": "movie"}], kind="nodes", property="rank")
    (user,) = ask(MODEL, [{**edges(("likes", "up")), "nodeType": "user"}], kind="nodes", property="rank")
    assert entry == said
    assert values(entry) != values(user)
    with pytest.raises(BadRequest, match="give nodeType, the type of the new node, one of user, movie"):
        ask(MODEL, [edges(("likes", "stranger"))], kind="nodes", property="rank")


@pytest.mark.parametrize("model", [MODEL, TOPIC])
def test_an_id_that_is_of_another_type_only_is_refused_with_that_type(model: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(model, ["heat", "nobody", "bob", "ada"], kind="nodes", property="topic")
    assert caught.value.code == "UNKNOWN_NODE_TYPE"
    assert caught.value.message == 'data.nodes[2]: "bob" is a node of type user; topic is predicted of movie'


def test_who_says_the_type_or_describes_the_node_is_taken_at_their_word() -> None:
    cold = {"node": "unknown"}
    assert ask(TOPIC, [{"nodeId": "ada", "nodeType": "movie"}], kind="nodes")[0]["cold"] == cold
    assert ask(TOPIC, ["ada"], kind="nodes", nodeType="movie")[0]["cold"] == cold
    assert "cold" not in ask(TOPIC, [{"nodeId": "ada", "properties": {"year": 1999}}], kind="nodes")[0]
    assert [entry.get("cold") for entry in ask(TOPIC, ["zoe", "nobody", "\ud800"], kind="nodes")] == [
        {"node": "nothing_known"},
        cold,
        cold,
    ]


def test_in_batches_an_id_of_another_type_counts_as_never_seen() -> None:
    assert answer(TOPIC, CSV, b"ada\nheat\n")[1].decode().splitlines() == ["drama,0.7,fallback", "war,0.8,scored"]
