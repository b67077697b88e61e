"""A run that one version began is finished by its neighbour, forwards and back: the earlier code is the real one."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from moto import mock_aws

from ekiden.application.plans import Deployed, plan_for, spec_of
from ekiden.domain.model import Attempt, Failure, Run, RunStatus, Stage
from ekiden.domain.transitions import JobReported, JobStatus, Transition, decide
from tests.fakes.aws import Aws
from tests.fakes.events import SAMPLE_SPEC, http_event
from tests.fakes.faults import Crash
from tests.upgrade.versions import ARTEFACT, Earlier, Event, Site, Today, Version, batch, ended, ready

IN_FLIGHT = 1_000
MAX_ARTEFACT_BYTES = 200_000
SPEC = SAMPLE_SPEC | {"limits": {"stage_hours": 1.13}}
"""1.13 h are 4,067 or 4,068 s, depending on how one rounds: a job's fingerprint must not change between versions."""
TODAY = Today()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earlier]:
    version = Earlier(tmp_path_factory.mktemp("earlier"))
    yield version
    version.close()


def post(site: Site, version: Version, seed: int) -> str:
    """Submit a run; its id follows from the seed."""
    spec = SPEC | {"deploy": {"endpoint": f"movielens-{seed}"}}
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


def next_event(site: Site, in_flight: dict[str, str], run_id: str) -> tuple[str, Event] | None:
    """The event that a run waits for; ``None`` if it waits for a sweep, or is over and then no more in flight.

    ``in_flight`` has the run's next event by its id, as text: it is the same until somebody writes the run.
    """
    key = f"RUN#{run_id}"
    if in_flight[run_id] and key not in site.dynamodb.written:
        known: tuple[str, Event] | None = json.loads(in_flight[run_id])
        return known
    site.dynamodb.written.discard(key)
    attempt = site.run(run_id).live_attempt
    if attempt is None:
        del in_flight[run_id]
        return None
    if attempt.status == "STARTING":
        event = ready(site.told(run_id), attempt)
    else:
        come_to_its_end(site, attempt)
        event = ended(attempt)
    in_flight[run_id] = json.dumps(event)
    return event


def seed_with(*fates: tuple[Stage, JobStatus]) -> int:
    """A seed whose run's jobs fare so: a stage's first attempts, in order."""
    for seed in itertools.count():
        site = Site()
        result = expected(site.run(post(site, TODAY, seed)))
        found = [(job.split("-")[1], status) for job, status, *_ in result["attempts"]]
        if found == [(stage.value, status.value) for stage, status in fates]:
            return seed
    raise AssertionError


@pytest.fixture(scope="module")
def eventful() -> int:
    """A seed whose run stumbles once and then succeeds."""
    good, bad = JobStatus.SUCCEEDED, JobStatus.FAILED
    return seed_with(
        (Stage.EXPORT, good), (Stage.PROCESS, bad), (Stage.PROCESS, good), (Stage.TRAIN, good), (Stage.DEPLOY, good)
    )


def versions(earlier: Earlier, direction: str) -> tuple[Version, Version]:
    return (earlier, TODAY) if direction == "forwards" else (TODAY, earlier)


def test_the_artefact_is_small_and_is_what_runs_in_the_other_process(earlier: Earlier) -> None:
    assert ARTEFACT.stat().st_size < MAX_ARTEFACT_BYTES
    site = Site()
    run_id = post(site, earlier, 1)
    schemas = {item["schema"] for item in site.items(run_id) if "schema" in item}
    assert schemas == {1}
    assert {item["schema"] for item in site.items(post(site, TODAY, 2)) if "schema" in item} == {2}


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_a_run_left_at_any_boundary_by_one_version_is_finished_by_the_other(
    earlier: Earlier, eventful: int, direction: str
) -> None:
    first, second = versions(earlier, direction)
    calm = Site()
    wanted = expected(calm.run(post(calm, TODAY, eventful)))
    for boundary in itertools.count():
        # GIVEN a run that a version brings as far as this boundary, where its worker dies
        site = Site(crash_at=boundary)
        try:
            run_id = post(site, first, eventful)
            result = finish(site, run_id, first)
        except Crash:
            # WHEN the other version takes over, with the same request and the events that come again
            site.crash_at = -1
            result = finish(site, post(site, second, eventful), second)
        else:
            assert boundary > 60
            assert result == wanted
            return
        # THEN the run ends as it would have
        assert result == wanted, f"boundary {boundary}"
        sound(site)


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_what_one_version_left_the_others_sweeps_finish_without_any_event(
    earlier: Earlier, eventful: int, direction: str
) -> None:
    first, second = versions(earlier, direction)
    for steps in range(8):
        site = Site()
        run_id = post(site, first, eventful)
        wanted = expected(site.run(run_id))
        for _ in range(steps):
            step(site, run_id, first)
        for _ in range(60):
            attempt = site.run(run_id).live_attempt
            if attempt is None:
                break
            if attempt.status == "RUNNING":
                come_to_its_end(site, attempt)
            sweep(site, second)
        assert outcome(site.run(run_id)) == wanted, f"after {steps} steps"
        sound(site)


