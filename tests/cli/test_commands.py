"""The commands, as a user types them: what they print, where, and their exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ekiden_cli.generate import generate
from typer.testing import Result

from tests.cli.conftest import BUCKET
from tests.cli.fake_api import BEGAN, FakeApi, at, failure, success

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]
RUN = "demo-20261120-100000-abcdef"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The spec of a small generated graph."""
    return generate(tmp_path / "graph", users=20, movies=30, ratings=200, seed=5).spec


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = """import sys; import ekiden_cli.main
heavy = {"numpy", "pyarrow", "boto3", "botocore", "pydantic", "yaml", "torch", "rich.console"} & set(sys.modules)
assert not heavy, heavy"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "down",
        "doctor",
        "generate",
        "import movielens",
        "validate",
        "run",
        "runs",
        "show",
        "watch",
        "logs",
        "score",
        "scores",
        "demo",
    ],
)
def test_the_help_of_each_command_teaches_by_examples_and_offers_json(ekiden: Ekiden, command: str) -> None:
    done = ekiden(*command.split(), "--help")

    assert done.exit_code == 0
    assert f"ekiden {command}" in done.stdout.partition("Examples:")[2]
    assert "--json" in done.stdout


def test_the_demo_is_not_listed_and_an_unknown_command_is_wrong_usage(ekiden: Ekiden) -> None:
    listed = ekiden("--help")
    assert "demo" not in listed.stdout
    assert "Exit codes: 0 done, 1 the run or request failed, 2 wrong usage or input." in listed.stdout
    assert ekiden("rnus").exit_code == 2


# -- graphs and specs


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


# -- runs


def test_run_uploads_the_graph_once_and_submits_its_address(
    ekiden: Ekiden, cloud: Path, api: FakeApi, s3: Any, graph: Path
) -> None:
    first, second = ekiden("run", graph, "--json"), ekiden("run", graph)

    assert json.loads(first.stdout) == {"run_id": RUN, "status": "RUNNING"}
    assert "(3 of 3 files" in first.stderr
    assert "(nothing new" in second.stderr
    assert second.stdout == f"{RUN}\n"
    source = api.submitted[0]["spec"]["graph"]["source"]
    assert source.startswith(f"s3://{BUCKET}/graphs/demo-")
    assert api.submitted[1]["spec"] == api.submitted[0]["spec"]
    assert api.submitted[1]["request_id"] != api.submitted[0]["request_id"]
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=source.removeprefix(f"s3://{BUCKET}/"))["Contents"]
    assert [o["Key"].rpartition("/")[2] for o in listed] == [
        "edges-rated.csv",
        "vertices-movie.csv",
        "vertices-user.csv",
    ]


def test_another_content_goes_to_another_address(ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path) -> None:
    ekiden("run", graph)
    with (graph.parent / "edges-rated.csv").open("a") as edges:
        edges.write("rated-x,user-1,movie-1,rated,5,0\n")
    ekiden("run", graph)

    first, second = (body["spec"]["graph"]["source"] for body in api.submitted)
    assert first != second


def test_run_with_watch_follows_to_the_evaluation(ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path) -> None:
    api.lines[RUN] = [line("train", 1, "epoch 1/60  valid rmse 1.01")]

    done = ekiden("run", graph, "--watch")

    assert done.exit_code == 0
    for said in ("export   RUNNING", "export   SUCCEEDED  4.0 s  0123456789abcdef-export-1", "train    epoch 1/60"):
        assert said in done.stderr
    table = [row.split() for row in done.stdout.splitlines()]
    assert ["model", "0.9012", "0.7101", "0.4100"] in table
    assert ["user", "and", "item", "biases", "0.9891", "0.7800", "0.2600"] in table
    assert any(row[:1] == ["report"] for row in table)
    assert "ekiden score --endpoint movielens" in done.stderr


def test_a_failed_run_ends_with_stage_code_message_and_log(
    ekiden: Ekiden, cloud: Path, api: FakeApi, graph: Path
) -> None:
    api.on_submit = failure

    done = ekiden("run", graph, "--watch")

    assert done.exit_code == 1
    assert "process failed: NOT_A_NUMBER  edges-rated.csv, row 7: rating is 'five'" in done.stderr
    assert "row 7 is bad" in done.stderr
    assert f"ekiden logs {RUN} --stage process" in done.stderr


def test_watch_as_json_prints_the_last_view_and_nothing_else(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)

    done = ekiden("watch", RUN, "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "NOT_A_NUMBER"


def test_interrupting_leaves_the_run_and_says_how_to_come_back(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.runs[RUN] = success(RUN)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ekiden_cli.watch.time.sleep", interrupt)
    done = ekiden("watch", RUN)

    assert done.exit_code == 130
    assert f"the run goes on without you; watch it again with `ekiden watch {RUN}`" in done.stderr


def test_the_live_view_shows_stages_jobs_and_the_last_line(cloud: Path, api: FakeApi) -> None:
    from ekiden_cli.api import ApiClient
    from ekiden_cli.target import resolve
    from ekiden_cli.watch import follow
    from rich.console import Console

    api.runs[RUN] = success(RUN)
    api.lines[RUN] = [line("train", 1, "epoch 9/60")]
    console = Console(force_terminal=True, width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115

    final = follow(ApiClient(resolve(None)), RUN, pause=0.2, console=console)

    shown = console.export_text()
    assert final["status"] == "SUCCEEDED"
    assert "epoch 9/60" in shown
    assert "0123456789abcdef-deploy-1" in shown


def test_show_as_json_is_what_the_api_says(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)[-1:]

    shown = json.loads(ekiden("show", RUN, "--json").stdout)

    assert shown == api.view(RUN)
    assert {"run_id", "status", "stages", "evaluation", "artifacts", "error"} <= shown.keys()


def test_show_and_latest_draw_a_panel(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)[-1:]

    shown = ekiden("show", "latest").stdout

    for said in (RUN, "FAILED", "process failed: NOT_A_NUMBER", "0123456789abcdef-export-1", "took 20.0 s"):
        assert said in shown


def test_runs_lists_and_filters(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)

    assert RUN in ekiden("runs").stdout
    assert json.loads(ekiden("runs", "--status", "succeeded", "--json").stdout)["runs"][0]["run_id"] == RUN
    assert "no runs with status FAILED" in ekiden("runs", "--status", "failed").stderr


def test_an_unknown_run_is_wrong_input_and_a_stopped_cloud_a_failure(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.runs[RUN] = success(RUN)
    unknown = ekiden("show", RUN + "x")
    assert unknown.exit_code == 2
    assert f"did you mean {RUN}?" in unknown.stderr

    monkeypatch.setenv("EKIDEN_HOME", str(cloud / "empty"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    nowhere = ekiden("runs", "--json")
    assert nowhere.exit_code == 1
    assert json.loads(nowhere.stdout)["error"]["code"] == "NO_CLOUD"
    assert "run `ekiden up`" in nowhere.stderr or "with `ekiden up`" in nowhere.stderr


def test_logs_are_read_over_all_pages(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)[-1:]
    api.lines[RUN] = [line("train", k, f"epoch {k}") for k in range(5)] + [line("export", 9, "rows")]

    plain = ekiden("logs", RUN, "--stage", "train")
    document = json.loads(ekiden("logs", RUN, "--json").stdout)

    assert plain.stdout.splitlines() == [f"10:00:0{k} train    epoch {k}" for k in range(5)]
    assert [x["message"] for x in document["lines"]] == [f"epoch {k}" for k in range(5)] + ["rows"]
    assert ekiden("logs", RUN, "--stage", "cook").exit_code == 2


def test_logs_are_followed_until_the_run_ends_without_repeating_a_line(
    ekiden: Ekiden, cloud: Path, api: FakeApi
) -> None:
    # GIVEN a run that writes one more line at each look at it
    api.runs[RUN] = success(RUN)
    api.lines[RUN] = [line("export", 0, "line 0")]
    view = api.view

    def look(run_id: str) -> dict[str, Any]:
        api.lines[RUN].append(line("export", len(api.lines[RUN]), f"line {len(api.lines[RUN])}"))
        return view(run_id)

    api.view = look  # type: ignore[method-assign]

    # WHEN its log is followed
    done = ekiden("logs", RUN, "--follow", "--json")

    # THEN each line came once, one document a line
    assert [json.loads(x)["message"] for x in done.stdout.splitlines()] == [f"line {k}" for k in range(6)]


# -- scores


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


def line(stage: str, second: int, message: str) -> dict[str, Any]:
    assert BEGAN.second == 0
    return {"timestamp": at(second), "stage": stage, "attempt": 1, "message": message}
