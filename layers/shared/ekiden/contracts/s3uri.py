"""S3 addresses as users write them, parsed strictly: nothing that could mean another object passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ekiden.contracts.base import shorten

_BUCKET = re.compile(r"^[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]$")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\?#*]|%2e|%2f|%00", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class S3Uri:
    """A bucket and a key (or key prefix)."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """``s3://bucket/key`` as an address.

        Raises:
            ValueError: another scheme, an ARN or access point, ``..``, ``//``, an escaped dot or slash,
                a control or wildcard character, or an impossible bucket name.
        """
        if not text.startswith("s3://"):
            raise ValueError(f"{shorten(text)} is not an s3:// URI")
        bucket, _, key = text[5:].partition("/")
        if not _BUCKET.match(bucket):
            raise ValueError(f"{shorten(bucket)} is not a bucket name")
        if len(key.encode()) > 1024:
            raise ValueError("an S3 key has at most 1,024 bytes")
        steps = key.split("/")
        if _FORBIDDEN.search(key) or ".." in steps or "." in steps or "" in steps[:-1]:
            raise ValueError(f"{shorten(text)} has '..', '//', an escape, a wildcard or a control character in its key")
        return cls(bucket, key)

    def __truediv__(self, name: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key.rstrip('/')}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
