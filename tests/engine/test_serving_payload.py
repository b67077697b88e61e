"""What a v1 payload may have: AWS's own are understood, and what is misspelt or of the wrong kind is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_errors import BadRequest
from tests.engine.serving_factories import ask, body, make_served, values

MODEL = make_served()
TAIL, HEAD, KNN = "predict_tail", "predict_head", "embed_knn"
PAIR = {"headNodeId": "ada", "tailNodeId": "heat"}


def refused(given: bytes) -> str:
    """The message of an INVALID_PAYLOAD."""
    with pytest.raises(BadRequest) as caught:
        answer(MODEL, JSON, given)
    assert caught.value.code == "INVALID_PAYLOAD"
    return caught.value.message


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            body([{"headNodeId": "ada"}], TAIL, topk=1, edgeType="likes", tailNodeType="movie", exclude_flag="mask"),
            "heat",
        ),
        (
            body([{"headNodeId": "ada"}], TAIL, topk=1, edgeType="likes", tailNodeType="movie", excludeFlag="null"),
            "alien",
        ),
        (
            body([{"tailNodeId": "heat"}], HEAD, topk=1, edgeType="likes", headNodeType="user", excludeFlag="mask"),
            "cem",
        ),
        (body([PAIR], topk=1, edgeType="rated", property="rating"), 3.01),
        (body([{"nodeId": "heat"}], kind="nodes", topk=1, property="topic"), "war"),
        (body([{"nodeId": "alien"}], KNN, "nodes", topk=1, tailNodeType="movie", exclude_flag="mask"), "solaris"),
        (b'{"vertices": ["heat"], "topk": 1, "property": "topic"}', "war"),
    ],
)
def test_what_the_toolkit_and_the_notebooks_of_aws_send_is_answered(given: bytes, wanted: str | float) -> None:
    ((entry,),) = json.loads(answer(MODEL, JSON, given)[1])["output"].values()
    assert values(entry) == [wanted]


def test_unknown_members_at_the_top_level_and_in_data_are_ignored() -> None:
    document: dict[str, Any] = json.loads(body([PAIR], property="rating"))
    more = {**document, "requestId": "x", "data": {**document["data"], "requestContext": {}}}
    assert answer(MODEL, JSON, json.dumps(more).encode()) == answer(MODEL, JSON, json.dumps(document).encode())
    older = b'{"vertices": ["heat"], "property": "topic", "requestId": "x"}'
    assert json.loads(answer(MODEL, JSON, older)[1])["output"]["nodes"] == ask(
        MODEL, ["heat"], kind="nodes", property="topic"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (body([PAIR], topK=2), "data.globalParameters.topK: unknown member; did you mean topk?"),
        (body([PAIR], treshold=0.1), "data.globalParameters.treshold: unknown member; did you mean threshold?"),
        (body([PAIR], exclude="mask"), "data.globalParameters.exclude: unknown member; did you mean exclude_flag?"),
        (body([PAIR], edge_type="rated"), "data.globalParameters.edge_type: unknown member; did you mean edgeType?"),
        (
            body([{"nodeId": "new", "neighbors": []}], kind="nodes"),
            "data.nodes[0].neighbors: unknown member; did you mean neighbours?",
        ),
        (
            body([PAIR, {"headNode": {"nodeId": "new", "features": {}}, "tailNodeId": "heat"}]),
            "data.edges[1].headNode.features: unknown member; there are nodeId, nodeType, properties, neighbours",
        ),
        (
            body([{"neighbours": [{"edgeType": "rated", "id": "heat"}]}], kind="nodes"),
            "data.nodes[0].neighbours[0].id: unknown member; there are edgeType, nodeId, direction, value",
        ),
        (
            body([{**PAIR, "tailNodetype": "movie"}]),
            "data.edges[0].tailNodetype: unknown member; did you mean tailNodeType?",
        ),
        (b'{"vertices": [{"nodeID": "heat"}]}', "vertices[0].nodeID: unknown member; did you mean nodeId?"),
        (
            b'{"data": {"globalParameters": {"\\n' + b"x" * 500 + b'": 1}, "edges": []}}',
            'data.globalParameters."\\x0axxx',
        ),
    ],
)
def test_a_member_that_is_not_known_is_refused_with_the_one_that_is_meant(given: bytes, says: str) -> None:
    message = refused(given)
    assert message.startswith(says)
    assert len(message) < 400


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (body([PAIR], topk=0), "topk: expected a whole number from 1 to 10,000; found 0"),
        (body([PAIR], topk="3"), 'topk: expected a whole number from 1 to 10,000; found the text "3"'),
        (body([PAIR], topk=True), "found true"),
        (body([PAIR], topk=10**400), f"found 1{'0' * 119}…"),
        (body([PAIR], threshold=1.5), "threshold: expected a probability from 0 to 1; found 1.5"),
        (body([PAIR], threshold="0.5"), 'found the text "0.5"'),
        (body([PAIR], threshold=float("nan")), "found NaN"),
        (body([PAIR], exclude_flag=1), "exclude_flag: expected mask or null; found 1"),
        (body([PAIR], property=7), "property: expected text, not empty; found 7"),
        (body([PAIR], edgeType={}), "edgeType: expected a relation, or [source node type, relation, destination node"),
        (body([{"nodeId": 7}], kind="nodes"), "data.nodes[0].nodeId: expected a node id (text, not empty); found 7"),
        (
            body([{"headNodeId": "ada"}]),
            "data.edges[0].tailNodeId: expected a node id (text, not empty); found nothing",
        ),
        (body([["ada", "heat"]]), '"tailNodeId": …}; found a list'),
        (b'{"version": 1, "data": {}}', "version: expected the text v1; found 1"),
        (
            body(
                [{"nodeId": "n", "neighbours": [{"edgeType": "rated", "nodeId": "ada", "direction": 1}]}], kind="nodes"
            ),
            "data.nodes[0].neighbours[0].direction: expected out or in; found 1",
        ),
        (
            body(
                [
                    {
                        "headNode": {"neighbours": [{"edgeType": "rated", "nodeId": "up", "value": "5"}]},
                        "tailNodeId": "up",
                    }
                ],
                property="rating",
            ),
            'data.edges[0].headNode.neighbours[0].value: user-rated-movie.rating is a number; found the text "5"',
        ),
        (
            body(
                [{"headNode": {"neighbours": [{"edgeType": "rated", "nodeId": "up", "value": 5}]}, "tailNodeId": "up"}],
                property="mood",
            ),
            "value: 5 is not a class of user-rated-movie.mood",
        ),
    ],
)
def test_an_error_tells_numbers_from_texts(given: bytes, says: str) -> None:
    assert says in refused(given)


def test_a_mode_that_is_no_text_is_quoted_as_it_stands() -> None:
    with pytest.raises(BadRequest, match=r"^mode: 3 is none of predict_tail"):
        answer(MODEL, JSON, b'{"mode": 3, "data": {}}')
