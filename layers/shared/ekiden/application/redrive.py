"""Redrive: what lies in dead-letter queues is sent again to where it came from.

At least once, so every step may be repeated: the act is put down in the history of the runs that messages name, the
messages are sent, and only then deleted. Whoever handles one knows duplicates, so redriving everything twice changes
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from ekiden.contracts.api import QueueRedriven, RedriveReport
from ekiden.contracts.base import shorten
from ekiden.contracts.events import DeadLetter, Envelope, ScorePairs
from ekiden.contracts.parked import StreamFailure
from ekiden.errors import ContractViolation, NotFound, Permanent, PipelineError
from ekiden.ports import (
    Clock,
    DeadLetterQueue,
    EventBus,
    Ledger,
    LedgerStream,
    Messages,
    OutboxItem,
    ParkedMessage,
    StreamSpan,
)

HIDDEN_SECONDS = 30
"""How long a taken message is hidden. Longer than one call may take, so that a call sees none twice, and short, so that
those of a call that crashed are there again soon."""
WAIT_SECONDS = 1
"""How long to wait for messages that the queue says it has: a short look asks only some of SQS's servers."""
MAX_REASONS = 5
RUN_ID = re.compile(r"^[a-z0-9-]{1,80}$")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Again:
    """A parked message as it is sent again: the body of a message, or events."""

    message: ParkedMessage
    what: str
    """For the history."""
    runs: frozenset[str] = frozenset()
    body: str = ""
    events: tuple[OutboxItem, ...] = ()


class Way(Protocol):
    """How a dead-letter queue's messages get back to where they came from."""

    def read(self, message: ParkedMessage) -> Again:
        """What to send again.

        Raises:
            Permanent: there is nothing to send: it is kept.
            Transient: try again later.
        """

    def send(self, some: Sequence[Again]) -> None:
        """Send them, at least once each.

        Raises:
            DependencyUnavailable: not all were taken; sending all again is harmless.
        """


@dataclass(frozen=True, slots=True)
class ToQueue:
    """Messages go to the queue they came from: our ``DeadLetter`` is unwrapped, what SQS or EventBridge itself put into
    the dead-letter queue is what the queue would have got."""

    queue: Messages

    def read(self, message: ParkedMessage) -> Again:
        """See ``Way.read``."""
        letter = _valid(DeadLetter, message.body)
        body = letter.body if letter else message.body
        event = _valid(Envelope, body)
        if letter is None and event is None and _valid(ScorePairs, body) is None:
            raise ContractViolation("it is no message of Ekiden: neither an event nor a command", code="FOREIGN")
        what = shorten(event.detail_type) if event else "a message"
        parked_for = f", parked for {shorten(letter.error.code)}," if letter else ""
        return Again(
            message, f"{what}{parked_for} sent to its queue again", _runs([event.detail] if event else []), body
        )

    def send(self, some: Sequence[Again]) -> None:
        """See ``Way.send``."""
        self.queue.send([again.body for again in some])


@dataclass(frozen=True, slots=True)
class ToBus:
    """Positions in the ledger's stream: the events written there are published again."""

    stream: LedgerStream
    bus: EventBus

    def read(self, message: ParkedMessage) -> Again:
        """See ``Way.read``."""
        failure = _valid(StreamFailure, message.body)
        if failure is None:
            raise ContractViolation("it is no record of a stream batch that Lambda gave up", code="FOREIGN")
        at = failure.batch
        events = tuple(self.stream.outbox(StreamSpan(at.stream, at.shard, at.first, at.last)))
        runs = _runs(json.loads(event.detail) for event in events)
        return Again(message, "events of the ledger published again", runs, events=events)

    def send(self, some: Sequence[Again]) -> None:
        """See ``Way.send``."""
        self.bus.publish([event for again in some for event in again.events])


@dataclass(frozen=True, slots=True)
class WayBack:
    """A dead-letter queue, by the name of the queue it belongs to, and its messages' way back."""

    name: str
    parked: DeadLetterQueue
    way: Way


@dataclass(frozen=True, slots=True)
class _Act:
    """Who redrives what, and why: one line in each run's history, however many of its messages and calls it takes."""

    actor: str
    reason: str
    before: datetime
    until: datetime
    put_down: set[tuple[str, str]] = field(default_factory=set)
    """Queue and run."""


