"""What must always hold. Each violation is a sentence with the run it is about.

Checked at every ledger write and every creation, at every sweep, and once at the end.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from ekiden.domain.model import ACTIVE_ATTEMPT, TERMINAL_RUN, AttemptStatus, Run, RunStatus, Stage, StageStatus
from ekiden.domain.transitions import Transition
from tests.simulation.ledger import LaggingLedger
from tests.simulation.platform import Creation, Platform

SWEEPS = 2
"""Sweeps without a fault after which everything overdue must be repaired."""


@dataclass(slots=True)
class Invariants:
    """Watches a ledger and a platform."""

    ledger: LaggingLedger
    platform: Platform
    violations: list[str] = field(default_factory=list)
    revived: set[str] = field(default_factory=set)
    """Runs that somebody asked to retry: only they may leave a terminal state."""
    _last: dict[str, Run] = field(default_factory=dict)
    _created: Counter[tuple[str, Stage, int]] = field(default_factory=Counter)
    _overdue: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def written(self, transition: Transition) -> None:
        """A transition was written."""
        after, last = transition.after, self._last.get(transition.after.run_id)
        self._last[after.run_id] = after
        if last is None:
            if after.version != 0:
                self._violated(after.run_id, f"begins with version {after.version}")
        else:
            if after.version != last.version + 1:
                self._violated(after.run_id, f"version {last.version} is followed by {after.version}")
            self._ended_is_ended(last, after, transition.reason)
            self._attempts_only_go_on(last, after)
        self._in_order(after)

    def created(self, creation: Creation) -> None:
        """Something that costs money began."""
        key = (creation.run_id, creation.stage, creation.attempt)
        self._created[key] += 1
        what = f"attempt {creation.attempt} of {creation.stage}"
        # UpdateEndpoint has no client token, and an endpoint tells nothing of an update that was rolled back, or that
        # another run's has replaced: a worker that died before it could write is followed by one that tries again.
        if self._created[key] > 1 and creation.name not in self.platform.forgotten:
            self._violated(creation.run_id, f"{what} was started {self._created[key]} times")
        run = self.ledger.run_now(creation.run_id)
        if run is None or run.attempt(creation.stage, creation.attempt) is None:
            self._violated(creation.run_id, f"{what} was started without an intent in the ledger")
        rivals = [
            rival
            for rival in self.platform.alive.values()
            if rival.run_id == creation.run_id and rival.name != creation.name
        ]
        if rivals:
            self._violated(creation.run_id, f"{what} was started while {rivals[0].name} runs")

    def deleted(self, endpoint: str, deployment: str) -> None:
        """An endpoint was deleted that served ``deployment``: only a run that is being stopped may lose it."""
        for run in self.ledger.runs_now():
            for attempt in run.attempts:
                if attempt.job == deployment and attempt.stopping_since is None:
                    self._violated(run.run_id, f"endpoint {endpoint} was deleted, which serves its model")

    def swept(self, began: float, now_overdue: set[str]) -> None:
        """A sweep that began at ``began`` ended without a fault; ``now_overdue`` should have been settled before."""
        for run_id in list(self._overdue):
            if run_id not in now_overdue:
                del self._overdue[run_id]
        for run_id in now_overdue:
            self._overdue[run_id] += 1
            if self._overdue[run_id] == SWEEPS + 1:
                run = self._last[run_id]
                jobs = [job.name for job in self.platform.alive.values() if job.run_id == run_id]
                state = f"{run.status} with {', '.join(jobs)} running" if jobs else f"still {run.status}"
                self._violated(run_id, f"{state}, {SWEEPS + 1} sweeps after its deadline or end")

    def at_the_end(self) -> None:
        """Everything has come to rest."""
        for run in self.ledger.runs_now():
            if run.status not in TERMINAL_RUN:
                self._violated(run.run_id, f"never ended: it is {run.status}")
            self._replays(run)
        for job in self.platform.alive.values():
            owner = self.ledger.run_now(job.run_id)
            if owner is None or owner.status in TERMINAL_RUN:
                self._violated(job.run_id, f"{job.name} runs on though the run is over")

    def _violated(self, run_id: str, what: str) -> None:
        self.violations.append(f"{run_id}: {what}")

    def _ended_is_ended(self, last: Run, after: Run, reason: str) -> None:
        if last.status is RunStatus.CANCELLING and after.status not in {RunStatus.CANCELLING, RunStatus.CANCELLED}:
            self._violated(after.run_id, f"was CANCELLING and is {after.status}: {reason}")
        if last.status not in TERMINAL_RUN or after.run_id in self.revived:
            return
        if _face(last) != _face(after):
            self._violated(after.run_id, f"was {last.status} and moved all the same: {reason}")

    def _attempts_only_go_on(self, before: Run, after: Run) -> None:
        for attempt in before.attempts:
            now = after.attempt(attempt.stage, attempt.number)
            what = f"attempt {attempt.number} of {attempt.stage}"
            if now is None:
                self._violated(after.run_id, f"{what} is gone")
            elif attempt.status not in ACTIVE_ATTEMPT and now.status is not attempt.status:
                self._violated(after.run_id, f"{what} was {attempt.status} and is {now.status}")
            elif attempt.status is AttemptStatus.RUNNING and now.status is AttemptStatus.STARTING:
                self._violated(after.run_id, f"{what} was running and is starting again")

    def _in_order(self, run: Run) -> None:
        live = [attempt for attempt in run.attempts if attempt.status in ACTIVE_ATTEMPT]
        if len(live) > 1:
            self._violated(run.run_id, f"has {len(live)} live attempts")
        if run.status in TERMINAL_RUN and live:
            self._violated(run.run_id, f"is {run.status} with a live attempt")
        done = True
        for state in run.stages:
            if state.status is not StageStatus.PENDING and not done:
                self._violated(run.run_id, f"{state.stage} is {state.status} before an earlier stage succeeded")
            done = done and state.status is StageStatus.SUCCEEDED
        if run.status is RunStatus.SUCCEEDED and not done:
            self._violated(run.run_id, "SUCCEEDED without all its stages")

    def _replays(self, run: Run) -> None:
        # A redrive leaves a note, beside the transition at whose time it was made.
        history = [entry for entry in self.ledger.history(run.run_id) if not entry.what.startswith("redrive of ")]
        if [entry.sequence for entry in history] != list(range(run.version + 1)):
            self._violated(run.run_id, f"its history has gaps: {[entry.sequence for entry in history]}")
        told = replay([entry.what for entry in history])
        is_ = {"run": run.status.value} | {state.stage.value: state.status.value for state in run.stages}
        for what, status in is_.items():
            if status not in told[what]:
                self._violated(run.run_id, f"{what} is {status}, its history tells {' or '.join(sorted(told[what]))}")


def _face(run: Run) -> tuple[object, ...]:
    """What of an ended run must stay as it is: all but that its job was seen to have stopped."""
    attempts = {(a.stage, a.number, a.status, a.ended_at, a.failure) for a in run.attempts}
    return run.status, run.ended_at, run.failed_stage, run.failure, run.stages, attempts


def replay(lines: list[str]) -> dict[str, set[str]]:
    """What a run's history says of the run and its stages: the statuses that agree with it."""
    told: dict[str, set[str]] = {stage.value: {"PENDING"} for stage in Stage} | {"run": {"RUNNING"}}
    told["export"] = {"STARTING"}
    for line in lines:
        for pattern, apply in _LINES:
            if found := pattern.match(line):
                apply(told, *found.groups())
                break
        else:
            raise AssertionError(f"the history has a line that nobody can replay: {line}")
    return told


