"""``make chaos``: kill workers many times during runs, and write what became of it to benchmarks/results/chaos.json."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Row, write
from tests.chaos.storm import Report, Settings, Storm

RUNNERS, SCORERS = 6, 3
PACE = 0.6
PATIENCE = 900.0
VISIBILITY = {"ekiden-Score": 60}
"""Score queues hand a killed worker's messages out again after a minute, not after the 12 and 30 of the template."""
SWEEP = 10.0
"""Seconds between calls of the reconciler, besides its schedule: a kill a second hits every other sweep of a minute."""


def main() -> int:
    """Exit code 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of whom to kill and when")
    parser.add_argument("--runners", type=int, default=RUNNERS, help="users who run pipelines")
    parser.add_argument("--scorers", type=int, default=SCORERS, help="users who score pairs, at most as many")
    parser.add_argument("--pace", type=float, default=PACE, help="mean seconds between two kills")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds that a request may take")
    parser.add_argument("--keep", type=Path, default=Path("build/chaos"), help="where evidence goes, if there is need")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))  # whatever runs is ended before
    settings = Settings(
        options.kills,
        options.seed,
        options.runners,
        options.scorers,
        options.pace,
        options.patience,
        VISIBILITY,
        SWEEP,
        keep=options.keep,
    )
    with tempfile.TemporaryDirectory(prefix="ekiden-chaos-") as folder:
        report = Storm(settings, Path(folder), say).run()
    for violation in report.violations:
        print(f"VIOLATED  {violation}", file=sys.stderr)
    write("chaos", rows(report), **details(settings, report))
    return 1 if report.violations else 0


def rows(report: Report) -> list[Row]:
    """The figures."""
    found = report.verdict
    return [
        Row("Kills (`kill -9` of real workers)", sum(report.kills.values()), "", 1000, "higher"),
        Row("Runs and score requests lost or not ended", len(found.lost) + len(report.troubles), "", 0, "lower"),
        Row("Jobs started twice", len(found.twice), "", 0, "lower"),
        Row("Runs out of order", len(found.disordered), "", 0, "lower"),
        Row("Jobs and processes left running", len(found.running), "", 0, "lower"),
    ]


def details(settings: Settings, report: Report) -> dict[str, object]:
    """What a reader needs beside the figures."""
    found = report.verdict
    return {
        "seed": settings.seed,
        "users": settings.runners + settings.scorers,
        "mean_seconds_between_kills": settings.pace,
        "seconds": round(report.seconds),
        "visibility_seconds": dict(settings.visibility),
        "seconds_between_sweeps": settings.sweep,
        "kills": {kind.value: report.kills[kind] for kind in sorted(report.kills)},
        "workers_killed_by_function": dict(sorted(report.functions.items())),
        "invocations_cut_off": report.cut_off,
        "runs": found.runs,
        "requests": found.requests,
        "jobs": found.jobs,
        "attempts": found.attempts,
        "commands_repeated_after_a_kill": report.repeated,
        "commands_repeated_after_an_error": report.refused,
        "messages_sent_again_by_an_operator": report.redriven,
        "messages_parked": report.parked,
        "patience_seconds": round(report.patience),
        "run_seconds": {
            "median": round(statistics.median(report.run_seconds), 1) if report.run_seconds else None,
            "max": round(report.run_seconds[-1], 1) if report.run_seconds else None,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
