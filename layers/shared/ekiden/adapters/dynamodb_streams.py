"""The ledger's stream, read by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from ekiden.adapters.aws_errors import code_of, translated
from ekiden.errors import NotFound
from ekiden.ports import OutboxItem, StreamSpan

EMPTY_PAGES = 10
"""A page may be empty before the end; so many in a row are the end."""
TRIMMED = "TrimmedDataAccessException"


class DynamoDBStream:
    """Implements ``ports.LedgerStream``. ``client`` is boto3's for ``dynamodbstreams``."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def outbox(self, span: StreamSpan) -> list[OutboxItem]:
        """See ``ports.LedgerStream.outbox``."""
        last, found = int(span.last), list[OutboxItem]()
        for record in self._records(span):
            position = int(record["dynamodb"]["SequenceNumber"])
            if position <= last:
                found += _outbox_item(record)
            if position >= last:
                return found
        raise NotFound(f"the stream does not reach to {span.last} in {span.shard}", code="NOT_IN_THE_STREAM")

    def _records(self, span: StreamSpan) -> Iterator[Mapping[str, Any]]:
        with translated():
            try:
                answer = self._client.get_shard_iterator(
                    StreamArn=span.stream,
                    ShardId=span.shard,
                    ShardIteratorType="AT_SEQUENCE_NUMBER",
                    SequenceNumber=span.first,
                )
                iterator, empty = answer.get("ShardIterator"), 0
                while iterator and empty < EMPTY_PAGES:
                    page = self._client.get_records(ShardIterator=iterator)
                    yield from page["Records"]
                    empty = 0 if page["Records"] else empty + 1
                    iterator = page.get("NextShardIterator")
            except ClientError as error:
                if code_of(error) == TRIMMED:
                    raise NotFound("the stream keeps its records for 24 hours; these are gone", code=TRIMMED) from error
                raise


def _outbox_item(record: Mapping[str, Any]) -> list[OutboxItem]:
    """What the mapping's filter lets through, in one."""
    image = record["dynamodb"].get("NewImage", {})
    is_new = record["eventName"] == "INSERT" and "detail" in image
    return [OutboxItem(image["detail_type"]["S"], image["detail"]["S"])] if is_new else []
