"""``python -m tests.simulation``: many seeds with progress and figures, or one seed as a story.

--runs 1000000 [--json]       half of them mild, half harsh
--seed harsh/267 [--calls]    the story of one seed
--teeth [--json]              every remedy switched off, one at a time
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from tests.simulation.detection import detect
from tests.simulation.figures import (
    cancel_rows,
    cancels,
    detection_rows,
    measure,
    report,
    report_teeth,
    simulation_rows,
)
from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import PLAN, Outcome, Tally, Task, dismiss, retell, simulate_all, tasks
from tests.simulation.weather import WEATHERS

CANCELS = 1_000
RUNS = 10_000


def main() -> int:
    """The exit code: 0 if every invariant held (for ``--teeth``: if every mutant was found)."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="how many runs to simulate")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", help="tell one seed as a story: mild/7, harsh/7")
    parser.add_argument("--mutant", choices=MUTANTS, help="with --seed: switch a remedy off")
    parser.add_argument("--calls", action="store_true", help="with --seed: show every I/O boundary")
    parser.add_argument("--teeth", action="store_true", help="show that each remedy is needed")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/…")
    options = parser.parse_args()
    if options.seed:
        return _one(options.seed, options.mutant, options.calls)
    if options.teeth:
        return 0 if report_teeth(options.runs, save=options.json) else 1
    return _many(options.runs, options.first, options.json)


def _one(seed: str, mutant: str | None, calls: bool) -> int:
    weather, _, number = seed.partition("/")
    if weather not in WEATHERS or not number.isdigit():
        print(f"{seed} is no seed; write it as mild/7 or harsh/7", file=sys.stderr)
        return 2
    told = retell(Outcome(weather, int(number), 0, []), mutant=MUTANTS[mutant] if mutant else None, calls=calls)
    print(told)
    return 0 if ": 0 violations" in told else 1


def _many(runs: int, first: int, save: bool) -> int:
    started, shown = time.monotonic(), [0.0]

    def progress(tallies: dict[str, Tally]) -> None:
        now = time.monotonic()
        if now - shown[0] > 2.0:
            shown[0] = now
            done = sum(tally.runs for tally in tallies.values())
            failing = sum(len(tally.failing) for tally in tallies.values())
            speed = done / (now - started)
            left = max(runs - done, 0) / speed
            line = f"{done:>9,} runs  {failing} failing seeds  {speed:,.0f} runs/s  {left:,.0f} s left"
            print(line, file=sys.stderr, flush=True)

    tallies, cpu = measure(lambda: simulate_all(_both(runs, first), progress=progress))
    failing = [outcome for tally in tallies.values() for outcome in tally.failing]
    for outcome in failing[:3]:
        print(retell(outcome))
    for outcome in failing:
        print(f"{outcome.name}: {outcome.violations[0]}")
    rows = simulation_rows(tallies, time.monotonic() - started, cpu)
    if save:
        taken, cancelling = cancels(CANCELS)
        failing += cancelling
        rows += detection_rows(detect()) + cancel_rows(taken, cancelling)
    name = "simulation" if runs == RUNS else f"simulation-{runs}"
    report(name, rows, save=save, runs_per_seed=PLAN.runs, first_seed=first)
    return 1 if failing else 0


def _both(runs: int, first: int) -> Iterator[Task]:
    yield from tasks("mild", runs // 2, first)
    yield from tasks("harsh", runs - runs // 2, first)


if __name__ == "__main__":
    code = main()
    dismiss()
    sys.exit(code)
