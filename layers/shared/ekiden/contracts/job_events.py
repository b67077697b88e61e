"""SageMaker's job-state events: which job an event is about. What became of it is never read from an event.

Parsed tolerantly: timestamps and status spellings differ between event kinds, fields come and go.
"""

from __future__ import annotations

from ekiden.contracts.base import shorten
from ekiden.contracts.events import Envelope
from ekiden.domain.model import JobKind, JobRef
from ekiden.errors import ContractViolation

KIND_OF_DETAIL_TYPE = {
    "SageMaker Processing Job State Change": (JobKind.PROCESSING, "ProcessingJob"),
    "SageMaker Training Job State Change": (JobKind.TRAINING, "TrainingJob"),
    "SageMaker HyperParameter Tuning Job State Change": (JobKind.TUNING, "HyperParameterTuningJob"),
    "SageMaker Endpoint State Change": (JobKind.ENDPOINT, "Endpoint"),
}

GOES_ON = frozenset({"inprogress", "creating", "updating"})
"""Statuses of a job or endpoint that is at work, in lower case and without underscores: spellings differ."""


def jobs_of(event: Envelope) -> tuple[JobRef, ...]:
    """What the event calls its job: by name, and by ARN where that says something else.

    Raises:
        ContractViolation: it is no job-state event, or names no job.
    """
    known = KIND_OF_DETAIL_TYPE.get(event.detail_type)
    if known is None:
        raise ContractViolation(
            f"{shorten(event.detail_type)} is no job-state event; expected one of {sorted(KIND_OF_DETAIL_TYPE)}",
            code="UNKNOWN_EVENT",
        )
    kind, field = known
    names = [event.detail.get(f"{field}Name"), str(event.detail.get(f"{field}Arn") or "").rpartition("/")[2]]
    refs = tuple(JobRef(kind, name) for name in dict.fromkeys(names) if isinstance(name, str) and name)
    if not refs:
        raise ContractViolation(f"detail has neither {field}Name nor {field}Arn", code="MALFORMED_EVENT")
    return refs


def says_it_runs(event: Envelope) -> bool:
    """Whether the event only says that the job runs. A hint that spares a look; nothing is decided by it."""
    _, field = KIND_OF_DETAIL_TYPE.get(event.detail_type, (None, ""))
    status = event.detail.get(f"{field}Status")
    return isinstance(status, str) and status.replace("_", "").lower() in GOES_ON
