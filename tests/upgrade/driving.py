"""How runs are driven to their ends by versions, and what becomes of them."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

from ekiden.application.plans import Deployed, plan_for, spec_of
from ekiden.domain.model import Attempt, Failure, Run, Stage
from ekiden.domain.transitions import JobReported, JobStatus, Transition, decide
from tests.fakes.events import SAMPLE_SPEC, http_event
from tests.upgrade.versions import Earlier, Site, Today, Version, batch, ended, ready

SPEC = SAMPLE_SPEC | {"limits": {"stage_hours": 1.13}}
"""1.13 h are 4,067 or 4,068 s, depending on how one rounds: a job's fingerprint must not change between versions."""
TODAY = Today()


def versions(earlier: Earlier, direction: str) -> tuple[Version, Version]:
    """The version that begins, and the one that finishes."""
    return (earlier, TODAY) if direction == "forwards" else (TODAY, earlier)


def post(site: Site, version: Version, seed: int, **changes: Any) -> str:
    """Submit a run; its id follows from the seed."""
    spec = SPEC | {"deploy": {"endpoint": f"movielens-{seed}"}} | changes
    body = {"spec": spec, "request_id": f"r{seed}"}
    reply = version.invoke(site, "submit_run", http_event("POST /runs", body), seed)
    assert reply["statusCode"] == 202, reply["body"]
    return str(json.loads(reply["body"])["run_id"])


def fate(attempt: Attempt) -> tuple[JobStatus, bool]:
    """What becomes of a job, by its name: whoever asks, and whenever. And whether it fails for a passing reason."""
    drawn = int(attempt.job[:8], 16) % 100
    if attempt.stage is Stage.DEPLOY or drawn >= 14:
        return JobStatus.SUCCEEDED, False
    return JobStatus.FAILED, drawn < 10


def come_to_its_end(site: Site, attempt: Attempt) -> None:
    """The attempt's job or update ends, if it goes on."""
    if attempt.stage is Stage.DEPLOY:
        site.sagemaker.settle(attempt.ref.name)
    elif attempt.job in site.sagemaker.running():
        status, passing = fate(attempt)
        reason = f"AlgorithmError: SOME_CODE: some reason, exit code: {75 if passing else 65}"
        site.sagemaker.end(attempt.job, "Completed" if status is JobStatus.SUCCEEDED else "Failed", reason)


def outcome(run: Run) -> dict[str, Any]:
    """All that a run is in the end but its times and versions."""
    order = list(Stage)
    attempts = sorted(run.attempts, key=lambda a: (order.index(a.stage), a.number))
    return {
        "status": run.status.value,
        "stages": [(state.stage.value, state.status.value, state.attempt) for state in run.stages],
        "attempts": [(a.job, a.status.value, a.output, a.failure, a.tries_left) for a in attempts],
        "failed": (run.failed_stage, run.failure),
    }


def expected(run: Run) -> dict[str, Any]:
    """What becomes of a run with the fates of its jobs: by the rules alone, from where it stands."""
    plan = plan_for(spec_of(run), Deployed("ekiden-data"))
    while (attempt := run.live_attempt) is not None:
        status, passing = fate(attempt)
        failure = None if status is JobStatus.SUCCEEDED else _FAILURE
        event = JobReported(attempt.stage, attempt.number, status, failure, passing)
        decision = decide(run, event, plan=plan, now=run.updated_at + timedelta(minutes=1), jitter=0.5)
        assert isinstance(decision, Transition)
        run = decision.after
    return outcome(run)


_FAILURE = Failure("SOME_CODE", "some reason")


def sweep(site: Site, version: Version) -> int:
    """A minute passes, and a version sweeps; how many runs it moved."""
    site.clock.advance(seconds=61)
    result = version.invoke(site, "reconcile_jobs", {}, site.boundaries)
    assert result["troubles"] in ([], ()), result
    return int(result["moved"])


def step(site: Site, run_id: str, version: Version) -> bool:
    """What comes next for a run is done by a version; whether there was something to do."""
    run = site.run(run_id)
    attempt = run.live_attempt
    if attempt is None:
        return False
    seed = site.boundaries
    if attempt.status == "STARTING" and (told := ready(site.told(run_id), attempt)):
        version.invoke(site, told[0], batch(told[1]), seed)
    elif attempt.status == "STARTING":
        sweep(site, version)
        sweep(site, version)
    else:
        come_to_its_end(site, attempt)
        function, event = ended(attempt)
        version.invoke(site, function, batch(event, event), seed)
    return True


def finish(site: Site, run_id: str, version: Version) -> dict[str, Any]:
    """A version brings the run to its end."""
    for _ in range(60):
        if not step(site, run_id, version):
            return outcome(site.run(run_id))
    raise AssertionError(f"{run_id} has not ended: {outcome(site.run(run_id))}")


def sound(site: Site) -> None:
    """Nothing was started twice, nothing was parked, nothing runs."""
    assert len(site.sagemaker.created) == len(set(site.sagemaker.created))
    assert site.parked == []
    assert site.sagemaker.running() == []


def seed_with(*fates: tuple[Stage, JobStatus]) -> int:
    """A seed whose run's attempts end so, in order."""
    for seed in itertools.count():
        site = Site()
        result = expected(site.run(post(site, TODAY, seed)))
        found = [(job.split("-")[1], status) for job, status, *_ in result["attempts"]]
        if found == [(stage.value, status.value) for stage, status in fates]:
            return seed
    raise AssertionError
