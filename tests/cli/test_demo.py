"""The demo's own steps: what it asks for, and what it makes of the answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ekiden_cli.commands import cloud as cloud_commands
from ekiden_cli.demo import CANDIDATES, UNKNOWN_USER, Prediction, best, choose_pairs, make_graph, read_titles
from ekiden_cli.errors import CliError
from ekiden_cli.generate import generate
from tests.cli.conftest import BUCKET
from tests.cli.fake_api import EVALUATION, FakeApi, run_view


def test_pairs_are_of_a_busy_a_typical_and_a_quiet_user_with_movies_they_have_not_rated(tmp_path: Path) -> None:
    generate(tmp_path, users=60, movies=150, ratings=3000, seed=1)
    rated = {tuple(x.split(",")[1:3]) for x in (tmp_path / "edges-rated.csv").read_text().splitlines()[1:]}
    activity = Counter(user for user, _ in rated)

    pairs = choose_pairs(tmp_path)

    assert not rated & set(pairs)
    assert pairs[-1][0] == UNKNOWN_USER
    users = list(dict.fromkeys(user for user, _ in pairs[:-1]))
    busy, typical, quiet = (activity[user] for user in users)
    assert busy > typical > quiet
    assert len(pairs) <= 3 * CANDIDATES + 1 <= 1000
    assert pairs == choose_pairs(tmp_path)


def test_titles_fall_back_to_nothing_where_the_graph_has_none(tmp_path: Path) -> None:
    generate(tmp_path / "a", users=3, movies=4, ratings=5, seed=1)
    assert read_titles(tmp_path / "a")["movie-1"].startswith("The ")
    (tmp_path / "vertices-movie.csv").write_text("~id,~label\nmovie-1,movie\n")
    assert read_titles(tmp_path) == {}


def test_the_highest_predictions_of_each_user_are_shown_in_the_users_order() -> None:
    found = [Prediction("u2", f"m{k}", "t", float(k), "scored") for k in range(9)]
    found.append(Prediction("u1", "m", "t", None, "invalid"))

    shown = [(p.user, p.predicted) for p in best(found)]

    assert shown == [("u2", 8.0), ("u2", 7.0), ("u2", 6.0), ("u2", 5.0), ("u1", None)]


def test_bad_data_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(CliError, match=r"found none of u\.data") as caught:
        make_graph(tmp_path / "data", tmp_path / "graph")
    assert caught.value.exit_code == 2


@pytest.mark.enable_socket
@pytest.mark.parametrize("as_json", [False, True])
def test_the_demo_goes_from_graph_to_predictions(
    ekiden: Callable[..., Result], cloud: Path, api: FakeApi, s3: Any, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    # GIVEN a cloud that runs already, and a run whose files are in S3
    monkeypatch.setattr(cloud_commands, "start", lambda name: None)
    files = {"report": "report.html", "evaluation": "evaluation.json", "predictions": "predictions.parquet"}
    for name in files.values():
        s3.put_object(Bucket=BUCKET, Key=f"runs/x/{name}", Body=b'{"rmse": 1}')
    artifacts = {kind: f"s3://{BUCKET}/runs/x/{name}" for kind, name in files.items()}
    done = ["SUCCEEDED"] * 4
    api.on_submit = lambda run_id: [
        run_view(run_id, *done, status="SUCCEEDED", endpoint="demo", evaluation=EVALUATION, artifacts=artifacts)
    ]
    api.rows_per_part = 200

    # WHEN
    result = ekiden("demo", *(["--json"] if as_json else []))

    # THEN
    assert result.exit_code == 0, result.stderr
    assert (cloud / "demo" / "report.html").read_bytes() == b'{"rmse": 1}'
    if as_json:
        document = json.loads(result.stdout)
        assert document["evaluation"]["targets"][0]["metrics"]["rmse"] == 0.9012
        assert document["predictions"][-1]["status"] == "fallback_source"
        assert len(document["seconds"]) == 6
    else:
        for said in (
            "user-unknown",
            "fallback_source",
            "global mean",
            "What each step took",
            "ekiden down",
            "The ",
        ):
            assert said in result.stdout
