"""G2: a crash before and after every I/O boundary of every handler, singly and in pairs; every order of events."""

from __future__ import annotations

import pytest

from tests.fakes.functions import FUNCTIONS
from tests.simulation.boundaries import SCENARIOS, Trial, pairs_of_crashes, play, single_crashes, trials
from tests.simulation.orders import orders, play_orders, second_attempt
from tests.simulation.runner import parallel
from tests.simulation.story import Story

CHUNK = 100


def told(trial: Trial) -> str:
    """A trial that broke something, as a story."""
    story = Story()
    play(SCENARIOS[trial.scenario], *trial.crashes, story=story)
    return f"{story.text()}\n\n{trial.scenario}, crashes at {trial.crashes}: {trial.violations}"


def test_a_crash_at_any_boundary_breaks_nothing() -> None:
    tried = list(trials(single_crashes()))
    assert len(tried) > 1_000
    broken = [trial for trial in tried if trial.violations]
    assert not broken, f"{len(broken)} of {len(tried)} broke something\n" + told(broken[0])


def test_a_crash_at_any_two_boundaries_breaks_nothing() -> None:
    tried = list(trials(pairs_of_crashes()))
    assert len(tried) > 5_000
    broken = [trial for trial in tried if trial.violations]
    assert not broken, f"{len(broken)} of {len(tried)} broke something\n" + told(broken[0])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_without_a_crash_breaks_nothing(name: str) -> None:
    assert not play(SCENARIOS[name]).violations


def test_the_scenarios_come_through_every_handler() -> None:
    passed = {point[0] for scenario in SCENARIOS.values() for point in play(scenario).points}
    assert passed == set(FUNCTIONS)


def test_both_sides_of_every_call_are_boundaries() -> None:
    # Reading an object in pieces has one boundary only: it has no effect that could be lost after it.
    points = {point for scenario in SCENARIOS.values() for point in play(scenario).points}
    sides = {(function, call, moment) for function, call, moment, _ in points if call != "FakeObjects.chunks"}
    for function, call, _ in sides:
        assert {(function, call, "before"), (function, call, "after")} <= sides


def test_every_order_of_up_to_five_events_breaks_nothing() -> None:
    every = list(orders())
    assert len(every) > 5_000
    chunks = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    broken = [found for chunk in parallel(play_orders, chunks) for found in chunk]
    assert not broken, f"{len(broken)} of {len(every)} orders broke something: {broken[:3]}"


def test_the_orders_begin_where_a_second_attempt_waits() -> None:
    run = second_attempt().run
    (live,) = [attempt for attempt in run.attempts if attempt.ended_at is None]
    assert (live.stage.value, live.number) == ("train", 2)
