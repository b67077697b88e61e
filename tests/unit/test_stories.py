"""A run stays sound whatever is told of it and asked of it, in whatever order."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from ekiden.domain.decisions import Decision
from ekiden.domain.model import (
    ACTIVE_STAGE,
    STOPPING_RUN,
    TERMINAL_RUN,
    WORKING_RUN,
    AttemptStatus,
    Failure,
    Run,
    RunStatus,
    Stage,
    StageStatus,
)
from ekiden.domain.operations import cancel, retry
from ekiden.domain.transitions import (
    DeadlinePassed,
    Event,
    JobGone,
    JobReported,
    JobStarted,
    JobStatus,
    NoChange,
    Plan,
    StartRefused,
    Transition,
    decide,
    submit,
)
from tests.fakes import NOW

PLAN = Plan(
    "data", "movielens", timedelta(hours=1), tries=2, stage_tries={Stage.TRAIN: 3}, run_timeout=timedelta(hours=5)
)
STAGES = st.sampled_from(Stage)
FAILURES = st.none() | st.just(Failure("BAD_DATA", "a row is wrong"))
REFUSED = Failure("NAME_TAKEN", "another job has the name")
ORDER = list(Stage)


class Story(RuleBasedStateMachine):
    """Events that fit and events that do not, cancels and retries, at any moment."""

    events = Bundle("events")

    @initialize(jitter=st.floats(0, 0.99))
    def submitted(self, jitter: float) -> None:
        self.now, self.jitter = NOW, jitter
        self.run = submit("movielens-1", "movielens", "{}", PLAN, NOW).after
        self.began: list[tuple[Stage, int]] = [(Stage.EXPORT, 1)]
        self.stops_verified = True

    # What SageMaker and the clock tell

    @rule(target=events, status=st.sampled_from(JobStatus), failure=FAILURES, transient=st.booleans())
    def the_live_job_is_described(self, status: JobStatus, failure: Failure | None, transient: bool) -> object:
        attempt = self.run.live_attempt
        if attempt is None:
            return multiple()
        return self._tell(JobReported(attempt.stage, attempt.number, status, failure, transient))

    @rule(target=events)
    def the_current_stage_succeeds(self) -> object:
        attempt = self.run.live_attempt
        return self._tell(JobReported(attempt.stage, attempt.number, JobStatus.SUCCEEDED)) if attempt else multiple()

    @rule(target=events, kind=st.sampled_from([JobStarted, JobGone, DeadlinePassed]))
    def something_else_happens_to_it(self, kind: type[JobStarted | JobGone | DeadlinePassed]) -> object:
        attempt = self.run.live_attempt
        return self._tell(kind(attempt.stage, attempt.number)) if attempt else multiple()

    @rule(target=events, stage=STAGES, number=st.integers(0, 6), status=st.sampled_from(JobStatus))
    def something_is_told_of_any_attempt(self, stage: Stage, number: int, status: JobStatus) -> object:
        return self._tell(JobReported(stage, number, status))

    @rule(target=events, stage=STAGES, number=st.integers(0, 6))
    def a_start_is_refused(self, stage: Stage, number: int) -> object:
        return self._tell(StartRefused(stage, number, REFUSED))

    @rule(event=events)
    def an_event_comes_again(self, event: Event) -> None:
        self._tell(event)

    # What operators ask

    @rule()
    def it_is_cancelled(self) -> None:
        before = self.run
        self._take(cancel(before, reason="", now=self._tick()))
        assert (self.run is not before) == (before.status in WORKING_RUN)
        assert self.run.status in STOPPING_RUN | TERMINAL_RUN

    @rule(stage=st.none() | STAGES)
    def it_is_retried(self, stage: Stage | None) -> None:
        before = self.run
        decision = retry(before, stage, plan=PLAN, reason="", now=self._tick())
        if isinstance(decision, Transition):
            assert before.status in TERMINAL_RUN, "only a run that is over is retried"
            assert before.live_attempt is None, "a retry waits until every job was seen to be over"
            assert decision.after.deadline == self.now + PLAN.whole
        self._take(decision)

    # What must hold

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=30)
        return self.now

    def _tell(self, event: Event) -> Event:
        before = self.run
        self._tick()
        decision = decide(before, event, plan=PLAN, now=self.now, jitter=self.jitter)
        if isinstance(decision, Transition) and before.status in TERMINAL_RUN:
            after = decision.after
            assert before.live_attempt is not None, "a run that is over moves by a verified stop only"
            assert after.live_attempt is None
            assert (after.status, after.stages, after.failure) == (before.status, before.stages, before.failure)
        if isinstance(event, DeadlinePassed) and isinstance(decision, Transition):
            assert decision.after.status in TERMINAL_RUN, "a deadline ends the run at once"
        self._take(decision)
        return event

    def _take(self, decision: Decision) -> None:
        if isinstance(decision, NoChange):
            assert decision.reason
            return
        before, after = self.run, decision.after
        assert decision.before is before
        assert after.version == before.version + 1
        assert after.updated_at == self.now
        begun = [(a.stage, a.number) for a in after.attempts if before.attempt(a.stage, a.number) is None]
        if before.status in STOPPING_RUN:
            assert begun == [], "nothing begins while a run is being cancelled"
        assert len(begun) <= 1
        ready = [(e.data["stage"], e.data["attempt"]) for e in decision.events if e.detail_type == "StageReady"]
        assert set(ready) <= set(begun)
        self.began += begun
        self.run = after

    @invariant()
    def at_most_one_attempt_is_live(self) -> None:
        live = [attempt for attempt in self.run.attempts if attempt.is_live]
        assert len(live) <= 1
        if self.run.status not in TERMINAL_RUN:
            assert len(live) == 1, "a run that is not over has somebody to wait for"
            state = self.run.stage(live[0].stage)
            assert (state.attempt, state.status.value) == (live[0].number, live[0].status.value)
        if self.run.status in STOPPING_RUN:
            assert live[0].stopping_since is not None
        if self.run.status in WORKING_RUN:
            assert live[0].stopping_since is None

    @invariant()
    def stages_go_in_order(self) -> None:
        statuses = [state.status for state in self.run.stages]
        done = next((i for i, status in enumerate(statuses) if status is not StageStatus.SUCCEEDED), len(ORDER))
        assert all(status is StageStatus.PENDING for status in statuses[done + 1 :])
        assert sum(status in ACTIVE_STAGE for status in statuses) <= 1
        for stage, number in self.began:
            attempt = self.run.attempt(stage, number)
            assert attempt is not None
            earlier = ORDER[: ORDER.index(stage)]
            assert all(
                any(a.stage is e and a.status is AttemptStatus.SUCCEEDED for a in self.run.attempts) for e in earlier
            )

    @invariant()
    def numbers_rise_and_no_name_is_used_twice(self) -> None:
        for state in self.run.stages:
            numbers = [number for stage, number in self.began if stage is state.stage]
            assert numbers == list(range(1, state.attempt + 1))
        jobs = [attempt.job for attempt in self.run.attempts]
        assert len(set(jobs)) == len(jobs) == len(self.began)
        assert all(0 <= a.tries_left < PLAN.tries_of(a.stage) for a in self.run.attempts)

    @invariant()
    def an_end_is_an_end(self) -> None:
        run: Run = self.run
        assert (run.ended_at is not None) == (run.status in TERMINAL_RUN)
        assert (run.failure is not None) == (run.status is RunStatus.FAILED)
        assert all(attempt.deadline <= run.deadline for attempt in run.attempts if attempt.is_live)
        if run.status is RunStatus.SUCCEEDED:
            assert all(state.status is StageStatus.SUCCEEDED for state in run.stages)


Story.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWhateverHappens = Story.TestCase
