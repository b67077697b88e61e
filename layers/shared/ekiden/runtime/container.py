"""The composition root: which adapter serves which port. Clients are made at first use and then kept."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from ekiden.adapters.aws_io import EventBridgeBus, S3Objects, SageMakerEndpoints, SqsMessages
from ekiden.adapters.cloudwatch_logs import CloudWatchJobLogs
from ekiden.adapters.dynamodb_client import Table
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.adapters.dynamodb_scores import DynamoDBScoreLedger
from ekiden.adapters.dynamodb_streams import DynamoDBStream
from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.adapters.sqs_queues import SqsDeadLetters, SqsWorkQueue
from ekiden.adapters.system import SystemClock, SystemRandomness
from ekiden.application.accept_scores import AcceptScores, SplitScores
from ekiden.application.observe import ObserveJob
from ekiden.application.operate import CancelRun, RetryRun
from ekiden.application.plans import Deployed
from ekiden.application.reconcile import ReconcileJobs
from ekiden.application.redrive import Redrive, ToBus, ToQueue, WayBack
from ekiden.application.score_pairs import ScoreParts
from ekiden.application.show_status import ShowStatus
from ekiden.application.stages import StartStage
from ekiden.application.submit_run import SubmitRun
from ekiden.ports import (
    Clock,
    Endpoints,
    EventBus,
    JobLogs,
    Jobs,
    Ledger,
    Messages,
    Objects,
    Randomness,
    ScoreLedger,
    WorkQueue,
)
from ekiden.runtime import settings
from ekiden.runtime.queue import QueueConsumer

RETRIES = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=3, read_timeout=20)
ENDPOINT_CALL = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=3, read_timeout=70)
"""A model has 60 s to answer; the client waits a little longer, once: a second wait would outlast the function."""


class Container:
    """Ports and use cases of one function. Every part may be replaced: ``Container(ledger=…, clock=…)``."""

    def __init__(self, **replacements: Any) -> None:
        unknown = [name for name in replacements if not hasattr(type(self), name)]
        if unknown:
            raise TypeError(f"a container has no {', '.join(unknown)}")
        self.__dict__.update(replacements)

    # Ports

    @cached_property
    def clock(self) -> Clock:
        """Time."""
        return SystemClock()

    @cached_property
    def randomness(self) -> Randomness:
        """Chance."""
        return SystemRandomness()

    @cached_property
    def ledger(self) -> Ledger:
        """Runs."""
        return DynamoDBLedger(self._table)

    @cached_property
    def score_ledger(self) -> ScoreLedger:
        """Score requests."""
        return DynamoDBScoreLedger(self._table, self.clock)

    @cached_property
    def objects(self) -> Objects:
        """S3."""
        return S3Objects(_client("s3"))

    @cached_property
    def jobs(self) -> Jobs:
        """SageMaker."""
        jobs = settings.read(settings.JobSettings)
        return SageMakerJobs(_client("sagemaker"), SageMakerSettings(jobs.engine_image_uri, jobs.job_role_arn))

    @cached_property
    def logs(self) -> JobLogs:
        """What jobs wrote."""
        return CloudWatchJobLogs(_client("logs"))

    @cached_property
    def bus(self) -> EventBus:
        """The ``ekiden`` bus."""
        name = settings.read(settings.BusSettings).event_bus_name
        return EventBridgeBus(_client("events"), name)

    @cached_property
    def score_queue(self) -> Messages:
        """The queue that the score workers read."""
        url = settings.read(settings.ScoreQueueSettings).score_queue_url
        return SqsMessages(_client("sqs"), url)

    @cached_property
    def dead_letters(self) -> Messages:
        """Where this function parks messages."""
        url = settings.read(settings.QueueSettings).dead_letter_queue_url
        return SqsMessages(_client("sqs"), url)

    @cached_property
    def work_queue(self) -> WorkQueue | None:
        """The queue this function is fed from; ``None`` if none is named."""
        url = settings.read(settings.WorkQueueSettings).work_queue_url
        return SqsWorkQueue(_client("sqs"), url) if url else None

    @cached_property
    def ways_back(self) -> tuple[WayBack, ...]:
        """Every dead-letter queue, with its messages' way back."""
        sqs, to_bus = _client("sqs"), ToBus(DynamoDBStream(_client("dynamodbstreams")), self.bus)
        return tuple(
            WayBack(name, SqsDeadLetters(sqs, parked), ToQueue(SqsMessages(sqs, work)) if work else to_bus)
            for name, (parked, work) in settings.read(settings.RedriveSettings).ways().items()
        )

    @cached_property
    def endpoints(self) -> Endpoints:
        """Deployed models."""
        return SageMakerEndpoints(boto3.client("sagemaker-runtime", config=ENDPOINT_CALL))

    # Use cases

    @cached_property
    def submit_run(self) -> SubmitRun:
        """Accept a spec."""
        return SubmitRun(self.ledger, self.objects, self.clock, self.randomness, self.deployed)

    @cached_property
    def start_stage(self) -> StartStage:
        """Start an attempt's job."""
        return StartStage(self.ledger, self.jobs, self.clock, self.randomness, self.deployed, self.objects)

    @cached_property
    def observe_job(self) -> ObserveJob:
        """Find out what became of a job."""
        return ObserveJob(self.ledger, self.jobs, self.logs, self.objects, self.clock, self.randomness, self.deployed)

    @cached_property
    def cancel_run(self) -> CancelRun:
        """Cancel a run."""
        return CancelRun(self.observe_job)

    @cached_property
    def retry_run(self) -> RetryRun:
        """Let an ended run go on."""
        return RetryRun(self.observe_job)

    @cached_property
    def redrive(self) -> Redrive:
        """Send parked messages again."""
        return Redrive(self.ledger, self.clock, self.ways_back)

    @cached_property
    def reconcile_jobs(self) -> ReconcileJobs:
        """Repair what events did not bring."""
        return ReconcileJobs(self.observe_job, self.start_stage)

    @cached_property
    def accept_scores(self) -> AcceptScores:
        """Accept a score request."""
        return AcceptScores(
            self.score_ledger, self.objects, self.jobs, self.clock, self.randomness, self.deployed.bucket
        )

    @cached_property
    def split_scores(self) -> SplitScores:
        """Split a score request into messages."""
        return SplitScores(self.score_ledger, self.objects, self.score_queue)

    @cached_property
    def score_parts(self) -> ScoreParts:
        """Score messages."""
        return ScoreParts(self.score_ledger, self.objects, self.endpoints, self.deployed.bucket)

    @cached_property
    def show_status(self) -> ShowStatus:
        """What people see."""
        return ShowStatus(self.ledger, self.score_ledger, self.logs, self.objects, self.deployed.bucket)

    # The shell

    @cached_property
    def consumer(self) -> QueueConsumer:
        """The queue consumer."""
        return QueueConsumer(self.dead_letters, self.work_queue, self.randomness)

    @cached_property
    def deployed(self) -> Deployed:
        """Names the deployment fixes."""
        return Deployed(settings.read(settings.LedgerSettings).data_bucket)

    @cached_property
    def _table(self) -> Table:
        name = settings.read(settings.LedgerSettings).ledger_table  # first: that it is missing is the better error
        return Table(_client("dynamodb"), name)


def _client(service: Any) -> Any:
    return boto3.client(service, config=RETRIES)


_container: Container | None = None


def container() -> Container:
    """The process's container; made at first use, so that importing a handler needs no environment."""
    global _container  # noqa: PLW0603  one per Lambda worker, as clients are
    if _container is None:
        _container = Container()
    return _container
