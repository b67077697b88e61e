"""Objects, messages, events, endpoints and logs in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from ekiden.domain.model import JobKind
from ekiden.errors import ContractViolation, NotFound, Permanent
from ekiden.ports import Answer, JobLogLine, OutboxItem, StoredObject
from tests.fakes.faults import Faults, io

CHUNK = 64 * 1024


class FakeObjects:
    """Implements ``ports.Objects``."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._bodies: dict[tuple[str, str], bytes] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def __contains__(self, key: object) -> bool:
        return any(key == stored for _, stored in self._bodies)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys below ``prefix`` in any bucket, sorted."""
        return sorted(key for _, key in self._bodies if key.startswith(prefix))

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object."""
        self._bodies.pop((bucket, key), None)

    @io
    def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """See ``ports.Objects.get``."""
        body = self._bodies.get((bucket, key))
        if body is not None and len(body) > limit:
            raise ContractViolation(
                f"s3://{bucket}/{key} has {len(body):,} bytes, at most {limit:,} are read", code="OBJECT_TOO_LARGE"
            )
        return body

    @io
    def head(self, bucket: str, key: str) -> StoredObject | None:
        """See ``ports.Objects.head``."""
        body = self._bodies.get((bucket, key))
        return None if body is None else StoredObject(bucket, key, _etag(body), len(body))

    @io
    def read_range(self, bucket: str, key: str, etag: str, start: int, end: int) -> bytes:
        """See ``ports.Objects.read_range``."""
        return self._from(bucket, key, etag, start)[: end - start]

    def chunks(self, bucket: str, key: str, etag: str, start: int) -> Iterator[bytes]:
        """See ``ports.Objects.chunks``."""
        self.faults.enter("FakeObjects.chunks")
        body = self._from(bucket, key, etag, start)
        for at in range(0, len(body), CHUNK):
            yield body[at : at + CHUNK]

    @io
    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> StoredObject:
        """See ``ports.Objects.put``."""
        self._bodies[bucket, key] = body
        return StoredObject(bucket, key, _etag(body), len(body))

    @io
    def create(self, bucket: str, key: str, body: bytes, content_type: str) -> bool:
        """See ``ports.Objects.create``."""
        if (bucket, key) in self._bodies:
            return False
        self._bodies[bucket, key] = body
        return True

    def _from(self, bucket: str, key: str, etag: str, start: int) -> bytes:
        body = self._bodies.get((bucket, key))
        if body is None:
            raise NotFound(f"there is no s3://{bucket}/{key}", code="NoSuchKey")
        if _etag(body) != etag:
            raise ContractViolation(f"s3://{bucket}/{key} was replaced after the request", code="OBJECT_CHANGED")
        if start >= len(body):
            raise Permanent("The requested range is not satisfiable", code="InvalidRange")
        return body[start:]


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


class FakeMessages:
    """Implements ``ports.Messages``: a queue one can look into."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.bodies: list[str] = []

    def __len__(self) -> int:
        return len(self.bodies)

    @io
    def send(self, bodies: Sequence[str]) -> None:
        """See ``ports.Messages.send``."""
        self.bodies += bodies


class FakeBus:
    """Implements ``ports.EventBus``: remembers what was published."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.published: list[OutboxItem] = []

    def __len__(self) -> int:
        return len(self.published)

    @io
    def publish(self, items: Sequence[OutboxItem]) -> None:
        """See ``ports.EventBus.publish``."""
        self.published += items


Model = Callable[[list[bytes]], list[bytes]]


def rate_by_length(lines: list[bytes]) -> list[bytes]:
    """A model: a pair's score is its length; nodes that begin with ``new`` were never seen."""
    return [_rate(line) for line in lines]


def _rate(line: bytes) -> bytes:
    source, comma, target = line.partition(b",")
    if not (source and comma and target):
        return b",invalid"
    unseen = (source.startswith(b"new"), target.startswith(b"new"))
    status = {
        (False, False): b"scored",
        (True, False): b"fallback_source",
        (False, True): b"fallback_target",
        (True, True): b"fallback_both",
    }[unseen]
    return b"%d,%s" % (len(line), status)


class FakeEndpoints:
    """Implements ``ports.Endpoints``; ``models`` has a function per endpoint in service."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.models: dict[str, Model] = {}
        self.bodies: list[bytes] = []

    @io
    def invoke(self, endpoint: str, body: bytes, content_type: str, accept: str) -> Answer:
        """See ``ports.Endpoints.invoke``."""
        if endpoint not in self.models:
            raise NotFound(f"Endpoint {endpoint} not found", code="UNKNOWN_ENDPOINT")
        self.bodies.append(body)
        scores = self.models[endpoint](body.removesuffix(b"\n").split(b"\n"))
        return Answer(b"\n".join(scores) + b"\n", accept)


class FakeLogs:
    """Implements ``ports.JobLogs``; ``lines`` is what each job wrote."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.lines: dict[str, list[JobLogLine]] = {}

    @io
    def tail(self, kind: JobKind, job: str, limit: int) -> list[JobLogLine]:
        """See ``ports.JobLogs.tail``."""
        return self.lines.get(job, [])[-limit:]

    @io
    def read(self, kind: JobKind, job: str, limit: int, token: str | None) -> tuple[list[JobLogLine], str | None]:
        """See ``ports.JobLogs.read``."""
        start = int(token or 0)
        found = self.lines.get(job, [])[start : start + limit]
        return found, str(start + len(found)) if found else None
