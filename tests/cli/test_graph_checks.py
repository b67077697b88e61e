"""What ``validate`` finds in a local graph folder, and what it says where it cannot look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

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
