"""The example specs are valid and fit the graphs that their recipes make."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ekiden.contracts.spec import load_spec
from ekiden.contracts.tasks import Task
from ekiden_cli.generate import generate
from ekiden_cli.graphs import read_spec
from ekiden_cli.movielens import convert

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SPECS = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_each_example_is_valid_named_as_its_file_and_listed_in_the_readme(path: Path) -> None:
    text = path.read_text()

    spec = load_spec(text, allow_local_source=True)

    assert spec.name == path.stem
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text()
    assert re.search(rf"(--out|mkdir) {spec.graph.source}\b", text), "the recipe makes the folder that the spec reads"
    assert f"ekiden run {path.name} --watch" in text


@pytest.mark.parametrize(
    ("example", "task"),
    [
        ("generated", Task.EDGE_REGRESSION),
        ("rating-classes", Task.EDGE_CLASSIFICATION),
        ("user-ages", Task.NODE_REGRESSION),
        ("next-movies", Task.LINK_PREDICTION),
    ],
)
def test_the_examples_on_a_generated_graph_fit_it(tmp_path: Path, example: str, task: Task) -> None:
    spec = tmp_path / f"{example}.yaml"
    shutil.copy(EXAMPLES / spec.name, spec)
    generate(tmp_path / "generated", users=20, movies=30, ratings=200)

    found = read_spec(spec)

    assert [target.task for target in found.spec.predicts] == [task]
    assert len(found.files()) == 3


def test_the_recipe_of_the_citation_example_makes_a_graph_that_fits(tmp_path: Path) -> None:
    # GIVEN two files as the archive holds them: a paper's flags and class; the cited paper, then the citing one
    spec = tmp_path / "cora.yaml"
    shutil.copy(EXAMPLES / spec.name, spec)
    (tmp_path / "cora").mkdir()
    (tmp_path / "cora" / "cora.content").write_text("31\t0\t1\t1\tTheory\n35\t1\t0\t0\tNeural_Networks\n")
    (tmp_path / "cora" / "cora.cites").write_text("35\t31\n")

    # WHEN the commands of its first lines are run
    for command in re.findall(r"^#   ((?:mkdir|awk) .+)$", spec.read_text(), re.MULTILINE):
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)

    # THEN each row says what the archive says
    folder = tmp_path / "graph-cora"
    assert (folder / "papers.csv").read_text().splitlines() == [
        "~id,~label,topic:String,words:String", "31,paper,Theory,w2 w3 ", "35,paper,Neural_Networks,w1 ",
    ]  # fmt: skip
    assert (folder / "cites.csv").read_text() == "~id,~from,~to,~label\nc1,31,35,cites\n"
    assert [target.task for target in read_spec(spec).spec.predicts] == [Task.NODE_CLASSIFICATION]


@pytest.mark.parametrize(
    ("example", "data", "split"),
    [
        ("movielens-100k", "ml-100k", "u1"),
        ("movielens-1m", "ml-1m-60pct", None),
        ("movietweetings", "movietweetings-100k", None),
    ],
)
def test_the_movielens_examples_fit_their_graphs(
    tmp_path: Path, shared: Path, example: str, data: str, split: str | None
) -> None:
    spec = tmp_path / f"{example}.yaml"
    shutil.copy(EXAMPLES / spec.name, spec)
    source = load_spec(spec.read_text(), allow_local_source=True).graph.source
    convert(shared / data, tmp_path / source, split=split)

    assert read_spec(spec).folder == (tmp_path / source).resolve()
