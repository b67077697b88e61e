"""What a training job keeps so that its next start goes on where this one ends: the folder `/opt/ml/checkpoints`.

SageMaker keeps that folder in S3 (`CheckpointConfig`), and brings it back when it starts a job again whose spot machine
was taken away, or when another job names the same place. Without the folder nothing is kept and nothing is resumed.

    <16 hex digits of the fingerprint>/target-0/training.safetensors    a state: arrays, and JSON in the metadata
                                               fit/…                    a finished target (see `checkpoint_fits`)
                                               script-<8 digits>/…      what a user's own script keeps (see `custom`)

The fingerprint is of everything that decides a training: model, hyperparameters, processed data, versions. What has
another is left alone with a line in the log, so that states of different trainings never mix. A state is one file,
written beside its place and renamed, with a SHA-256 of its content: a torn one is as good as none.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ekiden_engine.log import log

FORMAT: Final = "ekiden.checkpoint.v1"
SECONDS_VARIABLE: Final = "EKIDEN_CHECKPOINT_SECONDS"
SECONDS: Final = 30.0
"""Seconds between states within one pass, at least; the variable says otherwise."""
LARGEST_SHARE: Final = 0.02
"""Of the time may go into writing states: large ones are written more rarely."""
MAX_BYTES: Final = 4 * 2**30
"""A larger state is not kept: writing and uploading it must fit the 120 seconds between SIGTERM and SIGKILL."""
MAX_TOTAL: Final = 12 * 2**30
"""Of all that a training keeps: the volume of a job holds its data, too."""
KEY: Final = 16
PARTIAL: Final = ".partial"
_OURS: Final = re.compile(f"[0-9a-f]{{{KEY}}}")

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What `Checkpoints.save` was given."""

    document: dict[str, Any]
    arrays: dict[str, Array]


@dataclass(slots=True)
class _Clock:
    since: float = field(default_factory=time.perf_counter)
    before: float = 0.0


