"""`process`: an export in, an encoded graph out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.contracts.spec import parse_spec
from ekiden.contracts.tasks import Task
from ekiden_engine.cli import run_command
from ekiden_engine.errors import BadData
from ekiden_engine.export import export_graph
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.process import process_graph
from ekiden_engine.splits import split_by_rate
from tests.engine.factories import (
    EDGE,
    RATED,
    SMALL_GRAPH,
    export_files,
    make_document,
    make_job,
    make_spec,
    process_files,
    write_files,
)

AGE = {"node": "user", "property": "age", "type": "numerical", "norm": "min-max", "imputer": "median"}
GENRES = {"node": "movie", "property": "genres", "type": "category", "separator": ";"}


def foreign_export(folder: Path) -> Path:
    """An export as Neptune-Export leaves it: with nothing that vouches for its files."""
    export = export_files(folder, SMALL_GRAPH)
    (export / "manifest.json").unlink()
    return export


def test_a_small_graph_becomes_indices_features_labels_and_parts(tmp_path: Path) -> None:
    # GIVEN three users (one without an age), two movies, five ratings; WHEN exported and processed
    graph = process_files(tmp_path, SMALL_GRAPH, features=[AGE, GENRES])
    # THEN ids are row numbers, features are encoded, labels are kept and every edge is in one part
    user, movie, rated = graph.node("user"), graph.node("movie"), graph.edge(EDGE)
    assert user.ids.to_pylist() == ["u1", "u2", "u3"]
    np.testing.assert_allclose(user.features, [[0.0], [1.0], [0.5]])
    assert movie.feature_names == ("genres=Drama", "genres=War")
    assert movie.features.tolist() == [[1, 1], [1, 0]]
    assert rated.source.tolist() == [0, 0, 1, 1, 2]
    assert rated.dest.tolist() == [0, 1, 0, 1, 0]
    (labels,) = rated.labels
    assert labels.values is not None
    assert labels.values.tolist() == [5, 4, 3, 2, 1]
    assert sorted(labels.split.tolist()) == [0, 0, 0, 0, 2]
    # AND the target's range is that of the training edges
    (target,) = graph.targets
    known = labels.values[labels.rows(Split.TRAIN)]
    assert (target.edge, target.label_min, target.label_max) == (EDGE, known.min(), known.max())


def test_what_is_returned_is_what_lies_on_disk_with_encoders_and_hyperparameters(tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "features": [AGE, GENRES],
        "model": {"hyperparameters": {"num-hidden": 256, "lr": "0.1", "batch-size": "auto"}},
    }
    graph = process_files(tmp_path, SMALL_GRAPH, **spec)
    loaded = EncodedGraph.load(tmp_path / "processed")
    np.testing.assert_array_equal(loaded.node("user").features, graph.node("user").features)
    # the encoders give the same features again, which is what serving needs
    book = FeatureBook.load(tmp_path / "processed/features.json")
    assert [e.kind for e in (*book.nodes["movie"], *book.nodes["user"])] == ["category", "numerical"]
    (model,) = json.loads((tmp_path / "processed/model-hpo-configuration.json").read_text())["models"]
    assert (model["model"], model["task_type"]) == ("rgcn", "edge_regression")
    hidden = next(p for p in model["1-tier-param"] if p["param"] == "num-hidden")
    assert (hidden["default"], hidden["range"]) == (256, [16, 256])
    lr = next(p for p in model["1-tier-param"] if p["param"] == "lr")
    assert (lr["type"], lr["default"], lr["range"]) == ("float", 0.1, [0.0005, 0.1])
    assert model["3-tier-param"][0]["default"] == "auto"
    assert {"1-tier-param", "2-tier-param", "3-tier-param", "fixed-param"} <= model.keys()


def test_a_real_neptune_export_is_read_in_both_shapes_of_its_configuration(tmp_path: Path) -> None:
    # GIVEN files as Neptune-Export writes them: no types in headers, ~fromLabels and ~toLabels, literal %28, both
    # columns in an order of their own; and the user guide's configuration, where `graph` is a list
    file = "edges/%28Reader%29-wrote about-%28Book%29.consolidated.csv"
    configuration = {
        "version": "v2.0",
        "query_engine": "gremlin",
        "graph": [
            {
                "nodes": [
                    {"file_name": "nodes/Reader.consolidated.csv", "separator": ",", "node": ["~id", "Reader"],
                     "features": [{"feature": ["age", "age", "numerical"], "norm": "min-max",
                                   "imputer": "most-frequent"},
                                  {"feature": ["bio", "bio", "auto"], "separator": ";"}]},
                    {"file_name": "nodes/Book.consolidated.csv", "separator": ",", "node": ["~id", "Book"]},
                ],
                "edges": [
                    {"file_name": file, "separator": ",", "source": ["~from", "Reader"],
                     "relation": ["", "wrote about"], "dest": ["~to", "Book"], "features": [],
                     "labels": [{"label": ["stars", "regression"], "split_rate": [1, 0, 0]}]},
                ],
                "warnings": ["something"],
            }
        ],
    }  # fmt: skip
    export = write_files(
        tmp_path / "export",
        {
            "nodes/Reader.consolidated.csv": '~id,~label,age,bio\n"r1","Reader",31,"likes, commas"\n"r2","Reader",,\n',
            "nodes/Book.consolidated.csv": '~id,~label\n"b1","Book"\n',
            file: "~id,~label,~from,~to,~fromLabels,~toLabels,stars\n"
            '"e1","wrote about","r2","b1","Reader","Book",4.5\n"e2","wrote about","r1","b1","Reader","Book",\n',
            "training-data-configuration.json": json.dumps(configuration),
        },
    )
    # WHEN processed
    graph = process_graph(export, tmp_path / "processed", make_spec())
    # THEN it reads like one of ours; the exporter's own `auto` guess is followed, the unlabelled edge is in no part
    edges = graph.edge(("Reader", "wrote about", "Book"))
    assert edges.source.tolist() == [1, 0]
    assert edges.labels[0].split.tolist() == [Split.TRAIN, Split.NONE]
    assert edges.labels[0].values is not None
    assert np.isnan(edges.labels[0].values[1])
    assert graph.node("Reader").feature_names == ("age", "bio=likes, commas")


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tmp_path: Path) -> None:
    edges = "".join(f"e{i},u{i % 3 + 1},m{i % 2 + 1},rated,{i % 5}\n" for i in range(10, 210))
    files = {**SMALL_GRAPH, "rated.csv": RATED.split("\n")[0] + "\n" + edges}
    splits = []
    for run, seed in enumerate((0, 0, 1)):
        graph = process_files(tmp_path / str(run), files, model={"hyperparameters": {"seed": seed}})
        splits.append(graph.edge(EDGE).labels[0].split.tolist())
    assert splits[0] == splits[1] != splits[2]
    assert [splits[0].count(part) for part in (0, 1, 2)] == [160, 20, 20]


RATES = st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.1, 0.2), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0), (0.5, 0.0, 0.5)])


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=400), RATES, st.integers(0, 2**31))
def test_parts_partition_the_labelled_edges(labelled: list[bool], rate: tuple[float, float, float], seed: int) -> None:
    """Property: each labelled edge is in one part, no other edge is in any, and sizes are off by less than one."""
    mask = np.asarray(labelled, dtype=bool)
    split = split_by_rate(mask, rate, seed, EDGE)
    assert ((split == Split.NONE) == ~mask).all()
    for part, share in zip((Split.TRAIN, Split.VALID, Split.TEST), rate, strict=True):
        assert abs((split == part).sum() - share * mask.sum()) <= 1


class TestSplitFiles:
    """`custom_split_filenames`."""

    def test_edges_go_where_their_file_says_and_nowhere_otherwise(self, tmp_path: Path) -> None:
        # GIVEN train and test files that leave one edge out, and no validation file
        files = {**SMALL_GRAPH, "a.csv": "~from,~to\nu1,m1\nu2,m2\nu3,m1\n", "b.csv": "~id,~to,~from\nx,m2,u1\n"}
        graph = process_files(tmp_path, files, target={"custom_split_filenames": {"train": "a.csv", "test": "b.csv"}})
        # THEN validation is empty (training takes its own) and the left-out edge e3 is in no part
        (labels,) = graph.edge(EDGE).labels
        assert labels.split.tolist() == [Split.TRAIN, Split.TEST, Split.NONE, Split.TRAIN, Split.TRAIN]

    def test_parallel_edges_share_their_part_and_a_label_column_wins(self, tmp_path: Path) -> None:
        files = {
            **SMALL_GRAPH,
            "rated.csv": RATED + "e6,u1,m1,rated,\n",
            "a.csv": "~from,~to,rating\nu1,m1,2.5\nu2,m1,\n",
            "v.csv": "~from,~to\nu2,m2\n",
        }
        graph = process_files(tmp_path, files, target={"custom_split_filenames": {"train": "a.csv", "valid": "v.csv"}})
        (labels,) = graph.edge(EDGE).labels
        assert labels.split.tolist() == [0, 255, 0, 1, 255, 0]
        assert labels.values is not None
        assert labels.values.tolist() == [2.5, 4, 3, 2, 1, 2.5]

    @pytest.mark.parametrize(
        ("train", "test", "code", "says"),
        [
            ("~from,~to\nu1,m1\n", "~from,~to\nu2,m1\nu3,m2\n", "UNKNOWN_SPLIT_ROW",
             'splits/b.csv:3: "u3" to "m2" is no rated edge of the graph'),
            ("~from,~to\nu1,m1\n", "~from,~to\nu9,m1\n", "UNKNOWN_SPLIT_ROW", 'splits/b.csv:2: "u9" to "m1"'),
            ("~from,~to\nu1,m1\n", "~from,~to\nu2,m1\nu1,m1\n", "SPLIT_OVERLAP",
             'splits/b.csv:3: "u1" to "m1" is in the train file too'),
            ("~from,~to\nu1,m2\n", "~from,~to\nu3,m1\n", "UNLABELLED_SPLIT_ROW", 'splits/b.csv:2: "u3" to "m1"'),
            ("~id\ne1\n", "~from,~to\nu3,m1\n", "MISSING_COLUMN",
             "splits/a.csv:1: a split of rated edges needs ~from,~to"),
            ("~from,~to\n", "~from,~to\nu3,m1\n", "EMPTY_SPLIT_FILE", "splits/a.csv"),
            ("~from,~to,rating\nu1,m1,good\n", "~from,~to\nu3,m1\n", "NOT_A_NUMBER", 'splits/a.csv:2, column "rating"'),
        ],
    )  # fmt: skip
    def test_a_wrong_row_is_named(self, tmp_path: Path, train: str, test: str, code: str, says: str) -> None:
        files = {**SMALL_GRAPH, "rated.csv": RATED.replace("e5,u3,m1,rated,1", "e5,u3,m1,rated,")}
        files |= {"a.csv": train, "b.csv": test}
        with pytest.raises(BadData) as caught:
            process_files(tmp_path, files, target={"custom_split_filenames": {"train": "a.csv", "test": "b.csv"}})
        assert caught.value.code == code
        assert says in caught.value.message


def test_edge_features_are_learnt_from_training_edges_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN an edge feature whose extreme value is on a test edge, and a target on nodes that uses it
    header = "~id,~from,~to,~label,rating:Double,hour:Int\n"
    files = {
        **SMALL_GRAPH,
        "rated.csv": header + "e1,u1,m1,rated,5,0\ne2,u2,m1,rated,3,10\ne3,u3,m1,rated,1,20\n",
        "a.csv": "~from,~to\nu1,m1\nu2,m1\n",
        "b.csv": "~from,~to\nu3,m1\n",
    }
    splits = {"train": "a.csv", "test": "b.csv"}
    rated = {"edge": list(EDGE), "property": "rating", "type": "regression", "custom_split_filenames": splits}
    ages = {"node": "user", "property": "age", "type": "regression"}
    hour = {"edge": list(EDGE), "property": "hour", "type": "numerical", "norm": "min-max"}
    # WHEN processed
    graph = process_files(tmp_path, files, targets=[rated, ages], features=[hour])
    # THEN the range is that of the training edges, and the test edge lies outside
    edges = graph.edge(EDGE)
    assert edges.features is not None
    np.testing.assert_allclose(edges.features, [[0.0], [1.0], [2.0]])
    assert edges.feature_names == ("hour",)
    # AND where no target is on nodes, those that Neptune-Export inferred are left out, and the log says so
    export = export_files(tmp_path / "foreign", {name: files[name] for name in (*SMALL_GRAPH,)})
    (export / "manifest.json").unlink()
    edit(export, *EDGES, "features", value=[{"feature": ["hour", "hour", "numerical"], "norm": "min-max"}])
    assert process_graph(export, tmp_path / "other", make_spec()).edge(EDGE).features is None
    assert "(user)-rated-(movie): left out, only targets on nodes use features of edges" in capsys.readouterr().out


def test_a_missing_value_of_an_edge_stops_with_the_place_in_the_spec(tmp_path: Path) -> None:
    rows = "~id,~from,~to,~label,rating:Double,hour:Int\ne1,u1,m1,rated,5,0\ne2,u2,m1,rated,3,\n"
    ages = {"node": "user", "property": "age", "type": "regression"}
    hour = {"edge": list(EDGE), "property": "hour", "type": "numerical"}
    with pytest.raises(BadData) as caught:
        process_files(tmp_path, {**SMALL_GRAPH, "rated.csv": rows}, targets=[ages], features=[hour])
    assert caught.value.code == "MISSING_VALUE"
    assert "(user)-rated-(movie).hour (features[0] of the spec)" in str(caught.value)


def test_a_missing_number_without_imputer_stops_with_file_line_and_node(tmp_path: Path) -> None:
    feature = {"node": "user", "property": "age", "type": "numerical", "norm": "none"}
    with pytest.raises(BadData) as caught:
        process_files(tmp_path, SMALL_GRAPH, features=[feature])
    assert caught.value.code == "MISSING_VALUE"
    assert caught.value.message == (
        'user.age (features[0] of the spec), node "u3": it is missing; fill it or name an imputer '
        "(mean, median, most_frequent) (in the export: nodes/user.consolidated.csv:4)"
    )


def edit(export: Path, *path: str | int, value: object) -> None:
    """Set one place of the export's configuration."""
    file = export / "training-data-configuration.json"
    document = json.loads(file.read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file.write_text(json.dumps(document))


EDGES = ("graph", "edges", 0)
NODES = ("graph", "nodes", 0)


@pytest.mark.parametrize(
    ("path", "value", "code", "says"),
    [
        (("graph", "nodes"), [], "EMPTY_GRAPH", 'needs "user" nodes'),
        (("version",), "v1.0", "BAD_CONFIGURATION", "version"),
        ((*EDGES, "labels", 0, "split_rate"), [0.6, 0.3, 0.1], "BAD_CONFIGURATION", "exactly 1.0"),
        ((*NODES, "labels"), [{"label": ["", "link_prediction"]}], "BAD_CONFIGURATION", "is for edges"),
        ((*NODES, "labels"), [{"label": ["~label", "classification"]}], "ONE_CLASS", "movie.~label"),
        ((*EDGES, "labels", 0, "label"), ["stars", "regression"], "MISSING_COLUMN", 'no column "stars"'),
        ((*EDGES, "relation"), ["~label", "rated"], "BAD_CONFIGURATION", "RDF"),
        ((*NODES, "file_name"), "../../etc/passwd", "NO_FILES", "passwd"),
        (
            (*NODES, "features"),
            [{"feature": ["title", "title", "text_word2vec"], "vectors": "v.vec"}],
            "NO_VECTORS_FILE",
            "v.vec",
        ),
        ((*NODES, "features"), [{"feature": ["title", "title", "numerical"], "norm": "none"}], "NOT_A_NUMBER", '"One"'),
        ((*NODES, "features"), [{"feature": ["title", "t", "bucket_numerical"]}], "BAD_CONFIGURATION", "bucket_cnt"),
        (("query_engine",), "sparql", "BAD_CONFIGURATION", "property graph"),
    ],
)
def test_a_wrong_configuration_is_named(
    tmp_path: Path, path: tuple[str | int, ...], value: object, code: str, says: str
) -> None:
    export = foreign_export(tmp_path)
    edit(export, *path, value=value)
    with pytest.raises(BadData) as caught:
        process_graph(export, tmp_path / "processed", make_spec())
    assert caught.value.code == code
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("file", "text", "code", "says"),
    [
        ("nodes/user.consolidated.csv", "~id,~label,age\nu1,user,1\nu1,user,2\n", "DUPLICATE_ID", '.csv:3: node "u1"'),
        ("nodes/user.consolidated.csv", "~id,~label,age\n", "EMPTY_GRAPH", '"user" has no rows'),
        ("nodes/user.consolidated.csv", "~id,~label,age\nu1,user,1\n,user,1\n", "MISSING_VALUE", ".csv:3: ~id"),
        ("nodes/user.consolidated.csv", "~id,~label,age\nu1,user,1\n", "DANGLING_EDGE", '.csv:4: ~from "u2"'),
        ("edges/%28user%29-rated-%28movie%29.consolidated.csv", "~from,~to,rating\nu1,m1,\n", "NO_LABELS", "rating"),
        (
            "edges/%28user%29-rated-%28movie%29.consolidated.csv",
            "~from,~to,rating\nu1,m1,x\n",
            "NOT_A_NUMBER",
            'user-rated-movie.rating (a target of the spec): "x" is not a number',
        ),
        ("edges/%28user%29-rated-%28movie%29.consolidated.csv", "~from,~to,rating\nu1,m1,-1e31\n", "NOT_A_NUMBER",
         '"-1e31" is too large to learn from (at most 1e+30)'),
    ],
)  # fmt: skip
def test_wrong_files_of_an_export_are_named(tmp_path: Path, file: str, text: str, code: str, says: str) -> None:
    export = foreign_export(tmp_path)
    (export / file).write_text(text)
    with pytest.raises(BadData) as caught:
        process_graph(export, tmp_path / "processed", make_spec())
    assert caught.value.code == code
    assert says in caught.value.message


