"""``score`` and ``scores``: pairs in, results out in order."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from tests.cli.conftest import BUCKET
from tests.cli.fake_api import FakeApi, success

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]


def test_score_writes_results_in_the_order_of_the_pairs(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    rows = [["u1", "m1"], ["user-unknown", "m1"], ["", "m2"], ["u,4", "m4"], ["uuuu5", "m5"]]
    with Path("pairs.csv").open("w", newline="") as text:
        csv.writer(text).writerows([["user", "movie"], *rows])
    columns = ("--source-column", "user", "--target-column", "movie")

    done = ekiden("score", "--endpoint", "movielens", "--pairs", "pairs.csv", "--out", "s.csv", *columns)

    assert done.exit_code == 0, done.stderr
    assert "5 pairs in s.csv: 3 scored, 1 fallback, 1 invalid" in done.stdout
    with Path("s.csv").open(newline="") as text:
        found = list(csv.reader(text))
    assert found[0] == ["source", "target", "score", "status"]
    assert [row[:2] for row in found[1:]] == rows
    assert [row[3] for row in found[1:]] == ["scored", "fallback_source", "invalid", "scored", "scored"]


def test_score_with_a_request_id_can_be_repeated_and_never_replaces_pairs_in_use(
    ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any
) -> None:
    Path("pairs.csv").write_text("source,target\nu1,m1\n")
    Path("others.csv").write_text("source,target\nu2,m2\n")
    for pairs in ("pairs.csv", "pairs.csv", "others.csv"):
        done = ekiden(
            "score", "--endpoint", "e", "--pairs", pairs, "--out", "s.csv", "--request-id", "mine:1", "--json"
        )
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["request_id"] == "mine:1"

    uploaded = s3.list_objects_v2(Bucket=BUCKET, Prefix="uploads/mine:1-")["Contents"]
    assert len(uploaded) == 2, "the same pairs have the same address, others another"


def test_scores_can_be_fetched_again_as_parquet(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    Path("pairs.csv").write_text("source,target\nu1,m1\nu22,m1\n")
    first = ekiden("score", "--endpoint", "e", "--pairs", "pairs.csv", "--out", "s.csv", "--json")
    request_id = json.loads(first.stdout)["request_id"]

    again = json.loads(ekiden("scores", request_id, "--out", "s.parquet", "--json").stdout)
    plain = ekiden("scores", request_id)

    assert (again["status"], again["rows"], again["out"]) == ("COMPLETED", 2, "s.parquet")
    assert pq.read_table("s.parquet").column("score").to_pylist() == [2.25, 3.25]
    assert "pairs 2: scored 2, fallback 0, invalid 0" in plain.stdout
    assert "COMPLETED" in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--endpoint", "absent", "--pairs", "pairs.csv", "--out", "s.csv"), "there is no endpoint absent"),
        (("--endpoint", "e", "--pairs", "none.csv", "--out", "s.csv"), "there is no file none.csv"),
        (("--endpoint", "e", "--pairs", "pairs.csv", "--out", "s.json"), "ends neither in .csv nor in .parquet"),
        (
            ("--endpoint", "e", "--pairs", "pairs.csv", "--out", "s.csv", "--source-column", "x"),
            "has no column x; it has source, target",
        ),
    ],
)
def test_score_refuses_wrong_input(
    ekiden: Ekiden, cloud: Path, api: FakeApi, arguments: tuple[str, ...], said: str
) -> None:
    Path("pairs.csv").write_text("source,target\nu1,m1\n")

    done = ekiden("score", *arguments)

    assert done.exit_code == 2
    assert said in done.stderr


def test_an_unknown_score_request_is_wrong_input(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    assert ekiden("scores", "score-none").exit_code == 2


@pytest.mark.parametrize(
    ("pairs", "out", "said"),
    [
        (b"source,target\nu1,m1\n", "p.csv", "is the file of the pairs"),
        (b"source,target\nu1,m1\n", "p.csv/x/s.csv", "is no folder that you may write to"),
        (b"source,target\nu1,m1\n", ".csv", None),
        (b"source,target\ru1,m1\r", "s.csv", "does not begin with a line of CSV"),
        (b"source,target,source\nu1,m1,x\n", "s.csv", "has the column source twice"),
        (b"source,target\n" + b"u" * 300_000 + b",m1\n", "s.csv", "row 2: longer than 256 KiB"),
    ],
)
def test_files_that_cannot_work_are_refused_before_anything_is_sent(
    ekiden: Ekiden, cloud: Path, api: FakeApi, pairs: bytes, out: str, said: str | None
) -> None:
    if said is None:
        out, said = "folder.csv", "is a folder"
        Path(out).mkdir()
    Path("p.csv").write_bytes(pairs)

    done = ekiden("score", "--endpoint", "e", "--pairs", "p.csv", "--out", out)

    assert done.exit_code == 2, done.stderr
    assert said in done.stderr
    assert Path("p.csv").read_bytes() == pairs
    assert not [call for call in api.requests if call[0] == "POST"]


@pytest.mark.parametrize(
    ("values", "said"),
    [(pa.array([b"\xff"]), "column source (binary) is no text"), (pa.array([["a"]]), "(list<")],
)
def test_parquet_columns_that_are_no_text_are_named(
    ekiden: Ekiden, cloud: Path, api: FakeApi, values: pa.Array, said: str
) -> None:
    pq.write_table(pa.table({"source": values, "target": ["m"]}), "p.parquet")

    done = ekiden("score", "--endpoint", "e", "--pairs", "p.parquet", "--out", "s.csv")

    assert done.exit_code == 2, done.stderr
    assert said in done.stderr
    assert ekiden("score", "--endpoint", "e", "--pairs", "p.parquet", "--out", "s.csv",
                  "--source-column", "target").exit_code == 2  # fmt: skip


def test_an_unknown_endpoint_is_answered_with_those_of_recent_runs(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    Path("p.csv").write_text("source,target\nu1,m1\n")
    arguments = ("score", "--endpoint", "absent", "--pairs", "p.csv", "--out", "s.csv")
    assert "no run has deployed one yet" in ekiden(*arguments).stderr

    api.runs["x"] = success("x")[-1:]

    assert "recent runs deployed movielens" in ekiden(*arguments).stderr


def test_pairs_that_all_fall_back_are_pointed_out(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    Path("p.csv").write_text("source,target\nuser-unknown,m1\n")

    done = ekiden("score", "--endpoint", "e", "--pairs", "p.csv", "--out", "s.csv")

    assert done.exit_code == 0
    assert "are these the ~id of its vertices?" in done.stderr
