"""Does the verdict see anything? Evidence is falsified in ways that it must notice, and then put right again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ekiden_local.state import Cloud
from tests.chaos.lanes import Done, Lane
from tests.chaos.verdict import Verdict, judge


def unnoticed(cloud: Cloud, lanes: list[Lane], notes: Path) -> list[str]:
    """The falsifications that the verdict did not notice; none, it is hoped."""
    ways: dict[str, tuple[Callable[[], AbstractContextManager[None]], Callable[[Verdict], list[str]]]] = {
        "a program was started twice": (lambda: _started_again(notes), lambda v: v.twice),
        "a program never ended": (lambda: _never_ended(notes), lambda v: v.disordered),
        "a request was forgotten": (lambda: _forgotten(lanes), lambda v: v.lost),
        "a job came from nowhere": (lambda: _unasked(Path(cloud.home) / "jobs"), lambda v: v.twice),
    }
    found = []
    for what, (falsified, told) in ways.items():
        with falsified():
            if not told(judge(cloud, lanes, notes)):
                found.append(what)
    return found


@contextlib.contextmanager
def _started_again(notes: Path) -> Iterator[None]:
    first = min((notes / "starts").iterdir())
    second = first.with_name(f"{first.name.split('.')[0]}.1.1")
    second.touch()
    yield
    second.unlink()


@contextlib.contextmanager
def _never_ended(notes: Path) -> Iterator[None]:
    end = next(path for path in sorted((notes / "ends").iterdir()) if "-export-" in path.name)
    hidden = notes / end.name
    end.rename(hidden)
    yield
    hidden.rename(end)


@contextlib.contextmanager
def _forgotten(lanes: list[Lane]) -> Iterator[None]:
    lanes[0].runs.append(Done("asked-and-forgotten", "nowhere", "SUCCEEDED", 1.0))
    yield
    lanes[0].runs.pop()


@contextlib.contextmanager
def _unasked(jobs: Path) -> Iterator[None]:
    record = jobs / "jobs/training/unasked/record.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"status": "Completed", "transitions": []}))
    yield
    record.unlink()
    record.parent.rmdir()