@dataclass(slots=True)
class _Count:
    redriven: int = 0
    remaining: int = 0
    kept: list[str] = field(default_factory=list)
    later: int = 0
    held: list[str] = field(default_factory=list)
    """Receipts of messages that stay."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """Redrives one or every dead-letter queue for as long as it may."""

    ledger: Ledger
    clock: Clock
    ways_back: Sequence[WayBack]

    def __call__(
        self, queue: str | None, *, reason: str, actor: str, before: datetime | None, seconds: float
    ) -> RedriveReport:
        """Redrive what was parked ``before`` (default: now), for about ``seconds``.

        Raises:
            NotFound: there is no such queue.
            Transient: try again later; what is not deleted comes again.
        """
        now = self.clock.now()
        began = min(before, now) if before else now
        act = _Act(actor, reason, began, now + timedelta(seconds=seconds))
        counts = {back.name: self._queue(back, act) for back in self._chosen(queue)}
        return RedriveReport(
            before=began,
            queues=[
                QueueRedriven(
                    queue=name,
                    redriven=count.redriven,
                    kept=len(count.kept),
                    later=count.later,
                    remaining=count.remaining,
                    reasons=count.kept[:MAX_REASONS],
                )
                for name, count in counts.items()
            ],
        )

    def _chosen(self, queue: str | None) -> list[WayBack]:
        if queue is None:
            return list(self.ways_back)
        wanted = queue.lower().removesuffix("dlq")
        found = [back for back in self.ways_back if back.name.lower() == wanted]
        if not found:
            known = ", ".join(back.name for back in self.ways_back)
            raise NotFound(f"there is no queue {shorten(queue)}; one of {known}", code="UNKNOWN_QUEUE")
        return found

    def _queue(self, back: WayBack, act: _Act) -> _Count:
        count, taken = _Count(), 0
        waiting = back.parked.waiting()
        while self.clock.now() < act.until:
            batch = back.parked.take(seconds=HIDDEN_SECONDS, wait=WAIT_SECONDS if taken < waiting else 0)
            if not batch:
                with suppress(PipelineError):  # nobody has to wait for those that stay; else they come by themselves
                    back.parked.hide(count.held, 0)
                return count
            taken += len(batch)
            self._batch(back, batch, count, act)
        count.remaining = back.parked.waiting()
        return count

    def _batch(self, back: WayBack, batch: Sequence[ParkedMessage], count: _Count, act: _Act) -> None:
        ready: list[Again] = []
        for message in batch:
            if message.parked_at >= act.before:
                # Sent again and parked again: without this the two queues would play ball until time is up.
                count.later += 1
                count.held.append(message.receipt)
                continue
            try:
                ready.append(back.way.read(message))
            except Permanent as refusal:
                count.kept.append(f"{message.message_id}: {refusal.message}")
                count.held.append(message.receipt)
        for again in ready:
            self._put_down(back.name, again, act)
        if ready:
            back.way.send(ready)
            back.parked.delete([again.message.receipt for again in ready])
        count.redriven += len(ready)

    def _put_down(self, queue: str, again: Again, act: _Act) -> None:
        """Before it is sent: no act without its line."""
        for run_id in sorted(again.runs):
            if (queue, run_id) in act.put_down:
                continue
            self.ledger.note(
                run_id,
                key=f"redrive-{queue}-{act.before.astimezone(UTC):%Y%m%dT%H%M%S%fZ}",
                actor=act.actor,
                what=f"redrive of {queue}: {again.what}" + (f": {act.reason}" if act.reason else ""),
                at=self.clock.now(),
            )
            act.put_down.add((queue, run_id))


def _valid(model: type[M], body: str) -> M | None:
    try:
        return model.model_validate_json(body)
    except ValidationError:
        return None


def _runs(details: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The runs that events of ours are about, by their ``detail``."""
    metas = (detail.get("meta") for detail in details)
    named = (meta.get("run_id") for meta in metas if isinstance(meta, dict))
    return frozenset(run_id for run_id in named if isinstance(run_id, str) and RUN_ID.match(run_id))
