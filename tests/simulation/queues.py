"""Queues as SQS has them: visibility, receive counts, dead-letter queues, and the ports that functions see of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from ekiden.ports import ParkedMessage
from tests.fakes.faults import Faults, io
from tests.simulation.kernel import Invocation, Kernel, Start
from tests.simulation.weather import Sky
from tests.simulation.wiring import QueueWiring

POLL = 0.05
"""Seconds between a message's coming and its being received."""


@dataclass(slots=True)
class Message:
    """A message in a queue. ``troubles`` says why each receive failed; ``innocent`` marks one without a fault."""

    key: str
    body: str
    receives: int = 0
    innocent: bool = False
    troubles: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DeadLetter:
    """A message nobody could handle, and whether injected faults explain it. ``hidden`` is until when, in seconds."""

    key: str
    queue: str
    body: str
    explained: bool
    why: str
    at: datetime
    hidden: float = 0.0


class Queue:
    """A standard SQS queue and the event source mapping that reads it."""

    def __init__(self, wiring: QueueWiring, kernel: Kernel, sky: Sky, start: Start, to_bury: int = 0) -> None:
        self.wiring = wiring
        self._to_bury = to_bury
        self.dead: list[DeadLetter] = []
        self.unexplained: list[DeadLetter] = []
        """Those whose being here no injected fault explains, redriven or not."""
        self.visible_at: dict[str, float] = {}
        """When received messages are there again, by receipt: what a function asked for."""
        self.waiting: list[Message] = []
        self._kernel, self._sky, self._start = kernel, sky, start
        self._busy = 0
        self._numbers = count(1)
        self._polling = False

    def send(self, body: str) -> None:
        """Put a message in."""
        while self._to_bury:
            self._to_bury -= 1
            self._bury(body, explained=True, why="given up on purpose")
        self._show(Message(f"{self.wiring.name}-{next(self._numbers)}", body))

    def park(self, body: str) -> None:
        """The function itself gave a message up: no injected fault explains that."""
        why = json.loads(body)["error"]
        self._kernel.tell(self.wiring.name, f"parked: {why['code']} {why['message']}")
        self._bury(body, explained=False, why=f"{why['code']}: {why['message']}")

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
            self._start(
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
        self._bury(message.body, explained=not message.innocent, why=why)
        return True

    def _bury(self, body: str, *, explained: bool, why: str) -> None:
        self._sky.counts["dead letter"] += 1
        key = f"{self.wiring.name}-dead-{self._sky.counts['dead letter']}"
        letter = DeadLetter(key, self.wiring.name, body, explained, why, self._kernel.clock())
        self.dead.append(letter)
        self.unexplained += [] if explained else [letter]

    def _settled(
        self, batch: list[Message], received: float, invocation: Invocation, answer: Any, why: str | None
    ) -> None:
        self._busy -= 1
        failed = {message.key for message in batch}
        if why is None:
            # As Lambda reads it: no list means that all is well.
            failed = {item["itemIdentifier"] for item in (answer or {}).get("batchItemFailures", [])}
        for message in batch:
            again = self.visible_at.pop(_receipt(message), received + self.wiring.visibility) - self._kernel.now
            if message.key in failed:
                message.troubles.append(why or "reported as failed")
                message.innocent |= not invocation.faults
                self._kernel.after(max(again, 0.0), partial(self._show, message))
        self._poll()


def _receipt(message: Message) -> str:
    return f"{message.key}/{message.receives}"


def _record(message: Message) -> dict[str, Any]:
    return {
        "messageId": message.key,
        "receiptHandle": _receipt(message),
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


class QueuePort:
    """Implements ``ports.Messages``: a queue that functions send to, which delivers at least once."""

    def __init__(self, queue: Queue, kernel: Kernel, sky: Sky, faults: Faults) -> None:
        self.faults = faults
        self._queue, self._kernel, self._sky = queue, kernel, sky

    @io
    def send(self, bodies: Sequence[str]) -> None:
        """See ``ports.Messages.send``."""
        for body in bodies:
            for delay in self._sky.delays(POLL):
                self._kernel.after(delay, partial(self._queue.send, body))


class WorkQueuePort:
    """Implements ``ports.WorkQueue``: the queue that a function is fed from."""

    def __init__(self, queue: Queue, kernel: Kernel, faults: Faults) -> None:
        self.faults = faults
        self._queue, self._kernel = queue, kernel

    @io
    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.WorkQueue.hide``."""
        self._queue.visible_at.update(dict.fromkeys(receipts, self._kernel.now + seconds))


class ParkedPort:
    """Implements ``ports.DeadLetterQueue``."""

    def __init__(self, queue: Queue, kernel: Kernel, faults: Faults) -> None:
        self.faults = faults
        self._queue, self._kernel = queue, kernel

    @io
    def waiting(self) -> int:
        """See ``ports.DeadLetterQueue.waiting``."""
        return len(self._visible())

    @io
    def take(self, *, seconds: int, wait: int) -> list[ParkedMessage]:
        """See ``ports.DeadLetterQueue.take``."""
        taken = self._visible()[:10]
        for letter in taken:
            letter.hidden = self._kernel.now + seconds
        return [ParkedMessage(letter.key, letter.key, letter.at, letter.body) for letter in taken]

    @io
    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.DeadLetterQueue.hide``."""
        for letter in self._queue.dead:
            if letter.key in receipts:
                letter.hidden = self._kernel.now + seconds

    @io
    def delete(self, receipts: Sequence[str]) -> None:
        """See ``ports.DeadLetterQueue.delete``."""
        self._queue.dead = [letter for letter in self._queue.dead if letter.key not in receipts]

    def _visible(self) -> list[DeadLetter]:
        return [letter for letter in self._queue.dead if letter.hidden <= self._kernel.now]