def test_the_two_jobs_run_one_after_the_other_on_the_platforms_folders(tmp_path: Path) -> None:
    # GIVEN an export job that has run, and a process job that finds its output as input
    first = make_job(tmp_path / "export", SMALL_GRAPH, make_document(features=[AGE]))
    assert run_command("export", first) == 0
    second = make_job(tmp_path / "process", {}, make_document(features=[AGE]))
    first.processing_output("export").rename(second.processing_input("export"))
    # WHEN it runs
    assert run_command("process", second) == 0
    # THEN the encoded graph is the job's output
    assert len(EncodedGraph.load(second.processing_output("processed")).edge(EDGE)) == 5


def test_movielens_100k_gets_its_canonical_split(tmp_path: Path, shared_data: Path) -> None:
    # GIVEN MovieLens 100K as Gremlin CSV with the canonical split 1 as split files
    rows = {part: [line.split() for line in (shared_data / "ml-100k" / name).read_text().splitlines()]
            for part, name in (("train", "u1.base"), ("test", "u1.test"))}  # fmt: skip
    both = rows["train"] + rows["test"]
    users, movies = sorted({r[0] for r in both}), sorted({r[1] for r in both})
    files = {
        "users.csv": "~id,~label\n" + "".join(f"u{u},user\n" for u in users),
        "movies.csv": "~id,~label\n" + "".join(f"m{m},movie\n" for m in movies),
        "rated.csv": RATED.split("\n")[0] + "\n" + "".join(f"{u}-{m},u{u},m{m},rated,{r}\n" for u, m, r, _ in both),
        **{f"{p}.csv": "~from,~to\n" + "".join(f"u{u},m{m}\n" for u, m, *_ in rs) for p, rs in rows.items()},
    }
    # WHEN exported and processed
    graph = process_files(
        tmp_path, files, target={"custom_split_filenames": {"train": "train.csv", "test": "test.csv"}}
    )
    # THEN the parts are the published ones
    edges = graph.edge(EDGE)
    assert (len(graph.node("user")), len(graph.node("movie"))) == (943, 1682)
    assert edges.labels[0].counts() == {"train": 80_000, "valid": 0, "test": 20_000, "unused": 0}
    assert (graph.targets[0].label_min, graph.targets[0].label_max) == (1.0, 5.0)


