"""Specs that predict something else than a rating: checked against the graph, said in words, uploaded whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.conftest import BUCKET
from tests.cli.fake_api import FakeApi

Ekiden = Callable[..., Result]
PAPERS = "~id,~label,topic:String,year:Int,abstract:String\np1,paper,maths,1999,a b\np2,paper,physics,2001,c\n"
AUTHORS = "~id,~label,name:String\na1,author,Noether\n"
CITES = "~id,~from,~to,~label,kind:String\nc1,p1,p2,cites,method\n"
WROTE = "~id,~from,~to,~label\nw1,a1,p1,wrote\n"
TOPIC = "{node: paper, property: topic, type: classification}"
ABSTRACT = "{node: paper, property: abstract, type: text_word2vec, vectors: words.txt}"


@pytest.fixture
def papers(tmp_path: Path) -> Callable[..., Path]:
    """Write a small citation graph, and a spec with the targets and features given; return the spec's path."""

    def make(*targets: str, features: str = "", model: str = "rgcn") -> Path:
        folder = tmp_path / "papers"
        folder.mkdir(exist_ok=True)
        for name, text in (("papers", PAPERS), ("authors", AUTHORS), ("cites", CITES), ("wrote", WROTE)):
            (folder / f"{name}.csv").write_text(text)
        spec = tmp_path / "papers.yaml"
        listed = ", ".join(targets)
        spec.write_text(
            f"version: 1\nname: papers\ngraph: {{source: papers}}\ntargets: [{listed}]\nfeatures: [{features}]\n"
            f"model: {{name: {model}}}\n"
        )
        return spec

    return make


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (TOPIC, "is valid: predict topic of paper (node classification), with model rgcn, from 4 files in"),
        ("{node: paper, property: year, type: regression}", "predict year of paper (node regression)"),
        (
            "{edge: [paper, cites, paper], property: kind, type: classification}",
            "predict kind of (paper)-cites-(paper) (edge classification)",
        ),
        ("{edge: [author, wrote, paper], type: link_prediction}", "predict links: (author)-wrote-(paper), with"),
        ("{type: link_prediction}", "predict links: all edge types, with model rgcn"),
        ("", "predict links: all edge types, with model rgcn"),
    ],
)
def test_validate_says_what_is_predicted(ekiden: Ekiden, papers: Callable[..., Path], target: str, said: str) -> None:
    done = ekiden("validate", papers(target))

    assert done.exit_code == 0, done.stderr
    assert said in done.stdout


def test_validate_names_every_target_of_several(ekiden: Ekiden, papers: Callable[..., Path]) -> None:
    spec = papers(TOPIC, "{edge: [author, wrote, paper], type: link_prediction}")

    assert json.loads(ekiden("validate", spec, "--json").stdout) == {
        "valid": True,
        "faults": [],
        "graph_checked": True,
        "model": "rgcn",
        "predicts": [
            {"task": "node_classification", "node": "paper", "property": "topic"},
            {"task": "link_prediction", "edge": ["author", "wrote", "paper"]},
        ],
    }
    lines = ekiden("validate", spec).stdout.splitlines()
    assert lines[0].endswith("is valid: predict topic of paper (node classification)")
    assert lines[1].strip().startswith("predict links: (author)-wrote-(paper), with model rgcn, from 4 files")


@pytest.mark.parametrize(
    ("target", "faults"),
    [
        (
            "{node: papre, property: topic, type: classification}",
            {"targets[0].node": "the graph has no node label 'papre'; did you mean 'paper'?"},
        ),
        (
            "{node: paper, property: topics, type: classification}",
            {"targets[0].property": "the graph has no property of node 'paper' 'topics'; did you mean 'topic'?"},
        ),
        (
            "{node: paper, property: topic, type: regression}",
            {"targets[0].property": "regression needs a number, and papers.csv, column 'topic:String' holds 'maths'"},
        ),
        (
            "{edge: [author, wrot, papers], type: link_prediction}",
            {
                "targets[0].edge[1]": "the graph has no edge label 'wrot'; did you mean 'wrote'?",
                "targets[0].edge[2]": "the graph has no node label 'papers'; did you mean 'paper'?",
            },
        ),
        (
            "{edge: [paper, wrote, author], type: link_prediction}",
            {
                "targets[0].edge": "no edge 'wrote' goes from a 'paper' to a 'author'; they go the other way: write "
                "[author, wrote, paper]"
            },
        ),
        (
            "{edge: [paper, cites, paper], property: kinds, type: classification}",
            {"targets[0].property": "the graph has no property of edge 'cites' 'kinds'; did you mean 'kind'?"},
        ),
    ],
)
def test_validate_holds_each_kind_of_target_against_the_graph(
    ekiden: Ekiden, papers: Callable[..., Path], target: str, faults: dict[str, str]
) -> None:
    done = ekiden("validate", papers(target), "--json")

    assert done.exit_code == 2
    assert {fault["path"]: fault["message"] for fault in json.loads(done.stdout)["faults"]} == faults