Told = dict[str, set[str]]


def _succeeded(told: Told, stage: str) -> None:
    told[stage] = {"SUCCEEDED"}
    following = Stage(stage).next
    if following is None:
        told["run"] = {"SUCCEEDED"}
    else:
        told[following.value] = {"STARTING"}


def _cancelled(told: Told, stage: str) -> None:
    told[stage] = {"CANCELLED", "SUCCEEDED"}
    told["run"] = {"CANCELLED"}


def _out_of_time(told: Told) -> None:
    for stage in Stage:
        if told[stage.value] & {"STARTING", "RUNNING"}:
            told[stage.value] = {"CANCELLED"}
    told["run"] = {"CANCELLED"}


def _retried(told: Told, first: str) -> None:
    order = [stage.value for stage in Stage]
    told.update({stage: {"PENDING"} for stage in order[order.index(first) :]})
    told.update({first: {"STARTING"}, "run": {"RUNNING"}})


_STAGE = "(export|process|train|deploy)"
_LINES: list[tuple[re.Pattern[str], Callable[..., None]]] = [
    (re.compile("submitted"), lambda told: None),
    (re.compile(f"{_STAGE} started as "), lambda told, stage: told.update({stage: {"RUNNING"}})),
    (re.compile(f"{_STAGE} succeeded"), _succeeded),
    (re.compile(f"{_STAGE} failed .*attempt .* follows"), lambda told, stage: told.update({stage: {"STARTING"}})),
    (re.compile(rf"{_STAGE} ended (\w+)"), lambda told, stage, how: told.update({stage: {how}, "run": {"FAILED"}})),
    (re.compile("cancel asked for"), lambda told: told.update({"run": {"CANCELLING"}})),
    (re.compile(f"cancelled, {_STAGE} has stopped"), _cancelled),
    (re.compile("deadline passed while cancelling"), _out_of_time),
    (re.compile(f"{_STAGE}: its job was seen to be over"), lambda told, stage: None),
    (re.compile(f"retry from {_STAGE} asked for"), _retried),
]
