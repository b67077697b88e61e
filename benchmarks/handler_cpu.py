"""CPU time that the shipped handlers themselves need per transition.

The handlers run whole (decoding, the use case, the rules, encoding, logging) on in-memory ports, so AWS calls cost
next to nothing; what the fakes cost is counted against us.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping
from typing import Any

from ekiden.domain.model import RunStatus, Stage
from tests.fakes.world import World

RUNS = 100


class MeasuredWorld(World):
    """Notes the CPU time of every handler call."""

    def __init__(self) -> None:
        super().__init__()
        self.milliseconds: list[float] = []

    def call(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """As ``World.call``, timed."""
        start = time.process_time()
        answer = super().call(function, event)
        self.milliseconds.append((time.process_time() - start) * 1000)
        return answer


def cpu_milliseconds(runs: int = RUNS) -> list[float]:
    """CPU milliseconds of each handler call that moves a run: two a stage, start and end.

    Raises:
        RuntimeError: a run did not go through: the figures would be of something else.
    """
    measured: list[float] = []
    for number in range(runs + 1):
        world = MeasuredWorld()
        with contextlib.redirect_stdout(io.StringIO()):
            run_id = world.submit()
            for stage in Stage:
                world.succeed(run_id, stage)
        if world.run(run_id).status is not RunStatus.SUCCEEDED:
            raise RuntimeError(f"run {run_id} ended {world.run(run_id).status}")
        if number:  # the first loads the handlers
            measured += world.milliseconds
    return measured


def main() -> None:
    """Print the figures."""
    values = sorted(cpu_milliseconds())
    summary: Mapping[str, float] = {"p50": values[len(values) // 2], "p99": values[int(len(values) * 0.99)]}
    print({name: round(value, 2) for name, value in summary.items()})


if __name__ == "__main__":
    main()