class _Store:
    """The folder of one fingerprint, and when it was last written."""

    def __init__(self, folder: Path, fingerprint: str, stop_requested: Callable[[], bool]) -> None:
        self.folder = folder / fingerprint[:KEY]
        self.fingerprint = fingerprint
        self.stop_requested = stop_requested
        self.interval = _interval()
        self.last, self.cost = time.monotonic(), 0.0
        self.complained = False
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)

    def partial(self, name: str) -> Path:
        """Where something is written before it is renamed to its place. Not beside it: it may be a folder."""
        path = self.folder / PARTIAL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Checkpoints:
    """Named states, and levels of them. Without a folder all is accepted and nothing kept.

    Names are used once: what was saved under a name means the same whenever it is found.
    """

    def __init__(self, store: _Store | None = None, path: str = "", clock: _Clock | None = None) -> None:
        """Use `open_checkpoints`, or nothing for no checkpoints."""
        self._store = store
        self._path = path
        self._clock = clock or _Clock()

    def within(self, name: str) -> Checkpoints:
        """A level below this one. Those of the first kind, the targets, have clocks of their own."""
        return Checkpoints(self._store, f"{self._path}{name}/", self._clock if self._path else None)

    @property
    def kept(self) -> bool:
        """Whether anything is kept at all."""
        return self._store is not None

    @property
    def fingerprint(self) -> str:
        """Of the training; empty where nothing is kept."""
        return self._store.fingerprint if self._store is not None else ""

    @property
    def seconds(self) -> float:
        """Seconds since this level was made, and those that earlier starts had spent when they saved what was loaded
        from it."""
        return self._clock.before + time.perf_counter() - self._clock.since

    def add_seconds(self, before: float) -> None:
        """Count what an earlier start spent."""
        self._clock.before = max(self._clock.before, before)

    def due(self) -> bool:
        """Whether a pass should save its state now: some time after the last one, or because the job is to end."""
        store = self._store
        if store is None:
            return False
        wait = max(store.interval, store.cost / LARGEST_SHARE)
        return store.stop_requested() or time.monotonic() - store.last >= wait

    def save(self, name: str, document: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Keep a state: `document` is JSON, `arrays` any number of named arrays. Replaces the one of that name.

        A state above `MAX_BYTES`, or one that the disk refuses, is not kept, with a line in the log: a training must
        not fail because of its checkpoints.
        """
        store = self._store
        if store is None:
            return
        size = sum(array.nbytes for array in arrays.values())
        if size > MAX_BYTES or size + store.size() > MAX_TOTAL:
            self._complain(f"a state of {size / 2**30:.1f} GiB is too large to be kept")
            return
        started = time.monotonic()
        text = json.dumps({"seconds": self.seconds, "document": document})
        whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()} or {"": np.zeros(0, np.uint8)}
        path = self._file(store, name)
        digest = _digest((store.fingerprint, self._path, name, text), whole)
        try:
            partial = store.partial("state")
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"format": FORMAT, "fingerprint": store.fingerprint, "sha256": digest, "document": text}
            save_file(whole, partial, metadata)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(store.folder / PARTIAL, ignore_errors=True)
            self._complain(f"a state could not be written: {str(error)[:200]}")
        store.last = time.monotonic()
        store.cost = store.last - started

    def load(self, name: str) -> State | None:
        """What an earlier start of the same training saved under this name; None, with a line in the log if there is
        something that cannot be used."""
        store = self._store
        if store is None:
            return None
        path = self._file(store, name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                arrays: dict[str, Array] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            text = metadata["document"]
            if metadata["sha256"] != _digest((store.fingerprint, self._path, name, text), arrays):
                raise ValueError("its SHA-256 is another, so it is torn or belongs to another training")
            found = json.loads(text)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            log(f"checkpoint {self._path}{name} ignored: {str(error)[:200]}")
            return None
        self.add_seconds(found["seconds"])
        arrays.pop("", None)
        return State(found["document"], arrays)

    def folder(self, name: str) -> Path | None:
        """Where the folder `name` of this level is, or would be; None where nothing is kept."""
        return None if self._store is None else self._store.folder / self._path / name

    def save_folder(self, name: str, write: Callable[[Path], None]) -> None:
        """Keep what `write` leaves in a folder: it takes its place in one step, once it is complete."""
        store, place = self._store, self.folder(name)
        if store is None or place is None:
            return
        try:
            partial = store.partial("folder")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(partial, place)
        except OSError as error:
            self._complain(f"{self._path}{name} could not be written: {str(error)[:200]}")

    def remove(self, *names: str) -> None:
        """Forget the states of these names, as far as there are any."""
        for name in names:
            if self._store is not None:
                self._file(self._store, name).unlink(missing_ok=True)

    def remove_levels(self, *names: str) -> None:
        """Forget the folders and levels of these names, as far as there are any."""
        for name in names:
            if (folder := self.folder(name)) is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def clear(self, *, keep: Iterable[str] = ()) -> None:
        """Forget everything of this level but the folders named `keep`."""
        if self._store is None:
            return
        kept = {self._store.folder / self._path / name for name in keep}
        folder = self._store.folder / self._path
        for entry in [] if not folder.is_dir() else list(folder.iterdir()):
            if entry in kept:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if not self._path:
            shutil.rmtree(folder, ignore_errors=True)

    def _file(self, store: _Store, name: str) -> Path:
        return store.folder / self._path / f"{name}.safetensors"

    def _complain(self, message: str) -> None:
        if self._store is not None and not self._store.complained:
            self._store.complained = True
            log(f"WARNING: checkpoints: {message}")


def open_checkpoints(folder: Path, fingerprint: str, stop_requested: Callable[[], bool]) -> Checkpoints:
    """The checkpoints of the training with this `fingerprint` (hexadecimal, 16 digits at least) in `folder`, if that
    exists: SageMaker makes it for jobs that are to keep checkpoints. `stop_requested` makes `due` true.

    What is there of other trainings stays, for it may be that of a job that runs at the same time.
    """
    if not folder.is_dir():
        return Checkpoints()
    ours = [entry.name for entry in folder.iterdir() if _OURS.fullmatch(entry.name)]  # the rest is nobody's state
    if others := len(set(ours) - {fingerprint[:KEY]}):
        log(f"checkpoints of {others} other training{'s' * (others > 1)} ignored: of other data, settings or versions")
    return Checkpoints(_Store(folder, fingerprint, stop_requested))


def fingerprint_of(parts: Mapping[str, Any]) -> str:
    """SHA-256, hexadecimal, of JSON values by name."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **parts}, sort_keys=True).encode()).hexdigest()


def checkpoints_of(progress: object) -> Checkpoints:
    """The checkpoints that come with a `Progress`; none with one that has no such attribute."""
    found = getattr(progress, "checkpoints", None)
    return found if isinstance(found, Checkpoints) else Checkpoints()


def _digest(texts: Iterable[str], arrays: Mapping[str, Array]) -> str:
    found = hashlib.sha256(json.dumps([*texts]).encode())
    for key in sorted(arrays):
        array = arrays[key]
        found.update(json.dumps([key, array.dtype.str, array.shape]).encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _interval() -> float:
    try:
        return max(0.0, float(os.environ.get(SECONDS_VARIABLE, SECONDS)))
    except ValueError:
        return SECONDS
