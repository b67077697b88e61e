"""The encoded graph on disk: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.manifest import write_manifest
from ekiden_engine.mapping import file_stems
from tests.engine.factories import EDGE, make_encoded_graph

LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


def assert_same(one: EncodedGraph, other: EncodedGraph) -> None:
    assert one.targets == other.targets
    for a, b in zip(one.nodes, other.nodes, strict=True):
        assert (a.label, a.feature_names) == (b.label, b.feature_names)
        assert a.ids.equals(b.ids)
        np.testing.assert_array_equal(a.features, b.features)
        assert_same_labels(a.labels, b.labels)
    for c, d in zip(one.edges, other.edges, strict=True):
        assert (c.edge_type, c.feature_names) == (d.edge_type, d.feature_names)
        assert_same_labels(c.labels, d.labels)
        for name in ("source", "dest", "features"):
            mine, theirs = getattr(c, name), getattr(d, name)
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert mine.dtype == theirs.dtype
                np.testing.assert_array_equal(mine, theirs)


def assert_same_labels(one: tuple[Labels, ...], other: tuple[Labels, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.target == b.target
        np.testing.assert_array_equal(a.split, b.split)
        assert (a.values is None) == (b.values is None)
        if a.values is not None and b.values is not None:
            assert a.values.dtype == b.values.dtype
            np.testing.assert_array_equal(a.values, b.values)


@st.composite
def labels_of(draw: st.DrawFn, position: int, target: Target, count: int) -> Labels:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    split = rng.choice([0, 1, 2, 255], count).astype(np.uint8)
    if target.task is Task.LINK_PREDICTION:
        return Labels(position, split)
    if target.multi_label:
        return Labels(position, split, rng.integers(0, 2, (count, len(target.classes))).astype(np.uint8))
    if target.is_classification:
        return Labels(position, split, rng.integers(-1, len(target.classes), count).astype(np.int32))
    return Labels(position, split, rng.random(count).astype(np.float32))


CLASSES: list[dict[str, Any]] = [{}, {"classes": ("a", "b", "c")}, {"classes": ("a", "b"), "multi_label": True}]


@st.composite
def graphs(draw: st.DrawFn) -> EncodedGraph:
    labels = draw(st.lists(LABELS, min_size=1, max_size=3, unique=True))
    nodes, edges, targets = [], [], list[Target]()
    for label in labels:
        ids = draw(st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True))
        width = draw(st.integers(0, 3))
        features = np.arange(len(ids) * width, dtype=np.float32).reshape(len(ids), width)
        names = tuple(f"f{i}" for i in range(width))
        known = []
        for change in draw(st.lists(st.sampled_from(CLASSES), max_size=2)):
            task = Task.NODE_CLASSIFICATION if change else Task.NODE_REGRESSION
            targets.append(Target(task=task, node=label, property=f"p{len(targets)}", **change))
            known.append(draw(labels_of(len(targets) - 1, targets[-1], len(ids))))
        nodes.append(NodeSet(label, pa.array(ids, pa.string()), features, names, tuple(known)))
    for relation in draw(st.lists(LABELS, max_size=3, unique=True)):
        source, dest = draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes))
        count = draw(st.integers(0, 8))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        task = draw(st.sampled_from([Task.EDGE_REGRESSION, Task.LINK_PREDICTION, Task.EDGE_CLASSIFICATION]))
        change = CLASSES[1] if task is Task.EDGE_CLASSIFICATION else {}
        targets.append(Target(task=task, edge=(source.label, relation, dest.label), **change))
        edges.append(
            EdgeSet(
                source.label,
                relation,
                dest.label,
                source=rng.integers(0, len(source), count).astype(np.int32),
                dest=rng.integers(0, len(dest), count).astype(np.int32),
                labels=(draw(labels_of(len(targets) - 1, targets[-1], count)),),
                features=rng.random((count, 2)).astype(np.float32) if draw(st.booleans()) else None,
                feature_names=("a", "b"),
            )
        )
    return EncodedGraph(tuple(nodes), tuple(edges), tuple(targets))


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_any_graph_survives_saving_and_loading(graph: EncodedGraph) -> None:
    """Property: types of any name, any sizes, features or none, targets of every kind."""
    with tempfile.TemporaryDirectory() as folder:
        graph.save(Path(folder))
        assert_same(EncodedGraph.load(Path(folder)), graph)


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    make_encoded_graph().save(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        "edges/0-user-rated-movie.npz",
        "graph.json",
        "manifest.json",
        "mappings/movie.parquet",
        "mappings/user.parquet",
        "nodes/movie.npz",
        "nodes/user.npz",
    ]
    document = json.loads((tmp_path / "graph.json").read_text())
    assert document["version"] == "ekiden.graph.v2"
    assert document["targets"][0]["edge"] == list(EDGE)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    make_encoded_graph().save(tmp_path / "a")
    make_encoded_graph().save(tmp_path / "b")
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_ids_become_indices_and_unknown_ones_minus_one() -> None:
    user = make_encoded_graph().node("user")
    assert user.index_of(["u3", "nobody", None, "u0"]).tolist() == [3, -1, -1, 0]
    assert user.index_of([]).tolist() == []


def test_a_graph_knows_its_types_and_parts() -> None:
    graph = make_encoded_graph(edges=100)
    edges = graph.edge(EDGE)
    labels = graph.labels(graph.targets[0])
    assert sum(len(labels.rows(part)) for part in Split) == len(edges) == 100
    assert sum(labels.counts().values()) == 100
    with pytest.raises(KeyError):
        graph.node("film")
    with pytest.raises(KeyError):
        graph.edge(("movie", "rated", "user"))


def test_people_may_edit_the_hyperparameters_but_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model-hpo-configuration.json").write_text("{}")
    (tmp_path / "features.json").write_text("{}")
    make_encoded_graph().save(tmp_path)
    (tmp_path / "model-hpo-configuration.json").write_text('{"models": []}')
    EncodedGraph.load(tmp_path)
    (tmp_path / "features.json").write_text("{ }")
    with pytest.raises(BadData, match=r"features\.json has 3 bytes, manifest\.json says 2") as caught:
        EncodedGraph.load(tmp_path)
    assert caught.value.code == "CORRUPT_ARTIFACT"


def tamper_index(folder: Path) -> None:
    graph = make_encoded_graph()
    source = graph.edges[0].source.copy()
    source[0] = 40
    edges = EdgeSet(*EDGE, source=source, dest=graph.edges[0].dest)
    EncodedGraph(graph.nodes, (edges,), ()).save(folder)


def tamper_pickle(folder: Path) -> None:
    np.savez(folder / "nodes/user.npz", features=np.empty((40, 1), dtype=object))
    write_manifest(folder)


def tamper_class(folder: Path) -> None:
    edges = make_encoded_graph().edges[0]
    wrong = Labels(0, edges.labels[0].split, np.full(len(edges), 2, np.int32))
    target = Target(task=Task.EDGE_CLASSIFICATION, edge=EDGE, property="kind", classes=("a", "b"))
    EncodedGraph(make_encoded_graph().nodes, (replace(edges, labels=(wrong,)),), (target,)).save(folder)


def tamper_hash(folder: Path) -> None:
    path = folder / "nodes/user.npz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def tamper_path(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["path"] = "../../etc/passwd"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def tamper_unlisted(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [f for f in manifest["files"] if f["path"] != "nodes/user.npz"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (tamper_index, "source points outside the 40 nodes of type user"),
        (tamper_pickle, "nodes/user.npz: Object arrays cannot be"),
        (tamper_class, "names classes beyond the 2"),
        (tamper_hash, "does not have the SHA-256"),
        (tamper_path, "outside the folder"),
        (tamper_unlisted, "nodes/user.npz: is not in manifest.json"),
        (lambda folder: (folder / "mappings/user.parquet").unlink(), "missing from"),
        (lambda folder: (folder / "manifest.json").unlink(), "the folder is incomplete"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json"),
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(tmp_path: Path, tamper: object, says: str) -> None:
    make_encoded_graph().save(tmp_path)
    assert callable(tamper)
    tamper(tmp_path)
    with pytest.raises(BadData) as caught:
        EncodedGraph.load(tmp_path)
    assert caught.value.code == "CORRUPT_ARTIFACT"
    assert says in caught.value.message


@settings(deadline=None)
@given(st.lists(LABELS, max_size=20, unique=True))
def test_file_stems_are_distinct_even_where_case_does_not_count(names: list[str]) -> None:
    """Property: one short stem of safe characters per name."""
    stems = file_stems(names)
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all("/" not in stem and stem.isascii() and 0 < len(stem) < 140 for stem in stems)


def test_a_target_must_have_finite_bounds() -> None:
    with pytest.raises(ValueError, match="finite"):
        Target(task=Task.EDGE_REGRESSION, edge=EDGE, property="rating", label_min=float("nan"), label_max=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": Task.NODE_REGRESSION, "edge": EDGE},
        {"task": Task.EDGE_REGRESSION, "node": "user"},
        {"task": Task.EDGE_CLASSIFICATION},
        {"task": Task.LINK_PREDICTION, "node": "user"},
    ],
)
def test_a_target_is_about_what_its_task_needs(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is about|needs"):
        Target(**wrong)
