"""Which cloud a command talks to: an embedded one on this machine, or AWS. Only addresses and keys differ."""

from __future__ import annotations

import functools
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ekiden_cli.errors import CliError, usage

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

AWS = "aws"
DEFAULT_STACK = "ekiden"
HOME = ".ekiden"


@dataclass(frozen=True, slots=True)
class Target:
    """A cloud with a deployed Ekiden stack.

    ``endpoint_url`` and the keys are set for an embedded cloud; on AWS they are ``None`` and the usual chain
    (environment, profile, role) applies.
    """

    name: str
    api_url: str
    region: str
    bucket: str
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    stack: str | None = None

    @property
    def flags(self) -> str:
        """The options, with a space before, under which a later command finds this cloud; none for the default."""
        stack = f" --stack {self.stack}" if self.stack not in (None, DEFAULT_STACK) else ""
        return ("" if self.name == "local" else f" --cloud {self.name}") + stack

    @property
    def is_local(self) -> bool:
        """Whether this is an embedded cloud."""
        return self.endpoint_url is not None

    def credentials(self) -> ReadOnlyCredentials:
        """Return frozen credentials to sign with. Raises ``CliError`` if there are none."""
        from botocore.credentials import ReadOnlyCredentials

        if self.access_key and self.secret_key:
            return ReadOnlyCredentials(self.access_key, self.secret_key, None)
        return _aws_credentials()

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service of this cloud; the same one each time, as it takes a while to make."""
        return _client(self, service)


@functools.cache
def _client(target: Target, service: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=16,
        s3={"addressing_style": "path"} if target.is_local else None,
        # A proxy configured for the outside world has nothing to say about this machine.
        proxies={} if target.is_local else None,
    )
    session: Any = boto3.Session(
        aws_access_key_id=target.access_key, aws_secret_access_key=target.secret_key, region_name=target.region
    )
    return session.client(service, endpoint_url=target.endpoint_url, config=config)


def home() -> Path:
    """Return the folder of embedded clouds: ``EKIDEN_HOME``, else the nearest ``.ekiden`` upwards."""
    if chosen := os.environ.get("EKIDEN_HOME"):
        return Path(chosen)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / HOME).is_dir():
            return folder / HOME
    # The supervisor's own choice: beside the template of the checkout that ekiden was installed from.
    from ekiden_local.state import CloudError, project_root

    try:
        return project_root() / HOME
    except CloudError:
        return here / HOME


def resolve(cloud: str | None, stack: str | None = None) -> Target:
    """Find the cloud to talk to.

    ``cloud`` (or ``EKIDEN_CLOUD``) is ``aws`` or the name of an embedded cloud. Without it: a running
    embedded cloud, else AWS through the outputs of ``stack``. ``EKIDEN_API_URL`` overrides the API's address.
    """
    cloud = cloud or os.environ.get("EKIDEN_CLOUD") or None
    stack = stack or os.environ.get("EKIDEN_STACK") or DEFAULT_STACK
    if cloud == AWS:
        return _on_aws(stack)
    states = _states()
    if cloud is not None:
        if cloud not in states:
            known = f"; there is {', '.join(sorted(states))}" if states else ""
            raise usage(
                f"no embedded cloud named {cloud[:60]!r} in {home()}{known}",
                f"start it with `ekiden up --name {cloud[:60]}`, or use `--cloud aws`",
                "NO_CLOUD",
            )
        return _embedded(cloud, states[cloud])
    running = [name for name, state in sorted(states.items()) if _answers(str(state.get("endpoint_url", "")))]
    if len(running) == 1 or "local" in running:
        name = "local" if "local" in running else running[0]
        return _embedded(name, states[name])
    if running:
        raise usage(
            f"{len(running)} embedded clouds are running: {', '.join(running)}",
            "choose one with --cloud NAME",
            "NO_CLOUD",
        )
    stopped = f" ({', '.join(sorted(states))} {'is' if len(states) == 1 else 'are'} stopped)" if states else ""
    try:
        return _on_aws(stack)
    except CliError as error:
        raise CliError(
            f"no embedded cloud is running{stopped}, and AWS cannot be used: {error.message}",
            hint="start one with `ekiden up`, or set up AWS credentials and use `--cloud aws`",
            code="NO_CLOUD",
        ) from None


def _states() -> dict[str, dict[str, Any]]:
    """Return the state of each embedded cloud by name; a file that is not JSON is left out."""
    states = {}
    for path in sorted(home().glob("*/cloud.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(state, dict):
            states[path.parent.name] = state
    return states


def _embedded(name: str, state: dict[str, Any]) -> Target:
    endpoint = str(state.get("endpoint_url", ""))
    if not _answers(endpoint):
        flag = "" if name == "local" else f" --name {name}"
        raise CliError(
            f"the embedded cloud {name!r} is not running (nothing answers at {endpoint})",
            hint=f"start it with `ekiden up{flag}`",
            code="NO_CLOUD",
        )
    try:
        return Target(
            name=name,
            api_url=os.environ.get("EKIDEN_API_URL") or state["api_url"],
            region=state["region"],
            bucket=state["data_bucket"],
            endpoint_url=endpoint,
            access_key=state["access_key"],
            secret_key=state["secret_key"],
        )
    except KeyError as missing:
        raise CliError(
            f"{home() / name / 'cloud.json'} lacks {missing}: `ekiden up` did not finish",
            hint="run `ekiden up` again",
            code="NO_CLOUD",
        ) from None


def _on_aws(stack: str) -> Target:
    import boto3
    import botocore.exceptions as failures

    # boto3 itself reads AWS_DEFAULT_REGION only; other tools and the Lambda environment have AWS_REGION.
    session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    api_url = os.environ.get("EKIDEN_API_URL")
    if session.region_name is None:
        raise CliError("no AWS region is set", hint="set AWS_REGION or a profile's region", code="NO_CLOUD")
    _aws_credentials()
    try:
        answer = session.client("cloudformation").describe_stacks(StackName=stack)
    except failures.ClientError as error:
        reason = error.response["Error"]["Message"][:200]
        raise CliError(
            f"cannot read the stack {stack!r} in {session.region_name}: {reason}",
            hint="deploy it (`sam build && sam deploy`), or name another with --stack",
            code="NO_STACK",
        ) from None
    except failures.BotoCoreError as error:
        raise CliError(
            f"cannot reach AWS: {str(error)[:200]}", hint="check network and region", code="NO_CLOUD"
        ) from None
    outputs = {o["OutputKey"]: o["OutputValue"] for o in answer["Stacks"][0].get("Outputs", [])}
    if lacking := sorted({"ApiUrl", "DataBucketName"} - outputs.keys()):
        raise CliError(
            f"the stack {stack!r} has no output {', '.join(lacking)}: it is not an Ekiden stack",
            code="NO_STACK",
        )
    return Target(AWS, api_url or outputs["ApiUrl"], session.region_name, outputs["DataBucketName"], stack=stack)


def _aws_credentials() -> ReadOnlyCredentials:
    import boto3
    import botocore.exceptions as failures

    try:
        found = boto3.Session().get_credentials()
        if found is not None:
            return found.get_frozen_credentials()
        reason = "there are no AWS credentials"
    except failures.BotoCoreError as error:
        reason = str(error)[:200]
    raise CliError(reason, hint="run `aws configure sso` or set AWS_PROFILE", code="NO_CREDENTIALS")


def _answers(url: str) -> bool:
    """Tell whether something listens at the address of ``url``."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        return False
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=0.5):
            return True
    except OSError:
        return False
