"""A small model of every task, made by hand so that its answers can be told, saved and loaded as a training would."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ekiden.contracts.feature_config import FeatureConfig
from ekiden.contracts.tasks import Task
from ekiden_engine.custom_predictors import CustomEdgePredictor, CustomLinkPredictor, CustomNodePredictor
from ekiden_engine.features import FeatureBook, fit_encoder
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Target
from ekiden_engine.manifest import write_manifest
from ekiden_engine.model_folder import LoadedModel, load_model, save_model
from ekiden_engine.models.base import Fit, Predictor
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.models.fm_predictor import Coefficients, FmPredictor, Group
from ekiden_engine.models.nodes_predictor import NodeTablePredictor
from ekiden_engine.models.nodes_structure import Scale, Structure
from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_model import ServedModel

RATED, LIKES, KNOWS = ("user", "rated", "movie"), ("user", "likes", "movie"), ("user", "knows", "user")
USERS = ("ada", "bob", "cem", "zoe")
MOVIES = ("alien", "heat", "solaris", "up", "zoe")
"""`zoe` is a user and a movie; nothing is known of the user."""
LINKS: Mapping[tuple[str, str, str], tuple[list[int], list[int]]] = {
    RATED: ([0, 0, 1], [0, 1, 2]),
    LIKES: ([0, 0, 1], [0, 2, 1]),
    KNOWS: ([0, 1], [1, 2]),
}
MOODS = ("calm", "so, so", 'a "wild" one')


def rating() -> tuple[Target, FmPredictor]:
    """`3 + user / 10 + movie / 100`, whoever is unseen counts -0.1; new users add a hundredth of their age."""

    def side(count: int, step: float, base: float, unseen: float) -> Side:
        bias = np.append(base + step * np.arange(count), unseen).astype(np.float32)
        return Side(np.zeros((count + 1, 1), np.float32), bias, np.arange(count) != 3)

    def coefficients(others: int, outgoing: bool) -> Coefficients:
        groups = (Group(1), Group(1), Group(others, RATED, outgoing))
        bias = np.array([0, 0.01] + [0] * others, np.float32)
        return Coefficients(groups, np.zeros((2 + others, 1), np.float32), bias, 3.0)

    dot = DotPredictor(("user", "movie"), side(4, 0.1, 3, 2.9), side(5, 0.01, 0, 0), 3.5, 1.0, 5.0)
    target = Target(task=Task.EDGE_REGRESSION, edge=RATED, property="rating", label_min=1, label_max=5)
    return target, FmPredictor(dot, coefficients(5, True), coefficients(4, False))


def mood() -> tuple[Target, CustomEdgePredictor]:
    """Alien, heat and solaris are of one mood each, whoever looks."""
    target = Target(task=Task.EDGE_CLASSIFICATION, edge=RATED, property="mood", classes=MOODS)
    about = {"ends": ["user", "movie"], "classes": 3, "multi_label": False, "low": None, "high": None}
    movies = np.log(np.array([[6, 3, 1], [1, 6, 3], [1, 3, 6], [1, 1, 1], [1, 1, 1]], np.float32))
    return target, CustomEdgePredictor(
        {"node/user": np.ones((4, 3), np.float32), "node/movie": movies, "relation": np.eye(3, dtype=np.float32)}, about
    )


def topic() -> tuple[Target, NodeTablePredictor]:
    """Drama or war; of a new movie, war from the year 2000 on, and with each rating it has a little."""
    target = Target(task=Task.NODE_CLASSIFICATION, node="movie", property="topic", classes=("drama", "war"))
    structure = Structure(
        counts={"user": 4, "movie": 5},
        target=1,
        features=1,
        relations=(((RATED, False), 0),),
        layers=0,
        steps=0,
        teleport=1.0,
        scale=Scale(kind="classes"),
    )
    drama = np.array([0.9, 0.2, 0.6, 0.5, 0.5], np.float32)
    tensors = {
        "answers": np.stack((drama, 1 - drama), 1),
        "seen": np.array([True, True, True, True, False]),
        "prior": np.array([[0.7, 0.3]], np.float32),
        "centre": np.array([2000, 0], np.float32),
        "factor": np.array([0.1, 1], np.float32),
        "project": np.array([[[1, -1], [1, 0]]], np.float32),
        "shift": np.zeros((1, 2), np.float32),
        "out": np.array([[[0, 1], [1, 0]]], np.float32),
        "out_shift": np.zeros((1, 2), np.float32),
    }
    return target, NodeTablePredictor(structure, tensors)


def genres() -> tuple[Target, CustomNodePredictor]:
    """Several genres a movie."""
    target = Target(
        task=Task.NODE_CLASSIFICATION, node="movie", property="genres", classes=("SF", "Noir", "Fun"), multi_label=True
    )
    scores = np.array([[0.9, 0.6, 0.1], [0.2, 0.8, 0.3], [0.4, 0.3, 0.2], [0.5, 0.1, 0.7], [0.6, 0.6, 0.6]])
    vectors = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [-1, 0]])
    return target, CustomNodePredictor({"scores": scores, "node/movie": vectors}, {"label": "movie"})


def rank(label: str, count: int) -> tuple[Target, CustomNodePredictor]:
    """A number that users and movies have: 10 times their index."""
    target = Target(task=Task.NODE_REGRESSION, node=label, property="rank", label_min=0, label_max=100)
    return target, CustomNodePredictor({"scores": 10.0 * np.arange(count)}, {"label": label})


def links(edge: tuple[str, str, str] | None = None) -> tuple[Target, CustomLinkPredictor]:
    """Ada is near alien, bob near heat, cem between them; up is of no kind."""
    target = Target(task=Task.LINK_PREDICTION, edge=edge)
    kinds = [LIKES, KNOWS] if edge is None else [edge]
    users, movies = [[2, 0], [0, 2], [1, 1], [0, 0]], [[1.0, 0], [0, 1], [0.8, 0.7], [0, 0], [-1, 0]]
    tables = {"node/user": np.array(users), "node/movie": np.array(movies), "relation": np.ones((len(kinds), 2))}
    return target, CustomLinkPredictor(tables, {"edge_types": [list(kind) for kind in kinds]})


def every_target() -> list[tuple[Target, Predictor]]:
    """A target of each task; node properties `rank` of two types."""
    return [rating(), mood(), topic(), genres(), rank("user", 4), rank("movie", 5), links()]


def make_features() -> FeatureBook:
    """Users have an age, movies a year, which is required."""

    def number(column: str, **options: Any) -> Any:
        config = FeatureConfig.model_validate({"feature": (column, column, "numerical"), "norm": "none", **options})
        return fit_encoder(config, pa.chunked_array([pa.array(["20", "40"])]))

    return FeatureBook(nodes={"user": (number("age", imputer="mean"),), "movie": (number("year"),)})


def make_folder(folder: Path, targets: Sequence[tuple[Target, Predictor]]) -> Path:
    """The model folder of a graph with `LINKS`."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [target for target, _ in targets]
    graph = EncodedGraph(
        tuple(
            NodeSet(label, pa.array(ids), np.zeros((len(ids), 1), np.float32), ("x",))
            for label, ids in (("user", USERS), ("movie", MOVIES))
        ),
        tuple(
            EdgeSet(
                *edge,
                np.array(source, np.int32),
                np.array(dest, np.int32),
                labels=tuple(
                    Labels(i, np.zeros(len(source), np.uint8))
                    for i, target in enumerate(kinds)
                    if target.edge == edge or (target.edge is None and target.node is None)
                ),
            )
            for edge, (source, dest) in LINKS.items()
        ),
        tuple(kinds),
    )
    fits = [(target, Fit(predictor, (), {}, False, 1)) for target, predictor in targets]
    save_model(folder, graph, fits, "custom", make_features())
    write_manifest(folder)
    return folder


