"""Ends of links, and nearest neighbours, in Neptune ML's v1 payload."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.manifest import write_manifest
from ekiden_engine.model_folder import load_model, save_model
from ekiden_engine.models.base import Fit
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.models.kge_predictor import KgePredictor
from ekiden_engine.models.kge_scores import Kge
from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_links import candidates
from ekiden_engine.serving_model import LinkTable, ServedModel
from tests.engine.links_factories import LIKES as USER_LIKES
from tests.engine.links_factories import fit_links, make_taste_graph
from tests.engine.serving_factories import (
    KNOWS,
    LIKES,
    ask,
    body,
    described,
    genres,
    links,
    make_features,
    make_served,
    rank,
    rating,
    values,
)

MODEL = make_served()
TAIL, HEAD, KNN = "predict_tail", "predict_head", "embed_knn"


def test_the_likeliest_tails_of_a_head_come_best_first_with_their_scores() -> None:
    assert ask(MODEL, [{"headNodeId": "ada"}], TAIL, edgeType="likes", tailNodeType="movie", topk=3) == [
        {
            "mlResults": [
                {"inferredValue": "alien", "score": 2.0, "status": "scored"},
                {"inferredValue": "solaris", "score": 1.6, "status": "scored"},
                {"inferredValue": "heat", "score": 0.0, "status": "scored"},
            ]
        }
    ]


def test_the_likeliest_heads_of_a_tail_come_best_first_with_their_scores() -> None:
    (entry,) = ask(MODEL, [{"tailNodeId": "heat"}], HEAD, edgeType="likes", headNodeType="user", topk=2)
    assert [(r["inferredValue"], r["score"]) for r in entry["mlResults"]] == [("bob", 2.0), ("cem", 1.0)]


@pytest.mark.parametrize(
    ("flag", "left_out"),
    [
        ({"exclude_flag": "mask"}, True),
        ({"excludeFlag": "mask"}, True),
        ({"exclude_flag": None}, False),
        ({"excludeFlag": "null"}, False),
        ({"exclude_flag": "none"}, False),
        ({}, False),
    ],
)
def test_the_mask_in_either_spelling_leaves_out_what_the_graph_links(flag: dict[str, Any], left_out: bool) -> None:
    # GIVEN that ada likes alien and solaris, and that ada and bob like other movies
    tails = values(ask(MODEL, [{"headNodeId": "ada"}], TAIL, edgeType="likes", topk=9, **flag)[0])
    heads = values(ask(MODEL, [{"tailNodeId": "alien"}], HEAD, edgeType="likes", topk=9, **flag)[0])

    # THEN only the mask leaves them out; a movie that is rated but not liked is no link of this edge type
    assert tails == (["heat", "up", "zoe"] if left_out else ["alien", "solaris", "heat", "up", "zoe"])
    assert heads == (["cem", "bob", "zoe"] if left_out else ["ada", "cem", "bob", "zoe"])


def test_the_mask_leaves_out_the_node_itself_where_it_could_be_linked_to_itself() -> None:
    found = values(ask(MODEL, [{"headNodeId": "ada"}], TAIL, edgeType="knows", topk=9, exclude_flag="mask")[0])
    assert found == ["cem", "zoe"]
    assert values(ask(MODEL, [{"headNodeId": "ada"}], TAIL, edgeType="knows")[0]) == ["ada"]


def test_a_node_that_training_never_saw_gets_what_is_likely_for_anyone_and_is_marked() -> None:
    (entry,) = ask(MODEL, [{"headNodeId": "new"}], TAIL, edgeType="likes", topk=1, exclude_flag="mask")
    assert entry["cold"] == {"head": "unknown"}
    assert entry["mlResults"] == [{"inferredValue": "solaris", "score": 1.125, "status": "fallback"}]


def test_the_edge_type_is_chosen_by_relation_triple_or_node_types() -> None:
    for parameters in ({"edgeType": "likes"}, {"edgeType": list(LIKES)}, {"tailNodeType": "movie"}):
        assert values(ask(MODEL, [{"headNodeId": "ada"}], TAIL, **parameters)[0]) == ["alien"]
    model = make_served(links(KNOWS))
    assert values(ask(model, [{"headNodeId": "bob"}], TAIL)[0]) == ["bob"]


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (
            body([{"headNodeId": "ada"}], TAIL),
            "AMBIGUOUS_TARGET",
            "user-likes-movie (link_prediction), user-knows-user",
        ),
        (body([{"headNodeId": "ada"}], TAIL, edgeType="rated"), "UNKNOWN_EDGE_TYPE", '"rated" is not what this model'),
        (body([{"headNodeId": "ada"}], HEAD, edgeType="likes"), "INVALID_PAYLOAD", "data.edges[0].tailNodeId"),
        (body([{"tailNodeId": "heat"}], TAIL, edgeType="likes"), "INVALID_PAYLOAD", "data.edges[0].headNodeId"),
        (body([{"headNodeId": "ada"}], TAIL, edgeType="likes", topk=10_001), "INVALID_PAYLOAD", "topk"),
        (body([{"headNodeId": "ada"}] * 6, TAIL, edgeType="likes", topk=10_000), "TOO_MANY_RESULTS", "6 x 10,000"),
        (body([{"nodeId": "ada"}], KNN, "nodes", tailNodeType="dog"), "UNKNOWN_NODE_TYPE", '"dog"'),
        (body(["zoe"], KNN, "nodes"), "AMBIGUOUS_NODE", "is in user, movie; give nodeType"),
        (body(["x"], KNN, "nodes"), "UNKNOWN_NODE_TYPE", 'no node type has the id "x"; correct it, or describe'),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(given: bytes, code: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(MODEL, JSON, given)
    assert caught.value.code == code
    assert says in caught.value.message


def test_a_model_without_links_or_vectors_says_what_it_predicts() -> None:
    model = make_served(rank("user", 4))
    with pytest.raises(BadRequest, match=r"predict_tail needs a model of links; this model predicts user\.rank"):
        ask(model, [{"headNodeId": "ada"}], TAIL)
    with pytest.raises(BadRequest, match=r'no vectors of "user"; it predicts user\.rank'):
        ask(model, ["ada"], KNN, "nodes")


def test_the_nearest_neighbours_are_those_with_the_largest_cosine_without_the_node_itself() -> None:
    model = make_served(genres())
    assert ask(model, [{"nodeId": "alien"}], KNN, "nodes", tailNodeType="movie", topk=9) == [
        {
            "mlResults": [
                {"inferredValue": "heat", "score": 0.7071068, "status": "scored"},
                {"inferredValue": "solaris", "score": 0.0, "status": "scored"},
                {"inferredValue": "zoe", "score": -1.0, "status": "scored"},
            ]
        }
    ]
    assert values(ask(model, ["alien"], KNN, "nodes")[0]) == ["heat"]


def test_a_node_without_vector_has_no_neighbours_and_is_marked() -> None:
    model = make_served(genres())
    unknown, zero = ask(model, ["nobody", "up"], KNN, "nodes", tailNodeType="movie", topk=2)
    assert unknown == {"mlResults": [], "cold": {"node": "unknown"}}
    assert zero == {"mlResults": [], "cold": {"node": "nothing_known"}}


def test_neighbours_of_another_type_and_the_mask_in_both_directions() -> None:
    found = ask(MODEL, [{"nodeId": "ada"}, {"nodeId": "cem"}], KNN, "nodes", tailNodeType="movie", topk=9)
    assert [values(entry)[0] for entry in found] == ["alien", "solaris"]
    masked = ask(MODEL, [{"nodeId": "ada"}], KNN, "nodes", tailNodeType="movie", topk=9, exclude_flag="mask")
    assert values(masked[0]) == ["zoe"]  # rated or liked, by whichever edge type
    backwards = ask(MODEL, [{"nodeId": "alien"}], KNN, "nodes", tailNodeType="user", topk=9, excludeFlag="mask")
    assert values(backwards[0]) == ["cem", "bob"]
    friends = ask(MODEL, [{"nodeId": "bob"}], KNN, "nodes", tailNodeType="user", topk=9, excludeFlag="mask")
    assert values(friends[0]) == []  # ada knows bob, bob knows cem, of zoe nothing is known


def test_nodes_that_a_model_of_edges_never_saw_are_nobodys_neighbours() -> None:
    side = Side(np.array([[1, 0], [1, 1], [9, 9], [0, 1]], np.float32), np.zeros(4, np.float32), np.arange(3) != 2)
    movies = Side(np.ones((6, 2), np.float32), np.zeros(6, np.float32), np.ones(5, np.bool_))
    users = Side(
        np.concatenate((side.vectors[[0, 1, 2, 2]], side.vectors[[3]])), np.zeros(5, np.float32), np.arange(4) < 2
    )
    target = rating()[0]
    model = make_served((target, DotPredictor(("user", "movie"), users, movies, 3.0, 1.0, 5.0)))
    assert values(ask(model, ["ada"], KNN, "nodes", topk=9)[0]) == ["bob"]
    assert values(ask(model, ["heat"], KNN, "nodes", topk=9)[0]) == ["alien", "solaris", "up", "zoe"]


def test_a_translation_model_is_asked_as_any_other() -> None:
    # GIVEN TransE with a relation that leads one step to the right
    places = np.stack((np.arange(4.0), np.zeros(4)), 1).astype(np.float32)
    relations = np.array([[1, 0], [-1, 0]], np.float32)
    predictor = KgePredictor(Kge.TRANSE, [KNOWS], {"user": places}, {"user": np.ones(4, np.bool_)}, relations)
    model = make_served((Target(task=Task.LINK_PREDICTION, edge=KNOWS), predictor))

    # WHEN each end is asked for, THEN it is one step away
    assert values(ask(model, [{"headNodeId": "bob"}], TAIL)[0]) == ["cem"]
    assert values(ask(model, [{"tailNodeId": "bob"}], HEAD)[0]) == ["ada"]


def test_a_trained_model_recommends_within_the_taste_of_the_user_what_is_not_liked_yet(tmp_path: Path) -> None:
    # GIVEN users who like the items of their group, and a model trained on most of these links
    graph: EncodedGraph = make_taste_graph()
    fit: Fit = fit_links(graph, "distmult", num_hidden="16", num_epochs="4")
    save_model(tmp_path, graph, [(graph.targets[0], fit)], "distmult", make_features())
    write_manifest(tmp_path)
    model = ServedModel(load_model(tmp_path))
    (edges,) = graph.edges

    # WHEN each is asked for, with the mask
    users = [{"headNodeId": f"u{i}"} for i in range(40)]
    found = ask(model, users, TAIL, edgeType="likes", topk=3, exclude_flag="mask")

    # THEN nothing that is liked comes back, in training or held out, and nearly all is what batches score highest
    liked = {(f"u{u}", f"i{i}") for u, i in zip(edges.source, edges.dest, strict=True)}
    named = [(user["headNodeId"], name) for user, entry in zip(users, found, strict=True) for name in values(entry)]
    assert len(named) == 120
    assert not liked & set(named)
    pairs = "\n".join(",".join(pair) for pair in named).encode()
    scores = [float(line.split(b",")[0]) for line in answer(model, "text/csv", pairs)[1].splitlines()]
    said = [result["score"] for entry in found for result in entry["mlResults"]]
    np.testing.assert_allclose(scores, said, rtol=1e-4, atol=1e-4)
    assert USER_LIKES in model.known_edges

    # and a new user who likes four items of a group gets others of that group
    for group in range(3):
        liked_by_new = [("likes", f"i{item}") for item in range(group, 12, 3)]
        (entry,) = ask(model, [described(*liked_by_new)], TAIL, edgeType="likes", topk=4, exclude_flag="mask")
        assert [int(name[1:]) % 3 for name in values(entry)] == [group] * 4
        assert not {name for _, name in liked_by_new} & set(values(entry))


def test_relations_with_the_same_candidates_share_one_index() -> None:
    # GIVEN a model with two relations among users, whose candidates are the users' vectors for both
    model = make_served()
    knows, likes = model.served[-1], model.served[-2]
    assert (knows.name, likes.name) == ("user-knows-user", "user-likes-movie")
    index = candidates(model, knows, "tail")

    # THEN both directions of one and a direction of the other use one index, and movies another
    assert candidates(model, knows, "head") is index
    assert candidates(model, likes, "head") is index
    assert candidates(model, likes, "tail") is not index
    assert len(model.tops) == 2


def test_a_link_table_gives_the_other_ends_of_a_node() -> None:
    table = LinkTable(np.array([2, 0, 2], np.int32), np.array([5, 6, 7], np.int32), 4)
    assert [table.of(node).tolist() for node in (-1, 0, 1, 2, 3)] == [[], [6], [], [5, 7], []]


def test_answers_name_ids_as_the_graph_has_them() -> None:
    names: Callable[[str, Any], list[str]] = MODEL.names
    assert names("movie", np.array([4, 0], np.int32)) == ["zoe", "alien"]
    assert names("movie", np.array([], np.int32)) == []
    assert json.loads(answer(MODEL, JSON, body([{"headNodeId": "ada"}], TAIL, edgeType="likes"))[1])["output"]["edges"]
    assert isinstance(MODEL.index("movie").of(pa.array([b"heat"])), np.ndarray)
