"""The model of docs/models.md is a whole model."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from ekiden.contracts.tasks import Task
from ekiden_engine import models
from ekiden_engine.graph import EncodedGraph
from ekiden_engine.hpo_training import Training
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import load_model
from ekiden_engine.train import run
from tests.engine.model_factories import make_train_job

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "models.md"


def test_the_documented_model_trains_is_evaluated_and_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN the page's file, and its name in the engine's tables
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (tmp_path / "item_mean.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        models, "TRAINERS", {**models.TRAINERS, "item-mean": {Task.EDGE_REGRESSION: "item_mean:ItemMean"}}
    )
    monkeypatch.setattr(models, "PREDICTORS", {**models.PREDICTORS, "item-mean": "item_mean:ItemMeanPredictor"})
    monkeypatch.setattr("ekiden_engine.train.plan_training", lambda *given: Training("item-mean", {}))
    root: MlRoot = make_train_job(tmp_path / "job")
    # WHEN the training job runs
    run(root)
    # THEN it leaves a model that can be served, better than the mean of all
    (entry,) = json.loads((root.model / "evaluation.json").read_text())["targets"]
    assert entry["metrics"]["rmse"] < entry["baselines"]["global_mean"]["rmse"]
    (predictor,) = load_model(root.model).predictors
    assert predictor.kind == "item-mean"
    graph = EncodedGraph.load(root.channel("processed"))
    assert len(predictor.means) == len(graph.node("movie")) + 1  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "item_mean")


def test_every_place_where_a_model_has_its_name_is_on_the_page_and_is_there() -> None:
    # GIVEN the files that name a model of one task: its registration, what people read, what is generated from it
    page = DOCUMENT.read_text("utf-8")
    name = re.compile(r"""["'`]mf["'`]""")
    searched = [ROOT / "README.md", ROOT / "docs/openapi.json", *(ROOT / "docs/schemas").rglob("*.json")]
    searched += [*(ROOT / "layers/shared/ekiden").rglob("*.py"), *(ROOT / "cli/ekiden_cli").rglob("*.py")]
    searched += (ROOT / "engine/ekiden_engine/models").glob("*.py")
    files = {path.relative_to(ROOT).as_posix() for path in searched if name.search(path.read_text("utf-8"))}
    # THEN the page sends its reader to each of them
    assert {path for path in files if path not in page and f"{Path(path).parent}/" not in page} == set()
    # AND what it names in a file is there
    rows = re.findall(r"^\| `([\w./]+)` \| in (?:`(\w+)`)", page, re.MULTILINE)
    assert len(rows) == 4
    for path, table in rows:
        assert re.search(rf"^{table}\b", (ROOT / path).read_text("utf-8"), re.MULTILINE), f"{path} has no {table}"
    assert "<!-- models: begin -->" in (ROOT / "README.md").read_text("utf-8")
