"""What is not promised: the earlier version does not know what is new, and harms nothing where it meets it."""

from __future__ import annotations

from typing import Any

import pytest

from ekiden.domain.model import RunStatus, Stage
from ekiden.domain.transitions import JobStatus
from tests.fakes.events import http_event
from tests.upgrade.driving import TODAY, finish, post, seed_with, sound, step, sweep
from tests.upgrade.versions import Earlier, Site, batch, ended, ready


def change(site: Site, run_id: str, act: str, **body: Any) -> None:
    """Ask this version to cancel or retry a run."""
    event = http_event(f"POST /runs/{{run_id}}/{act}", body, path={"run_id": run_id})
    reply = TODAY.invoke(site, "change_run", event, 1)
    assert reply["statusCode"] == 202, reply["body"]


def test_a_run_that_is_being_cancelled_waits_for_the_version_that_knows_how(earlier: Earlier, eventful: int) -> None:
    # GIVEN a run that this version is asked to cancel
    site = Site()
    run_id = post(site, TODAY, eventful)
    step(site, run_id, TODAY)
    change(site, run_id, "cancel")
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


def test_a_run_that_was_retried_where_it_ended_is_finished_by_the_earlier_version(earlier: Earlier) -> None:
    seed = seed_with((Stage.EXPORT, JobStatus.SUCCEEDED), (Stage.PROCESS, JobStatus.FAILED))
    site = Site()
    run_id = post(site, TODAY, seed)
    assert finish(site, run_id, TODAY)["status"] == "FAILED"
    change(site, run_id, "retry")
    result = finish(site, run_id, earlier)
    assert [job.split("-")[1:] for job, *_ in result["attempts"]][:3] == [
        ["export", "1"],
        ["process", "1"],
        ["process", "2"],
    ]
    sound(site)


def test_a_run_that_was_repeated_from_an_earlier_stage_fails_loudly_in_the_earlier_version(
    earlier: Earlier, eventful: int
) -> None:
    site = Site()
    run_id = post(site, TODAY, eventful)
    assert finish(site, run_id, TODAY)["status"] == "SUCCEEDED"
    change(site, run_id, "retry", **{"from": "train"})
    result = finish(site, run_id, earlier)
    assert (result["status"], result["failed"][1].code) == ("FAILED", "NAME_TAKEN")
    sound(site)


@pytest.mark.parametrize("limits", [{"attempts": 5}, {"run_hours": 9}, {"stages": {"train": {"hours": 2}}}], ids=str)
def test_a_run_with_a_new_limit_waits_for_the_version_that_knows_it(
    earlier: Earlier, eventful: int, limits: dict[str, Any]
) -> None:
    # GIVEN a run whose spec sets a limit that the earlier version does not know
    site = Site()
    run_id = post(site, TODAY, eventful, limits=limits)
    (attempt,) = site.run(run_id).attempts
    told = ready(site.told(run_id), attempt)
    assert told is not None
    # WHEN the earlier version gets its event THEN it starts nothing and gives the event back
    given_back = {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert earlier.invoke(site, told[0], batch(told[1]), 1) == given_back
    assert site.sagemaker.created == []
    # AND this version brings the run to its end
    assert finish(site, run_id, TODAY)["status"] == "SUCCEEDED"
    sound(site)


def _but_looks(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"next_check_at", "check_at"}}
