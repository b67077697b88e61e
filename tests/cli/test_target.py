"""Which cloud a command talks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden_cli.errors import CliError
from ekiden_cli.target import home, resolve
from tests.cli.conftest import BUCKET, free_port, write_state
from tests.cli.fake_api import FakeApi

pytestmark = pytest.mark.enable_socket


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, profile or region of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_a_running_embedded_cloud_is_the_default(cloud: Path, api: FakeApi, s3_url: str) -> None:
    found = resolve(None)

    assert (found.name, found.api_url, found.bucket, found.endpoint_url) == ("local", api.url, BUCKET, s3_url)
    assert found.credentials().access_key == "test"


def test_another_cloud_is_chosen_by_option_or_environment(
    cloud: Path, api: FakeApi, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(cloud, "second", endpoint_url=s3_url, api_url="http://127.0.0.1:1/second")

    assert resolve("second").api_url == "http://127.0.0.1:1/second"
    assert resolve(None).name == "local"
    monkeypatch.setenv("EKIDEN_CLOUD", "second")
    assert resolve(None).name == "second"
    monkeypatch.setenv("EKIDEN_API_URL", "http://127.0.0.1:2/other")
    assert resolve(None).api_url == "http://127.0.0.1:2/other"


def test_two_running_clouds_without_a_default_one_have_to_be_chosen_from(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path))
    for name in ("a", "b"):
        write_state(tmp_path, name, endpoint_url=s3_url, api_url="http://x")

    with pytest.raises(CliError, match="2 embedded clouds are running: a, b"):
        resolve(None)


def test_an_unknown_name_lists_the_known_ones(cloud: Path) -> None:
    with pytest.raises(CliError, match=r"no embedded cloud named 'lokal' in .*; there is local") as caught:
        resolve("lokal")

    assert "ekiden up --name lokal" in caught.value.hint


def test_a_stopped_cloud_says_how_to_start_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path))
    write_state(tmp_path, "local", endpoint_url=f"http://127.0.0.1:{free_port()}", api_url="http://x")

    with pytest.raises(CliError, match="is not running") as named:
        resolve("local")
    with pytest.raises(CliError, match=r"no embedded cloud is running \(local is stopped\)") as default:
        resolve(None)

    assert named.value.hint == "start it with `ekiden up`"
    assert "ekiden up" in default.value.hint


def test_without_cloud_and_credentials_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    with pytest.raises(CliError, match="there are no AWS credentials"):
        resolve("aws")


def test_on_aws_the_stack_outputs_say_where_everything_is(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a stack in CloudFormation (of the local AWS, reached through the standard variable)
    import boto3

    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    template = """{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}, "Outputs": {
        "ApiUrl": {"Value": "https://abc.execute-api.us-east-1.amazonaws.com"}, "DataBucketName": {"Value": "data"}}}"""
    cloudformation = boto3.client("cloudformation", region_name="us-east-1")
    cloudformation.create_stack(StackName="ekiden-test", TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="ekiden-test", WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )

    # WHEN the target is resolved by the stack's name
    found = resolve("aws", "ekiden-test")

    # THEN
    assert (found.name, found.bucket, found.is_local) == ("aws", "data", False)
    assert found.api_url == "https://abc.execute-api.us-east-1.amazonaws.com"
    with pytest.raises(CliError, match="cannot read the stack 'absent'"):
        resolve("aws", "absent")


def test_the_home_is_the_nearest_one_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EKIDEN_HOME", raising=False)
    (tmp_path / ".ekiden").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")

    assert home() == tmp_path / ".ekiden"
