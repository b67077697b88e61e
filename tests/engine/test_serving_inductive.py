"""Nodes that training never saw, answered from what the request says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.manifest import write_manifest
from ekiden_engine.model_folder import load_model, save_model
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import NewNode
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_model import ServedModel
from tests.engine.nodes_factories import BOUGHT, LAYERS, Watcher, fit_nodes, labels_of, make_shoppers
from tests.engine.serving_factories import ask, make_served, mood, values
from tests.engine.test_models_fm import RATED as FM_RATED
from tests.engine.test_models_fm import make_graph as make_ratings

MODEL = make_served()
RATED_ALIEN = {"edgeType": ["user", "rated", "movie"], "nodeId": "alien", "direction": "out", "value": 5}


def rate(end: str, node: dict[str, Any]) -> dict[str, Any]:
    """The entry for an edge between a described node and a known one."""
    other = {"tailNodeId": "heat"} if end == "head" else {"headNodeId": "ada"}
    (entry,) = ask(MODEL, [{f"{end}Node": node, **other}], property="rating")
    return entry


def topic_of(node: dict[str, Any]) -> dict[str, Any]:
    (entry,) = ask(MODEL, [node], kind="nodes", property="topic", topk=2)
    return entry


def test_a_new_user_is_rated_for_by_age_and_by_the_ratings_that_the_request_has() -> None:
    # an unseen user's 2.9 and heat's 0.01, a hundredth of the age, a quarter of what alien got beyond that
    assert rate("head", {"nodeId": "new", "properties": {"age": 30}}) == {
        "mlResults": [{"inferredValue": 3.21, "status": "inductive"}]
    }
    both = rate("head", {"nodeId": "new", "properties": {"age": 30}, "neighbours": [RATED_ALIEN]})
    assert both == {"mlResults": [{"inferredValue": 3.66, "status": "inductive"}]}
    assert values(rate("head", {"neighbours": [RATED_ALIEN]})) == [pytest.approx(2.91 + (5 - 2.9) / 4)]


@pytest.mark.parametrize(
    "edge",
    [
        {"edgeType": "rated", "nodeId": "ada", "value": 5},
        {"edgeType": "rated", "nodeId": "ada", "value": 5, "direction": "in"},
        {"edgeType": ["user", "rated", "movie"], "nodeId": "ada", "value": 5.0},
    ],
)
def test_a_new_movie_has_neighbours_at_the_other_end_and_the_direction_follows(edge: dict[str, Any]) -> None:
    entry = rate("tail", {"properties": {"year": 0}, "neighbours": [edge]})
    assert entry == {"mlResults": [{"inferredValue": 3.5, "status": "inductive"}]}


def test_a_new_node_is_classified_by_its_properties_and_its_neighbours() -> None:
    bare, rated = (
        topic_of({"properties": {"year": 2010}}),
        topic_of({"properties": {"year": 2010}, "neighbours": [{"edgeType": "rated", "nodeId": "bob"}]}),
    )
    assert (values(bare), bare["mlResults"][0]["status"]) == (["war", "drama"], "inductive")
    assert rated["mlResults"][0]["score"] > bare["mlResults"][0]["score"]
    assert values(topic_of({"properties": {"year": "1990"}}))[0] == "drama"


def test_what_is_said_of_a_known_node_does_not_count_unless_it_is_to() -> None:
    given = {"nodeId": "alien", "properties": {"year": 2010}}
    assert topic_of(given) == topic_of({"nodeId": "alien"})
    assert topic_of({**given, "inductive": True}) == topic_of({"properties": {"year": 2010}})


def test_neighbours_that_training_never_saw_do_not_count_and_are_told() -> None:
    stranger = {"edgeType": "rated", "nodeId": "stranger", "value": 1}
    entry = rate("head", {"neighbours": [stranger, RATED_ALIEN, stranger]})
    assert (entry["mlResults"][0]["status"], entry["ignoredNeighbours"]) == ("inductive", 2)
    assert rate("head", {"nodeId": "new", "neighbours": [stranger]}) == {
        "mlResults": [{"inferredValue": 2.91, "status": "fallback"}],
        "cold": {"head": "not_inductive"},
        "ignoredNeighbours": 1,
    }


def test_a_model_that_knows_only_the_nodes_of_its_training_says_so() -> None:
    edge = {"headNode": {"nodeId": "new", "neighbours": [{**RATED_ALIEN, "value": "calm"}]}, "tailNodeId": "heat"}
    (entry,) = ask(make_served(mood()), [edge])
    assert entry["cold"] == {"head": "not_inductive"}
    assert entry["mlResults"][0]["status"] == "fallback"


def test_old_and_new_nodes_may_be_mixed_in_one_request() -> None:
    edges = [
        {"headNodeId": "ada", "tailNodeId": "heat"},
        {"headNode": {"properties": {"age": 30}}, "tailNodeId": "heat"},
        {"headNodeId": "bob", "tailNode": {"nodeId": "n", "properties": {"year": 0}}},
        {"headNodeId": "nobody", "tailNodeId": "heat"},
    ]
    found = ask(MODEL, edges, property="rating")
    assert [values(entry)[0] for entry in found] == pytest.approx([3.01, 3.21, 3.1, 2.91])
    assert [entry["mlResults"][0]["status"] for entry in found] == ["scored", "inductive", "inductive", "fallback"]
    nodes = ["heat", {"properties": {"year": 2010}}, "nobody"]
    found = ask(MODEL, nodes, kind="nodes", property="topic")
    assert [entry["mlResults"][0]["status"] for entry in found] == ["scored", "inductive", "fallback"]


@pytest.mark.parametrize(
    ("node", "code", "says"),
    [
        ({"properties": []}, "INVALID_PAYLOAD", "data.edges[0].headNode.properties: expected an object"),
        ({"properties": {"age": {}}}, "INVALID_PAYLOAD", "headNode.properties.age: expected text, a number"),
        ({"properties": {"age": [[1]]}}, "INVALID_PAYLOAD", "headNode.properties.age"),
        (
            {"properties": {"age": "old"}},
            "BAD_PROPERTY",
            'data.edges[0].headNode.properties: property "age": not a number; found "old"',
        ),
        ({"properties": {"age": [1, 2]}}, "BAD_PROPERTY", 'property "age": a list'),
        ({"properties": {"age": float("nan")}}, "BAD_PROPERTY", 'property "age"'),
        ({"properties": {"age": "\ud800"}}, "INVALID_PAYLOAD", "headNode.properties.age: expected text"),
        ({"properties": {"age": 1e308}}, "BAD_PROPERTY", "headNode.properties: a number is too large"),
        ({"properties": {"age": 10**400}}, "BAD_PROPERTY", "not a finite number"),
        ({"neighbours": [{**RATED_ALIEN, "value": 10**400}]}, "INVALID_PAYLOAD", "value: expected a number"),
        ({"neighbours": {}}, "INVALID_PAYLOAD", "data.edges[0].headNode.neighbours: expected a list"),
        ({"neighbours": ["alien"]}, "INVALID_PAYLOAD", "neighbours[0]: expected an object"),
        ({"neighbours": [{"nodeId": "alien"}]}, "INVALID_PAYLOAD", "neighbours[0].edgeType: expected a relation"),
        ({"neighbours": [{"edgeType": "rated"}]}, "INVALID_PAYLOAD", "neighbours[0].nodeId"),
        ({"neighbours": [{**RATED_ALIEN, "direction": "up"}]}, "INVALID_PAYLOAD", "direction: expected out or in"),
        ({"neighbours": [{**RATED_ALIEN, "value": {}}]}, "INVALID_PAYLOAD", "value: expected a number, a class or"),
        ({"neighbours": [{**RATED_ALIEN, "value": ["a"]}]}, "INVALID_PAYLOAD", "rating is a number"),
        ({"neighbours": [{**RATED_ALIEN, "value": "good"}]}, "INVALID_PAYLOAD", "rating is a number"),
        ({"neighbours": [{**RATED_ALIEN, "direction": "in"}]}, "UNKNOWN_EDGE_TYPE", '"user-rated-movie" in is no edge'),
        (
            {"neighbours": [RATED_ALIEN, {"edgeType": "met", "nodeId": "ada"}]},
            "UNKNOWN_EDGE_TYPE",
            "there are user-rated-movie, user-likes-movie, user-knows-user",
        ),
        (
            {"neighbours": [{"edgeType": "knows", "nodeId": "ada"}]},
            "INVALID_PAYLOAD",
            "user-knows-user out, user-knows-user in fit",
        ),
        ({"nodeId": "ada", "inductive": True}, "INVALID_PAYLOAD", "inductive needs properties or neighbours"),
        ({"nodeId": "ada", "inductive": "yes"}, "INVALID_PAYLOAD", "inductive: expected true or false"),
        ({"nodeType": "movie", "properties": {}}, "UNKNOWN_NODE_TYPE", 'which is "user"'),
    ],
)
def test_a_description_that_does_not_fit_is_refused_with_its_path(node: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rate("head", node)
    assert caught.value.code == code
    assert says in caught.value.message


@pytest.mark.parametrize("properties", [{"title": "x"}, {"year": None}, {"year": ""}, {}])
def test_a_property_that_is_required_and_missing_is_named(properties: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(MODEL, ["alien", {"properties": properties}], kind="nodes", property="topic")
    assert caught.value.code == "BAD_PROPERTY"
    assert caught.value.message == (
        'data.nodes[1].properties: property "year": give a value; the spec named no imputer'
    )


def test_a_description_that_says_nothing_is_told_from_an_id_that_nothing_is_said_of() -> None:
    stranger = {"edgeType": "rated", "nodeId": "stranger"}
    assert topic_of({"nodeId": "new", "neighbours": [stranger]})["cold"] == {"node": "not_inductive"}
    assert topic_of({"nodeId": "alien", "neighbours": [], "inductive": True})["cold"] == {"node": "not_inductive"}
    assert topic_of({"nodeId": "new"})["cold"] == {"node": "unknown"}
    assert topic_of({"nodeId": "new", "neighbours": []})["cold"] == {"node": "unknown"}


def test_a_class_as_the_value_of_an_edge_must_be_one_of_the_targets() -> None:
    model = make_served(mood())
    edge = {"headNode": {"neighbours": [{**RATED_ALIEN, "value": "furious"}]}, "tailNodeId": "heat"}
    with pytest.raises(BadRequest, match=r'"furious" is not a class of user-rated-movie\.mood'):
        ask(model, [edge])
    edge = {"headNode": {"neighbours": [{**RATED_ALIEN, "value": ["calm", "so, so"]}]}, "tailNodeId": "heat"}
    with pytest.raises(BadRequest, match="mood is one class, not 2"):
        ask(model, [edge])


def test_an_edge_of_several_classes_stands_for_as_many() -> None:
    # GIVEN a model that notes what it is asked about
    target, predictor = mood()
    asked: list[NewNode] = []

    class Listening(type(predictor)):  # type: ignore[misc]
        def predict_new(self, source: list[Any], dest: list[Any]) -> Any:
            asked.extend(source)
            return self.predict(np.full(len(source), -1, np.int32), np.array(dest, np.int32))

    model = make_served((target.model_copy(update={"multi_label": True}), predictor))
    first = model.served[0]
    heard = replace(first, predictor=Listening(first.predictor.tables, first.predictor.about))  # type: ignore[attr-defined]
    model.served = (heard,)

    # WHEN a neighbour's edge has two classes, and another none
    neighbours = [{**RATED_ALIEN, "value": ["calm", "so, so"]}, {**RATED_ALIEN, "value": []}]
    ask(model, [{"headNode": {"neighbours": neighbours}, "tailNodeId": "heat"}])

    # THEN there is an edge for each class, and one without
    assert [(edge.node, edge.label) for edge in asked[0].neighbours] == [(0, 0.0), (0, 1.0), (0, None)]


def test_a_request_may_not_have_neighbours_without_end() -> None:
    edge = {"headNode": {"neighbours": [RATED_ALIEN] * 15_000}, "tailNodeId": "heat"}
    with pytest.raises(BadRequest, match="more than 20,000 neighbours in all"):
        ask(MODEL, [edge] * 2, property="rating")


def served(folder: Path, graph: EncodedGraph, model: str, fit: Any) -> ServedModel:
    """As a training would leave it; the tests' graphs have numbers for features that no encoder made."""
    save_model(folder, graph, [(graph.targets[0], fit)], model, FeatureBook(nodes={}))
    write_manifest(folder)
    return ServedModel(load_model(folder))