def test_an_export_that_was_changed_after_it_was_written_is_refused(tmp_path: Path) -> None:
    # GIVEN an export of ours
    source = export_files(tmp_path, SMALL_GRAPH)
    # WHEN somebody changes a file
    edges = next((source / "edges").iterdir())
    edges.write_text(edges.read_text().replace("5", "4"))
    # THEN it is not trained on
    with pytest.raises(BadData) as error:
        process_graph(source, tmp_path / "processed", make_spec())
    assert error.value.code == "CORRUPT_ARTIFACT"


KINDS = {
    "users.csv": "~id,~label,age:Int(single),plan:String\nu1,user,20,free\nu2,user,30,paid\nu3,user,,\n",
    "movies.csv": "~id,~label,genres:String,year:Int\nm1,movie,Drama|War,1990\nm2,movie,Drama,1999\n",
    "rated.csv": (
        "~id,~from,~to,~label,rating:Double,mood:String\n"
        "e1,u1,m1,rated,5,glad\ne2,u1,m2,rated,4,sad\ne3,u2,m1,rated,3,glad\ne4,u2,m2,rated,2,\ne5,u3,m1,rated,1,sad\n"
    ),
    "knows.csv": "~id,~from,~to,~label\nk1,u1,u2,knows\nk2,u2,u3,knows\n",
}
KNOWS = ("user", "knows", "user")