def test_a_model_that_cannot_do_the_task_is_refused_with_those_that_can(
    ekiden: Ekiden, papers: Callable[..., Path]
) -> None:
    done = ekiden("validate", papers(TOPIC, model="transe"))

    assert done.exit_code == 2
    assert "transe cannot do node_classification (targets[0]); use one of rgcn, custom" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (None, b"", "features[0].vectors  there is no file 'words.txt' in the graph's folder"),
        ("word.txt", b"1 2\na 1 2\n", "there is no file 'words.txt' in the graph's folder; did you mean 'word.txt'?"),
        ("words.txt", b"a 1 2\n", "features[0].vectors  'words.txt' does not begin with the number of words and of"),
    ],
)
def test_a_vectors_file_is_looked_for_and_into(
    ekiden: Ekiden, papers: Callable[..., Path], name: str | None, content: bytes, said: str
) -> None:
    spec = papers(TOPIC, features=ABSTRACT)
    if name:
        (spec.parent / "papers" / name).write_bytes(content)

    done = ekiden("validate", spec)

    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("target", "header", "said"),
    [
        (TOPIC, "id,topic", "'train.tsv' has no column ~id: a split of nodes needs ~id"),
        ("{edge: [author, wrote, paper], type: link_prediction}", "~from", "has no column ~to: a split of edges needs"),
        (TOPIC, "~id:ID,topic", None),
    ],
)
def test_a_split_file_must_name_rows_of_its_target(
    ekiden: Ekiden, papers: Callable[..., Path], target: str, header: str, said: str | None
) -> None:
    spec = papers(target[:-1] + ", custom_split_filenames: {train: train.tsv}}")
    (spec.parent / "papers" / "train.tsv").write_text(f"{header}\np1,maths\n")

    done = ekiden("validate", spec)

    assert (done.exit_code == 0) is (said is None), done.stderr
    assert (said or "") in done.stderr


@pytest.mark.enable_socket
def test_run_uploads_what_the_spec_names_whatever_its_ending(
    ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any, papers: Callable[..., Path]
) -> None:
    # GIVEN vectors and splits that are no .csv, some named in another spelling, and files that nobody names
    files = {"train": "./splits/train.tsv", "test": "splits/test.part"}
    features = ABSTRACT.replace("words.txt", "vectors/words.vec.gz")
    spec = papers(f"{TOPIC[:-1]}, custom_split_filenames: {json.dumps(files)}}}", features=features)
    folder = spec.parent / "papers"
    for name in ("splits", "vectors", ".git"):
        (folder / name).mkdir()
    for name, row in (("train.tsv", "p1"), ("test.part", "p2")):
        (folder / "splits" / name).write_text(f"~id\n{row}\n")
    (folder / "vectors" / "words.vec.gz").write_bytes(gzip.compress(b"1 2\na 1 2\n"))
    for name in ("notes.txt", ".git/x.csv"):
        (folder / name).write_text("mine")

    # WHEN the spec is run
    done = ekiden("run", spec)

    # THEN they lie beside the graph, and the spec says the same as before but for the address
    assert done.exit_code == 0, done.stderr
    assert "target predict topic of paper (node classification), with model rgcn" in done.stderr
    sent = api.submitted[0]["spec"]
    prefix = sent["graph"]["source"].removeprefix(f"s3://{BUCKET}/")
    listed = [item["Key"].removeprefix(prefix) for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    assert listed == [
        "authors.csv", "cites.csv", "papers.csv",
        "splits/test.part", "splits/train.tsv", "vectors/words.vec.gz", "wrote.csv",
    ]  # fmt: skip
    assert sent["targets"][0]["custom_split_filenames"] == files
    assert sent["features"][0]["vectors"] == "vectors/words.vec.gz"
