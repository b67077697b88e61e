"""A training job's folder of checkpoints and its copy in S3 (``CheckpointConfig``), kept alike as SageMaker does it.

What lies in S3 is there when the program starts; while it runs, and once it has ended, new and changed files are
uploaded, and what the program deleted is deleted from S3. Files that others put into S3 meanwhile are left alone.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Final

from . import mlroot
from .errors import JobFailure
from .s3 import Store, inside, join_uri

DEFAULT_PATH: Final = "/opt/ml/checkpoints"
EVERY: Final = 2.0
"""Seconds between looks at the folder."""
_log = logging.getLogger(__name__)


def check_checkpoints(request: dict[str, Any]) -> None:
    """Refuse a folder that has no place on this machine. Raises ApiError."""
    if "CheckpointConfig" in request:
        path = request["CheckpointConfig"].get("LocalPath", DEFAULT_PATH)
        mlroot.check_local_path(path.rstrip("/"), "checkpointConfig.localPath")


class Checkpoints:
    """The folder below `root`, and where its copy is."""

    def __init__(self, request: dict[str, Any], root: Path, store: Store) -> None:
        """`request` has a ``CheckpointConfig``. Files that are there now are taken to be in S3, too, perhaps older."""
        config = request["CheckpointConfig"]
        self.folder = mlroot.locate(root, config.get("LocalPath", DEFAULT_PATH).rstrip("/"))
        self._uri = config["S3Uri"].rstrip("/")
        self._store = store
        self._seen: dict[str, tuple[int, int]] = {}
        self._there = {path.relative_to(self.folder).as_posix() for path in store.files(self.folder)}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def fetch(self, stop: threading.Event) -> None:
        """Bring what is in S3; nothing there is fine. Raises JobFailure, Interrupted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(self._store.names(f"{self._uri}/")):
            if stop.is_set():
                return
            self._store.fetch_object(join_uri(self._uri, name), inside(self.folder, name, name), role="")

    def follow(self) -> None:
        """Keep the copy alike from now on, in a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name=f"checkpoints {self._uri}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """The program has ended: upload what it left, and stop following."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._copy_or_warn()

    def copy(self) -> None:
        """Make S3 like the folder, once. Raises JobFailure."""
        found: dict[str, tuple[int, int]] = {}
        for path in self._store.files(self.folder):
            try:
                status = path.stat()
            except FileNotFoundError:  # replaced or deleted just now: the next look will see
                continue
            name = path.relative_to(self.folder).as_posix()
            found[name] = (status.st_mtime_ns, status.st_size)
            if self._seen.get(name) != found[name] and self._put(path, name):
                self._seen[name] = found[name]
                self._there.add(name)
        for name in sorted(self._there - found.keys()):
            self._store.delete_object(join_uri(self._uri, name))
            self._there.discard(name)
            self._seen.pop(name, None)

    def _put(self, path: Path, name: str) -> bool:
        try:
            self._store.put_object(path, join_uri(self._uri, name))
        except JobFailure:
            if path.exists():
                raise
            return False
        return True

    def _follow(self) -> None:
        while not self._over.wait(EVERY):
            self._copy_or_warn()

    def _copy_or_warn(self) -> None:
        try:
            self.copy()
        except JobFailure as failure:  # a job does not fail because of its checkpoints
            _log.warning("checkpoints of %s: %s", self._uri, failure.reason)
