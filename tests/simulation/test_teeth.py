"""G3: with any one remedy switched off, the suite fails. ``make teeth`` measures how often."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import retell, simulate
from tests.simulation.weather import HARSH

SEEDS = range(60)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_this_remedy_the_suite_fails(name: str) -> None:
    mutant = MUTANTS[name]
    for seed in SEEDS:
        outcome = simulate(HARSH, seed, mutant=mutant)
        if outcome.violations:
            break
    else:
        pytest.fail(f"no seed of {SEEDS} notices that {mutant.what}")
    # The same seed with all remedies keeps every invariant: it is the remedy that was missing.
    whole = simulate(HARSH, seed)
    assert not whole.violations, retell(whole)


def test_all_six_remedies_have_a_mutant() -> None:
    assert set(MUTANTS) == {"fence", "condition", "name", "reconciler", "outbox", "deadline"}
