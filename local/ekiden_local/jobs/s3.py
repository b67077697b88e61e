"""Moves a job's data between S3 and its folders, the way SageMaker lays it out."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from .errors import Interrupted, JobFailure, clip

_THREADS = 8
_TRIES = 3
_CHUNK = 1 << 20
T = TypeVar("T")


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI. Raises JobFailure."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise JobFailure(f"ClientError: '{clip(uri)}' is not an S3 URI (s3://bucket/key)")
    return bucket, key


def join_uri(base: str, *parts: str) -> str:
    """Parts below an S3 URI."""
    return "/".join([base.rstrip("/"), *parts])


class Store:
    """S3, as a job sees it. All methods raise JobFailure, and Interrupted once `stop` is set."""

    def __init__(self, client: Any, region: str) -> None:
        self._client = client
        self._region = region

    def fetch_prefix(self, uri: str, target: Path, *, role: str, stop: threading.Event | None = None) -> int:
        """Download every object whose key begins with the URI's key; returns the number of files.

        Layout, as on SageMaker: below a prefix that is a "folder" the rest of the key is kept, a URI that names one
        object gives one file, and a prefix that ends within a name keeps what follows its last "/".
        """
        bucket, prefix = split_uri(uri)
        target.mkdir(parents=True, exist_ok=True)
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            keys = [item["Key"] for found in pages for item in found.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise _nothing_found(uri, bucket, role, self._region, error) from error
        files = {key: local_name(key, prefix) for key in keys if not key.endswith("/")}
        if not files:
            raise _nothing_found(uri, bucket, role, self._region, None)

        def fetch(item: tuple[str, str]) -> None:
            if stop is not None and stop.is_set():
                raise Interrupted
            key, name = item
            self._download(bucket, key, inside(target, name, key))

        _each(fetch, files.items())
        return len(files)

    def fetch_object(self, uri: str, target: Path, *, role: str) -> None:
        """Download one object to the file `target`."""
        bucket, key = split_uri(uri)
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise _nothing_found(uri, bucket, role, self._region, error) from error
        self._download(bucket, key, target)

    def _download(self, bucket: str, key: str, path: Path) -> None:
        for left in reversed(range(_TRIES)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
                with open(path, "wb") as file:
                    shutil.copyfileobj(body, file, _CHUNK)
                return
            except (ClientError, BotoCoreError, HTTPClientError) as error:
                if left == 0 or isinstance(error, ClientError):
                    raise _transfer_failed("Data download failed", f"s3://{bucket}/{key}", error) from error
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise JobFailure(
                    f"ClientError: Data download failed: Cannot download s3://{clip(bucket + '/' + key)}, "
                    "a previously downloaded file/folder clashes with it."
                ) from error

    def names(self, uri: str) -> set[str]:
        """Keys of the objects whose key begins with the URI's, without that beginning; empty if there are none."""
        bucket, prefix = split_uri(uri)
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            keys = [item["Key"] for found in pages for item in found.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise _transfer_failed("Data download failed", uri, error) from error
        return {key[len(prefix) :] for key in keys if not key.endswith("/")}

    def files(self, folder: Path) -> list[Path]:
        """Every file below a folder that is no link out of it."""
        return list(_files(folder))

    def put_object(self, path: Path, uri: str) -> None:
        """Upload one file."""
        self._upload(path, *split_uri(uri))

    def delete_object(self, uri: str) -> None:
        """Delete one object; none of that name is fine."""
        bucket, key = split_uri(uri)
        try:
            self._client.delete_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise _transfer_failed("Data upload failed", uri, error) from error

    def put_folder(self, folder: Path, uri: str) -> int:
        """Upload every file below a folder; returns the number of files. An empty or absent folder is no error."""
        bucket, prefix = split_uri(uri)
        prefix = prefix.rstrip("/")
        files = list(_files(folder))

        def put(path: Path) -> None:
            name = path.relative_to(folder).as_posix()
            self._upload(path, bucket, f"{prefix}/{name}" if prefix else name)

        _each(put, files)
        return len(files)

    def put_archive(self, folder: Path, uri: str, scratch: Path) -> bool:
        """Upload a folder as one .tar.gz; False where there is nothing in it."""
        if not any(_files(folder)):
            return False
        try:
            with tarfile.open(scratch, "w:gz", compresslevel=6) as archive:
                for item in sorted(folder.iterdir()):
                    archive.add(item, arcname=item.name)
            self._upload(scratch, *split_uri(uri))
        finally:
            scratch.unlink(missing_ok=True)
        return True

    def _upload(self, path: Path, bucket: str, key: str) -> None:
        try:
            self._client.upload_file(str(path), bucket, key)
        except Exception as error:  # s3transfer wraps errors in classes of its own
            raise _transfer_failed("Data upload failed", f"s3://{bucket}/{key}", error) from error


def extract(archive: Path, target: Path) -> None:
    """Unpack a model.tar.gz; members that would leave `target` are refused. Raises JobFailure."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")  # "data" is the filter for untrusted archives
    except (tarfile.TarError, OSError, EOFError) as error:
        raise JobFailure(
            f"ClientError: Failed to extract model data archive tar file {archive.name}: {error}"
        ) from error


def local_name(key: str, prefix: str) -> str:
    """Where below the target folder an object of a prefix goes."""
    rest = key[len(prefix) :]
    if not rest or (prefix and not prefix.endswith("/") and not rest.startswith("/")):
        return key[prefix.rfind("/") + 1 :]
    return rest.lstrip("/")


def inside(target: Path, name: str, key: str) -> Path:
    """Where an object goes below `target`. Raises JobFailure for a name that would leave it."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or "\x00" in name:
        raise JobFailure(f"ClientError: Data download failed: the key '{clip(key)}' does not name a file")
    return target.joinpath(*parts)


def _files(folder: Path) -> Iterable[Path]:
    root = folder.resolve()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            # A link out of the folder would publish a file of the machine, not of the job.
            if path.is_file() and path.resolve().is_relative_to(root):
                yield path


def _each(work: Callable[[T], None], items: Iterable[T]) -> None:
    todo = list(items)
    if len(todo) == 1:
        work(todo[0])
        return
    with ThreadPoolExecutor(min(_THREADS, len(todo) or 1), thread_name_prefix="s3") as pool:
        futures = [pool.submit(work, item) for item in todo]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _nothing_found(uri: str, bucket: str, role: str, region: str, error: Exception | None) -> JobFailure:
    if error is not None and not isinstance(error, ClientError):
        return _transfer_failed("Data download failed", uri, error)
    text = (
        f'ClientError: No S3 objects found under S3 URL "{clip(uri)}" given in input data source. Please ensure that '
        f"the bucket exists in the selected region ({region}), that objects exist under that S3 prefix, and that the "
        f'role "{clip(role)}" has "s3:ListBucket" permissions on bucket "{clip(bucket)}".'
    )
    if isinstance(error, ClientError):
        text += f" Error message from S3: {error.response['Error'].get('Message') or error}"
    return JobFailure(text)


def _transfer_failed(what: str, uri: str, error: Exception) -> JobFailure:
    # A refusal is the user's to repair; no answer at all is worth another try.
    cause = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    refused = isinstance(cause, ClientError) or "(NoSuch" in str(error) or "(AccessDenied" in str(error)
    kind = "ClientError" if refused else "InternalServerError"
    return JobFailure(f"{kind}: {what}: {clip(uri)}: {clip(str(error), 400)}")
