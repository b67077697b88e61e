"""All records of one kind, in memory for reading and in one file per resource for good."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Generic, TypeVar

from .atomic import read_json, write_json
from .events import Announcement, Outbox
from .records import Kind, Record

R = TypeVar("R", bound=Record)

Announce = Callable[[R | None, R], Announcement | None]
"""Given the record before (None: just created) and after a change: the event that tells of it, if any."""


class Table(Generic[R]):
    """Records by name. Each change is on disk, with the event that it causes, before anyone can see it."""

    def __init__(self, home: Path, kind: Kind, cls: type[R], outbox: Outbox, announce: Announce[R] | None) -> None:
        self.kind = kind
        self._folder = home / kind.value
        self._outbox = outbox
        self._announce = announce
        self._lock = threading.RLock()
        self._records: dict[str, R] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in self._folder.iterdir():
            if folder.name.startswith("."):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            # A folder without a record is a creation, or the end of a deletion, that was cut short: nobody was told.
            value = read_json(folder / "record.json")
            if value is not None:
                self._records[folder.name] = cls.from_json(value)

    def folder(self, name: str) -> Path:
        """The resource's own folder, for whatever belongs to it."""
        return self._folder / name

    def get(self, name: str) -> R | None:
        """The record as it is now."""
        return self._records.get(name)

    def all(self) -> list[R]:
        """All records, in no order."""
        with self._lock:
            return list(self._records.values())

    def create(self, record: R) -> bool:
        """Keep a new record; False where the name is taken."""
        with self._lock:
            if record.name in self._records:
                return False
            folder = self.folder(record.name)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._keep(None, record)
            return True

    def update(self, name: str, change: Callable[[R], R]) -> R:
        """Replace a record by ``change(record)``, atomically; KeyError where it is gone. Returns the new one."""
        with self._lock:
            old = self._records[name]
            new = change(old)
            return old if new is old else self._keep(old, new)

    def delete(self, name: str) -> None:
        """Forget a record and its folder. From then on the name is free."""
        with self._lock:
            record = self._records[name]
            gone = self._folder / f".{name}.{record.revision}.gone"
            # The folder moves away before it is emptied: its name may be used again the next moment.
            os.rename(self.folder(name), gone)
            del self._records[name]
        shutil.rmtree(gone, ignore_errors=True)

    def _keep(self, old: R | None, new: R) -> R:
        now = time.time()
        # Growing even for a name that is used again, and even where the clock steps back.
        revision = max(new.revision + 1, int(now * 1e6))
        kept = replace(new, revision=revision, modified_at=now)
        event = self._announce(old, kept) if self._announce else None
        stored = self._outbox.store(self.kind, kept, event) if event else None
        write_json(self.folder(kept.name) / "record.json", asdict(kept))
        self._records[kept.name] = kept
        if stored is not None:
            self._outbox.release(stored)
        return kept
