"""Call a function's handler in this process, as Lambda would: ``python tools/invoke.py FUNCTION EVENT.json``.

The environment is the deployed function's own, read from the embedded cloud that runs (``ekiden up``). Without an
embedded cloud, everything comes from the environment.

Prints the handler's answer as JSON to standard output; logs, metrics and the time go to standard error. Exit codes:
0 answered, 1 the handler raised, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STARTED = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = ROOT / "functions"
USAGE = 2


class UsageError(Exception):
    """What was asked for cannot be invoked; the message says why and what to do."""


def folder_of(name: str) -> str:
    """``RecordJobState`` or ``record_job_state`` as the name of a folder in ``functions/``.

    Raises:
        UsageError: there is no such function.
    """
    folder = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_")
    known = sorted(path.parent.name for path in FUNCTIONS.glob("*/handler.py"))
    if folder not in known:
        raise UsageError(f"there is no function {name[:80]!r}; one of {', '.join(known)}")
    return folder


def read_event(path: Path) -> Any:
    """The event in a file.

    Raises:
        UsageError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; events/lambda/ has samples") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None


def environment_from_cloud(folder: str, cloud_name: str) -> dict[str, str]:
    """The variables under which the embedded cloud runs the function; none if no cloud is recorded."""
    from ekiden_local.state import CloudError, home_of, read_cloud

    try:
        cloud = read_cloud(home_of(cloud_name))
    except CloudError as error:
        raise UsageError(f"{error} {error.remedy}") from None
    if cloud is None:
        return {}
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "lambda",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=cloud.access_key,
        aws_secret_access_key=cloud.secret_key,
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    name = f"{cloud.stack}-{folder.replace('_', '-')}"
    try:
        deployed = client.get_function_configuration(FunctionName=name)
    except (ClientError, BotoCoreError) as error:
        raise UsageError(
            f"the embedded cloud {cloud_name!r} at {cloud.endpoint_url} does not answer for {name}: {error}. "
            "Start it with `ekiden up`, or remove it with `ekiden down --purge`."
        ) from None
    variables: dict[str, str] = deployed.get("Environment", {}).get("Variables", {})
    return cloud.session_env() | variables


def invoke(folder: str, event: Any) -> Any:
    """What the handler answers to ``event``."""
    spec = importlib.util.spec_from_file_location(f"{folder}_handler", FUNCTIONS / folder / "handler.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"functions/{folder}/handler.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = f"ekiden-{folder.replace('_', '-')}"
    context = SimpleNamespace(
        function_name=name,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        aws_request_id="00000000-0000-0000-0000-000000000000",
    )
    return module.handler(event, context)


def main(arguments: list[str] | None = None) -> int:
    """Invoke a function with an event. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="invoke.py", description="Call a function's handler in this process.")
    parser.add_argument("function", help="RecordJobState or record_job_state")
    parser.add_argument("event", type=Path, help="a file from events/lambda/")
    parser.add_argument("--cloud", default="local", help="name of the embedded cloud [local]")
    options = parser.parse_args(arguments)
    try:
        folder, event = folder_of(options.function), read_event(options.event)
        found = environment_from_cloud(folder, options.cloud)
    except UsageError as error:
        sys.stderr.write(f"invoke.py: {error}\n")
        return USAGE
    if found:
        os.environ.pop("AWS_PROFILE", None)  # of another cloud
        os.environ.update(found)
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ekiden")
    try:
        # Loggers keep the stream they find when they are made: what the handler says goes to standard error.
        with contextlib.redirect_stdout(sys.stderr):
            answer = invoke(folder, event)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer to the question that was asked
        traceback.print_exception(error, file=sys.stderr)
        if not found:
            sys.stderr.write("No embedded cloud is recorded here: start one with `ekiden up`, or set the variables.\n")
        return 1
    finally:
        sys.stderr.write(f"{folder}: {time.perf_counter() - STARTED:.2f} s\n")
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
