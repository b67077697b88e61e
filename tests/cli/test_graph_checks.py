"""What ``validate`` finds in a local graph folder, and what it says where it cannot look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from typer.testing import Result

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_cli.graph_values import needed
from ekiden_engine.features import fit_encoder
from ekiden_engine.numbers import BadValue

Ekiden = Callable[..., Result]


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "spec.yaml",
            ("[user, rated, movie]", "[movie, rated, user]"),
            "targets[0].edge  no edge 'rated' goes from a 'movie' to a 'user'; they go the other way: write "
            "[user, rated, movie]",
        ),
        (
            "spec.yaml",
            ("property: gender, type: category", "property: gender, type: numerical"),
            "features[1].property  numerical needs a number, and vertices-user.csv, column 'gender:String' holds",
        ),
        (
            "spec.yaml",
            ("property: gender, type: category", "property: gender, type: datetime"),
            "features[1].property  datetime needs a date",
        ),
        ("vertices-user.csv", ("age:Int", "age:Integerr"), "has the unknown type 'Integerr'; did you mean Integer?"),
        ("vertices-user.csv", (",user,", ",user;person,"), "no node label 'user'; did you mean 'person;user'?"),
        ("vertices-user.csv", ("gender:String", "age:Int"), "vertices-user.csv has the column 'age:Int' twice"),
        ("edges-rated.csv", ("\n", "\r"), "edges-rated.csv does not begin with a line of CSV"),
    ],
)
def test_a_graph_that_does_not_fit_is_named_before_anything_is_uploaded(
    ekiden: Ekiden, graph: Path, file: str, change: tuple[str, str], said: str
) -> None:
    changed(graph.parent / file, *change)

    done = ekiden("validate", graph)

    assert done.exit_code == 2
    assert said in done.stderr


def test_numbers_in_a_text_column_are_numbers_as_for_the_engine(ekiden: Ekiden, graph: Path) -> None:
    changed(graph.parent / "vertices-user.csv", "age:Int", "age")

    assert ekiden("validate", graph.parent).exit_code == 0, "a folder stands for its spec.yaml"


def test_vertices_with_several_labels_are_one_type_named_in_any_order(ekiden: Ekiden, graph: Path) -> None:
    changed(graph.parent / "vertices-user.csv", ",user,", ",user;person,")
    changed(graph, "[user, rated", "[user;person, rated")
    changed(graph, "node: user", "node: person;user")

    done = ekiden("validate", graph)

    assert done.exit_code == 0, done.stderr


def test_a_graph_in_s3_is_said_not_to_have_been_looked_at(ekiden: Ekiden, graph: Path) -> None:
    changed(graph, "source: .  ", "source: s3://bucket/graph/  ")

    assert "the graph in S3 was not looked at" in ekiden("validate", graph).stderr
    assert json.loads(ekiden("validate", graph, "--json").stdout)["graph_checked"] is False


def test_an_example_without_its_graph_says_how_to_make_it(ekiden: Ekiden, tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "generated.yaml"
    spec = tmp_path / "generated.yaml"
    spec.write_text(example.read_text())

    assert "`ekiden generate --out generated --seed 7`" in ekiden("validate", spec).stderr


def test_a_folder_with_files_is_written_to_by_force_only(ekiden: Ekiden, graph: Path) -> None:
    graph.write_text("mine")
    arguments = ("generate", "--out", graph.parent, "--users", 3, "--movies", 4, "--ratings", 5)

    refused = ekiden(*arguments)

    assert refused.exit_code == 2
    assert "is not empty" in refused.stderr
    assert graph.read_text() == "mine"
    assert ekiden(*arguments, "--force").exit_code == 0
    assert ekiden("import", "movielens", graph.parent, "--out", graph.parent).exit_code == 2


AGE = {"node": "user", "property": "age", "type": "regression"}
STAMP = {"edge": ["user", "rated", "movie"], "property": "timestamp", "type": "numerical"}


def faults(ekiden: Ekiden, spec: Path, **changes: Any) -> dict[str, str]:
    """Path to message of what ``validate`` finds once the spec is changed."""
    spec.write_text(json.dumps({**yaml.safe_load(spec.read_text()), **changes}))
    done = ekiden("validate", spec, "--json")
    return {fault["path"]: fault["message"] for fault in json.loads(done.stdout)["faults"]}


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"edge": ["movie", "rated", "user"]}, "edge", "they go the other way: write [user, rated, movie]"),
        ({"edge": ["user", "rated", "user"]}, "edge", "no edge 'rated' goes from a 'user' to a 'user'"),
        ({"edge": ["user", "rated", "film"]}, "edge[2]", "no node label 'film'"),
        ({"property": "stamp"}, "property", "did you mean 'timestamp'?"),
        ({"property": "note"}, "property", "numerical needs a number, and edges-rated.csv, column 'note' holds 'no"),
        ({"property": "day"}, "property", "numerical needs a number, and edges-rated.csv, column 'day:Date' holds"),
        ({"property": "note", "type": "datetime"}, "property", "datetime needs a date such as 2026-11-20"),
        ({"type": "datetime"}, "property", "column 'timestamp:Long' holds '1"),
    ],
)
def test_features_of_edges_are_held_against_the_graph(
    ekiden: Ekiden, graph: Path, changes: dict[str, Any], path: str, said: str
) -> None:
    # GIVEN edges with a text and a date, and a target on nodes, whose model uses features of edges
    rated = graph.parent / "edges-rated.csv"
    header, *rows = rated.read_text().splitlines()
    rated.write_text("\n".join([f"{header},note,day:Date", *(f"{row},none,2026-11-20" for row in rows)]) + "\n")
    assert faults(ekiden, graph, targets=[AGE], features=[STAMP]) == {}
    # WHEN the feature is another
    found = faults(ekiden, graph, features=[{**STAMP, **changes}])
    # THEN it is named
    assert list(found) == [f"features[0].{path}"]
    assert said in found[f"features[0].{path}"]


def test_edges_of_one_label_between_other_nodes_say_nothing_of_a_feature(ekiden: Ekiden, graph: Path) -> None:
    rated = graph.parent / "edges-rated.csv"
    header, *rows = rated.read_text().splitlines()
    rated.write_text("\n".join([header, "r0,user-1,user-2,rated,,yesterday", *rows]) + "\n")

    assert faults(ekiden, graph, targets=[AGE], features=[STAMP]) == {}
    other = {**STAMP, "edge": ["user", "rated", "user"]}
    assert "'yesterday'" in faults(ekiden, graph, features=[other])["features[0].property"]


def encoder_takes(kind: str, text: str) -> bool:
    try:
        fit_encoder(
            FeatureConfig.model_validate({"feature": ["p", "p", kind]}), pa.chunked_array([[text]], pa.string())
        )
    except BadValue:
        return False
    return True


@pytest.mark.parametrize("kind", ["numerical", "datetime"])
@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-20", " 2026-11-20 ", "2026-11-20T08", "2026-11-20T08:30:00.1234567Z", "2026-11-20 08:30:00+09:00"),
        *(
            "20261120",
            "2026-11",
            "2026",
            "21",
            "-5",
            "2026-13-20",
            "2026-11-20Z",
            "2026-11-20;2026-11-21",
            "2026-11-20x",
        ),
        *("1.5", "+3", " 4 ", "1e5", "nan", "inf", "1_000", "\uff11", "true", "0x10", "5;6"),
    ],
)
def test_a_value_is_what_the_engines_encoder_takes(kind: str, text: str) -> None:
    assert (needed(kind, text) == "") is encoder_takes(kind, text)


def test_faults_of_spec_and_graph_are_told_at_once(ekiden: Ekiden, graph: Path) -> None:
    # GIVEN five wrong targets, a repeated feature, and one that is not in the graph
    age = {"node": "user", "property": "age", "type": "numerical"}
    targets = [
        {"edge": ["movie", "rated", "user"], "property": "rating", "type": "regression"},
        {"node": "user", "property": "gender", "type": "regression"},
        {"node": "film", "property": "year", "type": "regression"},
        {"node": "movie", "property": "years", "type": "regression"},
        {"node": "movie", "type": "regression"},
    ]
    found = faults(ekiden, graph, name="A b", targets=targets, features=[age, age, {**age, "property": "height"}])
    assert list(found) == [
        *("name", "targets[4]", "features[1]"),
        *("targets[0].edge", "targets[1].property", "targets[2].node", "targets[3].property", "features[2].property"),
    ]


def test_every_file_that_cannot_be_read_is_named(ekiden: Ekiden, graph: Path) -> None:
    changed(graph.parent / "vertices-user.csv", "age:Int", "age:Integerr")
    changed(graph.parent / "edges-rated.csv", "~to", "~too")

    done = ekiden("validate", graph)

    assert "age:Integerr" in done.stderr
    assert "edges-rated.csv has the header" in done.stderr
