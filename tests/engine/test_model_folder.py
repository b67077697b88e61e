"""A model folder: what a training writes is what serving loads, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.manifest import write_manifest
from ekiden_engine.model_folder import CONFIG_FILE, ModelConfig, load_model
from ekiden_engine.models.dot import ENDS_FILE
from tests.engine.serving_factories import (
    KNOWS,
    LIKES,
    LINKS,
    MOVIES,
    RATED,
    USERS,
    every_target,
    links,
    make_folder,
    make_loaded,
    rating,
    topic,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model", [rating(), links(LIKES)])


def change_config(folder: Path, **changes: Any) -> None:
    """Rewrite config.json, and the manifest with it."""
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(folder)


def refusal(folder: Path) -> str:
    with pytest.raises(BadData) as caught:
        load_model(folder)
    assert caught.value.code in ("CORRUPT_ARTIFACT", "UNKNOWN_MODEL")
    return caught.value.message


def test_what_was_saved_is_loaded() -> None:
    # GIVEN a model of every task
    targets = every_target()

    # WHEN it is saved and loaded
    model = make_loaded(*targets)

    # THEN targets, ids, edge types, links and encoders are there, and predictors say the same
    assert [entry.target for entry in model.config.targets] == [target for target, _ in targets]
    assert {label: ids.to_pylist() for label, ids in model.ids.items()} == {"user": list(USERS), "movie": list(MOVIES)}
    assert model.config.edges == (RATED, LIKES, KNOWS)
    assert {edge: (known.source.tolist(), known.dest.tolist()) for edge, known in model.links.items()} == LINKS
    assert [encoder.column for encoder in model.features.encoders("movie")] == ["year"]
    pair = np.array([0, -1], np.int32), np.array([1, 1], np.int32)
    before: Any = targets[0][1]
    after: Any = model.predictors[0]
    np.testing.assert_array_equal(after.predict(*pair), before.predict(*pair))


def test_only_the_links_that_are_predicted_are_kept(folder: Path) -> None:
    assert set(load_model(folder).links) == {LIKES}
    assert load_model(make_folder(folder.parent / "other", [rating()])).links == {}


def test_every_file_is_one_that_can_be_read_without_running_code(folder: Path) -> None:
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings == {".json", ".npz", ".parquet", ".safetensors"}


def test_the_run_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_RUN_ID", "run-7")
    assert load_model(make_folder(tmp_path / "model", [topic()])).config.run_id == "run-7"


def test_a_folder_without_edge_types_is_read_as_one_that_says_none(folder: Path) -> None:
    document = json.loads((folder / CONFIG_FILE).read_text())
    del document["edges"]
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    write_manifest(folder)
    assert load_model(folder).config.edges == ()
    assert ModelConfig.model_validate(document).version == "ekiden.model.v2"


@pytest.mark.parametrize(
    "name", ["features.json", "targets/0/model.safetensors", "links/0.npz", "mappings/user.parquet"]
)
def test_a_file_that_the_manifest_does_not_vouch_for_is_not_read(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] != name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert refusal(folder) == f"{name} is not in manifest.json"


def test_a_file_that_was_changed_is_refused(folder: Path) -> None:
    path = folder / "targets" / "0" / ENDS_FILE
    path.write_text(path.read_text().replace("user", "abcd"))
    assert "does not have the SHA-256" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "ekiden.model.v1"}, "config.json"),
        ({"targets": [{"folder": "targets/0"}]}, "config.json"),
        ({"mappings": {"user": "mappings/user.parquet"}}, 'targets/0: node type "movie" is not in mappings'),
        (
            {"mappings": {"user": "mappings/movie.parquet", "movie": "mappings/movie.parquet"}},
            "targets/0: the model has 4 user nodes, mappings has 5",
        ),
        ({"links": [{"edge": list(LIKES), "file": "mappings/user.parquet"}]}, "mappings/user.parquet"),
    ],
)
def test_a_config_that_does_not_fit_its_files_is_refused(folder: Path, changes: dict[str, Any], says: str) -> None:
    change_config(folder, **changes)
    assert says in refusal(folder)


def test_a_kind_of_predictor_that_this_version_lacks_is_named(folder: Path) -> None:
    targets = json.loads((folder / CONFIG_FILE).read_text())["targets"]
    targets[0]["predictor"] = "oracle"
    change_config(folder, targets=targets)
    assert '"oracle" is unknown; known are' in refusal(folder)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"source": [0, 1], "dest": [0]}, "equally long"),
        ({"source": [0], "dest": [5]}, 'a link to a "movie" node that mappings does not have'),
        ({"source": [-1], "dest": [0]}, 'a link to a "user" node'),
        ({"source": [0]}, "links/0.npz"),
    ],
)
def test_links_that_do_not_fit_the_nodes_are_refused(folder: Path, arrays: dict[str, list[int]], says: str) -> None:
    given: dict[str, Any] = {name: np.array(rows, np.int32) for name, rows in arrays.items()}
    np.savez(folder / "links" / "0.npz", **given)
    write_manifest(folder)
    assert says in refusal(folder)


def test_loading_and_serving_need_neither_torch_nor_faiss(folder: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "import ekiden_engine.serve\n"
        "from ekiden_engine.model_folder import load_model\n"
        "from ekiden_engine.serving import answer\n"
        "from ekiden_engine.serving_model import ServedModel\n"
        "model = ServedModel(load_model(pathlib.Path(sys.argv[1])))\n"
        "print(answer(model, 'text/csv', b'ada,heat\\n')[1], *({'torch', 'faiss', 'numba'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["b'3.01,scored\\n'"]
