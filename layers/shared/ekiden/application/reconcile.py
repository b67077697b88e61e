"""Repair what events did not bring: lost events, unstarted intents, due retries, unverified stops, passed deadlines.

A sweep asks SageMaker for *lists* of what ended lately and compares them with the live attempts, so its cost does not
grow with the number of jobs that simply run. Only what a list names, what was not started and what is overdue is looked
at one by one, within a budget of calls.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from ekiden.application.moving import move
from ekiden.application.observe import ObserveJob
from ekiden.application.stages import StartStage
from ekiden.domain.decisions import DeadlinePassed
from ekiden.domain.model import STOPPING_RUN, TERMINAL_RUN, Attempt, AttemptStatus, JobRef, Run
from ekiden.errors import AlreadyDone, Permanent, PipelineError, Transient
from ekiden.ports import LiveAttempt

LIVE_LIMIT = 5000
"""Live attempts read in a sweep."""
ENDED_WINDOW = timedelta(minutes=5)
"""How far back a sweep asks for ended jobs: several sweeps, so that one that fails loses nothing, and short, so that
the lists hold all changes of a thousand active runs: what a list cuts off nobody would see."""
OUTAGE_WINDOW = timedelta(minutes=30)
"""How far back every tenth minute's sweep asks: for what ended while nobody swept."""
LIST_CALLS = 20
"""Calls of the budget that the lists are reckoned at: as many as they may take."""
SOON = timedelta(seconds=45)
"""Until the next look at an attempt that waits for us. Less than a minute, so that no sweep is missed."""
LATER_AT_LEAST, LATER_AT_MOST = timedelta(minutes=30), timedelta(hours=2)
"""Until the first and the next look at a job that runs: lists and events tell when it ends, this is the net below
them, for an outage that outlasts the window."""
MAX_TROUBLE = 400
NOT_DUE = 3


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep of the reconciler did."""

    live: int
    looked_at: int
    moved: int
    postponed: int
    """Attempts whose services were not available."""
    troubles: tuple[str, ...] = ()
    """Attempts that met an error which time will not heal, each with its reason."""


@dataclass(frozen=True, slots=True)
class ReconcileJobs:
    """One sweep. Crash-safe: it keeps no state of its own, and every step is one that anybody may take."""

    observe: ObserveJob
    start: StartStage

    def __call__(self, *, budget: int, actor: str) -> SweepResult:
        """Look at live attempts with about ``budget`` calls to SageMaker. One attempt's trouble does not stop it."""
        moved = postponed = 0
        troubles: list[str] = []
        now = self.observe.clock.now()
        live = self.observe.ledger.live(LIVE_LIMIT)
        chosen = _choose(live, self._ended(now) if live else frozenset(), now)[: max(1, budget - LIST_CALLS)]
        for candidate in chosen:
            attempt = candidate.attempt
            try:
                self._ensure(candidate, actor=actor)
                moved += 1
                continue
            except AlreadyDone:
                pass
            except Transient:
                postponed += 1
            except Exception as error:  # noqa: BLE001  whatever it is, it is this attempt's own
                reason = f"{attempt.stage} {attempt.number} of {candidate.run_id}: {type(error).__name__}: {error}"
                troubles.append(reason[:MAX_TROUBLE])
            with suppress(PipelineError):
                self.observe.ledger.postpone(candidate.run_id, attempt, _next_look(attempt, now))
        return SweepResult(len(live), len(chosen), moved, postponed, tuple(troubles))

    def _ended(self, now: datetime) -> frozenset[JobRef]:
        """What ended lately; nothing if SageMaker does not say: what is due is looked at all the same."""
        try:
            return self.observe.jobs.ended_since(now - _window(now))
        except PipelineError:
            return frozenset()

    def _ensure(self, candidate: LiveAttempt, *, actor: str) -> None:
        stage, number = candidate.attempt.stage, candidate.attempt.number
        run = self.observe.ledger.load(candidate.run_id)
        attempt = run.attempt(stage, number) if run else None
        if run is None or attempt is None or not attempt.is_live:
            raise AlreadyDone("the index lags behind the ledger")
        overdue = run.status not in TERMINAL_RUN and self.observe.clock.now() >= attempt.deadline
        if attempt.status is AttemptStatus.STARTING and run.status not in STOPPING_RUN and not overdue:
            # Creates the job, or adopts the one that has its name after comparing what it is.
            self.start(run.run_id, stage, number, actor=actor)
            with suppress(AlreadyDone):  # a job found there may be over by now
                self.observe(run.run_id, stage, number, actor=actor)
            return
        try:
            self.observe.record(run, attempt, actor=actor)
        except (AlreadyDone, Permanent):
            if not overdue:
                raise
            self._end_overdue(run, attempt, actor=actor)

    def _end_overdue(self, run: Run, attempt: Attempt, *, actor: str) -> None:
        move(self.observe, run, DeadlinePassed(attempt.stage, attempt.number), actor=actor)
        # The ledger has the intent now. A job that cannot be stopped is tried again by the sweeps that follow.
        with suppress(PipelineError):
            self.observe(run.run_id, attempt.stage, attempt.number, actor=actor)


def _window(now: datetime) -> timedelta:
    return OUTAGE_WINDOW if now.minute % 10 == 0 else ENDED_WINDOW


def _choose(live: list[LiveAttempt], ended: frozenset[JobRef], now: datetime) -> list[LiveAttempt]:
    """Whom to look at, the most urgent first: what ended, what waits for us or is overdue, what nobody looked at."""
    ranks = [(_urgency(entry.attempt, ended, now), entry.attempt.next_check_at, i) for i, entry in enumerate(live)]
    return [live[i] for urgency, _, i in sorted(ranks) if urgency < NOT_DUE]


def _urgency(attempt: Attempt, ended: frozenset[JobRef], now: datetime) -> int:
    if attempt.ref in ended:
        return 0
    if attempt.next_check_at > now and attempt.deadline > now:
        return NOT_DUE
    waits_for_us = attempt.status is not AttemptStatus.RUNNING or attempt.stopping_since is not None
    if not waits_for_us and now < min(attempt.deadline, (attempt.started_at or attempt.created_at) + LATER_AT_LEAST):
        return NOT_DUE
    return 1 if waits_for_us or attempt.deadline <= now else 2


def _next_look(attempt: Attempt, now: datetime) -> datetime:
    if attempt.status is not AttemptStatus.RUNNING or attempt.stopping_since is not None:
        return now + SOON
    later = max(LATER_AT_LEAST, min(LATER_AT_MOST, now - attempt.created_at))
    return min(now + later, max(attempt.deadline, now + SOON))
