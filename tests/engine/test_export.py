"""`export`: Gremlin CSV in, Neptune-Export's layout out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ekiden.contracts.training_data import parse_training_data
from ekiden_engine.cli import run_command
from ekiden_engine.errors import BadData
from tests.engine.factories import (
    MOVIES,
    RATED,
    SMALL_GRAPH,
    USERS,
    export_files,
    make_document,
    make_job,
)

EDGE_FILE = "edges/%28user%29-rated-%28movie%29.consolidated.csv"


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_a_small_graph_gets_the_layout_of_neptune_export(tmp_path: Path) -> None:
    export = export_files(tmp_path, SMALL_GRAPH)
    assert sorted(p.relative_to(export).as_posix() for p in export.rglob("*") if p.is_file()) == [
        EDGE_FILE,
        "manifest.json",
        "nodes/movie.consolidated.csv",
        "nodes/user.consolidated.csv",
        "stats.json",
        "training-data-configuration.json",
    ]
    assert rows(export / "nodes/user.consolidated.csv") == [
        ["~id", "~label", "age"],
        ["u1", "user", "20"],
        ["u2", "user", "30"],
        ["u3", "user", ""],
    ]
    assert rows(export / EDGE_FILE)[:2] == [
        ["~id", "~label", "~from", "~to", "rating"],
        ["e1", "rated", "u1", "m1", "5"],
    ]


def test_the_configuration_names_files_targets_features_and_what_is_left_out(tmp_path: Path) -> None:
    # GIVEN a spec with one feature; age is a number nobody names, title is text nobody names
    feature = {"node": "movie", "property": "genres", "type": "category"}
    # WHEN exported
    export = export_files(tmp_path, SMALL_GRAPH, features=[feature])
    document = json.loads((export / "training-data-configuration.json").read_text())
    # THEN the document is the exporter's: an object `graph`, the %28 literal, the set's separator known from its type
    nodes = {n["node"][1]: n for n in document["graph"]["nodes"]}
    (edge,) = document["graph"]["edges"]
    assert (document["version"], document["query_engine"]) == ("v2.0", "gremlin")
    assert nodes["movie"]["features"] == [{"feature": ["genres", "genres", "category"], "separator": ";"}]
    assert nodes["user"]["features"] == [
        {"feature": ["age", "age", "numerical"], "norm": "min-max", "imputer": "median"}
    ]
    assert edge["file_name"] == EDGE_FILE
    assert (edge["source"], edge["relation"], edge["dest"]) == (["~from", "user"], ["", "rated"], ["~to", "movie"])
    assert edge["labels"] == [{"label": ["rating", "regression"], "split_rate": [0.8, 0.1, 0.1]}]
    assert edge["features"] == []
    assert "movie.title (String) is not used" in document["warnings"][0]


def test_properties_of_edges_become_no_features_by_themselves_and_the_log_says_so(tmp_path: Path) -> None:
    knows = "~id,~from,~to,~label,since:Int\nk1,u1,u2,knows,2001\n"
    export = export_files(tmp_path, {**SMALL_GRAPH, "knows.csv": knows})
    document = json.loads((export / "training-data-configuration.json").read_text())
    assert [edge["features"] for edge in document["graph"]["edges"]] == [[], []]
    assert any("knows-(user).since is not used" in warning for warning in document["warnings"])
    assert not any("rating" in warning for warning in document["warnings"])


def test_stats_have_the_shape_and_counts_of_neptune_export(tmp_path: Path) -> None:
    export = export_files(tmp_path, SMALL_GRAPH)
    stats = json.loads((export / "stats.json").read_text())["stats"]
    assert (stats["nodes"], stats["edges"], stats["properties"]) == (5, 5, 2 + 2 + 2 + 5)
    movie, user = stats["details"]["nodes"]
    (edge,) = stats["details"]["edges"]
    assert (user["description"], user["labels"], user["count"]) == ("user", ["user"], 3)
    assert user["properties"] == [
        {
            "name": "age",
            "count": 2,
            "numberOfRecords": 2,
            "minCardinality": 1,
            "maxCardinality": 1,
            "isNullable": True,
            "dataTypes": {"inferred": "Integer", "counts": [{"Integer": 2}]},
        }
    ]
    genres = movie["properties"][0]
    assert (genres["count"], genres["numberOfRecords"]) == (2, 3)
    assert (genres["minCardinality"], genres["maxCardinality"]) == (1, 2)
    assert edge["description"] == "(user)-rated-(movie)"
    assert edge["labels"] == {"from": ["user"], "edge": ["rated"], "to": ["movie"]}


def test_one_file_may_mix_labels_and_one_label_may_span_files(tmp_path: Path) -> None:
    # GIVEN users and movies in one file, more users in another with another column
    files = {
        "mixed.csv": "~id,~label,age:Int,title\nu1,user,20,\nm1,movie,,One\n",
        "more.csv": "~id,~label,height:Double\nu2,user,1.7\n",
        "edges.csv": "~from,~to,~label,rating:Int,note\nu1,m1,rated,5,\nu2,m1,rated,4,\nu1,u2,knows,,hi\n",
    }
    # WHEN exported
    export = export_files(tmp_path, files)
    # THEN each type has the union of the columns that its own rows use, and edges without ids are welcome
    assert rows(export / "nodes/user.consolidated.csv") == [
        ["~id", "~label", "age", "height"],
        ["u1", "user", "20", ""],
        ["u2", "user", "", "1.7"],
    ]
    assert rows(export / "nodes/movie.consolidated.csv")[0] == ["~id", "~label", "title"]
    assert rows(export / "edges/%28user%29-knows-%28user%29.consolidated.csv") == [
        ["~id", "~label", "~from", "~to", "note"],
        ["", "knows", "u1", "u2", "hi"],
    ]


def test_the_labels_of_a_vertex_are_one_type_in_any_order(tmp_path: Path) -> None:
    files = {
        "v.csv": "~id,~label\nu1,vip;user\nu2,user;vip\nm1,movie\n",
        "e.csv": "~id,~from,~to,~label,rating:Int\n1,u1,m1,rated,1\n2,u2,m1,rated,2\n",
    }
    export = export_files(tmp_path, files, target={"edge": ["user;vip", "rated", "movie"]})
    assert (export / "edges/%28user%3Bvip%29-rated-%28movie%29.consolidated.csv").is_file()


def test_a_vertex_without_a_label_is_a_vertex_as_in_neptune(tmp_path: Path) -> None:
    files = {"v.csv": "~id,~label\na,\nb,vertex\n", "e.csv": "~id,~from,~to,~label,w:Int\n1,a,b,near,1\n"}
    export = export_files(tmp_path, files, target={"edge": ["vertex", "near", "vertex"], "property": "w"})
    assert len(rows(export / "nodes/vertex.consolidated.csv")) == 3


def test_labels_of_any_text_make_safe_distinct_file_names(tmp_path: Path) -> None:
    long = "x" * 200
    files = {
        "v.csv": f"~id,~label\n1,../up/a b\n2,Case\n3,case\n4,{long}\n",
        "e.csv": "~id,~from,~to,~label,w:Int\n1,1,2,to,1\n2,3,4,to,1\n",
    }
    export = export_files(tmp_path, files, target={"edge": ["../up/a b", "to", "Case"], "property": "w"})
    names = sorted(p.name for p in (export / "nodes").iterdir())
    assert len({name.casefold() for name in names}) == 4
    assert "..%2Fup%2Fa%20b.consolidated.csv" in names
    assert max(map(len, names)) < 200


def test_custom_split_files_travel_with_the_export(tmp_path: Path) -> None:
    files = {**SMALL_GRAPH, "splits/a.csv": "~from,~to\nu1,m1\n", "splits/b.csv": "~from,~to\nu2,m1\n"}
    splits = {"train": "splits/a.csv", "test": "splits/b.csv"}
    export = export_files(tmp_path, files, target={"custom_split_filenames": splits})
    configuration = parse_training_data((export / "training-data-configuration.json").read_bytes())
    label = configuration.graph.edges[0].labels[0]
    assert label.custom_split_filenames is not None
    assert label.split_rate is None
    assert (export / label.custom_split_filenames.train).read_text() == "~from,~to\nu1,m1\n"
    assert label.custom_split_filenames.valid is None


def test_more_rows_than_memory_allows_wait_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a limit that a few rows exceed, and blocks of a few rows
    monkeypatch.setattr("ekiden_engine.export.SPOOL_BYTES", 2_000)
    monkeypatch.setattr("ekiden_engine.csv_stream.BLOCK_BYTES", 1_000)
    vertices = "".join(f"u{i},user\nm{i},movie\n" for i in range(500))
    edges = "".join(f"e{i},u{i % 500},m{i * 7 % 500},rated,{i % 5}\n" for i in range(3_000))
    files = {"v.csv": "~id,~label\n" + vertices, "e.csv": "~id,~from,~to,~label,rating:Int\n" + edges}
    # WHEN exported
    export = export_files(tmp_path, files)
    # THEN every row is there, once, in order
    written = rows(export / EDGE_FILE)[1:]
    assert [row[0] for row in written] == [f"e{i}" for i in range(3_000)]
    assert [row[0] for row in rows(export / "nodes/movie.consolidated.csv")[1:]] == [f"m{i}" for i in range(500)]


@pytest.mark.parametrize(
    ("changed", "spec", "code", "says"),
    [
        ({"users.csv": "~id,~label\n", "movies.csv": "~id,~label\n"}, {}, "EMPTY_GRAPH", "no vertex"),
        ({"rated.csv": "~id,~from,~to,~label\n"}, {}, "EMPTY_GRAPH", "no edge"),
        ({"rated.csv": RATED + "e6,u1,m9,rated,1\ne7,x,m1,rated,2\n"}, {}, "DANGLING_EDGE",
         '2 edges with an end that is no vertex; first rated.csv:7, ~to "m9"'),
        ({"more.csv": "~id,~label\nu7,user\nu2,user\n"}, {}, "DUPLICATE_ID",
         '1 vertex id given again; first "u2" at users.csv:3, already at more.csv:3'),
        ({"rated.csv": RATED + "e1,u3,m2,rated,4\n"}, {}, "DUPLICATE_ID",
         '"e1" at rated.csv:7, already at rated.csv:2'),
        ({"rated.csv": RATED + "e6,u3,m2,rated,abc\n"}, {}, "NOT_A_NUMBER",
         'rated.csv:7, column "rating:Double": "abc" is not a number'),
        ({"rated.csv": RATED.replace(":Double", "") + "e6,u3,m2,rated,abc\n"}, {}, "NOT_A_NUMBER",
         'rated.csv:7, column "rating": "abc"'),
        ({"rated.csv": RATED + "e6,u3,m2,rated,NaN\n"}, {}, "NOT_A_NUMBER", '"NaN" is not a finite number'),
        ({"rated.csv": RATED + "e6,,m2,rated,1\n"}, {}, "MISSING_VALUE", "rated.csv:7: ~from is empty"),
        ({"rated.csv": RATED + "e6,u1,m2,rated\n"}, {}, "BAD_CSV", "rated.csv:7: 4 values"),
        ({}, {"target": {"property": "ratng"}}, "UNKNOWN_PROPERTY",
         'targets[0].property: "(user)-rated-(movie)" has no property "ratng" (did you mean "rating"?)'),
        ({}, {"target": {"edge": ["User", "rated", "movie"]}}, "UNKNOWN_LABEL",
         '(did you mean "(user)-rated-(movie)"?)'),
        ({}, {"features": [{"node": "user", "property": "aeg", "type": "numerical"}]}, "UNKNOWN_PROPERTY",
         'features[0].property: "user" has no property "aeg" (did you mean "age"?); it has "age"'),
        ({}, {"features": [{"node": "film", "property": "x", "type": "category"}]}, "UNKNOWN_LABEL", '"movie", "user"'),
        ({}, {"target": {"custom_split_filenames": {"train": "gone.csv"}}}, "NO_SPLIT_FILE", '"gone.csv"'),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_file_and_line(
    tmp_path: Path, changed: dict[str, str], spec: dict[str, object], code: str, says: str
) -> None:
    with pytest.raises(BadData) as caught:
        export_files(tmp_path, {**SMALL_GRAPH, **changed}, **spec)
    assert caught.value.code == code
    assert says in caught.value.message


def test_the_job_leaves_its_reason_where_sagemaker_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN a job whose graph has an edge to nowhere
    root = make_job(tmp_path, {"u.csv": USERS, "m.csv": MOVIES, "r.csv": RATED + "e9,u9,m1,rated,1\n"}, make_document())
    # WHEN it runs
    code = run_command("export", root)
    # THEN it ends as bad data, and both files and the log say why
    assert code == 65
    assert root.failure.read_text().startswith("DANGLING_EDGE: 1 edge with an end that is no vertex; first r.csv:7")
    assert root.message.read_text() == root.failure.read_text()
    assert "ERROR DANGLING_EDGE" in capsys.readouterr().err


def test_the_job_exports_what_the_platform_mounted(tmp_path: Path) -> None:
    root = make_job(tmp_path, SMALL_GRAPH, make_document())
    assert run_command("export", root) == 0
    assert (root.processing_output("export") / EDGE_FILE).is_file()
    assert not root.failure.exists()
