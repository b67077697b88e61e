"""What lies between the functions: the ledger's stream, two event buses, queues with their dead-letter queues.

Everything arrives at least once and in no order. Nothing is lost here: what may be lost (a job event) is dropped
before it reaches the bus, and what a queue gives up lies in its dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from zlib import crc32

from ekiden.ports import OutboxItem
from tests.fakes.faults import Faults, io
from tests.simulation.kernel import Invocation, Kernel
from tests.simulation.weather import Sky
from tests.simulation.wiring import OUR_BUS, QueueWiring, RuleWiring, StreamWiring

Run = Callable[[str, dict[str, Any], Callable[[Invocation, Any, str | None], None]], None]
"""Starts a function with an event."""

POLL = 0.05
DELIVERY = 0.4
"""Seconds an event usually takes from a bus to a queue."""


@dataclass(slots=True)
class Message:
    """A message in a queue. ``troubles`` says why each receive failed; ``innocent`` marks one without a fault."""

    key: str
    body: str
    receives: int = 0
    innocent: bool = False
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message nobody could handle, and whether injected faults explain it."""

    queue: str
    body: str
    explained: bool
    why: str


class Queue:
    """A standard SQS queue and the event source mapping that reads it."""

    def __init__(self, wiring: QueueWiring, kernel: Kernel, sky: Sky, run: Run) -> None:
        self.wiring = wiring
        self.dead: list[DeadLetter] = []
        self.waiting: list[Message] = []
        self._kernel, self._sky, self._run = kernel, sky, run
        self._busy = 0
        self._numbers = count(1)
        self._polling = False

    def send(self, body: str) -> None:
        """Put a message in."""
        self._show(Message(f"{self.wiring.name}-{next(self._numbers)}", body))

    def park(self, body: str) -> None:
        """The function itself gave a message up: no injected fault explains that."""
        why = json.loads(body)["error"]
        self._kernel.tell(self.wiring.name, f"parked: {why['code']} {why['message']}")
        self.dead.append(DeadLetter(self.wiring.name, body, explained=False, why=f"{why['code']}: {why['message']}"))

    def _show(self, message: Message) -> None:
        self.waiting.append(message)
        self._poll()

    def _poll(self) -> None:
        if not self._polling and self.waiting and self._busy < self.wiring.max_concurrency:
            self._polling = True
            self._kernel.after(POLL, self._receive)

    def _receive(self) -> None:
        self._polling = False
        batch, self.waiting = self.waiting[: self.wiring.batch_size], self.waiting[self.wiring.batch_size :]
        batch = [message for message in batch if not self._gave_up(message)]
        if batch:
            for message in batch:
                message.receives += 1
            self._busy += 1
            received = self._kernel.now
            self._run(
                self.wiring.function,
                {"Records": [_record(message) for message in batch]},
                lambda invocation, answer, why: self._settled(batch, received, invocation, answer, why),
            )
        self._poll()

    def _gave_up(self, message: Message) -> bool:
        if message.receives < self.wiring.max_receives:
            return False
        why = "; ".join(message.troubles)
        self._kernel.tell(self.wiring.name, f"{message.key} to the dead-letter queue: {why}")
        self.dead.append(DeadLetter(self.wiring.name, message.body, explained=not message.innocent, why=why))
        return True

    def _settled(
        self, batch: list[Message], received: float, invocation: Invocation, answer: Any, why: str | None
    ) -> None:
        self._busy -= 1
        failed = {message.key for message in batch}
        if why is None:
            # As Lambda reads it: no list means that all is well.
            failed = {item["itemIdentifier"] for item in (answer or {}).get("batchItemFailures", [])}
        again = received + self.wiring.visibility - self._kernel.now
        for message in batch:
            if message.key in failed:
                message.troubles.append(why or "reported as failed")
                message.innocent |= not invocation.faults
                self._kernel.after(max(again, 0.0), partial(self._show, message))
        self._poll()


