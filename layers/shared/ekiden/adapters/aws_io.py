"""S3, SQS, EventBridge and SageMaker's runtime behind their ports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ekiden.adapters.aws_errors import THROTTLED_OR_DOWN, code_of, message_of, translated
from ekiden.contracts.events import SOURCE
from ekiden.errors import ContractViolation, DependencyUnavailable, NotFound
from ekiden.ports import Answer, OutboxItem, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient
    from mypy_boto3_sqs import SQSClient

BATCH = 10
"""Entries that SQS and EventBridge take in one call."""
BATCH_BYTES = 256 * 1024
"""Bytes that one call to SQS may carry. AWS takes 1 MiB by now, the embedded cloud what AWS took before."""
CHUNK_BYTES = 1 << 20


class S3Objects:
    """Implements ``ports.Objects``."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """See ``ports.Objects.get``."""
        try:
            with translated():
                answer = self._client.get_object(Bucket=bucket, Key=key)
                size = answer["ContentLength"]
                if size <= limit:
                    return answer["Body"].read()
                answer["Body"].close()
        except NotFound:
            return None
        raise ContractViolation(
            f"s3://{bucket}/{key} has {size:,} bytes, at most {limit:,} are read", code="OBJECT_TOO_LARGE"
        )

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """See ``ports.Objects.head``."""
        try:
            with translated():
                answer = self._client.head_object(Bucket=bucket, Key=key)
        except NotFound:
            return None
        return StoredObject(bucket, key, answer["ETag"], answer["ContentLength"])

    def read_range(self, bucket: str, key: str, etag: str, start: int, end: int) -> bytes:
        """See ``ports.Objects.read_range``."""
        with translated():
            return self._unchanged(bucket, key, etag, f"bytes={start}-{end - 1}")["Body"].read()

    def chunks(self, bucket: str, key: str, etag: str, start: int) -> Iterator[bytes]:
        """See ``ports.Objects.chunks``."""
        with translated():
            yield from self._unchanged(bucket, key, etag, f"bytes={start}-")["Body"].iter_chunks(CHUNK_BYTES)

    def _unchanged(self, bucket: str, key: str, etag: str, byte_range: str) -> GetObjectOutputTypeDef:
        try:
            return self._client.get_object(Bucket=bucket, Key=key, Range=byte_range, IfMatch=etag)
        except ClientError as error:
            if code_of(error) == "PreconditionFailed":
                raise ContractViolation(
                    f"s3://{bucket}/{key} was replaced after the request", code="OBJECT_CHANGED"
                ) from error
            raise

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> StoredObject:
        """See ``ports.Objects.put``."""
        with translated():
            answer = self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        return StoredObject(bucket, key, answer["ETag"], len(body))

    def create(self, bucket: str, key: str, body: bytes, content_type: str) -> bool:
        """See ``ports.Objects.create``: a conditional write, one writer wins."""
        with translated():
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return False
                if code_of(error) == "ConditionalRequestConflict":
                    raise DependencyUnavailable(f"{key} is being written by another worker") from error
                raise
        return True


class SqsMessages:
    """Implements ``ports.Messages`` on one queue."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, bodies: Sequence[str]) -> None:
        """See ``ports.Messages.send``."""
        with translated():
            for some in _batches(bodies):
                entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(some)]
                answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)  # type: ignore[arg-type]
                failed = answer.get("Failed", [])
                if failed:
                    raise DependencyUnavailable(f"{len(failed)} messages were not taken: {failed[0]['Code']}")


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    """What one call may carry. A message that is too large by itself goes alone, for SQS to refuse."""
    batch, size = list[str](), 0
    for body in bodies:
        length = len(body.encode())
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch


class EventBridgeBus:
    """Implements ``ports.EventBus`` on one bus."""

    def __init__(self, client: EventBridgeClient, bus: str) -> None:
        self._client = client
        self._bus = bus

    def publish(self, items: Sequence[OutboxItem]) -> None:
        """See ``ports.EventBus.publish``."""
        with translated():
            for start in range(0, len(items), BATCH):
                answer = self._client.put_events(
                    Entries=[
                        {
                            "EventBusName": self._bus,
                            "Source": SOURCE,
                            "DetailType": item.detail_type,
                            "Detail": item.detail,
                        }
                        for item in items[start : start + BATCH]
                    ]
                )
                if answer["FailedEntryCount"]:
                    codes = sorted({entry.get("ErrorCode", "") for entry in answer["Entries"]} - {""})
                    raise DependencyUnavailable(f"{answer['FailedEntryCount']} events were not taken: {codes}")


class SageMakerEndpoints:
    """Implements ``ports.Endpoints``."""

    def __init__(self, client: SageMakerRuntimeClient) -> None:
        self._client = client

    def invoke(self, endpoint: str, body: bytes, content_type: str, accept: str) -> Answer:
        """See ``ports.Endpoints.invoke``."""
        with translated():
            try:
                answer = self._client.invoke_endpoint(
                    EndpointName=endpoint, Body=body, ContentType=content_type, Accept=accept
                )
                return Answer(answer["Body"].read(), answer["ContentType"])
            except ClientError as error:
                raise _invocation_error(endpoint, error) from error


def _invocation_error(endpoint: str, error: ClientError) -> Exception:
    code = code_of(error)
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode", 500))  # type: ignore[call-overload]
        message = str(error.response.get("OriginalMessage", message_of(error)))[:500]
        if 400 <= status < 500 and status != 429:
            return ContractViolation(_plain(message), code="MODEL_REFUSED")
        return DependencyUnavailable(f"the model answered {status}: {message}", code="MODEL_FAILED")
    if code in {"ValidationError", "ValidationException"}:
        return NotFound(message_of(error), code="UNKNOWN_ENDPOINT")
    if code in THROTTLED_OR_DOWN or code in {"ModelNotReadyException", "InternalDependencyException"}:
        return DependencyUnavailable(f"{code}: {message_of(error)}")
    return error


def _plain(message: str) -> str:
    """The engine's own message inside its JSON error body, or the text as it is."""
    try:
        return str(json.loads(message)["message"])
    except (ValueError, KeyError, TypeError):
        return message
