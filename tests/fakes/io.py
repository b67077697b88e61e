"""Objects, messages, events, endpoints and logs in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ekiden.domain.model import JobKind
from ekiden.errors import ContractViolation, NotFound, Permanent
from ekiden.ports import Answer, JobLogLine, OutboxItem, StoredObject

from tests.fakes.faults import Faults, io

CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Version:
    version_id: str | None
    body: bytes
    content_type: str


class FakeObjects:
    """Implements ``ports.Objects`` with versions, as the data bucket has them."""

    def __init__(self, faults: Faults | None = None, *, versioned: bool = True) -> None:
        self.faults = faults or Faults()
        self._versioned = versioned
        self._versions: dict[tuple[str, str], list[_Version]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._versions)

    def __contains__(self, key: object) -> bool:
        return any(key == stored for _, stored in self._versions)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys below ``prefix`` in any bucket, sorted."""
        return sorted(key for _, key in self._versions if key.startswith(prefix))

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object with all its versions."""
        self._versions.pop((bucket, key), None)

    @io
    def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """See ``ports.Objects.get``."""
        found = self._find(bucket, key, None)
        if found is None:
            return None
        if len(found.body) > limit:
            raise ContractViolation(
                f"s3://{bucket}/{key} has {len(found.body):,} bytes, at most {limit:,} are read",
                code="OBJECT_TOO_LARGE",
            )
        return found.body

    @io
    def head(self, bucket: str, key: str) -> StoredObject | None:
        """See ``ports.Objects.head``."""
        found = self._find(bucket, key, None)
        return StoredObject(bucket, key, found.version_id, len(found.body)) if found else None

    @io
    def read_range(self, bucket: str, key: str, version_id: str | None, start: int, end: int) -> bytes:
        """See ``ports.Objects.read_range``."""
        return self._from(bucket, key, version_id, start)[: end - start]

    def chunks(self, bucket: str, key: str, version_id: str | None, start: int) -> Iterator[bytes]:
        """See ``ports.Objects.chunks``."""
        self.faults.enter("FakeObjects.chunks")
        body = self._from(bucket, key, version_id, start)
        for at in range(0, len(body), CHUNK):
            yield body[at : at + CHUNK]

    @io
    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> StoredObject:
        """See ``ports.Objects.put``."""
        return self._put(bucket, key, body, content_type)

    @io
    def create(self, bucket: str, key: str, body: bytes, content_type: str) -> bool:
        """See ``ports.Objects.create``."""
        if (bucket, key) in self._versions:
            return False
        self._put(bucket, key, body, content_type)
        return True

    def _put(self, bucket: str, key: str, body: bytes, content_type: str) -> StoredObject:
        self._count += 1
        version_id = f"v{self._count}" if self._versioned else None
        kept = self._versions.get((bucket, key), []) if self._versioned else []
        self._versions[bucket, key] = [*kept, _Version(version_id, body, content_type)]
        return StoredObject(bucket, key, version_id, len(body))

    def _find(self, bucket: str, key: str, version_id: str | None) -> _Version | None:
        versions = self._versions.get((bucket, key), [])
        return next((v for v in reversed(versions) if version_id in {None, v.version_id}), None)

    def _from(self, bucket: str, key: str, version_id: str | None, start: int) -> bytes:
        found = self._find(bucket, key, version_id)
        if found is None:
            code = "NoSuchVersion" if version_id and (bucket, key) in self._versions else "NoSuchKey"
            raise NotFound(f"there is no s3://{bucket}/{key}", code=code)
        if start >= len(found.body):
            raise Permanent("The requested range is not satisfiable", code="InvalidRange")
        return found.body[start:]


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
