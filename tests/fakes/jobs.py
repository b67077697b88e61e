"""A platform that runs jobs when it is told to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ekiden.domain import naming
from ekiden.domain.model import Attempt, AttemptStatus, Failure, JobKind, JobRef
from ekiden.domain.transitions import JobStatus
from ekiden.errors import NotReadyYet, StageRejected
from ekiden.ports import Clock, Deployment, Job, JobReport, Trial
from tests.fakes.faults import Faults, io

IN_PROGRESS = frozenset({"Creating", "Updating"})


@dataclass(frozen=True, slots=True)
class _Job:
    job: Job
    status: JobStatus
    started_at: datetime
    failure: Failure | None = None
    transient: bool = False
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Endpoint:
    config: str
    pending: str | None
    status: str
    created_at: datetime
    changed_at: datetime
    made_by: str
    """The configuration it was created with."""


def best_of(tuning_job: str) -> str:
    """The training job whose model a tuning job chooses here."""
    return f"{tuning_job}-002-0123abcd"


class FakeJobs:
    """Implements ``ports.Jobs``. Jobs stay RUNNING until a test ends them.

    ``created`` names every job in the order of its creation: a name that stands there twice was started twice.
    """

    def __init__(self, clock: Clock, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.created: list[str] = []
        self.stopped: list[str] = []
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._deployments: dict[str, Deployment] = {}
        self._endpoints: dict[str, _Endpoint] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, name: object) -> bool:
        return name in self._jobs or name in self._endpoints

    # What a test does to the platform

    def job(self, name: str) -> Job:
        """What was asked for under this name."""
        return self._jobs[name].job

    def deployment(self, name: str) -> Deployment:
        """What was asked to be deployed under this name."""
        return self._deployments[name]

    def is_running(self, name: str) -> bool:
        """Whether there is such a job, and it runs."""
        return name in self._jobs and self._jobs[name].status is JobStatus.RUNNING

    def end(self, name: str, status: JobStatus, failure: Failure | None = None, *, transient: bool = False) -> None:
        """End a job."""
        self._jobs[name] = replace(
            self._jobs[name], status=status, failure=failure, transient=transient, ended_at=self._clock.now()
        )

    def take(self, job: Job) -> None:
        """Let somebody else's job have this name."""
        self._jobs[job.name] = _Job(job, JobStatus.RUNNING, self._clock.now())

    def settle(self, endpoint: str, *, failed: bool = False) -> None:
        """Let an endpoint's update come to its end; a failed update leaves the old configuration in service."""
        found = self._endpoints[endpoint]
        if not failed:
            self._change(endpoint, found.pending or found.config, None, "InService")
        elif found.status == "Creating":
            self._change(endpoint, found.config, None, "Failed")
        else:
            self._change(endpoint, found.config, None, "InService")

    def serve(self, endpoint: str, config: str = "somebody-elses") -> None:
        """Put an endpoint into service that no run of ours deployed."""
        self._change(endpoint, config, None, "InService")

    def _change(self, endpoint: str, config: str, pending: str | None, status: str) -> None:
        now, found = self._clock.now(), self._endpoints.get(endpoint)
        created_at, made_by = (found.created_at, found.made_by) if found else (now, config)
        self._endpoints[endpoint] = _Endpoint(config, pending, status, created_at, now, made_by)

    # The port

    @io
    def start(self, job: Job) -> None:
        """See ``ports.Jobs.start``."""
        found = self._jobs.get(job.name)
        if found is not None:
            if found.job != job:
                raise StageRejected(f"a job named {job.name} exists already", code="NAME_TAKEN")
            return
        self.created.append(job.name)
        self._jobs[job.name] = _Job(job, JobStatus.RUNNING, self._clock.now())

    @io
    def deploy(self, deployment: Deployment) -> None:
        """See ``ports.Jobs.deploy``."""
        config, name = deployment.name, deployment.endpoint
        if self._deployments.setdefault(config, deployment) != deployment:
            raise StageRejected(f"a model named {config} exists and is not this one", code="NAME_TAKEN")
        found = self._endpoints.get(name)
        if found is None:
            self.created.append(config)
            self._change(name, config, None, "Creating")
        elif config in {found.config, found.pending}:
            return
        elif found.status == "Failed":
            del self._endpoints[name]
            raise NotReadyYet(f"failed endpoint {name} is being deleted")
        elif found.status != "InService":
            raise NotReadyYet(f"endpoint {name} is {found.status}")
        else:
            self.created.append(config)
            self._change(name, found.config, config, "Updating")

    @io
    def describe(self, attempt: Attempt) -> JobReport | None:
        """See ``ports.Jobs.describe``."""
        if attempt.ref.kind is JobKind.ENDPOINT:
            return self._describe_endpoint(attempt)
        found = self._jobs.get(attempt.ref.name)
        if found is None or naming.job_name(found.job.run_id, attempt.stage, attempt.number) != attempt.job:
            return None
        report = JobReport(found.status, found.failure, found.transient, found.started_at, found.ended_at)
        searched = found.job.tuning is not None and found.status is JobStatus.SUCCEEDED
        return replace(report, best_job=best_of(found.job.name)) if searched else report

    @io
    def stop(self, ref: JobRef) -> None:
        """See ``ports.Jobs.stop``. An endpoint that is being made or updated cannot be deleted."""
        self.stopped.append(ref.name)
        if ref.kind is JobKind.ENDPOINT:
            endpoint = self._endpoints.get(ref.name)
            if endpoint is not None and endpoint.status not in IN_PROGRESS:
                del self._endpoints[ref.name]
            return
        found = self._jobs.get(ref.name)
        if found is not None and found.status is JobStatus.RUNNING:
            self.end(ref.name, JobStatus.STOPPED)

    @io
    def ended_since(self, moment: datetime) -> frozenset[JobRef]:
        """See ``ports.Jobs.ended_since``."""
        jobs = {
            JobRef(found.job.kind, name)
            for name, found in self._jobs.items()
            if found.ended_at is not None and found.ended_at > moment
        }
        endpoints = {
            JobRef(JobKind.ENDPOINT, name)
            for name, endpoint in self._endpoints.items()
            if endpoint.status not in IN_PROGRESS and endpoint.changed_at > moment
        }
        return frozenset(jobs | endpoints)

    @io
    def trials(self, tuning_job: str) -> list[Trial]:
        """See ``ports.Jobs.trials``: here every search has two."""
        found = self._jobs[tuning_job]
        names = (f"{tuning_job}-001-4567cdef", best_of(tuning_job))
        return [
            Trial(name, "Completed", {"lr": f"0.{number}"}, 1 / number, found.started_at, found.ended_at)
            for number, name in enumerate(names, 1)
        ]

    @io
    def endpoint_in_service(self, name: str) -> bool | None:
        """See ``ports.Jobs.endpoint_in_service``."""
        found = self._endpoints.get(name)
        return None if found is None else found.status in {"InService", "Updating"}

    def _describe_endpoint(self, attempt: Attempt) -> JobReport | None:
        found = self._endpoints.get(attempt.ref.name)
        if found is None:
            return None
        waiting = attempt.status is AttemptStatus.STARTING or attempt.stopping_since is not None
        concerned = attempt.job in {found.config, found.pending}
        if waiting and not concerned:
            return None
        created_at = found.created_at if attempt.stopping_since is None or found.made_by == attempt.job else None
        if found.status in IN_PROGRESS:
            return JobReport(JobStatus.RUNNING, created_at=created_at)
        if found.status == "InService" and found.config == attempt.job:
            return JobReport(JobStatus.SUCCEEDED, ended_at=found.changed_at, created_at=created_at)
        return JobReport(JobStatus.FAILED, Failure("ENDPOINT_FAILED", f"endpoint is {found.status}"))
