"""A container of fakes, and hands that move what lies between the functions: stream, bus and queues."""

from __future__ import annotations

import json
from typing import Any

from ekiden.application.plans import Deployed
from ekiden.domain.model import Run, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.runtime.container import Container
from tests.fakes.events import SAMPLE_SPEC, bus_event, http_event, lambda_context, sqs_event
from tests.fakes.faults import Faults
from tests.fakes.functions import handler_of
from tests.fakes.io import FakeBus, FakeEndpoints, FakeLogs, FakeMessages, FakeObjects
from tests.fakes.jobs import FakeJobs
from tests.fakes.ledger import InMemoryLedger
from tests.fakes.scores import InMemoryScoreLedger
from tests.fakes.time import FakeClock, SeededRandomness

BUCKET = "ekiden-data"
FUNCTION_OF = {
    Stage.EXPORT: "export_graph",
    Stage.PROCESS: "process_data",
    Stage.TRAIN: "train_model",
    Stage.DEPLOY: "deploy_endpoint",
}


class World:
    """Every port as a fake, behind the shipped handlers. ``replacements`` put real adapters in."""

    def __init__(self, **replacements: Any) -> None:
        self.faults = Faults()
        self.clock = FakeClock()
        self.ledger = InMemoryLedger(self.faults)
        self.scores = InMemoryScoreLedger(self.clock, self.faults)
        self.jobs = FakeJobs(self.clock, self.faults)
        self.logs = FakeLogs(self.faults)
        self.objects = FakeObjects(self.faults)
        self.bus = FakeBus(self.faults)
        self.score_queue = FakeMessages(self.faults)
        self.dead_letters = FakeMessages()
        self.endpoints = FakeEndpoints(self.faults)
        self.parts = Container(
            **{
                "clock": self.clock,
                "randomness": SeededRandomness(),
                "ledger": self.ledger,
                "score_ledger": self.scores,
                "jobs": self.jobs,
                "logs": self.logs,
                "objects": self.objects,
                "bus": self.bus,
                "score_queue": self.score_queue,
                "dead_letters": self.dead_letters,
                "endpoints": self.endpoints,
                "ways_back": (),
                "deployed": Deployed(BUCKET),
            }
            | replacements
        )

    def call(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke a shipped handler."""
        answer = handler_of(function)(event, lambda_context(function), parts=self.parts)
        assert isinstance(answer, dict)
        return answer

    def submit(self, request_id: str | None = None, **changes: Any) -> str:
        """A new run's id."""
        return self.parts.submit_run({**SAMPLE_SPEC, **changes}, request_id=request_id, actor="test")

    def run(self, run_id: str) -> Run:
        """The run as the ledger has it."""
        run = self.parts.ledger.load(run_id)
        assert run is not None
        return run

    def ready(self, run_id: str, stage: Stage, attempt: int | None = None) -> dict[str, Any]:
        """Deliver ``StageReady`` (of the latest attempt, if none is named) to its function, as the queue does."""
        number = attempt or self.run(run_id).stage(stage).attempt
        detail = {
            "meta": {
                "event_id": f"RUN#{run_id}/0/1",
                "run_id": run_id,
                "sequence": 0,
                "causation_id": "test",
                "schema_version": 1,
                "occurred_at": self.clock.now().isoformat(),
            },
            "data": {"stage": stage.value, "attempt": number, "job": self.job(run_id, stage, number)},
        }
        return self.call(FUNCTION_OF[stage], sqs_event(bus_event("ekiden.ledger", "StageReady", detail)))

    def job(self, run_id: str, stage: Stage, attempt: int | None = None) -> str:
        """The name of an attempt's job."""
        found = self.run(run_id).attempt(stage, attempt)
        assert found is not None
        return found.job

    def job_event(self, name: str, *, kind: str = "Training", status: str = "Completed") -> dict[str, Any]:
        """Deliver SageMaker's event about a job to ``record_job_state``."""
        if kind == "Endpoint":
            detail = {"EndpointName": name, "EndpointStatus": status}
            event = bus_event("aws.sagemaker", "SageMaker Endpoint State Change", detail)
        else:
            detail = {f"{kind}JobName": name, f"{kind}JobStatus": status}
            event = bus_event("aws.sagemaker", f"SageMaker {kind} Job State Change", detail)
        return self.call("record_job_state", sqs_event(event))

    def reach(self, run_id: str, stage: Stage) -> str:
        """Bring a run to where ``stage``'s job runs; the job's name."""
        for earlier in list(Stage)[: list(Stage).index(stage)]:
            self.succeed(run_id, earlier)
        self.ready(run_id, stage)
        return self.job(run_id, stage)

    def succeed(self, run_id: str, stage: Stage) -> None:
        """Start a stage's job, let it succeed, and deliver the event about it."""
        self.ready(run_id, stage)
        name = self.job(run_id, stage)
        if stage is Stage.DEPLOY:
            endpoint = self.run(run_id).attempt(stage)
            assert endpoint is not None
            self.jobs.settle(endpoint.ref.name)
            self.job_event(endpoint.ref.name, kind="Endpoint", status="IN_SERVICE")
        else:
            self.jobs.end(name, JobStatus.SUCCEEDED)
            self.job_event(name, kind="Training" if stage is Stage.TRAIN else "Processing")

    def sweep(self, **passed: float) -> dict[str, Any]:
        """Let time pass, a minute if nothing else is said, and call the reconciler."""
        self.clock.advance(**(passed or {"seconds": 61}))
        return self.call("reconcile_jobs", {"source": "aws.scheduler"})

    def change(self, run_id: str, act: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """Ask over HTTP to ``cancel`` or ``retry`` a run; status code and body of the answer."""
        path = {"run_id": run_id}
        reply = self.call("change_run", http_event(f"POST /runs/{{run_id}}/{act}", body, path=path))
        return reply["statusCode"], json.loads(reply["body"])

    def running(self, run_id: str) -> list[str]:
        """Jobs of the run that run, and cost money."""
        return [a.job for a in self.run(run_id).attempts if a.ref.kind != "endpoint" and self.jobs.is_running(a.job)]

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Detail type and data of every event in the ledgers' outboxes, in order."""
        return [(item.detail_type, json.loads(item.detail)["data"]) for item in self.ledger.outbox + self.scores.outbox]