def process_kinds(folder: Path, targets: list[dict[str, Any]], **changes: Any) -> EncodedGraph:
    document = {**make_document(**changes), "targets": targets}
    source = write_files(folder / "graph", KINDS)
    spec = parse_spec(document)
    export_graph(source, folder / "export", spec)
    return process_graph(folder / "export", folder / "processed", spec)


def test_several_targets_of_every_task_each_get_labels_and_splits(tmp_path: Path) -> None:
    # GIVEN targets of all five tasks, in an order of the user's own
    targets: list[dict[str, Any]] = [
        {"edge": list(EDGE), "property": "mood", "type": "classification"},
        {"node": "user", "property": "plan", "type": "classification"},
        {"node": "movie", "property": "year", "type": "regression", "split_rate": [1.0, 0.0, 0.0]},
        {"edge": list(KNOWS), "type": "link_prediction", "split_rate": [0.5, 0.5, 0.0]},
        {"node": "movie", "property": "genres", "type": "classification", "separator": "|"},
        {"edge": list(EDGE), "property": "rating", "type": "regression"},
    ]
    # WHEN processed
    graph = process_kinds(tmp_path, targets)
    loaded = EncodedGraph.load(tmp_path / "processed")
    # THEN they are the graph's targets, in that order, with what the labels say
    assert loaded.targets == graph.targets
    mood, plan, year, knows, genres, rating = graph.targets
    assert [t.task.value for t in graph.targets] == [
        "edge_classification",
        "node_classification",
        "node_regression",
        "link_prediction",
        "node_classification",
        "edge_regression",
    ]
    assert (mood.classes, plan.classes, genres.classes) == (("glad", "sad"), ("free", "paid"), ("Drama", "War"))
    assert graph.labels(mood).values.tolist() == [0, 1, 0, -1, 1]  # type: ignore[union-attr]
    assert graph.labels(mood).split[3] == Split.NONE
    assert graph.labels(plan).values.tolist() == [0, 1, -1]  # type: ignore[union-attr]
    assert genres.multi_label
    assert graph.labels(genres).values.tolist() == [[1, 1], [1, 0]]  # type: ignore[union-attr]
    assert (year.label_min, year.label_max) == (1990, 1999)
    ((edges, labels),) = graph.link_labels(knows)
    assert edges.edge_type == KNOWS
    assert labels.values is None
    assert sorted(labels.split.tolist()) == [Split.TRAIN, Split.VALID]
    assert graph.labels(rating).counts() == {"train": 4, "valid": 0, "test": 1, "unused": 0}
    # AND what is predicted is no feature
    assert graph.node("user").feature_names == ("age",)
    assert graph.node("movie").feature_names == ()


