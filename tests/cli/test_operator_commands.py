"""``cancel``, ``retry``, ``redrive`` and ``show --history``: what they ask, print and end with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ekiden_cli.render import who
from tests.cli.fake_api import FakeApi, at, cancelled, error, failure, run_view, success

pytestmark = pytest.mark.enable_socket
Ekiden = Callable[..., Result]
RUN = "demo-20261120-100000-abcdef"


def going(run_id: str = RUN) -> list[dict[str, Any]]:
    return [run_view(run_id, "SUCCEEDED", "SUCCEEDED", "RUNNING")]


# cancel


def test_cancel_tells_the_reason_and_shows_what_is_being_stopped(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = going()

    done = ekiden("cancel", RUN, "--reason", "wrong graph")

    assert done.exit_code == 0
    assert api.acts == [(f"/runs/{RUN}/cancel", {"reason": "wrong graph"})]
    assert done.stdout == f"{RUN} CANCELLING\n"
    assert "stopping train: 0123456789abcdef-train-1" in done.stderr
    assert f"next  ekiden watch {RUN}" in done.stderr


def test_cancel_says_why_it_takes_minutes_if_the_job_may_not_exist_yet(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = run_view(RUN, "SUCCEEDED", "STARTING", status="CANCELLING")
    monkeypatch.setattr("tests.cli.fake_api.cancelled", lambda run_id: [starting])
    api.runs[RUN] = going()

    done = ekiden("cancel", RUN)

    assert "stopping process: 0123456789abcdef-process-1" in done.stderr
    assert "in four minutes at most nobody can create it any more" in done.stderr


def test_cancel_waits_until_the_job_has_stopped(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = going()

    done = ekiden("cancel", "latest", "--wait")

    assert (done.exit_code, done.stdout) == (0, f"{RUN} CANCELLED\n")
    assert "the run  CANCELLING" in done.stderr
    assert "train    CANCELLED" in done.stderr
    assert f"next  ekiden retry {RUN}" in done.stderr


def test_cancel_as_json_is_what_the_api_says(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = going()
    asked = ekiden("cancel", RUN, "--json")
    assert json.loads(asked.stdout) == {"run_id": RUN, "status": "CANCELLING", "stage": None}

    waited = ekiden("cancel", RUN, "--wait", "--json")
    assert waited.exit_code == 0
    assert json.loads(waited.stdout)["stages"][2]["status"] == "CANCELLED"


def test_a_run_that_is_over_cannot_be_cancelled(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)[-1:]

    done = ekiden("cancel", RUN, "--wait", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "ALREADY_OVER"
    assert f"run {RUN} is SUCCEEDED already: there is nothing to cancel" in done.stderr


def test_a_second_cancel_says_the_same(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = cancelled(RUN)[-1:]
    done = ekiden("cancel", RUN)
    assert (done.exit_code, done.stdout) == (0, f"{RUN} CANCELLED\n")


def test_cancelling_is_listed_shown_and_watched_as_not_over(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = cancelled(RUN)
    assert "CANCELLING" in ekiden("show", RUN).stdout
    assert api.runs[RUN][-1]["status"] == "CANCELLED"

    watched = ekiden("watch", RUN, "--json")

    assert watched.exit_code == 1
    assert json.loads(watched.stdout)["status"] == "CANCELLED"
    api.runs[RUN] = cancelled(RUN)[:1]
    assert json.loads(ekiden("runs", "--status", "cancelling", "--json").stdout)["runs"][0]["status"] == "CANCELLING"


# retry


def test_retry_goes_on_where_the_run_ended(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)[-1:]

    done = ekiden("retry", RUN, "--reason", "graph mended")

    assert (done.exit_code, done.stdout) == (0, f"{RUN} goes on at process\n")
    assert api.acts == [(f"/runs/{RUN}/retry", {"reason": "graph mended"})]


def test_retry_from_a_stage_can_be_watched_to_the_end(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN] = failure(RUN)[-1:]

    done = ekiden("retry", "latest", "--from", "train", "--watch")

    assert done.exit_code == 0
    assert api.acts[0][1] == {"reason": "", "from": "train"}
    assert f"{RUN} goes on at train" in done.stderr
    assert "0.9012" in done.stdout
    answer = json.loads(ekiden("retry", RUN, "--from", "deploy", "--json").stdout)
    assert answer == {"run_id": RUN, "status": "RUNNING", "stage": "deploy"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("NOT_RETRYABLE", "the run is SUCCEEDED; only an ended run can go on"),
        ("OUTPUT_CHANGED", "the output of export is not what it left any more; retry with --from export"),
    ],
)
def test_a_retry_that_is_refused_says_why(ekiden: Ekiden, cloud: Path, api: FakeApi, code: str, said: str) -> None:
    api.runs[RUN] = going()
    api.on_retry = (409, error(code, said))

    done = ekiden("retry", RUN, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert said in done.stderr
    assert ekiden("retry", RUN, "--from", "cook").exit_code == 2
    assert ekiden("retry", "nobody").exit_code == 2


def test_a_retry_whose_answer_was_lost_has_worked(
    ekiden: Ekiden, cloud: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN an API that answers the first try by an error, and then finds that the run goes on already
    monkeypatch.setattr("ekiden_cli.api.time.sleep", lambda seconds: None)
    api.runs[RUN] = going()
    api.on_retry = (409, error("NOT_RETRYABLE", "the run is RUNNING"))
    api.fail_with = [503]

    done = ekiden("retry", RUN)

    assert (done.exit_code, done.stdout) == (0, f"{RUN} goes on at train\n")


def test_the_last_line_of_an_earlier_attempt_is_not_shown_for_the_next(
    ekiden: Ekiden, cloud: Path, api: FakeApi
) -> None:
    tried = run_view(RUN, "SUCCEEDED", "SUCCEEDED", "RUNNING")
    train = tried["stages"][2]
    train["attempts"] = [train["attempts"][0] | {"number": n, "job": f"0123456789abcdef-train-{n}"} for n in (1, 2)]
    api.runs[RUN] = [tried, success(RUN)[-1]]
    api.lines[RUN] = [{"timestamp": at(1), "stage": "train", "attempt": 1, "message": "train done in 6.0 s"}]

    assert "train done" not in ekiden("watch", RUN).stderr

    api.runs[RUN] = [tried, success(RUN)[-1]]
    api.lines[RUN].append({"timestamp": at(9), "stage": "train", "attempt": 2, "message": "epoch 1/60"})
    assert "epoch 1/60" in ekiden("watch", RUN).stderr


# redrive


def test_redrive_calls_until_nothing_is_left_and_adds_up(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.redrives = [
        {"Scores": [3000, 2, 0, 4000], "TrainWork": [0, 0, 0, 0]},
        {"Scores": [4000, 2, 1, 0], "TrainWork": [0, 0, 0, 0]},
    ]

    done = ekiden("redrive", "--reason", "endpoint is back")

    assert done.exit_code == 0
    first, second = (body for _, body in api.acts)
    assert first == {"reason": "endpoint is back"}
    assert second == {"reason": "endpoint is back", "before": at(0).replace("+00:00", "Z")}
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows == [["queue", "redriven", "kept", "parked", "again", "left"], ["Scores", "7,000", "2", "1"]]
    assert "kept in Scores: m: foreign" in done.stderr


def test_redrive_as_json_is_the_sum_of_the_apis_answers(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.redrives = [{"Scores": [10, 0, 0, 5]}, {"Scores": [5, 0, 0, 0]}]

    done = ekiden("redrive", "Scores", "--json")

    assert json.loads(done.stdout) == {
        "queues": [{"queue": "Scores", "redriven": 15, "kept": 0, "later": 0, "remaining": 0, "reasons": []}],
        "before": at(0).replace("+00:00", "Z"),
    }
    assert [body["queue"] for _, body in api.acts] == ["Scores", "Scores"]


def test_redrive_ends_when_a_whole_call_gets_nowhere(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.redrives = [{"Scores": [0, 9000, 0, 1000]}] * 3

    done = ekiden("redrive")

    assert done.exit_code == 1
    assert len(api.acts) == 1
    assert "they are no messages of Ekiden" in done.stderr
    api.redrives = [{"Scores": [0, 9000, 0, 1000]}]
    as_json = ekiden("redrive", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["queues"][0]["remaining"]) == (1, 1000)


def test_nothing_to_redrive_and_an_unknown_queue_are_said(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.redrives = [{"Scores": [0, 0, 0, 0]}]
    nothing = ekiden("redrive")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "no parked messages" in nothing.stderr

    unknown = ekiden("redrive", "Nope")
    assert unknown.exit_code == 2
    assert "one of Scores, TrainWork" in unknown.stderr


# show --history


HISTORY = [
    {"sequence": 0, "at": at(0), "actor": "arn:aws:iam::000000000000:user/ada", "what": "submitted"},
    {"sequence": 1, "at": at(0.25), "actor": f"RUN#{RUN}/0/1", "what": "export started as 0123-export-1"},
    {"sequence": 2, "at": at(5), "actor": "reconciler", "what": "export succeeded"},
    {"sequence": 3, "at": at(9), "actor": "arn:aws:sts::0:assumed-role/Ops/bob", "what": "cancel asked for: [red]x"},
]


def test_the_history_is_a_timeline_of_when_who_and_what(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN], api.history[RUN] = going(), HISTORY

    lines = ekiden("show", "latest", "--history").stdout.splitlines()

    assert [line.split()[0:3] for line in lines[1:]] == [
        ["2026-11-20", "10:00:00.000", "ada"],
        ["2026-11-20", "10:00:00.250", "event"],
        ["2026-11-20", "10:00:05.000", "reconciler"],
        ["2026-11-20", "10:00:09.000", "Ops/bob"],
    ]
    assert lines[-1].rstrip().endswith("cancel asked for: [red]x"), "what users wrote is no markup"


def test_the_history_as_json_is_what_the_api_says(ekiden: Ekiden, cloud: Path, api: FakeApi) -> None:
    api.runs[RUN], api.history[RUN] = going(), HISTORY
    shown = json.loads(ekiden("show", RUN, "--history", "--json").stdout)
    assert [line["what"] for line in shown["history"]] == [line["what"] for line in HISTORY]
    assert ekiden("show", RUN + "x", "--history").exit_code == 2


@pytest.mark.parametrize(
    ("actor", "shown"),
    [
        ("arn:aws:iam::000000000000:root", "root"),
        ("arn:aws:iam::000000000000:user/team/ada", "team/ada"),
        ("6a7e8feb-b491-4cf7-a9f1-bf3703467718", "job event 6a7e8feb"),
        ("s3:specs/nightly.yaml", "s3:specs/nightly.yaml"),
        ("http", "http"),
    ],
)
def test_who_acted_is_said_in_words(actor: str, shown: str) -> None:
    assert who(actor) == shown
