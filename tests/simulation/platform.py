"""SageMaker in virtual time: jobs that take their time, fail, hang and are slow to stop; endpoints that update.

Extends the fake whose behaviour the contract suite holds to the real adapter's. What is new here only decides *when*
something happens, and tells the bus of it: best effort, several times, late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ekiden.domain.model import Failure, JobKind, JobRef, Stage
from ekiden.domain.transitions import JobStatus
from ekiden.ports import Deployment, Job
from tests.fakes import FakeJobs
from tests.fakes.faults import Faults, io
from tests.simulation.kernel import Kernel, VirtualClock
from tests.simulation.transports import Buses
from tests.simulation.weather import Sky
from tests.simulation.wiring import DEFAULT_BUS

EVENT_STATUS = {
    JobStatus.RUNNING: "InProgress",
    JobStatus.SUCCEEDED: "Completed",
    JobStatus.FAILED: "Failed",
    JobStatus.STOPPED: "Stopped",
    JobStatus.TIMED_OUT: "Stopped",
}
EVENT_WORDS = {
    JobKind.PROCESSING: "Processing",
    JobKind.TRAINING: "Training",
    JobKind.TUNING: "HyperParameter Tuning",
}
SLOWEST_STOP = 90.0
"""Seconds a job may go on after it was told to stop."""
LONGEST_UPDATE = 7200.0
"""Seconds after which SageMaker gives a hanging endpoint update up by itself."""


class Fate(StrEnum):
    """What becomes of a job or an endpoint's update."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    GIVES_UP = "gives up"
    """Fails for a passing reason: exit code 75."""
    HANGS = "hangs"
    """Goes on until it is stopped."""
    OUTLASTS = "outlasts"
    """Goes on until SageMaker ends it: its time is over."""
    HELD = "held"
    """Goes on until the test ends it."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """How long jobs and endpoint updates take (seconds), and the fates of some: the weather decides on the others."""

    shortest: float = 5.0
    longest: float = 600.0
    fates: Mapping[tuple[Stage, int], Fate] = field(default_factory=dict)
    """By stage and attempt."""


FAILURES = {
    Fate.GIVES_UP: Failure("TEMPORARY", "the container gave up for now: exit code 75"),
    Fate.FAILS: Failure("EMPTY_GRAPH", "the graph has no edges"),
}


@dataclass(frozen=True, slots=True)
class Creation:
    """Something that costs money began: a job, or an endpoint's move to a configuration."""

    name: str
    run_id: str
    stage: Stage
    attempt: int
    at: float


