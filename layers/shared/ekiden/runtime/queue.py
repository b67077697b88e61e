"""The consumer of every queue-fed function.

A message is decoded first. What it ends with decides what becomes of it:

- done, or a duplicate: deleted;
- permanent: sent to the dead-letter queue with an envelope that says why, and deleted. Retrying cannot help;
- transient or unforeseen: reported as failed. The queue redelivers it, and parks it after five receives. What failed
  for a passing reason comes again by our own back-off: the first time within seconds, as a hiccup deserves, then
  more and more slowly up to the queue's visibility time-out, so that an outage does not use up the receives.

The answer always is the partial-batch response. ``None`` would delete failed messages too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ekiden.contracts.base import faults_of, shorten
from ekiden.contracts.events import Envelope
from ekiden.errors import AlreadyDone, ContractViolation, Permanent, PipelineError, Transient
from ekiden.ports import Messages, Randomness, WorkQueue
from ekiden.runtime.observability import count, logger, metrics

M = TypeVar("M", bound=BaseModel)
Response = dict[str, list[dict[str, str]]]


BACKOFF_STEPS = (15, 60, 240)
"""Seconds. After the n-th receive the delay is drawn evenly (full jitter) from the n-th step's window: 0-15, 15-60,
60-240. After that the queue's own visibility time-out holds: its spread is that of the receives before. Five receives
so outlast an outage of the visibility time-out, 12 minutes for scores, and a hiccup costs 7.5 seconds on average."""


def backoff(receives: int, jitter: float) -> int | None:
    """Seconds until a message that failed for a passing reason comes again; ``None``: when its queue says.

    ``receives`` counts from 1, this one included; ``jitter`` is in [0, 1).
    """
    if receives > len(BACKOFF_STEPS):
        return None
    low, high = (0, *BACKOFF_STEPS)[receives - 1 : receives + 1]
    return low + int((high - low) * jitter)


class QueueConsumer:
    """Runs a use case over the records of an SQS event.

    Without ``work`` and ``randomness`` what failed comes again when its queue says.
    """

    def __init__(
        self, dead_letters: Messages, work: WorkQueue | None = None, randomness: Randomness | None = None
    ) -> None:
        self._dead_letters = dead_letters
        self._work = work
        self._randomness = randomness

    def each_event(self, event: Mapping[str, Any], handle: Callable[[Envelope], None]) -> Response:
        """Handle EventBridge events, one at a time."""

        def handle_all(events: Mapping[str, Envelope]) -> dict[str, BaseException]:
            errors: dict[str, BaseException] = {}
            for key, envelope in events.items():
                try:
                    handle(envelope)
                except Exception as error:  # noqa: BLE001  one message must not fail the others
                    errors[key] = error
            return errors

        return self.batch(event, Envelope, handle_all)

    def batch(
        self,
        event: Mapping[str, Any],
        model: type[M],
        handle: Callable[[Mapping[str, M]], Mapping[str, BaseException]],
    ) -> Response:
        """Handle the batch at once: ``handle`` takes messages by id and gives back the errors by id."""
        records = {record["messageId"]: record for record in _records(event)}
        decoded: dict[str, M] = {}
        errors: dict[str, BaseException] = {}
        for key, record in records.items():
            try:
                decoded[key] = _decode(model, record["body"])
            except ContractViolation as error:
                errors[key] = error
        if decoded:
            try:
                errors |= handle(decoded)
            except Exception as error:  # noqa: BLE001  classified below like any other
                errors |= dict.fromkeys(decoded, error)
        failed = [key for key, error in errors.items() if not self._settled(records[key], error)]
        self._back_off([records[key] for key in failed if isinstance(errors[key], Transient)])
        count("MessagesHandled", len(records) - len(failed))
        metrics.flush_metrics()
        return {"batchItemFailures": [{"itemIdentifier": key} for key in failed]}

    def _settled(self, record: Mapping[str, Any], error: BaseException) -> bool:
        """Whether the message is done with in spite of ``error``."""
        key = record["messageId"]
        match error:
            case AlreadyDone():
                count("Duplicates")
                logger.info("nothing to do", extra={"message_id": key, "reason": error.message})
                return True
            case Permanent():
                return self._park(record, error)
            case PipelineError():
                logger.warning("will be tried again", extra={"message_id": key, "reason": error.message})
            case _:
                logger.error("unforeseen error, will be tried again", exc_info=error, extra={"message_id": key})
        count("MessagesRetried")
        return False

    def _back_off(self, records: Iterable[Mapping[str, Any]]) -> None:
        if self._work is None or self._randomness is None:
            return
        for record in records:
            receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
            seconds = backoff(receives, self._randomness.jitter())
            if seconds is None or "receiptHandle" not in record:
                continue
            try:
                self._work.hide([record["receiptHandle"]], seconds)
            except PipelineError as refusal:  # the queue's own time-out holds, for the others too
                logger.warning("the time of the next receive stays the queue's", extra={"reason": refusal.message})
                return

    def _park(self, record: Mapping[str, Any], error: Permanent) -> bool:
        faults = getattr(error, "faults", ())
        logger.error(
            "parked in the dead-letter queue",
            extra={"message_id": record["messageId"], "code": error.code, "reason": error.message, "faults": faults},
        )
        count("MessagesParked")
        envelope = {
            "error": {"code": error.code, "message": error.message, "faults": faults},
            "message_id": record["messageId"],
            "attributes": record.get("attributes", {}),
            "body": record["body"],
        }
        try:
            self._dead_letters.send([json.dumps(envelope)])
        except PipelineError as refusal:
            logger.error("could not be parked; the queue does so after five receives", exc_info=refusal)
            return False
        return True


def _records(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    records = event.get("Records")
    if not isinstance(records, list) or not all(
        isinstance(r, dict) and {"messageId", "body"} <= r.keys() for r in records
    ):
        # Not a batch of the queue: there is no message to park or to give back.
        raise ContractViolation(
            "the event is no SQS event: it needs Records with messageId and body; events/lambda/ has samples",
            code="NOT_AN_SQS_EVENT",
        )
    return records


def _decode(model: type[M], body: str) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _malformed(faults_of(error)) from None


H = TypeVar("H")


def one_of(handlers: Mapping[str, H], envelope: Envelope) -> H:
    """What handles events of the envelope's type.

    Raises:
        ContractViolation: nothing does; the event is parked, not tried again.
    """
    if envelope.detail_type not in handlers:
        raise ContractViolation(
            f"{shorten(envelope.detail_type)} is no event for this function; expected one of {sorted(handlers)}",
            code="UNKNOWN_EVENT",
        )
    return handlers[envelope.detail_type]


def parse(model: type[M], document: Any) -> M:
    """``document`` as ``model``.

    Raises:
        ContractViolation: with every fault and its path.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _malformed(faults_of(error)) from None


def _malformed(faults: Iterable[Any]) -> ContractViolation:
    found = tuple((fault.path, fault.message) for fault in faults)
    summary = "; ".join(f"{path}: {message}" if path else message for path, message in found[:5])
    return ContractViolation(f"the message does not keep its contract: {summary}", code="MALFORMED", faults=found)
