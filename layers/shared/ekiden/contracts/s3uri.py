"""S3 addresses as users write them, parsed strictly: nothing that could mean another object passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ekiden.contracts.base import shorten

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
"""Names no general-purpose bucket can have (Amazon S3 user guide, bucket naming rules): most are aliases of access
points, which would lead elsewhere."""
_FORBIDDEN = re.compile(r"[\\?#*]|%[0-9a-f]{2}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class S3Uri:
    """A bucket and a key (or key prefix)."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """``s3://bucket/key`` as an address.

        Raises:
            ValueError: another scheme, an ARN or access point, ``..``, ``//``, a percent escape, a control,
                invisible or wildcard character, a blank at either end of a step, or an impossible bucket name.
        """
        if not text.startswith("s3://"):
            raise ValueError(f"{shorten(text)} is not an s3:// URI")
        bucket, _, key = text[5:].partition("/")
        if (
            not _BUCKET.fullmatch(bucket)
            or _ADDRESS.fullmatch(bucket)
            or bucket.startswith(_RESERVED_PREFIXES)
            or bucket.endswith(_RESERVED_SUFFIXES)
        ):
            raise ValueError(f"{shorten(bucket)} is not a bucket name")
        if len(key.encode(errors="replace")) > 1024:
            raise ValueError("an S3 key has at most 1,024 bytes")
        steps = key.split("/")
        if (
            _FORBIDDEN.search(key)
            or not key.isprintable()
            or ".." in steps
            or "." in steps
            or "" in steps[:-1]
            or any(step != step.strip() for step in steps)
        ):
            raise ValueError(
                f"{shorten(text)} has '.', '..', '//', an escape, a wildcard, a control or invisible character, "
                "or a blank at the end of a step in its key"
            )
        return cls(bucket, key)

    def __truediv__(self, name: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key.rstrip('/')}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
