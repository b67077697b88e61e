"""What a stage left: how to know later that nobody has changed it."""

from __future__ import annotations

import hashlib

from ekiden.contracts.s3uri import S3Uri
from ekiden.domain import naming
from ekiden.domain.model import Attempt, JobKind, Stage
from ekiden.errors import Permanent
from ekiden.ports import Objects

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20


def manifest_hash(objects: Objects, attempt: Attempt) -> str | None:
    """SHA-256 of the manifest that the attempt's output has; ``None`` if it has none, or one that is no manifest.

    The manifest holds the SHA-256 of every file, and whoever loads the files checks them against it.

    Raises:
        Transient: it cannot be read now, which says nothing about it.
    """
    if attempt.ref.kind is JobKind.ENDPOINT:
        return None
    folder = naming.model_of(attempt) if attempt.stage is Stage.TRAIN else attempt.output
    uri = S3Uri.parse(folder.rstrip("/") + f"/{MANIFEST}")
    try:
        body = objects.get(uri.bucket, uri.key, limit=MAX_MANIFEST_BYTES)
    except Permanent:
        return None
    return hashlib.sha256(body).hexdigest() if body is not None else None
