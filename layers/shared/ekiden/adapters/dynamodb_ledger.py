"""The ledger of runs on DynamoDB.

One transition is one transaction::

    RUN      put     if version is the one decided on          (the fence: one mover at a time)
    STAGE    put     if status and attempt are the ones seen   (each changed stage)
    ATTEMPT  put     (each changed attempt)
    HISTORY  put     if not there
    OUTBOX   put     (each event; the table's stream publishes it)
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from ekiden.adapters import dynamodb_items as items
from ekiden.adapters.dynamodb_client import NOT_THERE, Condition, ConditionFailed, Item, Table
from ekiden.contracts.events import SCHEMA_VERSION
from ekiden.domain.model import Attempt, JobRef, Run, RunStatus, Stage, StageState
from ekiden.domain.transitions import OutboxEvent, Transition
from ekiden.errors import Conflict, LostRace
from ekiden.ports import HistoryEntry, LiveAttempt, RunHeadline

OUTBOX_KEPT = timedelta(days=7)
"""How long a published event stays readable; nothing depends on its deletion."""


class DynamoDBLedger:
    """Implements ``ports.Ledger``."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, transition: Transition, *, request_id: str, payload_hash: str, actor: str) -> str:
        """See ``ports.Ledger.create``."""
        run = transition.after
        request = {
            "pk": f"REQUEST#{request_id}",
            "sk": "REQUEST",
            "run_id": run.run_id,
            "payload_hash": payload_hash,
            "requested_at": items.text_of(run.created_at),
        }
        actions = [
            self._table.put(request, NOT_THERE),
            self._table.put(items.run_item(run), NOT_THERE),
            *(self._table.put(items.stage_item(run, state)) for state in run.stages),
            *(self._table.put(items.attempt_item(run, attempt)) for attempt in run.attempts),
            *self._told(transition, actor),
        ]
        try:
            self._table.transact(actions)
        except ConditionFailed as failure:
            earlier = failure.found[0]
            if earlier is None:
                raise LostRace(f"run {run.run_id} exists already") from None
            if earlier["payload_hash"] != payload_hash:
                raise Conflict(
                    f"request {request_id} was used for another spec (run {earlier['run_id']}); use a new request_id",
                    code="REQUEST_CONFLICT",
                ) from None
            return str(earlier["run_id"])
        return run.run_id

    def load(self, run_id: str) -> Run | None:
        """See ``ports.Ledger.load``. One read: the partition's history is small, a second read would be dearer."""
        return items.run_of(self._table.partition(items.run_key(run_id)))

    def commit(self, transition: Transition, *, actor: str) -> None:
        """See ``ports.Ledger.commit``."""
        before, after = transition.before, transition.after
        if before is None:
            raise ValueError("a run without a past is created, not committed")
        seen = {(a.stage, a.number): a for a in before.attempts}
        actions = [
            self._table.put(items.run_item(after), _version_is(before.version)),
            *(
                self._table.put(items.stage_item(after, state), _stage_is(before.stage(state.stage)))
                for state in after.stages
                if state != before.stage(state.stage)
            ),
            *(
                self._table.put(items.attempt_item(after, attempt))
                for attempt in after.attempts
                if attempt != seen.get((attempt.stage, attempt.number))
            ),
            *self._told(transition, actor),
        ]
        try:
            self._table.transact(actions)
        except ConditionFailed as failure:
            found = failure.found[0]
            if found == items.run_item(after):
                return  # our own write, whose answer was lost and which the client sent again
            raise LostRace(f"run {after.run_id} moved on from version {before.version} meanwhile") from None

    def find_attempts(self, ref: JobRef) -> list[tuple[str, Stage, int]]:
        """See ``ports.Ledger.find_attempts``."""
        condition = Condition("#job = :job", {"#job": "job_name"}, {":job": str(ref)})
        return [_address(item) for item in self._table.index("job", condition, limit=10)]

    def live(self, limit: int) -> list[LiveAttempt]:
        """See ``ports.Ledger.live``."""
        found: list[Item] = []
        for shard in range(items.ACTIVE_SHARDS):
            condition = Condition("#shard = :shard", {"#shard": "active_shard"}, {":shard": f"active-{shard}"})
            found += self._table.index("active", condition, limit=limit)
        found.sort(key=lambda item: str(item["next_check_at"]))
        return [LiveAttempt(item["run_id"], items.attempt_of(item)) for item in found[:limit]]

    def postpone(self, run_id: str, seen: Attempt, until: datetime) -> None:
        """See ``ports.Ledger.postpone``. An attempt that is over is in no index, and stays out."""
        address = {"pk": items.run_key(run_id), "sk": items.attempt_sort_key(seen.stage, seen.number)}
        names = {"#next": "next_check_at", "#check": "check_at"}
        moments = {":seen": items.text_of(seen.next_check_at), ":until": items.text_of(until)}
        with suppress(ConditionFailed):
            self._table.change(
                address, "SET #next = :until, #check = :until", Condition("#next = :seen", names, moments)
            )

    def recent(self, status: RunStatus | None, limit: int) -> list[RunHeadline]:
        """See ``ports.Ledger.recent``."""
        condition = Condition("#shard = :shard", {"#shard": "list_shard"}, {":shard": items.RUNS_SHARD})
        wanted = limit if status is None else limit * 10
        found = self._table.index("runs", condition, limit=wanted, newest_first=True)
        return [_headline(item) for item in found if status is None or item["status"] == status][:limit]

    def history(self, run_id: str) -> list[HistoryEntry]:
        """See ``ports.Ledger.history``. Notes come behind the transition they follow, by time."""
        found = self._table.partition(items.run_key(run_id), "HISTORY#")
        found.sort(key=lambda item: (int(item["sequence"]), str(item["sk"]).count("#"), str(item["at"])))
        return [
            HistoryEntry(int(item["sequence"]), items.moment_of(item["at"]), item["actor"], item["what"])
            for item in found
        ]

    def note(self, run_id: str, *, key: str, actor: str, what: str, at: datetime) -> None:
        """See ``ports.Ledger.note``. Its sort key puts it behind the transition it follows."""
        found = self._table.partition(items.run_key(run_id))
        head = next((item for item in found if item["sk"] == "RUN"), None)
        keys = {str(item["sk"]).rpartition("#")[2] for item in found if str(item["sk"]).startswith("HISTORY#")}
        if head is None or key in keys:
            return
        version = int(head["version"])
        line = {
            "pk": items.run_key(run_id),
            "sk": f"HISTORY#{version:06d}#{key}",
            "schema": items.SCHEMA,
            "sequence": version,
            "at": items.text_of(at),
            "actor": actor,
            "what": what,
        }
        with suppress(ConditionFailed):
            self._table.transact([self._table.put(line, NOT_THERE)])

    def _told(self, transition: Transition, actor: str) -> list[dict[str, Any]]:
        run = transition.after
        key = items.run_key(run.run_id)
        history = {
            "pk": key,
            "sk": f"HISTORY#{run.version:06d}",
            "schema": items.SCHEMA,
            "sequence": run.version,
            "at": items.text_of(run.updated_at),
            "actor": actor,
            "what": transition.reason,
        }
        return [
            self._table.put(history, NOT_THERE),
            *(
                self._table.put(outbox_item(key, run.run_id, run.version, index, event, actor, run.updated_at))
                for index, event in enumerate(transition.events)
            ),
        ]


