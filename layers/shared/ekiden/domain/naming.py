"""Deterministic names, and where a run's objects lie. The same run, stage and attempt always give the same name."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime

from ekiden.domain.model import Attempt, Stage

JOB_NAME = re.compile(r"^[0-9a-f]{16}-(?:export|process|train|deploy)-[1-9][0-9]*$")
"""A job name of ours. SageMaker allows 63 characters, Neptune ML 48; ours stay below 32."""


def job_name(run_id: str, stage: Stage, attempt: int) -> str:
    """The job's name, f(run, stage, attempt): hash first, so that its first eight characters tell runs apart."""
    digest = hashlib.sha256(f"{run_id}/{stage}/{attempt}".encode()).hexdigest()[:16]
    return f"{digest}-{stage}-{attempt}"


def new_run_id(name: str, now: datetime, entropy: bytes) -> str:
    """A run's id, readable and sortable by time within one pipeline: ``name-yyyymmdd-hhmmss-xxxxxx``."""
    suffix = base64.b32encode(entropy).decode().lower()[:6]
    return f"{name}-{now:%Y%m%d-%H%M%S}-{suffix}"


def run_prefix(run_id: str) -> str:
    """Key prefix of everything a run writes."""
    return f"runs/{run_id}/"


def spec_key(run_id: str) -> str:
    """Key of the validated spec."""
    return f"{run_prefix(run_id)}spec/spec.json"


def attempt_prefix(run_id: str, stage: Stage, attempt: int) -> str:
    """Key prefix of what one attempt writes: no two attempts share one."""
    return f"{run_prefix(run_id)}{stage}/{attempt}/"


def model_prefix(attempt_output: str, job: str) -> str:
    """Where SageMaker puts an uncompressed model below a training job's output path."""
    return f"{attempt_output.rstrip('/')}/{job}/output/model/"


def model_of(trained: Attempt) -> str:
    """Where the model of a train attempt lies: its own job's, or that of the best training job of its tuning job."""
    return model_prefix(trained.output, trained.best_job or trained.job)


def trials_of(trained: Attempt) -> str:
    """Where a tuning job's trials are written down; the name is Neptune ML's."""
    return f"{trained.output.rstrip('/')}/tuning_job_details.json"


def score_prefix(request_id: str) -> str:
    """Key prefix of a score request's objects."""
    return f"scores/{request_id}/"


def part_key(request_id: str, part: int) -> str:
    """Key of the results of one part; sorted by key, parts are in the order of the pairs."""
    return f"{score_prefix(request_id)}results/part-{part:06d}.csv"