def test_no_target_means_the_links_of_every_edge_type(tmp_path: Path) -> None:
    graph = process_kinds(tmp_path, [])
    (target,) = graph.targets
    assert (target.task, target.node, target.edge) == (Task.LINK_PREDICTION, None, None)
    assert [edges.edge_type for edges, _ in graph.link_labels(target)] == [e.edge_type for e in graph.edges]
    # AND so does a foreign configuration without labels
    (tmp_path / "export/manifest.json").unlink()
    for number in (0, 1):
        edit(tmp_path / "export", "graph", "edges", number, "labels", value=[])
    foreign = process_graph(tmp_path / "export", tmp_path / "again", make_spec())
    assert foreign.targets == graph.targets
    assert all(labels.counts()["test"] == 0 for _, labels in foreign.link_labels(foreign.targets[0]))


def test_a_split_file_of_links_may_be_about_several_edge_types(tmp_path: Path) -> None:
    source = write_files(
        tmp_path / "graph",
        {
            **KINDS,
            "a.csv": "~from,~to,~label\nu1,m1,rated\nu1,m2,rated\nu2,m1,rated\nu1,u2,knows\n",
            "b.csv": "~from,~to,~label\nu2,m2,rated\nu3,m1,rated\nu2,u3,knows\n",
        },
    )
    files = {"train": "a.csv", "test": "b.csv"}
    spec = parse_spec({**make_document(), "targets": [{"type": "link_prediction", "custom_split_filenames": files}]})
    export_graph(source, tmp_path / "export", spec)
    graph = process_graph(tmp_path / "export", tmp_path / "processed", spec)
    parts = {edges.relation: labels.split.tolist() for edges, labels in graph.link_labels(graph.targets[0])}
    assert parts == {"rated": [0, 0, 0, 2, 2], "knows": [0, 2]}
    # AND a row that names nothing in any of them is told
    (source / "b.csv").write_text("~from,~to,~label\nu2,m2,rated\nu3,m1,knows\nu2,u3,knows\n")
    export_graph(source, tmp_path / "export", spec)
    with pytest.raises(BadData, match=r'splits/b\.csv:3: "u3" to "m1" is no edge of the graph') as caught:
        process_graph(tmp_path / "export", tmp_path / "processed", spec)
    assert caught.value.code == "UNKNOWN_SPLIT_ROW"


def test_encoders_learn_from_nodes_that_are_not_held_out(tmp_path: Path) -> None:
    # GIVEN a node target whose test node has the largest age
    files = {
        **KINDS,
        "users.csv": "~id,~label,age:Int,plan:String\nu1,user,20,free\nu2,user,30,paid\nu3,user,40,paid\nu4,user,25,\n",
        "a.csv": "~id\nu1\nu2\n",
        "b.csv": "~id\nu3\n",
    }
    splits = {"train": "a.csv", "test": "b.csv"}
    target = {"node": "user", "property": "plan", "type": "classification", "custom_split_filenames": splits}
    source = write_files(tmp_path / "graph", files)
    spec = parse_spec({**make_document(), "targets": [target]})
    export_graph(source, tmp_path / "export", spec)
    graph = process_graph(tmp_path / "export", tmp_path / "processed", spec)
    # THEN the range is that of the others, a node without a label among them
    np.testing.assert_allclose(graph.node("user").features[:, 0], [0.0, 1.0, 2.0, 0.5])
    assert graph.labels(graph.targets[0]).split.tolist() == [0, 0, 2, 255]
