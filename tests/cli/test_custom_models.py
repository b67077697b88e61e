"""A custom model in a local folder: its scripts are looked at, then uploaded once under the name of their content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ekiden.contracts.hpo import HPO_FILE
from ekiden_cli.generate import generate
from ekiden_cli.scripts import MAX_FILES
from tests.cli.conftest import BUCKET, ROOT
from tests.cli.fake_api import FakeApi

Ekiden = Callable[..., Result]
EXAMPLE = ROOT / "examples" / "custom-model"
SEARCH = "  search: {jobs: 6}\n"


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    """The example of a custom model in a folder of its own, its graph generated within, as its first lines say."""
    folder = tmp_path / "custom-model"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "generated"))
    generate(folder / "generated", users=20, movies=30, ratings=200)
    return folder / "custom-ratings.yaml"


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def keys(s3: Any, uri: str) -> list[str]:
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    return [str(item["Key"]).removeprefix(prefix) for item in found]


def test_the_example_is_valid(ekiden: Ekiden, custom: Path) -> None:
    done = ekiden("validate", custom)

    assert done.exit_code == 0, done.stderr
    assert "predict rating of (user)-rated-(movie) (edge regression), with model custom" in done.stdout


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (
            ("training.py", "train.py"),
            "model.training_entry_point",
            "there is no file 'train.py' in '.'; did you mean 'training.py'?",
        ),
        (
            ("transform.py", "sub/export.py"),
            "model.transform_entry_point",
            "there is no file 'sub/export.py' in '.'; it has 'training.py', 'transform.py'",
        ),
        (
            ("source: .", "source: nowhere"),
            "model.source",
            "'nowhere' is neither an s3:// address nor a folder beside the spec",
        ),
    ],
)
def test_a_script_that_is_not_there_is_named_before_anything_is_uploaded(
    ekiden: Ekiden, custom: Path, change: tuple[str, str], path: str, said: str
) -> None:
    changed(custom, *change)

    done = ekiden("validate", custom, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout)["faults"] == [{"path": path, "message": said}]


def test_a_script_that_is_no_python_is_named_with_its_line(ekiden: Ekiden, custom: Path) -> None:
    (custom.parent / "transform.py").write_text("import numpy\n\ndef broken(:\n")

    done = ekiden("validate", custom)

    assert done.exit_code == 2
    assert "model.transform_entry_point  transform.py, line 3: invalid syntax" in done.stderr


def test_a_folder_that_cannot_be_meant_is_refused(ekiden: Ekiden, custom: Path) -> None:
    (custom.parent / "data").mkdir()
    for number in range(MAX_FILES):
        (custom.parent / "data" / f"{number}.txt").touch()

    done = ekiden("validate", custom)

    assert done.exit_code == 2
    assert "model.source  '.' holds 1,003 files, more than 1,000" in done.stderr


def faults(ekiden: Ekiden, spec: Path) -> list[tuple[str, str]]:
    found = json.loads(ekiden("validate", spec, "--json").stdout)["faults"]
    return [(fault["path"], fault["message"]) for fault in found]


def test_a_search_without_its_configuration_is_refused(ekiden: Ekiden, custom: Path) -> None:
    (custom.parent / HPO_FILE).unlink()
    assert faults(ekiden, custom) == [
        ("model.search", f"of a custom model needs {HPO_FILE} in '.': it says what is varied (docs/hpo.md)")
    ]
    changed(custom, SEARCH, "  search: {jobs: 1}\n")
    assert faults(ekiden, custom) == [], "one job is no search"


def test_a_configuration_that_cannot_be_used_is_refused_with_all_its_faults(ekiden: Ekiden, custom: Path) -> None:
    # GIVEN a configuration of which nothing but the model is there, and no search
    changed(custom, SEARCH, "")
    (custom.parent / HPO_FILE).write_text('{"models": [{"model": "custom"}]}')
    found = faults(ekiden, custom)
    assert {path for path, _ in found} == {"model.source"}
    assert (found[0][1]).startswith(f"{HPO_FILE}: models[0].")
    assert "models[0].1-tier-param: must be a list of hyper-parameters" in " ".join(message for _, message in found)
    # THEN one of another model, and one that varies nothing, are refused where it is
    lists: dict[str, Any] = {name: [] for name in ("1-tier-param", "2-tier-param", "3-tier-param", "fixed-param")}
    entry = {"model": "transe", "task_type": "edge_regression", "eval_metric": {"metric": "mse"}, **lists}
    (custom.parent / HPO_FILE).write_text(json.dumps({"models": [entry]}))
    assert faults(ekiden, custom) == []
    changed(custom, "  name: custom\n", "  name: custom\n  search: {jobs: 4}\n")
    (wrong, said), nothing = faults(ekiden, custom)
    assert wrong == "model.source"
    assert "models[0].model: transe cannot do edge_regression" in said
    assert nothing == (
        "model.search.jobs",
        f"no tier of {HPO_FILE} that 4 jobs search has a hyper-parameter to vary",
    )


def test_faults_of_the_graph_and_of_the_scripts_are_told_at_once(ekiden: Ekiden, custom: Path) -> None:
    changed(custom, "property: rating", "property: ratings")
    (custom.parent / "training.py").unlink()

    done = ekiden("validate", custom, "--json")

    assert [fault["path"] for fault in json.loads(done.stdout)["faults"]] == [
        "targets[0].property",
        "model.training_entry_point",
    ]


def test_scripts_in_s3_are_said_not_to_have_been_looked_at(ekiden: Ekiden, custom: Path) -> None:
    changed(custom, "source: .\n", "source: s3://bucket/scripts/\n")

    done = ekiden("validate", custom)

    assert done.exit_code == 0, done.stderr
    assert "note  the scripts in S3 were not looked at" in done.stderr
    assert f"and the data processing if {HPO_FILE} is" in done.stderr
    changed(custom, SEARCH, "")
    assert HPO_FILE not in ekiden("validate", custom).stderr


@pytest.mark.enable_socket
def test_run_uploads_the_scripts_once_and_submits_their_address(
    ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any, custom: Path
) -> None:
    # GIVEN scripts beside what belongs to no model: the spec, the graph, what Python and git keep there
    for name in ("__pycache__/training.cpython-311.pyc", ".git/config", "package/part.py"):
        (custom.parent / name).parent.mkdir(exist_ok=True)
        (custom.parent / name).write_text("x = 1\n")

    # WHEN it is run twice, the second time with another hyper-parameter
    first = ekiden("run", custom)
    changed(custom, "num-epochs: 10", "num-epochs: 11")
    second = ekiden("run", custom)

    # THEN the scripts are sent once, and the spec has their address
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    assert "(4 of 4 files" in first.stderr
    assert second.stderr.count("(nothing new") == 2
    model, again = (body["spec"]["model"] for body in api.submitted)
    assert model["source"].startswith(f"s3://{BUCKET}/models/custom-ratings-")
    assert again["source"] == model["source"]
    assert (model["training_entry_point"], model["transform_entry_point"]) == ("training.py", "transform.py")
    assert keys(s3, model["source"]) == [
        "model-hpo-configuration.json", "package/part.py", "training.py", "transform.py",
    ]  # fmt: skip


@pytest.mark.enable_socket
def test_other_scripts_go_to_another_address_though_the_graph_is_in_s3(
    ekiden: Ekiden, cloud: Path, api: FakeApi, custom: Path
) -> None:
    changed(custom, "source: generated", "source: s3://bucket/graph/")
    ekiden("run", custom)
    changed(custom.parent / "training.py", "import", "import  ")
    ekiden("run", custom)

    first, second = (body["spec"] for body in api.submitted)
    assert first["graph"] == second["graph"] == {"source": "s3://bucket/graph/"}
    assert first["model"]["source"] != second["model"]["source"]