class _Created(list[str]):
    """The fake's list of creations, which tells of each."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, name: str) -> None:
        super().append(name)
        self._tell(name)


_STOP: Callable[[FakeJobs, JobRef], None] = vars(FakeJobs.stop)["__wrapped__"]
"""What the fake does to an endpoint, without a boundary of its own."""


class Platform(FakeJobs):
    """Implements ``ports.Jobs`` in virtual time. ``alive`` has every job that runs, by name."""

    def __init__(self, kernel: Kernel, sky: Sky, buses: Buses, faults: Faults, jobs: Jobs) -> None:
        super().__init__(VirtualClock(kernel), faults)
        self.created = _Created(lambda name: kernel.after(0.0, lambda: self._began(name)))
        self.creations: list[Creation] = []
        self.alive: dict[str, Creation] = {}
        self.updating: set[str] = set()
        """Endpoints that are being made or updated."""
        self.on_creation: Callable[[Creation], None] = lambda creation: None
        self.on_deletion: Callable[[str, str], None] = lambda endpoint, deployment: None
        self.on_success: Callable[[Job], None] = lambda job: None
        self._serving: dict[str, str] = {}
        self._kernel, self._sky, self._buses, self._plan = kernel, sky, buses, jobs
        self.forgotten: set[str] = set()
        """Deployments of which their endpoint shows no trace any more: rolled back, replaced or deleted."""
        self.last_end: dict[str, float] = {}
        self._stopping: set[str] = set()

    def is_stopping(self, name: str) -> bool:
        """Whether a running job was told to stop."""
        return name in self._stopping

    @io
    def stop(self, ref: JobRef) -> None:
        """See ``ports.Jobs.stop``: the job goes on for a while, and may even end by itself."""
        if ref.kind is JobKind.ENDPOINT:
            there = ref.name in self
            _STOP(self, ref)
            if there and ref.name not in self:
                self._kernel.tell("sagemaker", f"endpoint {ref.name} is deleted")
                served = self._serving.pop(ref.name, "")
                self.forgotten.add(served)
                self.on_deletion(ref.name, served)
            return
        self.stopped.append(ref.name)
        if ref.name in self.alive and ref.name not in self._stopping:
            self._stopping.add(ref.name)
            self._kernel.tell("sagemaker", f"{ref.name} is told to stop")
            self._kernel.after(
                self._sky.jobs.between(1.0, SLOWEST_STOP), lambda: self._finish(ref.name, JobStatus.STOPPED)
            )

    def _began(self, name: str) -> None:
        stage = Stage(name.split("-")[1])
        number = int(name.split("-")[2])
        if stage is Stage.DEPLOY:
            deployment = self.deployment(name)
            creation = Creation(name, deployment.run_id, stage, number, self._kernel.now)
            self._update(deployment, number)
        else:
            job = self.job(name)
            creation = Creation(name, job.run_id, stage, number, self._kernel.now)
            self.alive[name] = creation
            self._work(job, number)
        self.creations.append(creation)
        self._kernel.tell("sagemaker", f"{name} of {creation.run_id} begins")
        self.on_creation(creation)

    def finish(self, name: str, status: JobStatus, *, transient: bool = False) -> None:
        """End a held job."""
        failure = FAILURES[Fate.GIVES_UP if transient else Fate.FAILS] if status is JobStatus.FAILED else None
        self._finish(name, status, failure, transient)

    def _work(self, job: Job, attempt: int) -> None:
        kernel = self._kernel
        self._tell(job.name, JobStatus.RUNNING)
        duration = self._duration()
        match fate := self._fate(job.stage, attempt):
            case Fate.SUCCEEDS:
                kernel.after(duration, lambda: self._finish(job.name, JobStatus.SUCCEEDED))
            case Fate.FAILS | Fate.GIVES_UP:
                transient = fate is Fate.GIVES_UP
                kernel.after(duration / 2, lambda: self._finish(job.name, JobStatus.FAILED, FAILURES[fate], transient))
            case Fate.OUTLASTS:
                kernel.after(job.max_runtime_seconds + 30.0, lambda: self._finish(job.name, JobStatus.TIMED_OUT))

    def _fate(self, stage: Stage, attempt: int) -> Fate:
        if (stage, attempt) in self._plan.fates:
            return self._plan.fates[stage, attempt]
        weather, dice = self._sky.weather, self._sky.jobs
        if dice.chance(weather.hang):
            return Fate.HANGS if dice.chance(0.5) else Fate.OUTLASTS
        if dice.chance(weather.failure):
            return Fate.GIVES_UP if dice.chance(0.5) else Fate.FAILS
        return Fate.SUCCEEDS

    def _duration(self) -> float:
        return self._sky.jobs.between(self._plan.shortest, self._plan.longest)

    def _finish(self, name: str, status: JobStatus, failure: Failure | None = None, transient: bool = False) -> None:
        ended = self.alive.pop(name, None)
        if ended is None:
            return
        self.last_end[ended.run_id] = self._kernel.now
        self._stopping.discard(name)
        self.end(name, status, failure, transient=transient)
        if status is JobStatus.SUCCEEDED:
            self.on_success(self.job(name))
        self._kernel.tell("sagemaker", f"{name} ends {status}" + (f" ({failure.code})" if failure else ""))
        self._tell(name, status)

    def _update(self, deployment: Deployment, attempt: int) -> None:
        self.updating.add(deployment.endpoint)
        self._tell_endpoint(deployment.endpoint, "Updating")
        fate = self._fate(Stage.DEPLOY, attempt)
        if fate is Fate.HELD:
            return
        duration = LONGEST_UPDATE if fate in {Fate.HANGS, Fate.OUTLASTS} else self._duration()
        self._kernel.after(duration, lambda: self._settle(deployment, fate is not Fate.SUCCEEDS))

    def _settle(self, deployment: Deployment, failed: bool) -> None:
        self.settle(deployment.endpoint, failed=failed)
        self.updating.discard(deployment.endpoint)
        self.forgotten.add(deployment.name if failed else self._serving.get(deployment.endpoint, ""))
        if not failed:
            self._serving[deployment.endpoint] = deployment.name
        self._kernel.tell("sagemaker", f"{deployment.name} {'fails' if failed else 'serves'} at {deployment.endpoint}")
        self._tell_endpoint(deployment.endpoint, "Failed" if failed else "InService")

    def _tell(self, name: str, status: JobStatus) -> None:
        words = EVENT_WORDS[self.job(name).kind]
        field, resource = words.replace(" ", ""), words.lower().replace(" ", "-")
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:{resource}-job/{name}"
        self._send(
            f"SageMaker {words} Job State Change",
            {f"{field}JobName": name, f"{field}JobArn": arn, f"{field}JobStatus": EVENT_STATUS[status]},
        )

    def _tell_endpoint(self, name: str, status: str) -> None:
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:{JobKind.ENDPOINT}/{name}"
        self._send(
            "SageMaker Endpoint State Change", {"EndpointName": name, "EndpointArn": arn, "EndpointStatus": status}
        )

    def _send(self, detail_type: str, detail: dict[str, str]) -> None:
        """SageMaker's events: best effort, and several with different ids for one change."""
        weather = self._sky.weather
        for _ in range(2 if self._sky.events.chance(weather.multiple) else 1):
            if self._sky.events.chance(weather.drop):
                self._sky.counts["lost event"] += 1
                self._kernel.tell("sagemaker", f"** the event {detail_type} {detail} is lost")
            else:
                self._buses.put(DEFAULT_BUS, "aws.sagemaker", detail_type, detail)
