"""An earlier version's handlers at work in a process of their own: ``python worker.py FOLDER``.

FOLDER holds that version's ``layers/shared/ekiden`` and ``functions``. Requests come in and answers go out as lines of
JSON; between the two, every call of a client is sent out as a line and answered with one, so that all versions work on
the same ledger and the same SageMaker. Nothing of today's code is imported here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(sys.argv[1])
sys.path.insert(0, str(FOLDER / "layers" / "shared"))
sys.path.append(str(Path(__file__).parents[2]))

from botocore.exceptions import ClientError  # noqa: E402

import ekiden  # noqa: E402
from ekiden.adapters.dynamodb_client import Table  # noqa: E402
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger  # noqa: E402
from ekiden.adapters.sagemaker_jobs import SageMakerJobs  # noqa: E402
from ekiden.adapters.sagemaker_requests import SageMakerSettings  # noqa: E402
from ekiden.application.plans import Deployed  # noqa: E402
from ekiden.ports import StoredObject  # noqa: E402
from ekiden.runtime.container import Container  # noqa: E402
from tests.upgrade.wire import chance, decoded, encoded  # noqa: E402

OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # handlers log and count to standard output


class Crash(BaseException):
    """The worker dies here."""


def say(**message: Any) -> None:
    """One line out."""
    OUT.write(json.dumps(message, default=encoded) + "\n")
    OUT.flush()


def hear() -> dict[str, Any]:
    """One line in."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    message: dict[str, Any] = json.loads(line, object_hook=decoded)
    return message


class Client:
    """A client whose calls are made by the other side."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            say(call=operation, service=self._service, request=request)
            answer = hear()
            if "error" in answer:
                raise ClientError(answer["error"], operation)
            if "crash" in answer:
                raise Crash
            return answer["result"]

        return call


def parts(now: datetime, seed: int, parked: list[str]) -> Container:
    """A container on the shared ledger and the shared SageMaker."""
    return Container(
        clock=SimpleNamespace(now=lambda: now),
        randomness=SimpleNamespace(jitter=lambda: chance(seed, 1)[0] / 256, entropy=lambda count: chance(seed, count)),
        ledger=DynamoDBLedger(Table(Client("dynamodb"), "ledger")),  # type: ignore[arg-type]
        jobs=SageMakerJobs(Client("sagemaker"), SageMakerSettings("image", "role")),  # type: ignore[arg-type]
        logs=SimpleNamespace(tail=lambda kind, job, limit: []),
        objects=SimpleNamespace(put=lambda bucket, key, body, kind: StoredObject(bucket, key, "etag", len(body))),
        dead_letters=SimpleNamespace(send=parked.extend),
        deployed=Deployed("ekiden-data"),
    )


@cache
def handler_of(function: str) -> Callable[..., Any]:
    """The function's handler."""
    spec = importlib.util.spec_from_file_location(function, FOLDER / "functions" / function / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Callable[..., Any] = module.handler
    return handler


def main() -> None:
    """Handle requests until there are no more."""
    assert Path(str(ekiden.__file__)).is_relative_to(FOLDER), f"{ekiden.__file__} is not the earlier version"
    while True:
        request, parked = hear(), list[str]()
        context = SimpleNamespace(
            function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn", aws_request_id="request"
        )
        container = parts(request["now"], request["seed"], parked)
        try:
            answer = handler_of(request["function"])(request["event"], context, parts=container)
        except Crash:
            say(crashed=True)
        else:
            say(answer=answer, parked=parked)


main()
