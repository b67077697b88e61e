"""Ships what jobs print to CloudWatch Logs. The log file of a job is the original; a copy that fails is tried again."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

_INTERVAL = 0.25  # s between looks at the files: a line is in CloudWatch well within a second
_READ = 512 * 1024
_BATCH_BYTES, _BATCH_LINES, _PER_LINE = (
    900_000,
    5_000,
    26,
)  # PutLogEvents: 1 MiB and 10,000 events, 26 bytes each
_LINE = 64 * 1024
_LONGEST_PAUSE = 15.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Stream:
    path: Path
    group: str
    name: str
    offset: int
    known: bool = False
    closing: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def marker(self) -> Path:
        return self.path.with_name(self.path.name + ".shipped")


class LogShipper:
    """Follows log files from one thread, each into its own log stream.

    How far a file has been shipped is kept beside it, so a restarted service goes on there (a batch that was
    on its way when the service died may arrive twice).
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._streams: dict[Path, _Stream] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._pause = 0.0
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def follow(self, path: Path, group: str, name: str) -> None:
        """Ship the file's lines from where the last service stopped."""
        stream = _Stream(path, group, name, 0)
        with contextlib.suppress(OSError, ValueError):
            stream.offset = int(stream.marker.read_text())
        with self._lock:
            self._streams[path] = stream

    def catch_up(self, path: Path, group: str, name: str) -> None:
        """Ship what an earlier service could not of a program that is long over."""
        with contextlib.suppress(OSError, ValueError):
            marker = _Stream(path, group, name, 0).marker
            shipped = int(marker.read_text()) if marker.exists() else 0
            if path.stat().st_size > shipped:
                self.follow(path, group, name)
                self.finish(path)

    def finish(self, path: Path, timeout: float = 0.0) -> None:
        """The program is over: ship the rest now. Waits for it at most `timeout` seconds."""
        with self._lock:
            stream = self._streams.get(path)
        if stream is None:
            return
        stream.closing = True
        self._wake.set()
        if timeout:
            stream.done.wait(timeout)

    def close(self, timeout: float) -> None:
        """One last round, then stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            last = self._closing
            if time.monotonic() < self._retry_at and not last:
                continue
            with self._lock:
                streams = list(self._streams.values())
            for stream in streams:
                try:
                    self._ship(stream)
                except Exception as error:  # noqa: BLE001 - see below
                    # Never the job's trouble: the file keeps everything, and the next round begins where this one did.
                    self._pause = min(max(1.0, self._pause * 2), _LONGEST_PAUSE)
                    self._retry_at = time.monotonic() + self._pause
                    _log.warning("CloudWatch Logs does not take %s/%s: %s", stream.group, stream.name, error)
                    break
                self._pause = 0.0

    def _ship(self, stream: _Stream) -> None:
        closing = stream.closing  # read before the file: what is written later belongs to the next round
        while True:
            lines, end = _read(stream.path, stream.offset, closing)
            if not lines:
                break
            if not stream.known:
                self._create(stream)
            now = int(time.time() * 1000)
            for batch in _batches(lines):
                self._client.put_log_events(
                    logGroupName=stream.group,
                    logStreamName=stream.name,
                    logEvents=[{"timestamp": now, "message": line} for line in batch],
                )
            stream.offset = end
            stream.marker.write_text(str(end))
        if closing:
            with self._lock:
                self._streams.pop(stream.path, None)
            stream.done.set()

    def _create(self, stream: _Stream) -> None:
        for create, names in (
            (self._client.create_log_group, {"logGroupName": stream.group}),
            (self._client.create_log_stream, {"logGroupName": stream.group, "logStreamName": stream.name}),
        ):
            try:
                create(**names)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                    raise
        stream.known = True


def _read(path: Path, offset: int, to_the_end: bool) -> tuple[list[str], int]:
    """Whole lines from `offset` on, and where they end; with `to_the_end` a last line without a newline counts too."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size <= offset:
                return [], offset
            file.seek(offset)
            data = file.read(_READ)
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    if not end and (to_the_end or len(data) >= _LINE):
        end = len(data)
    lines = [raw.rsplit(b"\r", 1)[-1] if raw[-1:] != b"\r" else raw[:-1] for raw in data[:end].split(b"\n")]
    texts = [line[:_LINE].decode(errors="replace") for line in lines]
    return [text or " " for text in (texts[:-1] if data[:end].endswith(b"\n") else texts)], offset + end


def _batches(lines: list[str]) -> list[list[str]]:
    batches: list[list[str]] = [[]]
    size = 0
    for line in lines:
        cost = len(line.encode()) + _PER_LINE
        if batches[-1] and (size + cost > _BATCH_BYTES or len(batches[-1]) >= _BATCH_LINES):
            batches.append([])
            size = 0
        batches[-1].append(line)
        size += cost
    return batches
