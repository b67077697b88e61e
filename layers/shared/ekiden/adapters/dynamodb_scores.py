"""Score requests in the ledger's table, each in a partition of its own: ``SCORE`` and one ``PART#<n>`` per
finished part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ekiden.adapters.dynamodb_client import NOT_THERE, Condition, ConditionFailed, Item, Table
from ekiden.adapters.dynamodb_items import failure_of, failure_text, moment_of, text_of, without_none
from ekiden.adapters.dynamodb_ledger import outbox_item
from ekiden.domain.model import Failure
from ekiden.domain.scores import TERMINAL_SCORE, PairsFile, PartCounts, ScoreRequest, ScoreStatus
from ekiden.domain.transitions import OutboxEvent
from ekiden.errors import Conflict, LostRace, NotFound
from ekiden.ports import Clock

MAX_PARTS_PER_WRITE = 99
"""A transaction has at most 100 actions; one is the request's own counters."""

_OVER = {f":over{i}": status.value for i, status in enumerate(sorted(TERMINAL_SCORE))}


class DynamoDBScoreLedger:
    """Implements ``ports.ScoreLedger``."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def accept(self, request: ScoreRequest) -> ScoreRequest:
        """See ``ports.ScoreLedger.accept``."""
        event = OutboxEvent("ScoresRequested", {"request_id": request.request_id})
        actions = [
            self._table.put(_item_of(request), NOT_THERE),
            self._outbox(request.request_id, 0, event),
        ]
        try:
            self._table.transact(actions)
        except ConditionFailed:
            earlier = self.load(request.request_id)
            if earlier is None:
                raise LostRace(f"score request {request.request_id} is being written") from None
            if earlier.payload_hash != request.payload_hash:
                raise Conflict(
                    f"request {request.request_id} was used for other pairs or another endpoint; use a new request_id",
                    code="REQUEST_CONFLICT",
                ) from None
            return earlier
        return request

    def load(self, request_id: str) -> ScoreRequest | None:
        """See ``ports.ScoreLedger.load``."""
        item = self._table.get(_key(request_id), "SCORE")
        return _request_of(item) if item else None

    def record_split(self, before: ScoreRequest, *, offset: int, parts: int, rows: int, complete: bool) -> None:
        """See ``ports.ScoreLedger.record_split``."""
        expression = (
            "SET #offset = :offset, #parts = :parts, #rows = :rows, #complete = :complete, "
            "#status = :running, #updated = :now"
        )
        condition = Condition(
            "#offset = :seen AND #status IN (:accepted, :running)",
            {
                "#offset": "split_offset",
                "#parts": "parts",
                "#rows": "row_count",
                "#complete": "split_complete",
                "#status": "status",
                "#updated": "updated_at",
            },
            {
                ":seen": before.split_offset,
                ":offset": offset,
                ":parts": parts,
                ":rows": rows,
                ":complete": complete,
                ":accepted": ScoreStatus.ACCEPTED.value,
                ":running": ScoreStatus.RUNNING.value,
                ":now": text_of(self._clock.now()),
            },
        )
        try:
            self._table.transact([self._table.update(_address(before.request_id), expression, condition)])
        except ConditionFailed:
            raise LostRace(f"request {before.request_id} was split on by another worker") from None

    def record_parts(self, request_id: str, parts: dict[int, PartCounts]) -> ScoreRequest:
        """See ``ports.ScoreLedger.record_parts``."""
        missing = dict(parts)
        while missing:
            batch = dict(list(missing.items())[:MAX_PARTS_PER_WRITE])
            try:
                self._table.transact(
                    [
                        self._count(request_id, batch),
                        *(self._table.put(_part_item(request_id, n, c), NOT_THERE) for n, c in batch.items()),
                    ]
                )
                done = set(batch)
            except ConditionFailed as failure:
                if failure.failed[0]:
                    raise NotFound(f"there is no score request {request_id}", code="UNKNOWN_REQUEST") from None
                done = {n for n, failed in zip(batch, failure.failed[1:], strict=True) if failed}
            missing = {n: counts for n, counts in missing.items() if n not in done}
        request = self.load(request_id)
        if request is None:
            raise NotFound(f"there is no score request {request_id}", code="UNKNOWN_REQUEST")
        return request

    def finish(self, request_id: str, failure: Failure | None = None) -> None:
        """See ``ports.ScoreLedger.finish``."""
        status = ScoreStatus.FAILED if failure else ScoreStatus.COMPLETED
        data: dict[str, Any] = {"request_id": request_id}
        if failure:
            data |= {"code": failure.code, "message": failure.message}
        event = OutboxEvent("ScoresFailed" if failure else "ScoresCompleted", data)
        names = {"#status": "status", "#updated": "updated_at", "#pk": "pk"}
        values: Item = {":status": status.value, ":now": text_of(self._clock.now())} | _OVER
        expression = "SET #status = :status, #updated = :now"
        if failure:
            names["#failure"] = "failure"
            values[":failure"] = failure_text(failure)
            expression += ", #failure = :failure"
        condition = Condition(f"attribute_exists(#pk) AND NOT #status IN ({', '.join(_OVER)})", names, values)
        try:
            self._table.transact(
                [
                    self._table.update(_address(request_id), expression, condition),
                    self._outbox(request_id, 1, event),
                ]
            )
        except ConditionFailed:
            return  # over already

    def _count(self, request_id: str, parts: dict[int, PartCounts]) -> dict[str, Any]:
        expression = "SET #updated = :now ADD #done :done, #scored :scored, #fallback :fallback, #invalid :invalid"
        condition = Condition(
            "attribute_exists(#pk)",
            {
                "#pk": "pk",
                "#done": "parts_done",
                "#scored": "scored",
                "#fallback": "fallback",
                "#invalid": "invalid",
                "#updated": "updated_at",
            },
            {
                ":done": len(parts),
                ":scored": sum(counts.scored for counts in parts.values()),
                ":fallback": sum(counts.fallback for counts in parts.values()),
                ":invalid": sum(counts.invalid for counts in parts.values()),
                ":now": text_of(self._clock.now()),
            },
        )
        return self._table.update(_address(request_id), expression, condition)

    def _outbox(self, request_id: str, sequence: int, event: OutboxEvent) -> dict[str, Any]:
        item = outbox_item(_key(request_id), None, sequence, 0, event, request_id, self._clock.now())
        return self._table.put(item)


def _key(request_id: str) -> str:
    return f"SCORE#{request_id}"


def _address(request_id: str) -> Item:
    return {"pk": _key(request_id), "sk": "SCORE"}


def _part_item(request_id: str, part: int, counts: PartCounts) -> Item:
    return {
        "pk": _key(request_id),
        "sk": f"PART#{part:06d}",
        "scored": counts.scored,
        "fallback": counts.fallback,
        "invalid": counts.invalid,
    }


def _item_of(request: ScoreRequest) -> Item:
    return without_none(
        {
            **_address(request.request_id),
            "request_id": request.request_id,
            "endpoint": request.endpoint,
            "bucket": request.pairs.bucket,
            "key": request.pairs.key,
            "etag": request.pairs.etag,
            "size": request.pairs.size,
            "status": request.status.value,
            "created_at": text_of(request.created_at),
            "updated_at": text_of(request.updated_at),
            "results": request.results,
            "payload_hash": request.payload_hash,
            "split_offset": request.split_offset,
            "split_complete": request.split_complete,
            "parts": request.parts,
            "row_count": request.rows,
            "parts_done": request.parts_done,
            "scored": request.scored,
            "fallback": request.fallback,
            "invalid": request.invalid,
        }
    )


def _request_of(item: Item) -> ScoreRequest:
    plain = ScoreRequest(
        request_id=item["request_id"],
        endpoint=item["endpoint"],
        pairs=PairsFile(item["bucket"], item["key"], item["etag"], int(item["size"])),
        status=ScoreStatus(item["status"]),
        created_at=moment_of(item["created_at"]),
        updated_at=moment_of(item["updated_at"]),
        results=item["results"],
        payload_hash=item["payload_hash"],
        failure=failure_of(item.get("failure")),
    )
    return replace(
        plain,
        split_offset=int(item["split_offset"]),
        split_complete=bool(item["split_complete"]),
        parts=int(item["parts"]),
        rows=int(item["row_count"]),
        parts_done=int(item["parts_done"]),
        scored=int(item["scored"]),
        fallback=int(item["fallback"]),
        invalid=int(item["invalid"]),
    )