def test_a_trained_network_classifies_a_new_user_by_what_the_request_says_was_bought(tmp_path: Path) -> None:
    # GIVEN users of whom nothing is known but what they bought
    graph = make_shoppers()
    model = served(tmp_path, graph, "rgcn", fit_nodes(graph, LAYERS, num_epochs=40))
    edges, labels = graph.edge(BOUGHT), labels_of(graph)
    rows = labels.rows(Split.TEST)[:20]

    # WHEN test users are described as if they were new
    def described(user: int) -> dict[str, Any]:
        items = edges.dest[edges.source == user].tolist()
        return {"neighbours": [{"edgeType": "bought", "nodeId": f"item{item}"} for item in items]}

    entries = ask(model, [described(int(user)) for user in rows], kind="nodes", property="topic")

    # THEN the answers are as good as for users that training saw
    assert labels.values is not None
    right = [values(entry) == [f"c{labels.values[user]}"] for entry, user in zip(entries, rows, strict=True)]
    assert np.mean(right) >= 0.75
    assert {entry["mlResults"][0]["status"] for entry in entries} == {"inductive"}

    # AND among the vectors they are nearest to users of their class
    near = ask(model, [{**described(int(user)), "nodeType": "user"} for user in rows], "embed_knn", "nodes", topk=5)
    alike = [
        labels.values[int(name.removeprefix("user"))] == labels.values[user]
        for entry, user in zip(near, rows, strict=True)
        for name in values(entry)
    ]
    assert len(alike) == 5 * len(rows)
    assert np.mean(alike) >= 0.75
    assert {entry["mlResults"][0]["status"] for entry in near} == {"inductive"}


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("fm", {"num-hidden": "4", "num-epochs": "20"}),
        ("rgcn", {"num-hidden": "4", "num-epochs": "15", "seeds": "1", "regularization-coef": "1"}),
    ],
)
def test_a_trained_model_rates_for_a_new_user_by_the_ratings_in_the_request(
    tmp_path: Path, name: str, hyperparameters: dict[str, str]
) -> None:
    graph = make_ratings()
    trainer = make_trainer(name, Task.EDGE_REGRESSION, hyperparameters)
    model = served(tmp_path, graph, name, trainer.fit(graph, graph.targets[0], Watcher()))
    source, relation, _ = FM_RATED
    movies = graph.node("movie").ids.to_pylist()

    def rated(value: float) -> float:
        neighbours = [{"edgeType": relation, "nodeId": movie, "value": value} for movie in movies[1:9]]
        edge = {"headNode": {"nodeType": source, "neighbours": neighbours}, "tailNodeId": movies[10]}
        (entry,) = ask(model, [edge])
        assert entry["mlResults"][0]["status"] == "inductive"
        return float(values(entry)[0])

    assert rated(5.0) > rated(3.0) > rated(1.0)
