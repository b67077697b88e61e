"""What lies between the functions: the ledger's stream and two event buses. Queues are in ``queues``.

Everything arrives at least once and in no order. Nothing is lost here: what may be lost (a job event) is dropped
before it reaches the bus, and what a queue gives up lies in its dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any
from zlib import crc32

from ekiden.ports import OutboxItem
from tests.fakes.faults import Faults, io
from tests.simulation.kernel import Kernel, Start
from tests.simulation.queues import Queue
from tests.simulation.weather import Sky
from tests.simulation.wiring import OUR_BUS, RuleWiring, StreamWiring

DELIVERY = 0.4
"""Seconds an event usually takes from a bus to a queue."""


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

    def __init__(self, wiring: StreamWiring, kernel: Kernel, sky: Sky, start: Start) -> None:
        self.wiring = wiring
        self.dead: list[OutboxItem] = []
        self._kernel, self._sky, self._start = kernel, sky, start
        self._lanes: list[list[OutboxItem]] = [[] for _ in range(wiring.lanes)]
        self._busy = [False] * wiring.lanes

    def append(self, item: OutboxItem) -> None:
        """A new outbox item was written."""
        key = json.loads(item.detail)["meta"]["event_id"].rpartition("/")[0].rpartition("/")[0]
        lane = crc32(key.encode()) % len(self._lanes)
        self._lanes[lane].append(item)
        if not self._busy[lane]:
            self._busy[lane] = True
            self._kernel.after(self._sky.events.between(0.05, 0.3), lambda: self._read(lane))

    def _read(self, lane: int, tries: int = 0, size: int = 0) -> None:
        batch = self._lanes[lane][: size or self.wiring.batch_size]
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {"NewImage": {"detail_type": {"S": i.detail_type}, "detail": {"S": i.detail}}},
            }
            for i in batch
        ]
        self._start(
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
