"""The example specs are valid and fit the graphs that their recipes make."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ekiden.contracts.spec import load_spec
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
    assert f"--out {spec.graph.source}" in text, "the recipe writes the folder that the spec reads"
    assert f"ekiden run {path.name} --watch" in text


def test_the_generated_example_fits_its_graph(tmp_path: Path) -> None:
    spec = tmp_path / "generated.yaml"
    shutil.copy(EXAMPLES / spec.name, spec)
    generate(tmp_path / "generated", users=20, movies=30, ratings=200)

    assert len(read_spec(spec).files()) == 3


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
