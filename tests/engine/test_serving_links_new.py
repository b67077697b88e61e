"""Links of nodes that training never saw: they stand where the nodes stand that share their neighbours."""

from __future__ import annotations

import pytest

from tests.engine.serving_factories import LIKES, ask, described, links, make_served, values

MODEL = make_served()
TAIL, HEAD, KNN = "predict_tail", "predict_head", "embed_knn"


def test_a_new_node_stands_where_the_nodes_stand_that_share_its_neighbours() -> None:
    # GIVEN that alien is liked by ada and rated by her, and heat rated by ada and liked by bob
    as_ada = ask(MODEL, [{"headNodeId": "ada"}], TAIL, edgeType="likes", topk=5)[0]["mlResults"]
    for kind in ("likes", "rated"):
        # WHEN a new user is described by alien alone
        (entry,) = ask(MODEL, [described((kind, "alien"))], TAIL, edgeType="likes", topk=5)

        # THEN the answer is ada's, and says where it comes from
        assert [(r["inferredValue"], r["score"]) for r in entry["mlResults"]] == [
            (r["inferredValue"], r["score"]) for r in as_ada
        ]
        assert {r["status"] for r in entry["mlResults"]} == {"inductive"}
    (between,) = ask(MODEL, [described(("likes", "alien"), ("likes", "heat"))], TAIL, edgeType="likes")
    assert between["mlResults"] == [{"inferredValue": "solaris", "score": 1.5, "status": "inductive"}]
    (movie,) = ask(MODEL, [described(("likes", "bob"))], HEAD, edgeType="likes")
    assert values(movie) == ["bob"]


def test_a_new_node_stands_where_its_neighbour_does_if_they_are_of_one_type_and_it_has_no_other() -> None:
    # GIVEN that ada knows bob, and nobody is known to know ada
    model = make_served()
    new = {"nodeType": "user", "neighbours": [{"edgeType": "knows", "nodeId": "ada", "direction": "out"}]}
    # WHEN a new user knows ada
    (near,) = ask(model, [new], KNN, "nodes", topk=1)
    # THEN it is as near to others as ada is
    assert near["mlResults"] == [{"inferredValue": "ada", "score": 1.0, "status": "inductive"}]


def test_the_mask_leaves_out_what_the_request_links_a_new_node_to() -> None:
    neighbours = [("likes", "alien"), ("rated", "solaris")]
    found = ask(MODEL, [described(*neighbours)], TAIL, edgeType="likes", topk=9, exclude_flag="mask")
    assert "alien" not in values(found[0])
    assert "solaris" in values(found[0])  # rated, not liked


def test_a_new_node_whose_neighbours_lead_nowhere_counts_as_never_seen() -> None:
    for node in (described(("likes", "up")), described(properties={"age": 3})):
        (entry,) = ask(MODEL, [node], TAIL, edgeType="likes")
        assert entry["cold"] == {"head": "not_inductive"}
        assert entry["mlResults"][0]["status"] == "fallback"
    (near,) = ask(MODEL, [described(("likes", "up"))["headNode"]], KNN, "nodes", nodeType="user")
    assert near == {"mlResults": [], "cold": {"node": "not_inductive"}}


def test_neighbours_whose_links_the_model_folder_does_not_keep_are_counted_as_ignored() -> None:
    # GIVEN a model of likes alone, and new nodes that rate
    model = make_served(links(LIKES))
    user, movie = described(("likes", "heat"), ("rated", "alien"))["headNode"], described(("rated", "ada"))["tailNode"]

    # THEN in every question about links it is told that the ratings do not count
    for found in (
        ask(model, [{"headNode": user}], TAIL),
        ask(model, [user], KNN, "nodes", nodeType="user"),
        ask(model, [{"headNode": user, "tailNodeId": "heat"}]),
    ):
        assert [entry["ignoredNeighbours"] for entry in found] == [1]
        assert found[0]["mlResults"][0]["status"] == "inductive"
    (both,) = ask(model, [{"headNode": user, "tailNode": movie}])
    assert (both["ignoredNeighbours"], both["cold"]) == (2, {"tail": "not_inductive"})
    assert "ignoredNeighbours" not in ask(MODEL, [{"headNode": user}], TAIL, edgeType="likes")[0]


def test_a_link_is_scored_with_new_nodes_at_either_end() -> None:
    # GIVEN that bob likes heat, and ada alien; what is like bob, and what is liked by whom ada is
    model = make_served(links(LIKES))
    head, tail = described(("likes", "heat"))["headNode"], described(("likes", "ada"))["tailNode"]
    bob_heat, bob_alien, ada_alien = ask(
        model,
        [
            {"headNode": head, "tailNodeId": "heat"},
            {"headNode": head, "tailNode": {"neighbours": [{"edgeType": "likes", "nodeId": "bob"}]}},
            {"headNodeId": "ada", "tailNode": tail},
        ],
    )
    # THEN scores are those of the nodes that they stand for: ada likes alien and solaris
    assert bob_heat["mlResults"] == [{"inferredValue": 2.0, "score": 2.0, "status": "inductive"}]
    assert values(bob_alien) == [2.0]
    assert values(ada_alien) == [pytest.approx((2.0 + 1.6) / 2)]
    (nowhere,) = ask(model, [{"headNode": described(("likes", "up"))["headNode"], "tailNodeId": "heat"}])
    assert nowhere["cold"] == {"head": "not_inductive"}
    assert nowhere["mlResults"][0]["status"] == "fallback"


def test_a_new_node_is_near_the_nodes_that_share_its_neighbours() -> None:
    # GIVEN a new movie that ada and nobody else likes, as she does alien and solaris
    new = {**described(("likes", "ada"))["headNode"], "nodeType": "movie"}
    (near,) = ask(MODEL, [new], KNN, "nodes", topk=3)
    # THEN those two are nearest, and it says what the answer rests on
    assert sorted(values(near)[:2]) == ["alien", "solaris"]
    assert {r["status"] for r in near["mlResults"]} == {"inductive"}
    assert near["mlResults"][0]["score"] > 0.9
    # AND with the mask whom the request links to it is left out
    users = {"nodeType": "movie", "tailNodeType": "user", "topk": 9}
    assert "ada" in values(ask(MODEL, [new], KNN, "nodes", **users)[0])
    assert "ada" not in values(ask(MODEL, [new], KNN, "nodes", exclude_flag="mask", **users)[0])
    # AND old, new and unknown nodes go in one request
    three = ask(MODEL, [{"nodeId": "alien"}, new, {"nodeId": "nobody"}], KNN, "nodes", tailNodeType="movie")
    assert [entry.get("cold") for entry in three] == [None, None, {"node": "unknown"}]
    assert three[1] == {"mlResults": near["mlResults"][:1]}
