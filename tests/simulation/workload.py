"""What users do: submit runs over HTTP and by upload, ask for scores, and come back when nobody answered."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from tests.fakes.events import SAMPLE_SPEC, http_event
from tests.simulation.kernel import Invocation
from tests.simulation.simulation import STEADY_ENDPOINT, Simulation
from tests.simulation.wiring import BUCKET, DEFAULT_BUS

PATIENCE = 12
"""How often a client asks again before it gives up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much there is to do."""

    runs: int = 5
    within: float = 900.0
    """Seconds in which the runs are submitted."""
    uploads: float = 0.2
    """Share of the runs submitted by a file put into the bucket."""
    scores: float = 0.2
    """Share of the runs beside which scores are asked for."""
    cancels: float = 0.15
    """Share of the runs submitted over HTTP that are cancelled some time later."""
    meddling: float = 0.2
    """Chance that somebody cancels one of the runs while a worker stands still."""
    retries: float = 0.3
    """Share of the runs submitted over HTTP that somebody asks to go on, some time later."""
    looks: float = 0.2
    """Share of the runs submitted over HTTP that somebody looks at later."""
    redrives: float = 0.5
    """Chance that an operator redrives all dead-letter queues, twice, some time later."""
    stage_hours: float = 0.5
    cancel_after: tuple[float, float] = (0.0, 2400.0)
    retry_after: tuple[float, float] = (600.0, 4800.0)
    redrive_after: tuple[float, float] = (1800.0, 7200.0)
    """Seconds after the submission (of all runs), from and to."""
    endpoints: int = 2
    """Runs share endpoints: two updates of one endpoint get in each other's way."""
    tuning: int = 4
    """Every so-manieth run trains with a tuning job; not the first."""


UNDISTURBED = Plan(
    runs=1, within=0.0, uploads=0.0, scores=0.0, cancels=0.0, meddling=0.0, retries=0.0, looks=0.0, redrives=0.0
)
"""One run, and nobody who does anything with it."""


