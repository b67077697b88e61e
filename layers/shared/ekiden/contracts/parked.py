"""What may lie in a dead-letter queue besides our own ``DeadLetter``: Lambda's record of a stream batch it gave up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ekiden.contracts.base import Tolerant

SequenceNumber = Annotated[str, Field(pattern=r"^[0-9]{1,40}$")]


class StreamBatch(Tolerant):
    """Where in the stream the batch lies. The records themselves are not in the message."""

    stream: Annotated[str, Field(alias="streamArn", min_length=37, max_length=1024)]
    shard: Annotated[str, Field(alias="shardId", min_length=28, max_length=65)]
    first: Annotated[SequenceNumber, Field(alias="startSequenceNumber")]
    last: Annotated[SequenceNumber, Field(alias="endSequenceNumber")]


class StreamFailure(Tolerant):
    """A message to the on-failure destination of a DynamoDB stream's event source mapping (AWS Lambda Developer
    Guide, "Retaining discarded records")."""

    batch: Annotated[StreamBatch, Field(alias="DDBStreamBatchInfo")]
