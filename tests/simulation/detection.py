"""G4: how soon a lost terminal event is repaired, and what that costs, with a thousand active runs.

One job event in twenty is lost; only the reconciler can know. Calls are counted as the adapter makes them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median

from ekiden.domain.model import Attempt, AttemptStatus, JobKind, JobRef
from ekiden.ports import Deployment, JobReport
from tests.simulation.platform import Jobs, Platform
from tests.simulation.runner import verdict
from tests.simulation.simulation import Options, Simulation
from tests.simulation.weather import Weather
from tests.simulation.workload import UNDISTURBED, Workload

ACTIVE = 1_000
PAGE = 100
"""Entries of a list call."""
DESCRIBES_OF_A_DEPLOYMENT = 3
"""The model, the endpoint's configuration, the endpoint."""
JOBS = Jobs(shortest=300.0, longest=3_600.0)
WITHIN = 900.0
"""Seconds in which all runs are submitted."""
LOSSY = Weather("lossy", drop=0.05, multiple=0.05, duplicate=0.01, index_lag=1.0)


@dataclass(frozen=True, slots=True)
class Detection:
    """What was measured."""

    most_active: int
    """Runs under way at the same time."""
    lost: int
    """Events that were lost."""
    latest: float
    """Seconds between the end of a job and its record in the ledger, at most."""
    calls_per_second: float
    """List and describe calls while runs were under way, on average."""
    describes_per_run: float
    """Median."""
    violations: list[str]


class CountingPlatform(Platform):
    """Counts the calls that describe and list, as the adapter would make them."""

    lists = 0
    describes: Counter[str]

    def describe(self, attempt: Attempt) -> JobReport | None:
        """See ``ports.Jobs.describe``."""
        self.describes[attempt.job] += 1
        return super().describe(attempt)

    def deploy(self, deployment: Deployment) -> None:
        """See ``ports.Jobs.deploy``."""
        self.describes[deployment.name] += DESCRIBES_OF_A_DEPLOYMENT
        super().deploy(deployment)

    def ended_since(self, moment: datetime) -> frozenset[JobRef]:
        """See ``ports.Jobs.ended_since``."""
        ended = super().ended_since(moment)
        kinds = Counter(ref.kind for ref in ended)
        self.lists += sum(max(1, -(-kinds[kind] // PAGE)) for kind in JobKind)
        return ended


def detect(runs: int = ACTIVE, seed: int = 0) -> Detection:
    """Simulate ``runs`` runs at the same time."""
    simulation = Simulation(LOSSY, seed, options=Options(jobs=JOBS, platform=CountingPlatform))
    platform = simulation.platform
    assert isinstance(platform, CountingPlatform)
    platform.describes = Counter()
    plan = replace(UNDISTURBED, runs=runs, within=WITHIN, stage_hours=4.0, endpoints=runs)
    workload = Workload(simulation, plan)
    workload.begin()
    simulation.run()
    runs_now = simulation.ledger.runs_now()
    described: Counter[str] = Counter()
    for creation in platform.creations:
        described[creation.run_id] += platform.describes[creation.name]
    last = max((run.ended_at for run in runs_now if run.ended_at), default=simulation.kernel.clock())
    took = (last - min(run.created_at for run in runs_now)).total_seconds()
    calls = platform.lists + sum(platform.describes.values())
    return Detection(
        most_active=_most_active(simulation),
        lost=simulation.sky.counts["lost event"],
        latest=max(_delays(simulation)),
        calls_per_second=calls / took,
        describes_per_run=median(described.values()),
        violations=verdict(simulation, workload),
    )


def _delays(simulation: Simulation) -> list[float]:
    """Seconds between the end of each job or update and the ledger's knowing it."""
    delays = []
    for transition in simulation.ledger.transitions:
        before = {(a.stage, a.number): a for a in transition.before.attempts} if transition.before else {}
        for attempt in transition.after.attempts:
            earlier = before.get((attempt.stage, attempt.number))
            if attempt.status is AttemptStatus.SUCCEEDED and earlier and earlier.is_live and attempt.ended_at:
                delays.append((transition.after.updated_at - attempt.ended_at).total_seconds())
    return delays


def _most_active(simulation: Simulation) -> int:
    moves = [(run.created_at, 1) for run in simulation.ledger.runs_now()]
    moves += [(run.ended_at, -1) for run in simulation.ledger.runs_now() if run.ended_at]
    active = most = 0
    for _, change in sorted(moves):
        active += change
        most = max(most, active)
    return most
