"""Job-state events: on disk with the change that they tell of, sent to the default bus, removed when accepted."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .atomic import read_json
from .records import Kind, Record

SOURCE = "ekiden.local"
"""AWS keeps sources that begin with "aws." to itself, so these events cannot say ``aws.sagemaker``."""

_BATCH = 10  # the limit of PutEvents
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_TRANSIENT = frozenset({"ThrottlingException", "InternalFailure", "InternalException", "ServiceUnavailable"})
_DETAIL_LIMIT = 200_000  # bytes; an entry of PutEvents has 256 KiB
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to be. `last` marks the one after which the resource no longer exists."""

    detail_type: str
    detail: dict[str, Any]
    last: bool = False


class Outbox:
    """Events that the bus has not accepted yet, one file each, oldest first.

    An event's file is written before the record that it tells of (`store`), and only afterwards is it handed to the
    sender (`release`). A crash in between leaves a file for a change that never was; `recover` drops it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rejected = folder / "rejected"
        self._rejected.mkdir(parents=True, exist_ok=True)
        self._queue: deque[Path] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._single = 0  # this many events are to be sent one by one
        self._client: Any = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def store(self, kind: Kind, record: Record, event: Announcement) -> Path:
        """Write an event down; it is not sent before `release`."""
        name = f"{record.revision:020d}-{kind.name.lower()}-{record.name}.json"
        path = self._folder / name
        temporary = self._folder / f".{name}.tmp"
        entry = {
            "kind": kind.value,
            "name": record.name,
            "revision": record.revision,
            "last": event.last,
            "time": record.modified_at,
            "arn": record.arn,
            "detail_type": event.detail_type,
            "detail": event.detail,
        }
        with open(temporary, "w") as file:
            json.dump(entry, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        return path

    def release(self, path: Path) -> None:
        """Hand a stored event to the sender."""
        with self._changed:
            self._queue.append(path)
            self._changed.notify()

    def recover(self, find: Callable[[Kind, str], Record | None]) -> None:
        """Queue what an earlier service left unsent; `find` gives the record of a kind and name."""
        for path in sorted(self._folder.glob("[0-9]*.json")):
            entry: Any = read_json(path)
            record = find(Kind(entry["kind"]), entry["name"])
            happened = entry["last"] if record is None else record.revision >= entry["revision"]
            if happened:
                self.release(path)
            else:
                path.unlink()

    def start(self, client: Any) -> None:
        """Begin to send through a boto3 ``events`` client."""
        self._client = client
        self._thread.start()

    def unsent(self) -> int:
        """How many events wait."""
        return len(self._queue)

    def close(self, timeout: float) -> None:
        """Stop; what is not sent within `timeout` seconds stays on disk for the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                batch = [self._queue[i] for i in range(min(1 if self._single else _BATCH, len(self._queue)))]
            if self._send(batch):
                pause = _FIRST_PAUSE
                continue
            with self._changed:
                if self._closing:
                    return
                self._changed.wait_for(lambda: self._closing, pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _send(self, batch: list[Path]) -> bool:
        """Send the oldest events; True where all of them are settled. Unsettled ones keep their place."""
        entries = [_entry(read_json(path)) for path in batch]
        try:
            answer = self._client.put_events(Entries=entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, the events stay and are tried again
            _log.warning("the event bus takes no events, %d event(s) wait: %s", len(self._queue), error)
            if _is_refusal(error):
                self._refused(batch, error)
                return True
            return False
        unsettled = []
        for path, outcome in zip(batch, answer["Entries"], strict=True):
            code = outcome.get("ErrorCode")
            if code in _TRANSIENT:
                unsettled.append(path)
            elif code:
                _log.error("the event bus refused %s: %s %s", path.name, code, outcome.get("ErrorMessage"))
                path.rename(self._rejected / path.name)
            else:
                path.unlink(missing_ok=True)
        self._settle(batch, unsettled)
        return not unsettled

    def _refused(self, batch: list[Path], error: Exception) -> None:
        """One entry spoils its batch: send them one by one, and put aside the one that is refused alone."""
        if len(batch) == 1:
            batch[0].rename(self._rejected / batch[0].name)
            _log.error("event %s is put aside: %s", batch[0].name, error)
            self._settle(batch, [])
        else:
            self._single = len(batch)

    def _settle(self, batch: list[Path], unsettled: list[Path]) -> None:
        with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._queue.extendleft(reversed(unsettled))
        self._single = max(0, self._single - len(batch))


def _is_refusal(error: Exception) -> bool:
    """Whether the bus read the request and will never take it, as opposed to being down, busy or barred."""
    if not isinstance(error, ClientError):
        return False
    code = error.response.get("Error", {}).get("Code")
    return code in ("ValidationException", "ValidationError", "SerializationException")


def _entry(stored: Any) -> dict[str, Any]:
    detail = json.dumps(stored["detail"], separators=(",", ":"))
    if len(detail) > _DETAIL_LIMIT:
        # Names, ARNs, statuses and times are what wakes a reader; the request is there for the asking.
        scalars = {key: value for key, value in stored["detail"].items() if not isinstance(value, dict | list)}
        detail = json.dumps(scalars, separators=(",", ":"))
    return {
        "Source": SOURCE,
        "DetailType": stored["detail_type"],
        "Detail": detail,
        "Resources": [stored["arn"]],
        "Time": stored["time"],
    }
