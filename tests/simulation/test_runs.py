"""G1: ten thousand seeded runs through the shipped handlers, half of them mild, half harsh."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from tests.fakes.functions import ROOT
from tests.simulation.figures import CPU_PER_RUN, measure
from tests.simulation.runner import Outcome, Tally, retell, simulate, simulate_all, tasks
from tests.simulation.story import Story
from tests.simulation.weather import CALM, HARSH, WEATHERS

EACH = 5_000


def regressions() -> list[str]:
    """Seeds that found something once."""
    lines = (Path(__file__).parent / "regressions.txt").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", regressions())
def test_a_seed_that_found_something_once_finds_nothing_any_more(name: str) -> None:
    weather, _, seed = name.partition("/")
    outcome = simulate(WEATHERS[weather], int(seed))
    assert not outcome.violations, retell(outcome)


@pytest.fixture(scope="module")
def tallies_and_cpu() -> tuple[dict[str, Tally], float]:
    """Ten thousand runs on two cores."""
    return measure(lambda: simulate_all(chain(tasks("mild", EACH), tasks("harsh", EACH))))


@pytest.mark.parametrize("weather", ["mild", "harsh"])
def test_five_thousand_runs_keep_every_invariant(weather: str, tallies_and_cpu: tuple[dict[str, Tally], float]) -> None:
    tally = tallies_and_cpu[0][weather]
    assert tally.runs >= EACH
    assert not tally.failing, "\n\n".join(retell(outcome) for outcome in tally.failing[:2])


def test_the_storm_was_one(tallies_and_cpu: tuple[dict[str, Tally], float]) -> None:
    # GIVEN the harsh runs WHEN one counts what happened THEN nothing that may go wrong was left out
    counts = tallies_and_cpu[0]["harsh"].counts
    assert counts["SUCCEEDED"] > EACH / 4
    assert counts["FAILED"] > EACH / 20
    assert counts["CANCELLED"] > EACH / 50
    for fault in ("crash", "error", "pause", "time-out", "zombie", "lost event", "duplicate", "late", "dead letter"):
        assert counts[fault] > 100, fault


def test_ten_thousand_runs_fit_their_budget(tallies_and_cpu: tuple[dict[str, Tally], float]) -> None:
    tallies, cpu = tallies_and_cpu
    per_run = cpu / sum(tally.runs for tally in tallies.values()) * 1000
    assert per_run <= CPU_PER_RUN, f"{per_run:.1f} ms of CPU per run: two cores need {per_run * 5:.0f} s for 10,000"


def test_a_calm_run_goes_through_every_stage() -> None:
    story = Story()
    outcome = simulate(CALM, 0, story=story)
    assert not outcome.violations
    assert outcome.counts["SUCCEEDED"] == outcome.runs
    assert "deploy succeeded" in story.text()


def test_a_seed_tells_the_same_story_each_time() -> None:
    first, second = Story(), Story()
    simulate(HARSH, 1, story=first)
    simulate(HARSH, 1, story=second)
    assert first.lines == second.lines


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    # GIVEN two processes whose hashes of strings differ WHEN they simulate a seed THEN they tell the same
    def told(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "harsh/2"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert told("1") == told("2")


def test_a_failing_seed_is_told_with_the_command_that_repeats_it() -> None:
    told = retell(Outcome("harsh", 2, 5, []))
    assert "repeat it with: make simulate SEED=harsh/2" in told
    assert "** crash" in told
    assert Counter(line.split()[1] for line in told.splitlines() if line.startswith("0:"))["ledger"] > 20
