"""The ledger's items: how a run lies in the table, and back.

One partition per run (``RUN#<id>``) holds ``RUN``, ``STAGE#<stage>``, ``ATTEMPT#<stage>#<n>``,
``HISTORY#<sequence>``, ``HISTORY#<sequence>#<key>`` (a note, which moved nothing) and ``OUTBOX#<sequence>#<i>``.
Sparse indexes: ``active`` (live attempts by next check time), ``job`` (external job name of live attempts), ``runs``
(runs by time).
"""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from typing import Any

from ekiden.domain.decisions import DEFAULT_TRIES
from ekiden.domain.model import (
    Attempt,
    AttemptStatus,
    Failure,
    JobKind,
    JobRef,
    Run,
    RunStatus,
    Stage,
    StageState,
    StageStatus,
)

Item = dict[str, Any]
"""An item as plain Python values."""

SCHEMA = 2
"""Version of the items' shape, written on every item. Versions only add attributes, and readers take what is missing
for its default: a run begun by one version is finished by its neighbours, before and after.

1: the first. 2: ``tries_left``, ``stopping_since`` and ``output_hash`` on attempts. Runs that search with a tuning job
also have ``best_job`` and the kind of job ``tuning``; earlier versions refuse their specs. Other runs' items did not
change with that."""

ACTIVE_SHARDS = 4
"""Partitions of the ``active`` index: its writes spread over them."""

RUNS_SHARD = "runs"
"""The one partition of the ``runs`` index: a run writes it a dozen times in its life."""


def text_of(moment: datetime) -> str:
    """A moment as sortable text, UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def run_key(run_id: str) -> str:
    """Partition key of a run."""
    return f"RUN#{run_id}"


def shard_of(run_id: str) -> str:
    """The partition of the ``active`` index for a run."""
    return f"active-{zlib.crc32(run_id.encode()) % ACTIVE_SHARDS}"


def attempt_sort_key(stage: Stage, number: int) -> str:
    """Sort key of an attempt; zero-padded so that it sorts by number."""
    return f"ATTEMPT#{stage}#{number:04d}"


def run_item(run: Run) -> Item:
    """The ``RUN`` item."""
    current = run.current_stage
    return without_none(
        {
            "pk": run_key(run.run_id),
            "sk": "RUN",
            "schema": SCHEMA,
            "run_id": run.run_id,
            "name": run.name,
            "status": run.status.value,
            "stage": current.value if current else None,
            "version": run.version,
            "created_at": text_of(run.created_at),
            "updated_at": text_of(run.updated_at),
            "deadline": text_of(run.deadline),
            "ended_at": text_of(run.ended_at) if run.ended_at else None,
            "spec": run.spec,
            "failed_stage": run.failed_stage.value if run.failed_stage else None,
            "failure": failure_text(run.failure),
            "log_tail": list(run.log_tail) or None,
            "list_shard": RUNS_SHARD,
        }
    )


def stage_item(run: Run, state: StageState) -> Item:
    """A ``STAGE#…`` item."""
    return {
        "pk": run_key(run.run_id),
        "sk": f"STAGE#{state.stage}",
        "schema": SCHEMA,
        "status": state.status.value,
        "attempt": state.attempt,
    }


def attempt_item(run: Run, attempt: Attempt) -> Item:
    """An ``ATTEMPT#…`` item; only a live attempt is in the ``active`` and ``job`` indexes."""
    item = {
        "pk": run_key(run.run_id),
        "sk": attempt_sort_key(attempt.stage, attempt.number),
        "schema": SCHEMA,
        "run_id": run.run_id,
        "stage": attempt.stage.value,
        "number": attempt.number,
        "job": attempt.job,
        "ref_kind": attempt.ref.kind.value,
        "ref_name": attempt.ref.name,
        "status": attempt.status.value,
        "output": attempt.output,
        "deadline": text_of(attempt.deadline),
        "attempt_created_at": text_of(attempt.created_at),
        "check_at": text_of(attempt.next_check_at),
        "started_at": text_of(attempt.started_at) if attempt.started_at else None,
        "ended_at": text_of(attempt.ended_at) if attempt.ended_at else None,
        "failure": failure_text(attempt.failure),
        "tries_left": attempt.tries_left,
        "stopping_since": text_of(attempt.stopping_since) if attempt.stopping_since else None,
        "output_hash": attempt.output_hash,
        "best_job": attempt.best_job,
    }
    if attempt.is_live:
        item |= {
            "active_shard": shard_of(run.run_id),
            "next_check_at": text_of(attempt.next_check_at),
            "job_name": str(attempt.ref),
        }
    return without_none(item)


def run_of(items: list[Item]) -> Run | None:
    """The run that its partition's items describe; ``None`` without a ``RUN`` item."""
    head = next((item for item in items if item["sk"] == "RUN"), None)
    if head is None:
        return None
    stages = {item["sk"].removeprefix("STAGE#"): item for item in items if item["sk"].startswith("STAGE#")}
    return Run(
        run_id=head["run_id"],
        name=head["name"],
        status=RunStatus(head["status"]),
        version=int(head["version"]),
        created_at=moment_of(head["created_at"]),
        updated_at=moment_of(head["updated_at"]),
        deadline=moment_of(head["deadline"]),
        ended_at=optional_moment(head.get("ended_at")),
        spec=head["spec"],
        failed_stage=Stage(head["failed_stage"]) if "failed_stage" in head else None,
        failure=failure_of(head.get("failure")),
        log_tail=tuple(head.get("log_tail", ())),
        stages=tuple(
            StageState(stage, StageStatus(stages[stage]["status"]), int(stages[stage]["attempt"])) for stage in Stage
        ),
        attempts=tuple(attempt_of(item) for item in items if item["sk"].startswith("ATTEMPT#")),
    )


def attempt_of(item: Item) -> Attempt:
    """The attempt that an ``ATTEMPT#…`` item describes."""
    return Attempt(
        stage=Stage(item["stage"]),
        number=int(item["number"]),
        job=item["job"],
        ref=JobRef(JobKind(item["ref_kind"]), item["ref_name"]),
        status=AttemptStatus(item["status"]),
        output=item["output"],
        created_at=moment_of(item["attempt_created_at"]),
        deadline=moment_of(item["deadline"]),
        next_check_at=moment_of(item["check_at"]),
        started_at=optional_moment(item.get("started_at")),
        ended_at=optional_moment(item.get("ended_at")),
        failure=failure_of(item.get("failure")),
        tries_left=int(item.get("tries_left", DEFAULT_TRIES - int(item["number"]))),
        stopping_since=optional_moment(item.get("stopping_since")),
        output_hash=item.get("output_hash"),
        best_job=item.get("best_job"),
    )


def failure_text(failure: Failure | None) -> str | None:
    """A failure as an attribute's text."""
    return json.dumps({"code": failure.code, "message": failure.message}) if failure else None


def failure_of(text: str | None) -> Failure | None:
    """The failure that an attribute's text holds."""
    return Failure(**json.loads(text)) if text else None


def moment_of(text: str) -> datetime:
    """The moment that sortable text tells."""
    return datetime.fromisoformat(text)


def optional_moment(text: str | None) -> datetime | None:
    """The moment that sortable text tells, if there is text."""
    return datetime.fromisoformat(text) if text else None


def without_none(item: Item) -> Item:
    """The item without absent attributes: DynamoDB would store a null, and index it."""
    return {name: value for name, value in item.items() if value is not None}