@dataclass(slots=True)
class Workload:
    """The users of one simulation."""

    simulation: Simulation
    plan: Plan = field(default_factory=Plan)
    accepted: dict[str, str] = field(default_factory=dict)
    """Run ids by the request's name."""
    cancels: Counter[str] = field(default_factory=Counter)
    """What runs were when somebody had cancelled them."""
    uploaded: set[str] = field(default_factory=set)
    open: int = 0
    refusals: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Put everything in that users will do."""
        dice, kernel = self.simulation.sky.users, self.simulation.kernel
        self.simulation.work_left = lambda: self.open > 0
        kernel.on_pause = self._meddle
        if dice.chance(self.plan.redrives):
            for _ in range(2):
                self._later(*self.plan.redrive_after, self._redrive)
        for number in range(self.plan.runs):
            at = dice.between(0.0, self.plan.within) if number else 0.0
            self.open += 1
            if dice.chance(self.plan.uploads):
                kernel.after(at, partial(self._upload, number))
            else:
                kernel.after(at, partial(self._submit, number))
            if dice.chance(self.plan.scores):
                self.open += 1
                kernel.after(at, partial(self._ask_for_scores, number))

    def spec(self, number: int) -> dict[str, Any]:
        """The spec of a run."""
        tunes = number % self.plan.tuning == self.plan.tuning - 1
        search = {"search": {"jobs": 4, "where": "tuning-job"}} if tunes else {}
        return {
            **SAMPLE_SPEC,
            "name": f"run{number}",
            "deploy": {"endpoint": f"endpoint{number % self.plan.endpoints}"},
            "limits": {"stage_hours": self.plan.stage_hours},
            "model": {**SAMPLE_SPEC["model"], **search},
        }

    def _submit(self, number: int) -> None:
        body = {"spec": self.spec(number), "request_id": f"request-{number}"}

        def answered(document: dict[str, Any]) -> None:
            run_id = self.accepted[f"run{number}"] = document["run_id"]
            dice = self.simulation.sky.users
            if dice.chance(self.plan.looks):
                self._later(60.0, 600.0, lambda: self._look(run_id))
            if dice.chance(self.plan.cancels):
                self._later(*self.plan.cancel_after, lambda: self._cancel(run_id))
            if dice.chance(self.plan.retries):
                self._later(*self.plan.retry_after, lambda: self._retry(run_id))

        self._call("submit_run", http_event("POST /runs", body), answered)

    def _later(self, soonest: float, latest: float, act: Callable[[], None]) -> None:
        """Something that users will do in a while; the simulation waits for it."""
        self.open += 1
        self.simulation.kernel.after(self.simulation.sky.users.between(soonest, latest), act)

    def _look(self, run_id: str) -> None:
        event = http_event("GET /runs/{run_id}", path={"run_id": run_id})
        self._call("show_status", event, lambda document: None)

    def _cancel(self, run_id: str) -> None:
        event = http_event("POST /runs/{run_id}/cancel", {"reason": "no longer needed"}, path={"run_id": run_id})
        self._call("change_run", event, lambda document: self.cancels.update([document["status"]]))

    def _meddle(self, seconds: float) -> None:
        """A worker stands still: the moment at which somebody cancels a run is often the worst."""
        dice = self.simulation.sky.users
        if self.accepted and dice.chance(self.plan.meddling):
            run_id = list(self.accepted.values())[int(dice.between(0, len(self.accepted)))]
            self._later(0.0, seconds, lambda: self._cancel(run_id))

    def _retry(self, run_id: str) -> None:
        self.simulation.invariants.revived.add(run_id)
        event = http_event("POST /runs/{run_id}/retry", {"reason": "once more"}, path={"run_id": run_id})
        self._call("change_run", event, lambda document: None, may_refuse="NOT_RETRYABLE")

    def _redrive(self) -> None:
        self._call("redrive_messages", http_event("POST /redrive", {"reason": "the storm is over"}), self._redriven)

    def _redriven(self, document: dict[str, Any]) -> None:
        redriven = sum(queue["redriven"] for queue in document["queues"])
        self.simulation.sky.counts["redriven"] += redriven
        self.simulation.kernel.tell("client", f"{redriven} messages redriven")

    def _ask_for_scores(self, number: int) -> None:
        pairs = [[f"user{i}", f"movie{number}"] for i in range(3)]
        body = {"endpoint": STEADY_ENDPOINT, "pairs": pairs, "request_id": f"scores-{number}"}
        self._call("enqueue_scores", http_event("POST /scores", body), lambda document: None)

    def _upload(self, number: int) -> None:
        body = yaml.safe_dump(self.spec(number)).encode()
        key = f"specs/run{number}.yaml"
        self.simulation.objects.put(BUCKET, key, body, "application/yaml")
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        detail = {
            "bucket": {"name": BUCKET},
            "object": {"key": key, "size": len(body), "etag": etag, "version-id": f"v{number}"},
        }
        self.uploaded.add(f"run{number}")
        self.open -= 1
        self.simulation.buses.put(DEFAULT_BUS, "aws.s3", "Object Created", detail)

    def _call(
        self,
        function: str,
        event: dict[str, Any],
        answered: Callable[[dict[str, Any]], None],
        *,
        may_refuse: str = "anything else",
    ) -> None:
        """Call the API until it answers; a client whose call got lost repeats it with the same request id."""
        kernel = self.simulation.kernel

        def attempt(tries: int) -> None:
            def settle(invocation: Invocation, answer: Any, why: str | None) -> None:
                status = answer["statusCode"] if answer else 502
                kernel.tell("client", f"{event['routeKey']} is answered {status}")
                if status < 300:
                    answered(json.loads(answer["body"]))
                elif status < 500:
                    if may_refuse not in answer["body"]:
                        self.refusals.append(f"{event['routeKey']}: {answer['body'][:200]}")
                elif tries < PATIENCE:
                    kernel.after(5.0, lambda: attempt(tries + 1))
                    return
                self.open -= 1

            self.simulation.invoke(function, event, settle)

        attempt(1)
