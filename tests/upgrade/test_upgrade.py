"""A run that one version began is finished by its neighbour, forwards and back: the earlier code is the real one."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from moto import mock_aws

from ekiden.domain.model import RunStatus
from tests.fakes.aws import Aws
from tests.fakes.faults import Crash
from tests.upgrade.driving import TODAY, come_to_its_end, expected, finish, outcome, post, sound, step, sweep, versions
from tests.upgrade.versions import ARTEFACT, Earlier, Event, Site, Version, batch, ended, ready

IN_FLIGHT = 1_000
MAX_ARTEFACT_BYTES = 200_000


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