def test_a_thousand_runs_in_flight_that_both_versions_work_on_at_random_end_as_they_should(earlier: Earlier) -> None:
    # GIVEN a thousand runs, each begun by either version
    chosen, site = random.Random(20261121), Site()
    both: tuple[Version, Version] = (earlier, TODAY)
    runs = [post(site, chosen.choice(both), seed) for seed in range(IN_FLIGHT)]
    wanted = {run_id: expected(site.run(run_id)) for run_id in runs}
    in_flight = dict.fromkeys(runs, "")
    crashes = 0
    # WHEN every event comes to either version, ten messages at a time and some of them twice, and workers die
    for _ in range(200):
        work: dict[tuple[int, str], list[Event]] = {}
        for run_id in list(in_flight):
            event = next_event(site, in_flight, run_id)
            if event:
                queue = work.setdefault((chosen.randrange(2), event[0]), [])
                queue += [event[1]] * (2 if chosen.random() < 0.05 else 1)
        for (version, function), events in work.items():
            for start in range(0, len(events), 10):
                site.crash_at = site.boundaries + chosen.randrange(60) if chosen.random() < 0.1 else -1
                try:
                    both[version].invoke(site, function, batch(*events[start : start + 10]), chosen.randrange(10**6))
                except Crash:
                    crashes += 1
        site.crash_at = -1
        if not in_flight:
            break
        sweep(site, chosen.choice(both))
    # THEN each ends as the rules say, and no job was started twice
    for run_id in runs:
        assert outcome(site.run(run_id)) == wanted[run_id]
    sound(site)
    assert crashes > 20
    ends = {status: sum(1 for result in wanted.values() if result["status"] == status) for status in RunStatus}
    assert min(ends[RunStatus.SUCCEEDED], ends[RunStatus.FAILED]) > IN_FLIGHT / 20


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_both_versions_agree_on_a_real_table_too(earlier: Earlier, eventful: int, direction: str) -> None:
    first, second = versions(earlier, direction)
    with mock_aws():
        table = Aws(None).ledger_table()
        site = Site(dynamodb=table.client, table=table.name)
        run_id = post(site, first, eventful)
        wanted = expected(site.run(run_id))
        turns = itertools.cycle([first, second])
        for version in itertools.islice(turns, 60):
            if not step(site, run_id, version):
                break
        assert outcome(site.run(run_id)) == wanted
        sound(site)


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_the_same_request_is_the_same_run_for_both_versions(earlier: Earlier, direction: str) -> None:
    first, second = versions(earlier, direction)
    site = Site()
    assert post(site, first, 7) == post(site, second, 7)


# What is not promised: what the earlier version does with what it cannot know


def test_a_run_that_is_being_cancelled_waits_for_the_version_that_knows_how(earlier: Earlier, eventful: int) -> None:
    # GIVEN a run that this version is asked to cancel
    site = Site()
    run_id = post(site, TODAY, eventful)
    step(site, run_id, TODAY)
    path = {"run_id": run_id}
    TODAY.invoke(site, "change_run", http_event("POST /runs/{run_id}/cancel", {}, path=path), 1)
    assert site.run(run_id).status is RunStatus.CANCELLING
    before = site.items(run_id)
    # WHEN the earlier version gets its events and sweeps
    attempt = site.run(run_id).live_attempt
    assert attempt is not None
    event = ended(attempt)[1]
    answer = earlier.invoke(site, "record_job_state", batch(event), 1)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}, "given back, for whoever can use it"
    site.clock.advance(minutes=5)
    swept = earlier.invoke(site, "reconcile_jobs", {}, 1)
    # THEN it changes nothing but when to look again, and says what it met
    assert len(swept["troubles"]) == 1
    assert [_but_looks(item) for item in site.items(run_id)] == [_but_looks(item) for item in before]
    # AND this version ends it
    sweep(site, TODAY)
    assert site.run(run_id).status is RunStatus.CANCELLED
    sound(site)


def test_a_job_that_outlived_its_run_is_watched_on_by_the_version_that_knows_how(
    earlier: Earlier, eventful: int
) -> None:
    # GIVEN a run whose deadline has passed, and whose job nobody has seen stopped yet
    site = Site()
    run_id = post(site, TODAY, eventful)
    step(site, run_id, TODAY)
    site.clock.advance(hours=2)
    TODAY.invoke(site, "reconcile_jobs", {}, 1)
    assert site.run(run_id).status is RunStatus.FAILED
    live = site.run(run_id).live_attempt
    assert live is not None
    # WHEN the earlier version sweeps THEN it leaves the run as it is, and its watch to this version
    assert sweep(site, earlier) == 0
    assert site.run(run_id).live_attempt is not None
    sweep(site, TODAY)
    assert site.run(run_id).live_attempt is None
    sound(site)


def _but_looks(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"next_check_at", "check_at"}}
