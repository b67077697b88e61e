"""Make a stage's intent true: start its job, and say so in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ekiden.application import plans
from ekiden.application.moving import move
from ekiden.application.plans import Deployed
from ekiden.application.races import until_decided
from ekiden.application.tuning import read_space
from ekiden.domain.decisions import JobStarted, StartRefused
from ekiden.domain.model import WORKING_RUN, Attempt, AttemptStatus, Failure, Run, Stage
from ekiden.errors import AlreadyDone, NotFound, Permanent
from ekiden.ports import Clock, Jobs, Ledger, Objects, Randomness


@dataclass(frozen=True, slots=True)
class StartStage:
    """Starts the job of an attempt whose intent the ledger holds. Safe to repeat: names are deterministic."""

    ledger: Ledger
    jobs: Jobs
    clock: Clock
    randomness: Randomness
    deployed: Deployed
    objects: Objects

    def __call__(self, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        """Start attempt ``number`` of ``stage``.

        Raises:
            AlreadyDone: the attempt has been started, or is not the current one.
            NotFound: there is no such run.
            Transient: try again later.
        """
        until_decided(lambda: self._start(run_id, stage, number, actor=actor))

    def _start(self, run_id: str, stage: Stage, number: int, *, actor: str) -> None:
        run = self.ledger.load(run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id}", code="UNKNOWN_RUN")
        attempt = run.attempt(stage, number)
        if run.status not in WORKING_RUN:
            raise AlreadyDone(f"{run_id} is {run.status}: nothing is started for it")
        if attempt is None or attempt.status is not AttemptStatus.STARTING:
            raise AlreadyDone(f"attempt {number} of {stage} of {run_id} waits for no start")
        event: JobStarted | StartRefused
        try:
            _START[stage](self, run, attempt)
            event = JobStarted(stage, number)
        except Permanent as refusal:  # whatever it is, trying again cannot help: the run ends and says so
            event = StartRefused(stage, number, Failure(refusal.code, refusal.message))
        move(self, run, event, actor=actor)

    def export(self, run: Run, attempt: Attempt) -> None:
        """Start the export job."""
        self.jobs.start(plans.export_job(run, attempt, self.deployed))

    def process(self, run: Run, attempt: Attempt) -> None:
        """Start the data-processing job."""
        self.jobs.start(plans.process_job(run, attempt, self.deployed))

    def train(self, run: Run, attempt: Attempt) -> None:
        """Start the training job, or the tuning job that the spec asks for."""
        space = read_space(self.objects, run) if plans.tunes(plans.spec_of(run)) else None
        self.jobs.start(plans.train_job(run, attempt, self.deployed, space))

    def deploy(self, run: Run, attempt: Attempt) -> None:
        """Create or update the endpoint."""
        self.jobs.deploy(plans.deployment(run, attempt))


_START: dict[Stage, Callable[[StartStage, Run, Attempt], None]] = {
    Stage.EXPORT: StartStage.export,
    Stage.PROCESS: StartStage.process,
    Stage.TRAIN: StartStage.train,
    Stage.DEPLOY: StartStage.deploy,
}
