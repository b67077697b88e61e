"""The simulator's figures as benchmark rows."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from benchmarks.common import Row, write
from tests.simulation.detection import Detection
from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import PLAN, Outcome, Tally, dismiss, simulate_all, tasks
from tests.simulation.weather import HARSH, MILD
from tests.simulation.workload import Plan

R = TypeVar("R")
SECONDS_PER_10_000 = 120.0
CPU_PER_RUN = 24.0
CANCELLING = Plan(cancels=1.0, uploads=0.0, scores=0.0)
"""Every run is cancelled at some time."""


def measure(do: Callable[[], R]) -> tuple[R, float]:
    """What ``do`` makes, and the CPU seconds that its worker processes took."""
    dismiss()
    before = _cpu()
    made = do()
    dismiss()
    return made, _cpu() - before


def _cpu() -> float:
    """CPU seconds of the worker processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def simulation_rows(tallies: Mapping[str, Tally], seconds: float, cpu: float) -> list[Row]:
    """Rows of a large simulation."""
    runs = sum(tally.runs for tally in tallies.values())
    return [
        *(
            Row(f"runs that broke an invariant, {name}, of {tally.runs:,}", tally.broken_runs, "", 0, "lower")
            for name, tally in sorted(tallies.items())
        ),
        Row("time for 10,000 simulated runs", seconds / runs * 10_000, "s", SECONDS_PER_10_000, "lower"),
        Row("CPU per simulated run", cpu / runs * 1000, "ms", CPU_PER_RUN, "lower"),
    ]


def detection_rows(found: Detection) -> list[Row]:
    """Rows of G4."""
    return [
        Row(f"end of a job known after, at most, {found.most_active:,} active runs", found.latest, "s", 120, "lower"),
        Row("list and describe calls meanwhile", found.calls_per_second, "1/s", 1, "lower"),
        Row("describes per run, median", found.describes_per_run, "", 10, "lower"),
    ]


def cancels(wanted: int) -> tuple[int, list[Outcome]]:
    """At least ``wanted`` cancels taken by live runs, half of them in harsh weather, and the seeds that failed."""
    taken, failing, first = 0, list[Outcome](), 0
    while taken < wanted:
        both = chain(*(tasks(weather.name, wanted // 2, first, plan=CANCELLING) for weather in (MILD, HARSH)))
        for tally in simulate_all(both).values():
            taken += tally.counts["cancelled while live"]
            failing += tally.failing
        first += wanted // 2 // CANCELLING.runs
    return taken, failing


def cancel_rows(taken: int, failing: Sequence[Outcome]) -> list[Row]:
    """Rows of G7."""
    broken = sum(outcome.broken_runs for outcome in failing)
    return [Row(f"runs with a job running two sweeps after one of {taken:,} cancels", broken, "", 0, "lower")]


def report(name: str, rows: Sequence[Row], *, save: bool, **more: object) -> None:
    """Print the rows; with ``save`` they are written to ``benchmarks/results`` too."""
    if save:
        print(f"written: {write(name, rows, **more)}")
        return
    for row in rows:
        print(f"{row.figure}: {row.value:,.4g} {row.unit}")


def teeth(runs: int) -> tuple[list[Row], bool]:
    """A row per remedy and weather: runs in 10,000 that break an invariant without it. And whether all bite.

    Beside it the same seeds with all remedies.
    """
    rows, bite = [], True
    whole = _rates(runs, None)
    for mutant in MUTANTS.values():
        rates = _rates(runs, mutant.name)
        for name, rate in sorted(rates.items()):
            figure = f"without {mutant.name} ({mutant.what}), {name}: runs in 10,000 that break an invariant"
            rows.append(Row(figure, rate, "", 1, "higher", {"with all remedies": whole[name]}))
        bite &= any(rates.values())
    return rows, bite


def _rates(runs: int, mutant: str | None) -> dict[str, float]:
    both = chain(*(tasks(weather.name, runs, mutant=mutant) for weather in (MILD, HARSH)))
    return {name: tally.broken_runs / tally.runs * 10_000 for name, tally in simulate_all(both).items()}


def report_teeth(runs: int, *, save: bool) -> bool:
    """Measure all mutants, print what was found; whether the suite fails for each."""
    rows, bite = teeth(runs)
    report("teeth", rows, save=save, runs_per_row=runs, runs_per_seed=PLAN.runs)
    return bite
