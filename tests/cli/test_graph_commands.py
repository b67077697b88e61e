"""``generate``, ``import`` and ``validate``: graphs and specs, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ekiden = Callable[..., Result]


def test_generate_writes_a_graph_that_validates(ekiden: Ekiden, tmp_path: Path) -> None:
    done = ekiden(
        "generate", "--out", tmp_path / "g", "--users", 12, "--movies", 15, "--ratings", 60, "--seed", 3, "--json"
    )

    assert done.exit_code == 0
    assert json.loads(done.stdout)["counts"] == {"users": 12, "movies": 15, "ratings": 60}
    assert "is valid: predict rating" in ekiden("validate", tmp_path / "g" / "spec.yaml").stdout


def test_generate_refuses_impossible_sizes_as_wrong_input(ekiden: Ekiden, tmp_path: Path) -> None:
    done = ekiden("generate", "--out", tmp_path / "g", "--users", 2, "--movies", 2, "--ratings", 9, "--json")

    assert done.exit_code == 2
    assert "there can be 1 to 4 ratings, not 9" in json.loads(done.stdout)["error"]["message"]


def test_import_reports_the_row_of_bad_data(ekiden: Ekiden, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "u.data").write_text("1\t2\tx\t4\n")

    done = ekiden("import", "movielens", tmp_path / "data", "--out", tmp_path / "g")

    assert done.exit_code == 2
    assert "u.data, row 1: the rating is 'x', not a number" in done.stderr


def test_validate_names_each_fault_with_its_path(ekiden: Ekiden, graph: Path) -> None:
    text = graph.read_text().replace("property: genres", "property: genre").replace("[user, rated", "[usr, rated")
    graph.write_text(text)

    done = ekiden("validate", graph, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout) == {
        "valid": False,
        "faults": [
            {"path": "targets[0].edge[0]", "message": "the graph has no node label 'usr'; did you mean 'user'?"},
            {
                "path": "features[4].property",
                "message": "the graph has no property of node 'movie' 'genre'; did you mean 'genres'?",
            },
        ],
    }
    assert "targets[0].edge[0]  the graph has no node label" in ekiden("validate", graph).stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("source: .", "source: nowhere"), "graph.source  'nowhere' is neither an s3:// address nor a folder"),
        (("split_rate: [0.8, 0.1, 0.1]", "split_rate: [0.7, 0.2, 0.1]"), "targets[0].split_rate  adds up to"),
        (
            ("split_rate: [0.8, 0.1, 0.1]", "custom_split_filenames: {train: splits/a.csv}"),
            "targets[0].custom_split_filenames.train  there is no file 'splits/a.csv'",
        ),
        (("version: 1", "version: [1"), "line "),
    ],
)
def test_validate_explains(ekiden: Ekiden, graph: Path, change: tuple[str, str], said: str) -> None:
    graph.write_text(graph.read_text().replace(*change))

    done = ekiden("validate", graph)

    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("more.csv", "a,b\n1,2\n", "more.csv has the header 'a,b'. Gremlin CSV: vertex files have"),
        ("more.csv", "~id,~from,~label\n1,2,3\n", "more.csv has the header"),
        ("more.csv", "", "more.csv has the header ''"),
        ("edges-rated.csv", "~id,~from,~to,~label,rating:Double\n", "no edge file with records in the folder"),
    ],
)
def test_validate_looks_into_the_graphs_files(ekiden: Ekiden, graph: Path, name: str, text: str, said: str) -> None:
    (graph.parent / name).write_text(text)

    done = ekiden("validate", graph)

    assert done.exit_code == 2
    assert said in done.stderr


def test_a_spec_that_is_not_there_is_wrong_input(ekiden: Ekiden) -> None:
    done = ekiden("validate", "absent.yaml")

    assert done.exit_code == 2
    assert "cannot read absent.yaml: No such file" in done.stderr
