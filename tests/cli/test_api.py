"""The client signs what it sends, tries again what may pass, and says what to do about the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ekiden_cli.api import ApiClient
from ekiden_cli.errors import CliError, Exit
from ekiden_cli.target import Target, resolve
from tests.cli.conftest import BUCKET, free_port
from tests.cli.fake_api import FakeApi, success

pytestmark = pytest.mark.enable_socket
RUN = "movielens-20261120-100000-abcdef"


@pytest.fixture
def client(cloud: Path) -> ApiClient:
    return ApiClient(resolve(None), first_pause=0.01)


def test_a_signed_call_passes_with_the_stage_in_the_path_and_a_query(client: ApiClient, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)

    listed = client.list_runs(status="SUCCEEDED", limit=7)

    assert [run["run_id"] for run in listed["runs"]] == [RUN]
    assert api.requests == [("GET", "/_aws/execute-api/abc123/$default/runs?status=SUCCEEDED&limit=7")]


def test_a_token_with_reserved_characters_survives_signing(client: ApiClient, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)
    api.lines[RUN] = []

    assert client.get_logs(RUN, stage="train", next_token="0000000") == {"lines": [], "next_token": None}
    with pytest.raises(CliError) as caught:
        client.get_run("a b/ü%41+$&=")
    assert caught.value.code == "UNKNOWN_RUN"


def test_wrong_keys_are_refused_with_a_hint(client: ApiClient) -> None:
    other = ApiClient(dataclasses.replace(client.target, secret_key="wrong"))

    with pytest.raises(CliError, match=r"refused the call \(403\): Forbidden") as caught:
        other.list_runs()

    assert "ekiden up" in caught.value.hint
    assert caught.value.exit_code is Exit.FAILED


def test_an_unknown_run_is_answered_with_the_nearest_known_ones(client: ApiClient, api: FakeApi) -> None:
    api.runs[RUN] = success(RUN)

    with pytest.raises(CliError, match="there is no run") as near:
        client.get_run(RUN[:-1] + "x")
    with pytest.raises(CliError) as far:
        client.get_run("zzz")

    assert near.value.hint == f"did you mean {RUN}?"
    assert far.value.hint == f"recent runs: {RUN}"
    assert near.value.exit_code is Exit.USAGE


def test_an_unknown_run_where_there_are_none_says_how_to_start_one(client: ApiClient) -> None:
    with pytest.raises(CliError) as caught:
        client.get_run("any")

    assert "ekiden run SPEC" in caught.value.hint


def test_passing_failures_are_tried_again_under_the_same_request_id(client: ApiClient, api: FakeApi) -> None:
    api.fail_with = [503, 429, 502]

    accepted = client.submit_scores("movielens", pairs=[("u1", "m1")])

    assert len(api.requests) == 4
    assert list(api.scores) == [accepted["request_id"]]


def test_lasting_failures_end_with_the_apis_own_words(client: ApiClient, api: FakeApi) -> None:
    api.fail_with = [503] * 4

    with pytest.raises(CliError, match=r"come back later \(BUSY\)") as caught:
        client.list_runs()

    assert (len(api.requests), caught.value.exit_code) == (4, Exit.FAILED)


def test_faults_of_a_refused_body_keep_their_paths(client: ApiClient) -> None:
    with pytest.raises(CliError, match="the spec has faults") as caught:
        client.submit_run({"version": 1, "name": "x"})

    assert caught.value.exit_code is Exit.USAGE
    assert ("graph", "required field is missing") in caught.value.faults


def test_a_silent_address_says_which_command_helps() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    target = Target("local", url, "us-east-1", BUCKET, endpoint_url=url, access_key="a", secret_key="b")

    with pytest.raises(CliError, match=r"the API of cloud 'local' does not answer at http://127") as caught:
        ApiClient(target, first_pause=0.001).list_runs()

    assert "ekiden doctor" in caught.value.hint
