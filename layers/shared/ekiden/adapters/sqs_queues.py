"""SQS queues as their readers see them: a function's own queue, and dead-letter queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ekiden.adapters.aws_errors import translated
from ekiden.adapters.aws_io import BATCH
from ekiden.errors import DependencyUnavailable
from ekiden.ports import ParkedMessage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

WAITING: Final = "ApproximateNumberOfMessages"
SENT: Final = "SentTimestamp"
TAKEN_BY_ANOTHER = "ReceiptHandleIsInvalid"
"""The message was there again meanwhile: whoever has taken it deletes it."""


class SqsWorkQueue:
    """Implements ``ports.WorkQueue``."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._url = queue_url

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.WorkQueue.hide``. One call each: seldom is more than one message concerned."""
        with translated():
            for receipt in receipts:
                self._client.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=seconds
                )


class SqsDeadLetters:
    """Implements ``ports.DeadLetterQueue``."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._url = queue_url

    def waiting(self) -> int:
        """See ``ports.DeadLetterQueue.waiting``."""
        with translated():
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=[WAITING])
        return int(answer["Attributes"][WAITING])

    def take(self, *, seconds: int, wait: int) -> list[ParkedMessage]:
        """See ``ports.DeadLetterQueue.take``."""
        with translated():
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=seconds,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=[SENT],
            )
        return [
            ParkedMessage(
                message["MessageId"],
                message["ReceiptHandle"],
                datetime.fromtimestamp(int(message["Attributes"][SENT]) / 1000, UTC),
                message["Body"],
            )
            for message in answer.get("Messages", [])
        ]

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """See ``ports.DeadLetterQueue.hide``. One that is there again already needs no hiding."""
        with translated():
            for some in _batches(receipts):
                entries = [
                    {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                    for index, receipt in enumerate(some)
                ]
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type]

    def delete(self, receipts: Sequence[str]) -> None:
        """See ``ports.DeadLetterQueue.delete``."""
        with translated():
            for some in _batches(receipts):
                entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(some)]
                answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type]
                failed = [entry for entry in answer.get("Failed", []) if entry["Code"] != TAKEN_BY_ANOTHER]
                if failed:
                    raise DependencyUnavailable(f"{len(failed)} messages were not deleted: {failed[0]['Code']}")


def _batches(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(receipts), BATCH):
        yield receipts[start : start + BATCH]
