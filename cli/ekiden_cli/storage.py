"""Files to and from the data bucket, in parallel, skipping what is already there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ekiden_cli.errors import CliError
from ekiden_cli.target import Target

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_THREADS = 4


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload did: the prefix's address, and numbers of files sent and found there already."""

    uri: str
    sent: int
    skipped: int
    size: int


def upload_folder(
    target: Target,
    files: Sequence[tuple[str, Path]],
    prefix: str,
    *,
    progress: Progress = lambda done, total: None,
) -> Uploaded:
    """Upload ``(relative name, path)`` files below ``prefix``; an object of the same size is taken as done.

    That is safe only if ``prefix`` names the content, as ``content_prefix`` does. Raises ``CliError``.
    """
    s3 = target.client("s3")
    with translated(target.bucket):
        there = dict(list_objects(s3, target.bucket, prefix))
        sizes = {name: path.stat().st_size for name, path in files}
        missing = [(name, path) for name, path in files if there.get(prefix + name) != sizes[name]]
        total, done, lock = sum(sizes.values()), sum(sizes.values()), threading.Lock()
        done -= sum(sizes[name] for name, _ in missing)

        def advance(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                progress(done, total)

        progress(done, total)

        def send(item: tuple[str, Path]) -> None:
            name, path = item
            s3.upload_file(str(path), target.bucket, prefix + name, Callback=advance)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(send, missing))
    return Uploaded(f"s3://{target.bucket}/{prefix}", len(missing), len(files) - len(missing), total)


def upload_file(target: Target, path: Path, key: str, *, progress: Progress = lambda done, total: None) -> str:
    """Upload one file and return its address."""
    sent = upload_folder(target, [("", path)], key, progress=progress)
    return sent.uri


def content_prefix(name: str, files: Sequence[tuple[str, Path]], *, kind: str = "graphs") -> str:
    """Return ``<kind>/<name>-<16 hex>/``: the same files with the same names always give the same prefix."""
    digest = hashlib.sha256()
    for relative, path in sorted(files):
        with path.open("rb") as source:
            content = hashlib.file_digest(source, "sha256").hexdigest()
        digest.update(f"{relative}\0{content}\n".encode())
    return f"{kind}/{name}-{digest.hexdigest()[:16]}/"


def list_objects(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield ``(key, size)`` of each object below ``prefix``, in key order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            yield item["Key"], item["Size"]


def download(target: Target, uri: str, path: Path) -> Path:
    """Download one object to ``path`` (its folder is made)."""
    bucket, key = split_uri(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with translated(bucket):
        target.client("s3").download_file(bucket, key, str(path))
    return path


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``. Raises ``CliError`` if it is not such an address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise CliError(f"{uri[:100]!r} is not an s3:// address", code="BAD_ANSWER")
    return bucket, key


class translated:
    """Context manager: S3's and boto3's errors become ``CliError`` with a next step."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        import boto3.exceptions
        import botocore.exceptions

        boto_errors = (
            botocore.exceptions.ClientError,
            botocore.exceptions.BotoCoreError,
            boto3.exceptions.Boto3Error,
        )
        if isinstance(error, boto_errors):
            raise CliError(
                f"S3 bucket {self._bucket}: {str(error)[:300]}",
                hint="check that your credentials may read and write the bucket, and `ekiden doctor` locally",
                code="S3",
            ) from None