def outbox_item(
    key: str, run_id: str | None, sequence: int, index: int, event: OutboxEvent, actor: str, at: datetime
) -> Item:
    """An ``OUTBOX#…`` item: the event's ``detail``, ready to publish."""
    event_id = f"{key}/{sequence}/{index}"
    detail = {
        "meta": {
            "event_id": event_id,
            "run_id": run_id,
            "sequence": sequence,
            "causation_id": actor,
            "schema_version": SCHEMA_VERSION,
            "occurred_at": at.astimezone(UTC).isoformat(),
        },
        "data": event.data,
    }
    return {
        "pk": key,
        "sk": f"OUTBOX#{sequence:06d}#{index}",
        "schema": items.SCHEMA,
        "detail_type": event.detail_type,
        "detail": json.dumps(detail),
        "expires_at": int((at + OUTBOX_KEPT).timestamp()),
    }


def _version_is(version: int) -> Condition:
    return Condition("#version = :version", {"#version": "version"}, {":version": version})


def _stage_is(state: StageState) -> Condition:
    return Condition(
        "#status = :status AND #attempt = :attempt",
        {"#status": "status", "#attempt": "attempt"},
        {":status": state.status.value, ":attempt": state.attempt},
    )


def _address(item: Item) -> tuple[str, Stage, int]:
    run_id = str(item["pk"]).removeprefix("RUN#")
    _, stage, number = str(item["sk"]).split("#")
    return run_id, Stage(stage), int(number)


def _headline(item: Item) -> RunHeadline:
    return RunHeadline(
        run_id=item["run_id"],
        name=item["name"],
        status=RunStatus(item["status"]),
        stage=Stage(item["stage"]) if "stage" in item else None,
        created_at=items.moment_of(item["created_at"]),
        updated_at=items.moment_of(item["updated_at"]),
    )
