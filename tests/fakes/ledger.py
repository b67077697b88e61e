"""The ledger of runs in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from ekiden.domain.model import Attempt, JobRef, Run, RunStatus, Stage
from ekiden.domain.transitions import Transition
from ekiden.errors import Conflict, LostRace
from ekiden.ports import HistoryEntry, LiveAttempt, OutboxItem, RunHeadline
from tests.fakes.faults import Faults, io

Address = tuple[str, Stage, int]


def outbox_items(key: str, run_id: str | None, transition: Transition, actor: str) -> list[OutboxItem]:
    """The events of a transition as the ledger's stream would carry them."""
    run = transition.after
    return [
        OutboxItem(
            event.detail_type,
            json.dumps(
                {
                    "meta": {
                        "event_id": f"{key}/{run.version}/{index}",
                        "run_id": run_id,
                        "sequence": run.version,
                        "causation_id": actor,
                        "schema_version": 1,
                        "occurred_at": run.updated_at.astimezone(UTC).isoformat(),
                    },
                    "data": event.data,
                }
            ),
        )
        for index, event in enumerate(transition.events)
    ]


class InMemoryLedger:
    """Implements ``ports.Ledger``. ``outbox`` is what the stream would publish, in order."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.outbox: list[OutboxItem] = []
        self.transitions: list[Transition] = []
        self._runs: dict[str, Run] = {}
        self._requests: dict[str, tuple[str, str]] = {}
        self._history: dict[str, list[HistoryEntry]] = {}
        self._noted: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    @io
    def create(self, transition: Transition, *, request_id: str, payload_hash: str, actor: str) -> str:
        """See ``ports.Ledger.create``."""
        if request_id in self._requests:
            run_id, earlier_hash = self._requests[request_id]
            if earlier_hash != payload_hash:
                raise Conflict(f"request {request_id} was used for another spec", code="REQUEST_CONFLICT")
            return run_id
        run = transition.after
        if run.run_id in self._runs:
            raise LostRace(f"run {run.run_id} exists already")
        self._requests[request_id] = (run.run_id, payload_hash)
        self._write(transition, actor)
        return run.run_id

    @io
    def load(self, run_id: str) -> Run | None:
        """See ``ports.Ledger.load``."""
        return self._runs.get(run_id)

    @io
    def commit(self, transition: Transition, *, actor: str) -> None:
        """See ``ports.Ledger.commit``."""
        before, after = transition.before, transition.after
        if before is None:
            raise ValueError("a run without a past is created, not committed")
        found = self._runs.get(after.run_id)
        if found is None or found.version != before.version:
            if found == after:
                return
            raise LostRace(f"run {after.run_id} moved on from version {before.version} meanwhile")
        self._write(transition, actor)

    @io
    def find_attempts(self, ref: JobRef) -> list[Address]:
        """See ``ports.Ledger.find_attempts``."""
        return [(run.run_id, a.stage, a.number) for run, a in self._live() if a.ref == ref][:10]

    @io
    def live(self, limit: int) -> list[LiveAttempt]:
        """See ``ports.Ledger.live``."""
        found = sorted(self._live(), key=lambda entry: (entry[1].next_check_at, entry[0].run_id))
        return [LiveAttempt(run.run_id, attempt) for run, attempt in found[:limit]]

    @io
    def postpone(self, run_id: str, seen: Attempt, until: datetime) -> None:
        """See ``ports.Ledger.postpone``."""
        run = self._runs.get(run_id)
        attempt = run.attempt(seen.stage, seen.number) if run else None
        if run and attempt and attempt.is_live and attempt.next_check_at == seen.next_check_at:
            self._runs[run_id] = run.with_attempt(replace(attempt, next_check_at=until))

    @io
    def recent(self, status: RunStatus | None, limit: int) -> list[RunHeadline]:
        """See ``ports.Ledger.recent``."""
        runs = sorted(self._runs.values(), key=lambda run: run.created_at, reverse=True)
        return [
            RunHeadline(run.run_id, run.name, run.status, run.current_stage, run.created_at, run.updated_at)
            for run in runs
            if status is None or run.status is status
        ][:limit]

    @io
    def history(self, run_id: str) -> list[HistoryEntry]:
        """See ``ports.Ledger.history``."""
        return list(self._history.get(run_id, []))

    @io
    def note(self, run_id: str, *, key: str, actor: str, what: str, at: datetime) -> None:
        """See ``ports.Ledger.note``."""
        run = self._runs.get(run_id)
        if run is not None and (run_id, key) not in self._noted:
            self._noted.add((run_id, key))
            self._history[run_id].append(HistoryEntry(run.version, at, actor, what))

    def _live(self) -> list[tuple[Run, Attempt]]:
        return [(run, a) for run in self._runs.values() for a in run.attempts if a.is_live]

    def _write(self, transition: Transition, actor: str) -> None:
        run = transition.after
        self._runs[run.run_id] = run
        self.transitions.append(transition)
        entry = HistoryEntry(run.version, run.updated_at, actor, transition.reason)
        self._history.setdefault(run.run_id, []).append(entry)
        self.outbox += outbox_items(f"RUN#{run.run_id}", run.run_id, transition, actor)
