"""What people and tools see of runs and score requests."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ekiden.application.plans import spec_of
from ekiden.contracts import api
from ekiden.domain import naming
from ekiden.domain.model import Attempt, AttemptStatus, Run, RunStatus, Stage, StageStatus
from ekiden.domain.scores import ScoreRequest
from ekiden.errors import ContractViolation, NotFound, Permanent
from ekiden.ports import JobLogs, Ledger, Objects, ScoreLedger

MAX_EVALUATION_BYTES = 256 * 1024
MAX_LINES = 1000
TRAIN_ARTIFACTS = {
    "evaluation": "evaluation.json",
    "report": "report.html",
    "predictions": "predictions.parquet",
    "learning_curve": "learning_curve.json",
}


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """Reads; never writes."""

    ledger: Ledger
    scores: ScoreLedger
    logs: JobLogs
    objects: Objects
    bucket: str

    def runs(self, status: RunStatus | None, limit: int) -> api.RunList:
        """The newest runs."""
        return api.RunList(
            runs=[
                api.RunSummary(
                    run_id=run.run_id,
                    name=run.name,
                    status=run.status,
                    stage=run.stage,
                    created_at=run.created_at,
                    updated_at=run.updated_at,
                )
                for run in self.ledger.recent(status, limit)
            ]
        )

    def run(self, run_id: str) -> api.RunView:
        """One run with its stages, evaluation and artefacts.

        Raises:
            NotFound: there is no such run.
        """
        run = self._load(run_id)
        return api.RunView(
            run_id=run.run_id,
            name=run.name,
            status=run.status,
            created_at=run.created_at,
            updated_at=run.updated_at,
            ended_at=run.ended_at,
            spec=json.loads(run.spec),
            stages=[
                api.StageView(
                    name=state.stage,
                    status=state.status,
                    attempts=[_attempt(a) for a in _by_number(run) if a.stage is state.stage],
                )
                for state in run.stages
            ],
            endpoint=spec_of(run).endpoint_name if run.status is RunStatus.SUCCEEDED else None,
            evaluation=self._evaluation(run),
            artifacts=self._artifacts(run),
            error=_error(run),
        )

    def history(self, run_id: str) -> api.RunHistory:
        """Who moved the run, when and why.

        Raises:
            NotFound: there is no such run.
        """
        self._load(run_id)
        lines = [
            api.HistoryLine(sequence=entry.sequence, at=entry.at, actor=entry.actor, what=entry.what)
            for entry in self.ledger.history(run_id)
        ]
        return api.RunHistory(run_id=run_id, history=lines)

    def run_logs(self, run_id: str, stage: Stage | None, token: str | None, tail: int | None) -> api.LogPage:
        """Log lines of the run's jobs: from the start page by page, or the last ``tail`` lines.

        Raises:
            NotFound: there is no such run.
            ContractViolation: the token is none of ours.
        """
        run = self._load(run_id)
        attempts = [a for a in _by_number(run) if stage is None or a.stage is stage]
        if tail is not None:
            lines = [
                _log_line(attempt, line.at, line.message)
                for attempt in attempts
                for line in self.logs.tail(attempt.ref.kind, attempt.ref.name, min(tail, MAX_LINES))
            ]
            return api.LogPage(lines=lines[-tail:], next_token=None)
        position, inner = _cursor(token)
        if position >= len(attempts):
            return api.LogPage(lines=[], next_token=None)
        attempt = attempts[position]
        found, following = self.logs.read(attempt.ref.kind, attempt.ref.name, MAX_LINES, inner)
        lines = [_log_line(attempt, line.at, line.message) for line in found]
        next_token = (
            json.dumps([position, following])
            if following
            else json.dumps([position + 1, None])
            if position + 1 < len(attempts)
            else None
        )
        return api.LogPage(lines=lines, next_token=next_token)

    def score_request(self, request_id: str) -> api.ScoresView:
        """A score request and its progress.

        Raises:
            NotFound: there is no such request.
        """
        request = self.scores.load(request_id)
        if request is None:
            raise NotFound(f"there is no score request {request_id[:80]}", code="UNKNOWN_REQUEST")
        return _scores_view(request)

    def _load(self, run_id: str) -> Run:
        run = self.ledger.load(run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id[:80]}; `ekiden runs` lists the latest", code="UNKNOWN_RUN")
        return run

    def _evaluation(self, run: Run) -> dict[str, Any] | None:
        trained = _trained(run)
        if trained is None:
            return None
        uri = naming.model_of(trained) + TRAIN_ARTIFACTS["evaluation"]
        key = uri.removeprefix(f"s3://{self.bucket}/")
        # A run is shown even if its evaluation cannot be.
        with suppress(Permanent, ValueError, TypeError):
            body = self.objects.get(self.bucket, key, limit=MAX_EVALUATION_BYTES)
            return dict(json.loads(body)) if body else None
        return None

    def _artifacts(self, run: Run) -> dict[str, str]:
        found = {"spec": f"s3://{self.bucket}/{naming.spec_key(run.run_id)}"}
        for attempt in run.attempts:
            if attempt.status is AttemptStatus.SUCCEEDED and attempt.stage in {Stage.EXPORT, Stage.PROCESS}:
                found[attempt.stage.value] = attempt.output
        trained = _trained(run)
        if trained is not None:
            model = naming.model_of(trained)
            found["model"] = model
            found |= {name: model + file for name, file in TRAIN_ARTIFACTS.items()}
            if trained.best_job is not None:
                found["trials"] = naming.trials_of(trained)
        return found


def _trained(run: Run) -> Attempt | None:
    if run.stage(Stage.TRAIN).status is not StageStatus.SUCCEEDED:
        return None
    return run.attempt(Stage.TRAIN)


def _by_number(run: Run) -> list[Attempt]:
    order = list(Stage)
    return sorted(run.attempts, key=lambda attempt: (order.index(attempt.stage), attempt.number))


def _attempt(attempt: Attempt) -> api.AttemptView:
    failure = attempt.failure
    return api.AttemptView(
        number=attempt.number,
        job=attempt.job,
        status=attempt.status,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        output=attempt.output,
        error=api.AttemptError(code=failure.code, message=failure.message) if failure else None,
    )


def _error(run: Run) -> api.RunError | None:
    if run.failure is None or run.failed_stage is None:
        return None
    return api.RunError(
        stage=run.failed_stage,
        code=run.failure.code,
        message=run.failure.message,
        log_tail=list(run.log_tail),
    )


def _log_line(attempt: Attempt, at: Any, message: str) -> api.LogLine:
    return api.LogLine(timestamp=at, stage=attempt.stage, attempt=attempt.number, message=message)


def _cursor(token: str | None) -> tuple[int, str | None]:
    if token is None:
        return 0, None
    with suppress(ValueError, RecursionError):
        match json.loads(token):
            case [int(position), str() | None as inner] if position >= 0:
                return position, inner
    raise ContractViolation("next_token is not one that this API gave", code="INVALID_TOKEN")


def _scores_view(request: ScoreRequest) -> api.ScoresView:
    failure = request.failure
    return api.ScoresView(
        request_id=request.request_id,
        status=request.status,
        endpoint=request.endpoint,
        messages=api.MessageCounts(total=request.parts, done=request.parts_done),
        pairs=api.PairCounts(
            total=request.rows, scored=request.scored, fallback=request.fallback, invalid=request.invalid
        ),
        results=request.results,
        created_at=request.created_at,
        updated_at=request.updated_at,
        error=api.AttemptError(code=failure.code, message=failure.message) if failure else None,
    )