def make_loaded(*targets: tuple[Target, Predictor]) -> LoadedModel:
    """Those targets, or one of every task, saved and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        return load_model(make_folder(Path(folder) / "model", targets or every_target()))


def make_served(*targets: tuple[Target, Predictor]) -> ServedModel:
    """`make_loaded`, ready to answer."""
    return ServedModel(make_loaded(*targets))


def body(items: Sequence[Any], mode: str | None = None, kind: str = "edges", **parameters: Any) -> bytes:
    """A v1 payload; keyword parameters are `globalParameters`."""
    document: dict[str, Any] = {"version": "v1", "data": {"globalParameters": parameters, kind: list(items)}}
    if mode is not None:
        document["mode"] = mode
    return json.dumps(document).encode()


def ask(
    model: ServedModel, items: Sequence[Any], mode: str | None = None, kind: str = "edges", **parameters: Any
) -> list[dict[str, Any]]:
    """The entries of the answer to `body(…)`."""
    media, found = answer(model, JSON, body(items, mode, kind, **parameters))
    assert media == JSON
    output = json.loads(found)["output"]
    entries: list[dict[str, Any]] = output["nodes" if mode == "embed_knn" else kind]
    assert len(output) == 1
    return entries


def values(entry: dict[str, Any]) -> list[Any]:
    """The values of one entry, in their order."""
    return [result["inferredValue"] for result in entry["mlResults"]]


def described(*neighbours: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A new node with neighbours (edge type, id), at either end."""
    node = {"neighbours": [{"edgeType": kind, "nodeId": name} for kind, name in neighbours], **more}
    return {"headNode": node, "tailNode": node}
