"""What operators do to a run: cancel it, retry it. Each act is in the run's history with who asked and why."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ekiden.application.artifacts import manifest_hash
from ekiden.application.observe import ObserveJob
from ekiden.application.plans import plan_for, spec_of
from ekiden.application.races import until_decided
from ekiden.domain import operations
from ekiden.domain.decisions import NoChange, Transition
from ekiden.domain.model import STOPPING_RUN, Run, RunStatus, Stage
from ekiden.errors import Conflict, NotFound, PipelineError


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Writes the intent to cancel, then stops the job; the reconciler goes on until it has seen it stopped."""

    observe: ObserveJob

    def __call__(self, run_id: str, *, reason: str, actor: str) -> RunStatus:
        """The run's status afterwards. Asking again, or too late, changes nothing.

        Raises:
            NotFound: there is no such run.
        """
        until_decided(lambda: self._intend(run_id, reason=reason, actor=actor))
        run = _load(self.observe, run_id)
        attempt = run.live_attempt
        if run.status in STOPPING_RUN and attempt is not None:
            with suppress(PipelineError):  # the reconciler stops what cannot be stopped now
                self.observe(run_id, attempt.stage, attempt.number, actor=actor)
            run = _load(self.observe, run_id)
        return run.status

    def _intend(self, run_id: str, *, reason: str, actor: str) -> None:
        run = _load(self.observe, run_id)
        decision = operations.cancel(run, reason=reason, now=self.observe.clock.now())
        if isinstance(decision, Transition):
            self.observe.ledger.commit(decision, actor=actor)


@dataclass(frozen=True, slots=True)
class RetryRun:
    """Lets an ended run go on at the stage where it ended, or at an earlier one; what succeeded is reused."""

    observe: ObserveJob

    def __call__(self, run_id: str, stage: Stage | None, *, reason: str, actor: str) -> Stage:
        """The stage the run goes on at.

        Raises:
            NotFound: there is no such run.
            Conflict: the run cannot go on (there), or the output of an earlier stage was changed.
        """
        first: list[Stage] = []
        until_decided(lambda: first.append(self._retry(run_id, stage, reason=reason, actor=actor)))
        return first[-1]

    def _retry(self, run_id: str, stage: Stage | None, *, reason: str, actor: str) -> Stage:
        run = _load(self.observe, run_id)
        first = stage or operations.stage_to_retry(run)
        plan = plan_for(spec_of(run), self.observe.deployed)
        decision = operations.retry(run, stage, plan=plan, reason=reason, now=self.observe.clock.now())
        if isinstance(decision, NoChange):
            raise Conflict(decision.reason, code="NOT_RETRYABLE")
        self._check_reused(run, first)
        self.observe.ledger.commit(decision, actor=actor)
        return first

    def _check_reused(self, run: Run, first: Stage) -> None:
        """What the stages before ``first`` left must be what they left."""
        for earlier in list(Stage)[: list(Stage).index(first)]:
            attempt = run.attempt(earlier)
            if attempt is None or attempt.output_hash is None:
                continue  # written by a version that kept no hash; the job itself checks the files
            if manifest_hash(self.observe.objects, attempt) != attempt.output_hash:
                raise Conflict(
                    f"the output of {earlier} ({attempt.output}) is not what it left any more; "
                    f"retry with --from {earlier}",
                    code="OUTPUT_CHANGED",
                )


def _load(observe: ObserveJob, run_id: str) -> Run:
    run = observe.ledger.load(run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}; `ekiden runs` lists the latest", code="UNKNOWN_RUN")
    return run
