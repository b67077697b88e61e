"""What sweeps cost with a thousand live attempts, in calls that the real adapter makes, and how soon they repair."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.domain.model import Stage
from tests.fakes import World
from tests.fakes.functions import handler_of
from tests.fakes.sagemaker import InMemorySageMaker

LIVE = 1_000
MINUTES = 50
REPAIRED_WITHIN = timedelta(seconds=120)
SWEEP = 60.0


class Account(World):
    """The world with the real adapter on a SageMaker in memory that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.sagemaker = InMemorySageMaker(self.clock)
        settings = SageMakerSettings("image", "arn:aws:iam::000000000000:role/ekiden-JobRole")
        self.parts.__dict__["jobs"] = SageMakerJobs(self.sagemaker, settings)  # type: ignore[arg-type]

    def looks(self) -> int:
        """Calls that list and describe, so far."""
        return sum(n for call, n in self.sagemaker.calls.items() if call.startswith(("list_", "describe_")))


@dataclass(slots=True)
class Fleet:
    """Runs whose jobs last from ``shortest`` to ``longest`` minutes, one after the other, retried from the start."""

    world: Account
    chosen: random.Random
    lost: float
    """Share of job events that nobody gets."""
    ends: dict[str, datetime] = field(default_factory=dict)
    """When each run's current job ends."""
    waiting: dict[str, datetime] = field(default_factory=dict)
    """Since when the end of a run's job is not known because its event was lost."""
    repairs: list[timedelta] = field(default_factory=list)

    def begin(self, shortest: float, longest: float) -> None:
        for _ in range(LIVE):
            run_id = self.world.submit()
            self.start(run_id, shortest, longest)

    def start(self, run_id: str, shortest: float, longest: float) -> None:
        run = self.world.run(run_id)
        stage = run.current_stage
        assert stage is not None
        self.world.parts.start_stage(run_id, stage, run.stage(stage).attempt, actor="test")
        lasts = timedelta(minutes=self.chosen.uniform(shortest, longest))
        self.ends[run_id] = self.world.clock.now() + lasts

    def a_minute(self, shortest: float, longest: float) -> None:
        """Jobs end; most runs are told so at once and go on with the next stage, the others wait for a sweep."""
        now = self.world.clock.advance(seconds=SWEEP)
        for run_id in [run_id for run_id, end in self.ends.items() if end <= now]:
            run = self.world.run(run_id)
            stage = run.current_stage
            assert stage is not None
            del self.ends[run_id]
            self.world.sagemaker.end(self.world.job(run_id, stage), "Completed")
            if self.chosen.random() < self.lost:
                self.waiting[run_id] = now
            else:
                self.world.parts.observe_job(run_id, stage, run.stage(stage).attempt, actor="event")
                self.go_on(run_id, shortest, longest)

    def go_on(self, run_id: str, shortest: float, longest: float) -> None:
        if self.world.run(run_id).current_stage is Stage.DEPLOY:  # a fleet of jobs: the next run takes its place
            self.world.parts.cancel_run(run_id, reason="enough", actor="test")
            run_id = self.world.submit()
        self.start(run_id, shortest, longest)

    def after_the_sweep(self, shortest: float, longest: float) -> None:
        """Runs whose lost event the sweep has made up for go on."""
        now = self.world.clock.now()
        for run_id, since in list(self.waiting.items()):
            if self.world.run(run_id).live_attempt is None or "STARTING" in {
                state.status for state in self.world.run(run_id).stages
            }:
                self.repairs.append(now + timedelta(seconds=SWEEP) - since)
                del self.waiting[run_id]
                self.go_on(run_id, shortest, longest)


@pytest.mark.parametrize(("shortest", "longest"), [(5, 60), (30, 180)], ids=["short jobs", "long jobs"])
def test_a_thousand_live_attempts_cost_less_than_a_call_a_second(shortest: float, longest: float) -> None:
    budget = sys.modules[handler_of("reconcile_jobs").__module__].BUDGET
    assert budget <= SWEEP
    # GIVEN a thousand runs under way, one job event in twenty being lost
    world = Account()
    fleet = Fleet(world, random.Random(7), lost=0.05)
    fleet.begin(shortest, longest)
    costs = []
    # WHEN time goes by, with a sweep every minute
    for _ in range(MINUTES):
        fleet.a_minute(shortest, longest)
        before = world.looks()
        world.parts.reconcile_jobs(budget=budget, actor="reconciler")
        costs.append(world.looks() - before)
        fleet.after_the_sweep(shortest, longest)
    # THEN the sweeps made less than a list or describe call a second, on average and each of them
    assert max(costs) <= budget
    assert sum(costs) / len(costs) <= 0.5 * SWEEP
    # AND every lost event was made up for in time
    assert len(fleet.repairs) > 5
    assert max(fleet.repairs) <= REPAIRED_WITHIN
    assert all(world.clock.now() - since <= REPAIRED_WITHIN for since in fleet.waiting.values())
