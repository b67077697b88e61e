"""Two versions of the Lambdas side by side, on one ledger and one SageMaker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from ekiden.adapters.dynamodb_client import Table
from ekiden.adapters.dynamodb_items import Item, run_key, run_of
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.application.plans import Deployed
from ekiden.domain.model import Attempt, Run, Stage
from ekiden.runtime.container import Container
from tests.fakes import FakeClock, FakeLogs, FakeMessages, FakeObjects
from tests.fakes.dynamodb import InMemoryDynamoDB
from tests.fakes.events import bus_event, lambda_context, sqs_event
from tests.fakes.faults import Crash
from tests.fakes.functions import handler_of
from tests.fakes.sagemaker import InMemorySageMaker
from tests.fakes.world import FUNCTION_OF
from tests.upgrade.wire import chance, decoded, encoded

HERE = Path(__file__).parent
ARTEFACT = HERE / "ekiden-schema-1.zip"
"""The layer and the functions as they were when items had schema 1; see docs/upgrade.md."""
SETTINGS = SageMakerSettings("image", "role")

Event = dict[str, Any]


class Earlier:
    """The earlier version, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with zipfile.ZipFile(ARTEFACT) as archive:
            archive.extractall(folder)
        environment = {"PATH": os.environ["PATH"], "POWERTOOLS_LOG_LEVEL": "CRITICAL"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def invoke(self, site: Site, function: str, event: Event, seed: int) -> Event:
        """Call a handler; its clients' calls are made here."""
        self._say({"function": function, "event": event, "now": site.clock.now(), "seed": seed})
        while True:
            message = self._hear()
            if "call" in message:
                self._say(self._make(site, message["service"], message["call"], message["request"]))
            elif message.get("crashed"):
                raise Crash
            else:
                site.parked += message["parked"]
                answer: Event = message["answer"]
                return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=10) == 0

    @staticmethod
    def _make(site: Site, service: str, operation: str, request: Event) -> Event:
        try:
            return {"result": site.call(service, operation, request)}
        except ClientError as error:
            kept = ("Error", "CancellationReasons")
            return {"error": {name: error.response[name] for name in kept if name in error.response}}  # type: ignore[literal-required]
        except Crash:
            return {"crash": True}

    def _say(self, message: Event) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message, default=encoded) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> Event:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the earlier version ended with {self._process.wait(timeout=10)}; see standard error")
        message: Event = json.loads(line, object_hook=decoded)
        return message


class Today:
    """This version, in this process."""

    def invoke(self, site: Site, function: str, event: Event, seed: int) -> Event:
        """Call a handler."""
        parked = FakeMessages()
        parts = Container(
            clock=site.clock,
            randomness=_Chance(seed),
            ledger=site.ledger(),
            jobs=SageMakerJobs(_Client(site, "sagemaker"), SETTINGS),  # type: ignore[arg-type]
            logs=FakeLogs(),
            objects=site.objects,
            dead_letters=parked,
            work_queue=None,
            deployed=Deployed("ekiden-data"),
        )
        answer = handler_of(function)(event, lambda_context(function), parts=parts)
        site.parked += parked.bodies
        assert isinstance(answer, dict)
        return answer


Version = Earlier | Today


@dataclass(frozen=True, slots=True)
class _Chance:
    seed: int

    def jitter(self) -> float:
        return chance(self.seed, 1)[0] / 256

    def entropy(self, count: int) -> bytes:
        return chance(self.seed, count)


class _Client:
    """A client whose every call is a boundary."""

    def __init__(self, site: Site, service: str) -> None:
        self._site, self._service = site, service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **request: self._site.call(self._service, operation, request)


@dataclass(slots=True)
class Site:
    """What the versions share. ``crash_at`` is the number of the boundary at which a worker dies."""

    clock: FakeClock = field(default_factory=FakeClock)
    dynamodb: Any = field(default_factory=InMemoryDynamoDB)
    table: str = "ledger"
    objects: FakeObjects = field(default_factory=FakeObjects)
    parked: list[str] = field(default_factory=list)
    boundaries: int = 0
    crash_at: int = -1
    sagemaker: InMemorySageMaker = field(init=False)

    def __post_init__(self) -> None:
        self.sagemaker = InMemorySageMaker(self.clock)

    def call(self, service: str, operation: str, request: Event) -> Any:
        """Make a client's call, with a boundary before and after it."""
        self._pass()
        if service == "dynamodb":
            result = getattr(self.dynamodb, operation)(**_named(request, self.table))
        else:
            result = self.sagemaker.call(operation, request)
        self._pass()
        return result

    def _pass(self) -> None:
        number = self.boundaries
        self.boundaries += 1
        if number == self.crash_at:
            raise Crash

    def ledger(self) -> DynamoDBLedger:
        """This version's ledger."""
        return DynamoDBLedger(Table(_Client(self, "dynamodb"), self.table))  # type: ignore[arg-type]

    def items(self, run_id: str) -> list[Item]:
        """All that the ledger has of a run; no boundary, it is for those who watch."""
        return Table(self.dynamodb, self.table).partition(run_key(run_id))

    def run(self, run_id: str) -> Run:
        """The run as this version reads it."""
        run = run_of(self.items(run_id))
        assert run is not None
        return run

    def told(self, run_id: str) -> list[tuple[str, Event]]:
        """Type and detail of the run's events, in order."""
        items = [item for item in self.items(run_id) if item["sk"].startswith("OUTBOX#")]
        return [(str(item["detail_type"]), json.loads(item["detail"])) for item in items]


def _named(request: Event, table: str) -> Event:
    """The request with the table's name; the earlier version's has another."""
    if "TransactItems" in request:
        actions = [{kind: {**a, "TableName": table} for kind, a in item.items()} for item in request["TransactItems"]]
        return {**request, "TransactItems": actions}
    return {**request, "TableName": table}


def ready(told: list[tuple[str, Event]], attempt: Attempt) -> tuple[str, Event] | None:
    """The function that starts the attempt, and the event that the ledger told of it; ``None`` if it told nothing."""
    for kind, detail in told:
        data = detail["data"]
        if kind == "StageReady" and (data["stage"], data["attempt"]) == (attempt.stage, attempt.number):
            return FUNCTION_OF[attempt.stage], bus_event("ekiden.ledger", kind, detail)
    return None


def ended(attempt: Attempt) -> tuple[str, Event]:
    """The function that records what became of a job, and SageMaker's event about it."""
    kind = {Stage.TRAIN: "Training", Stage.DEPLOY: "Endpoint"}.get(attempt.stage, "Processing")
    if kind == "Endpoint":
        detail = {"EndpointName": attempt.ref.name, "EndpointStatus": "IN_SERVICE"}
    else:
        detail = {f"{kind}JobName": attempt.job, f"{kind}JobStatus": "Completed"}
    title = "SageMaker Endpoint State Change" if kind == "Endpoint" else f"SageMaker {kind} Job State Change"
    return "record_job_state", bus_event("aws.sagemaker", title, detail)


def batch(*events: Event) -> Event:
    """Events as messages of a queue."""
    return sqs_event(*events)
