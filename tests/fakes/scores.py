"""The ledger of score requests in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ekiden.domain.model import Failure
from ekiden.domain.scores import TERMINAL_SCORE, PartCounts, ScoreRequest, ScoreStatus
from ekiden.errors import Conflict, LostRace, NotFound
from ekiden.ports import Clock, OutboxItem
from tests.fakes.faults import Faults, io


class InMemoryScoreLedger:
    """Implements ``ports.ScoreLedger``. ``outbox`` is what the stream would publish, in order."""

    def __init__(self, clock: Clock, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.outbox: list[OutboxItem] = []
        self._clock = clock
        self._requests: dict[str, ScoreRequest] = {}
        self._parts: dict[str, dict[int, PartCounts]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._requests

    @io
    def accept(self, request: ScoreRequest) -> ScoreRequest:
        """See ``ports.ScoreLedger.accept``."""
        earlier = self._requests.get(request.request_id)
        if earlier is not None:
            if earlier.payload_hash != request.payload_hash:
                raise Conflict(f"request {request.request_id} was used for other pairs", code="REQUEST_CONFLICT")
            return earlier
        self._requests[request.request_id] = request
        self._parts[request.request_id] = {}
        self._tell(request.request_id, 0, "ScoresRequested", {"request_id": request.request_id})
        return request

    @io
    def load(self, request_id: str) -> ScoreRequest | None:
        """See ``ports.ScoreLedger.load``."""
        return self._requests.get(request_id)

    @io
    def record_split(self, before: ScoreRequest, *, offset: int, parts: int, rows: int, complete: bool) -> None:
        """See ``ports.ScoreLedger.record_split``."""
        found = self._requests.get(before.request_id)
        if found is None or found.split_offset != before.split_offset or found.status in TERMINAL_SCORE:
            raise LostRace(f"request {before.request_id} was split on by another worker")
        self._requests[before.request_id] = replace(
            found,
            split_offset=offset,
            parts=parts,
            rows=rows,
            split_complete=complete,
            status=ScoreStatus.RUNNING,
            updated_at=self._clock.now(),
        )

    @io
    def record_parts(self, request_id: str, parts: dict[int, PartCounts]) -> ScoreRequest:
        """See ``ports.ScoreLedger.record_parts``."""
        found = self._requests.get(request_id)
        if found is None:
            raise NotFound(f"there is no score request {request_id}", code="UNKNOWN_REQUEST")
        new = {number: counts for number, counts in parts.items() if number not in self._parts[request_id]}
        self._parts[request_id] |= new
        self._requests[request_id] = replace(
            found,
            parts_done=found.parts_done + len(new),
            scored=found.scored + sum(counts.scored for counts in new.values()),
            fallback=found.fallback + sum(counts.fallback for counts in new.values()),
            invalid=found.invalid + sum(counts.invalid for counts in new.values()),
            updated_at=self._clock.now(),
        )
        return self._requests[request_id]

    @io
    def finish(self, request_id: str, failure: Failure | None = None) -> None:
        """See ``ports.ScoreLedger.finish``."""
        found = self._requests.get(request_id)
        if found is None or found.status in TERMINAL_SCORE:
            return
        status = ScoreStatus.FAILED if failure else ScoreStatus.COMPLETED
        self._requests[request_id] = replace(found, status=status, failure=failure, updated_at=self._clock.now())
        data: dict[str, Any] = {"request_id": request_id}
        if failure:
            data |= {"code": failure.code, "message": failure.message}
        self._tell(request_id, 1, "ScoresFailed" if failure else "ScoresCompleted", data)

    def _tell(self, request_id: str, sequence: int, detail_type: str, data: dict[str, Any]) -> None:
        meta = {
            "event_id": f"SCORE#{request_id}/{sequence}/0",
            "run_id": None,
            "sequence": sequence,
            "causation_id": request_id,
            "schema_version": 1,
            "occurred_at": self._clock.now().isoformat(),
        }
        self.outbox.append(OutboxItem(detail_type, json.dumps({"meta": meta, "data": data})))