def _record(message: Message) -> dict[str, Any]:
    return {
        "messageId": message.key,
        "receiptHandle": f"{message.key}/{message.receives}",
        "body": message.body,
        "attributes": {"ApproximateReceiveCount": str(message.receives)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }


class DeadLetterPort:
    """Implements ``ports.Messages``: where a function parks messages."""

    def __init__(self, queue: Queue | None, faults: Faults) -> None:
        self.faults = faults
        self._queue = queue

    @io
    def send(self, bodies: Sequence[str]) -> None:
        """See ``ports.Messages.send``."""
        for body in bodies:
            if self._queue is None:
                raise AssertionError(f"a function without a queue parks a message: {body[:200]}")
            self._queue.park(body)


class ScoreQueuePort:
    """Implements ``ports.Messages``: the score queue, which delivers at least once."""

    def __init__(self, queue: Queue, kernel: Kernel, sky: Sky, faults: Faults) -> None:
        self.faults = faults
        self._queue, self._kernel, self._sky = queue, kernel, sky

    @io
    def send(self, bodies: Sequence[str]) -> None:
        """See ``ports.Messages.send``."""
        for body in bodies:
            for delay in self._sky.delays(POLL):
                self._kernel.after(delay, partial(self._queue.send, body))


class Buses:
    """The default bus and ours: events go to the queues of the rules they match."""

    def __init__(self, rules: Sequence[RuleWiring], queues: Mapping[str, Queue], kernel: Kernel, sky: Sky) -> None:
        self._rules, self._queues = rules, queues
        self._kernel, self._sky = kernel, sky
        self._ids = count(1)

    def put(self, bus: str, source: str, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Deliver an event, at least once to each queue, each time in its own time."""
        event = {
            "id": f"{next(self._ids):08d}",
            "source": source,
            "detail-type": detail_type,
            "detail": detail,
        }
        body = ""
        for rule in self._rules:
            if rule.bus == bus and rule.matches(event):
                body = body or json.dumps(event)
                for delay in self._sky.delays(DELIVERY):
                    self._kernel.after(delay, partial(self._queues[rule.queue].send, body))


class BusPort:
    """Implements ``ports.EventBus``; ``published`` has the ids of all events that ever were."""

    def __init__(self, buses: Buses, faults: Faults) -> None:
        self.faults = faults
        self.published: set[str] = set()
        self._buses = buses

    @io
    def publish(self, items: Sequence[OutboxItem]) -> None:
        """See ``ports.EventBus.publish``."""
        for item in items:
            detail = json.loads(item.detail)
            self.published.add(detail["meta"]["event_id"])
            self._buses.put(OUR_BUS, "ekiden.ledger", item.detail_type, detail)


class Stream:
    """The ledger's stream: lanes by partition key, in each one batch at a time, repeated whole until it succeeds."""

    def __init__(self, wiring: StreamWiring, kernel: Kernel, sky: Sky, run: Run) -> None:
        self.wiring = wiring
        self.dead: list[OutboxItem] = []
        self._kernel, self._sky, self._run = kernel, sky, run
        self._lanes: list[list[OutboxItem]] = [[] for _ in range(wiring.lanes)]
        self._busy = [False] * wiring.lanes

    def append(self, item: OutboxItem) -> None:
        """A new outbox item was written."""
        key = json.loads(item.detail)["meta"]["event_id"].rpartition("/")[0].rpartition("/")[0]
        lane = crc32(key.encode()) % len(self._lanes)
        self._lanes[lane].append(item)
        if not self._busy[lane]:
            self._busy[lane] = True
            self._kernel.after(self._sky.between(0.05, 0.3), lambda: self._read(lane))

    def _read(self, lane: int, tries: int = 0, size: int = 0) -> None:
        batch = self._lanes[lane][: size or self.wiring.batch_size]
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {"NewImage": {"detail_type": {"S": i.detail_type}, "detail": {"S": i.detail}}},
            }
            for i in batch
        ]
        self._run(
            self.wiring.function,
            {"Records": records},
            lambda invocation, answer, why: self._settled(lane, batch, tries, why),
        )

    def _settled(self, lane: int, batch: list[OutboxItem], tries: int, why: str | None) -> None:
        if why is not None and tries < self.wiring.max_retries:
            self._kernel.after(min(2.0**tries, 60.0), lambda: self._read(lane, tries + 1, len(batch)))
            return
        if why is not None:
            self.dead += batch
        del self._lanes[lane][: len(batch)]
        self._busy[lane] = bool(self._lanes[lane])
        if self._lanes[lane]:
            self._kernel.after(0.05, lambda: self._read(lane))
