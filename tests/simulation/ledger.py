"""The ledger in virtual time: its indexes lag behind, its stream carries the outbox away."""

from __future__ import annotations

from datetime import datetime

from ekiden.domain.model import Attempt, Run
from ekiden.domain.scores import ScoreRequest
from tests.fakes import InMemoryLedger, InMemoryScoreLedger
from tests.fakes.faults import Faults
from tests.simulation.kernel import Kernel
from tests.simulation.weather import Sky


class LaggingLedger(InMemoryLedger):
    """Implements ``ports.Ledger``. What is looked up by index is as old as DynamoDB's secondary indexes may be."""

    def __init__(self, kernel: Kernel, sky: Sky, faults: Faults) -> None:
        super().__init__(faults)
        self._kernel, self._sky = kernel, sky
        self._index: dict[str, list[tuple[Run, Attempt]]] = {}

    def postpone(self, run_id: str, seen: Attempt, until: datetime) -> None:
        """See ``ports.Ledger.postpone``."""
        super().postpone(run_id, seen, until)
        self.moved(run_id)

    def moved(self, run_id: str) -> None:
        """The run was written: the indexes learn of it, by and by."""
        lag = self._sky.weather.index_lag
        if lag:
            self._kernel.after(lag * self._sky.indexes.draw() ** 3, lambda: self._learn(run_id))
        else:
            self._learn(run_id)

    def run_now(self, run_id: str) -> Run | None:
        """The run as it is, for those who watch."""
        return self._runs.get(run_id)

    def runs_now(self) -> list[Run]:
        """Every run as it is, for those who watch."""
        return list(self._runs.values())

    def _learn(self, run_id: str) -> None:
        run = self._runs[run_id]
        live = [(run, attempt) for attempt in run.attempts if attempt.is_live]
        if live:
            self._index[run_id] = live
        else:
            self._index.pop(run_id, None)

    def _live(self) -> list[tuple[Run, Attempt]]:
        return [entry for live in self._index.values() for entry in live]


class WatchedScores(InMemoryScoreLedger):
    """Implements ``ports.ScoreLedger``."""

    def requests_now(self) -> list[ScoreRequest]:
        """Every request as it is, for those who watch."""
        return list(self._requests.values())
