"""The trials of a search, and how they outlive an interruption of the job.

trial-3.safetensors    a finished trial: its record, its objective, what it reported by epoch
best-3/…               the model of the best so far
trial-4/…              what a running trial keeps of its own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from ekiden_engine.checkpoint_fits import load_fit, save_fit
from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.hpo_objective import Objective
from ekiden_engine.models.base import Fit


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Trial:
    """One model that was trained: `hyperparameters` are those that differ between trials, `value` is the figure
    `metric` on validation rows (None without one), `epochs` those that it took."""

    number: int
    hyperparameters: Mapping[str, str]
    metric: str
    value: float | None
    state: TrialState
    seconds: float
    epochs: int
    best: bool = False
    error: str | None = None

    def document(self) -> dict[str, object]:
        """As it stands in evaluation.json."""
        fields: dict[str, object] = {
            "number": self.number,
            "hyperparameters": dict(self.hyperparameters),
            "metric": self.metric,
            "value": self.value,
            "state": self.state.value,
            "seconds": self.seconds,
            "epochs": self.epochs,
            "best": self.best,
        }
        return fields if self.error is None else {**fields, "error": self.error}


@dataclass(slots=True)
class Best:
    """The best trial so far, and its model."""

    fit: Fit
    objective: Objective
    number: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A trial of an earlier start of the job, its objective if it has one, and what it reported, by epoch."""

    trial: Trial
    objective: Objective | None
    reports: Sequence[float]


def keep(kept: Checkpoints, told: Told, best: Best | None) -> None:
    """Keep a finished trial, and the model if it is the best so far; the model first, so that it is there if the trial
    is."""
    number = told.trial.number
    if best is not None and best.number == number:
        save_fit(kept, f"best-{number}", best.fit)
    kept.save(f"trial-{number}", asdict(told), {})
    kept.remove_levels(f"trial-{number}")
    if best is not None and best.number == number:
        kept.remove_levels(*(f"best-{earlier}" for earlier in range(number)))


def told_before(kept: Checkpoints) -> tuple[list[Told], Best | None]:
    """The trials of earlier starts, and the best of them; none if its model is not there."""
    found: list[Told] = []
    best: Told | None = None
    while (state := kept.load(f"trial-{len(found)}")) is not None:
        said = state.document
        trial = Trial(**{**said["trial"], "state": TrialState(said["trial"]["state"])})
        objective = None if said["objective"] is None else Objective(**said["objective"])
        found.append(Told(trial, objective, said["reports"]))
        if objective and (best is None or best.objective is None or better(objective, best.objective)):
            best = found[-1]
    if best is None or best.objective is None:
        return found, None
    fit = load_fit(kept, f"best-{best.trial.number}")
    if fit is None:
        return [], None
    return found, Best(fit, best.objective, best.trial.number, best.trial.hyperparameters)


def better(one: Objective, other: Objective) -> bool:
    """Whether `one` beats `other`."""
    return one.value > other.value if one.higher_is_better else one.value < other.value
