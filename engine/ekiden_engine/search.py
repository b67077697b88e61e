"""Search for hyperparameters within one training job: models are trained one after another, each on all cores.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes, the median rule (Golovin et al. 2017) breaks
off trials that at some epoch are worse than half of the earlier ones were. The first trial has the defaults. All is
decided by validation rows; test rows are never read. The same seed proposes the same trials. Finished trials are kept
as checkpoints: a job that is started again goes on with the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ekiden.contracts.hpo import HpoModel, HpoParam
from ekiden.contracts.hpo_metric import LOWER_IS_BETTER, EvalMetric
from ekiden.contracts.spec_model import CUSTOM
from ekiden_engine.checkpoints import checkpoints_of
from ekiden_engine.errors import BadData, EngineError, is_out_of_memory
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.hpo_objective import Objective, metric_for, objective_of
from ekiden_engine.hpo_space import coded, decoded, distribution, holds
from ekiden_engine.models.base import CurvePoint, Fit, Progress, Step, Trainer
from ekiden_engine.search_trials import Best, Told, Trial, TrialState, better, keep, told_before

if TYPE_CHECKING:
    import optuna

Make = Callable[[Mapping[str, str]], Trainer]
"""Hyperparameters as SageMaker delivers them to a trainer; raises `BadData` BAD_HYPERPARAMETERS."""

STARTUP_TRIALS: Final = 4
"""Trials that are never broken off: the median of fewer says little."""
WARM_UP_EPOCHS: Final = 3
"""Epochs in which no trial is broken off."""
ENSEMBLE: Final = "seeds"
"""Trials have one member; the best is trained again as the ensemble that was asked for."""


class Pruned(Exception):
    """Ends a trial at the end of an epoch: others were better by then."""


def search(
    make: Make,
    space: HpoModel,
    graph: EncodedGraph,
    target: Target,
    progress: Progress,
    *,
    jobs: int,
    given: Mapping[str, str] | None = None,
    minutes: float | None = None,
) -> Fit:
    """Train up to `jobs` models on hyperparameters out of `space`; the best one, with `trials` of all.

    `given` are the job's hyperparameters: they hold for whatever the space does not vary. No further trial begins
    after `minutes`. When the platform asks to stop, the best so far is kept.
    Raises `BadData`: NOTHING_TO_SEARCH; of the first trial whatever it raises, of all others only if none succeeded.
    """
    tuned = space.tuned(jobs)
    if not tuned:
        raise BadData(
            "NOTHING_TO_SEARCH", f"{space.source}: no tier that {jobs} jobs search has a hyper-parameter to vary"
        )
    names = {param.name for param in tuned}
    static = {**space.untuned(jobs), **{name: text for name, text in (given or {}).items() if name not in names}}
    metric = metric_for(space.metric, target)
    study = _study(metric, seed=_whole(static.get("seed"), 0), jobs=jobs)
    kept = checkpoints_of(progress)
    told, best = told_before(kept)
    spent = sum(one.trial.seconds for one in told)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes - spent
    members = _whole(static.get(ENSEMBLE), 1) if space.model != CUSTOM else 1
    trial_static = {**static, ENSEMBLE: "1"} if members > 1 else static
    trials: list[Trial] = []
    progress.note(f"search: {jobs} trials over {', '.join(p.name for p in tuned)}; objective {metric.name}")
    if told:
        progress.note(f"resumed: {len(told)} of {jobs} trials were finished before")
    for number in range(jobs):
        proposal, settings = _propose(study, tuned, number)
        if number < len(told):
            for epoch, value in enumerate(told[number].reports, 1):
                proposal.report(value, epoch)
            trials.append(told[number].trial)
            _tell(study, proposal, trials[-1], tuned, settings)
            continue
        if told and best is not None and deadline is not None and time.monotonic() >= deadline:
            break
        watch = _Watch(progress, proposal, metric, number, jobs, deadline if best else None)
        trial, fit, objective = _try(make, {**trial_static, **settings}, graph, target, metric, watch, number, settings)
        if fit is None and number == 0 and trial.state is TrialState.FAILED:
            raise watch.failure or BadData("TRIAL_FAILED", trial.error or "the first trial failed")
        trials.append(trial)
        _tell(study, proposal, trial, tuned, settings)
        progress.note(_line(trial, jobs))
        if fit is not None and objective is not None and (best is None or better(objective, best.objective)):
            best = Best(fit, objective, number, settings)
        if not progress.stop_requested():
            keep(kept, Told(trial, objective, watch.reports), best)
        if progress.stop_requested() or (deadline is not None and time.monotonic() >= deadline):
            break
    if best is None:
        raise BadData("NO_TRIAL_SUCCEEDED", f"none of {len(trials)} trials gave a model; the last: {trials[-1].error}")
    trials = [replace(trial, best=trial.number == best.number) for trial in trials]
    fit = best.fit
    if members > 1 and not progress.stop_requested():
        progress.note(f"training the best (trial {best.number + 1}) again, as an ensemble of {members}")
        fit = make({**static, **best.settings}).fit(graph, target, progress)
    return replace(fit, trials=tuple(trial.document() for trial in trials))


def _study(metric: EvalMetric, *, seed: int, jobs: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        direction="maximize" if metric.higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(2, jobs // 3))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARM_UP_EPOCHS + 1),
    )


def _propose(
    study: optuna.Study, tuned: tuple[HpoParam, ...], number: int
) -> tuple[optuna.trial.Trial, dict[str, str]]:
    if number == 0:
        within = {p.name: p.default for p in tuned if holds(p, p.default)}
        study.enqueue_trial({name: coded(p, within[name]) for p in tuned if (name := p.name) in within})
    proposal = study.ask({param.name: distribution(param) for param in tuned})
    settings = {param.name: decoded(param, proposal.params[param.name]) for param in tuned}
    # A default that no range holds, such as auto, is tried as it is.
    return proposal, settings if number else {**settings, **{p.name: p.default for p in tuned if p.default}}


class _Watch:
    """The progress of one trial: numbers its steps, reports to the study, breaks off."""

    def __init__(
        self,
        inner: Progress,
        proposal: optuna.trial.Trial,
        metric: EvalMetric,
        number: int,
        jobs: int,
        deadline: float | None,
    ) -> None:
        self._inner, self._proposal, self._metric = inner, proposal, metric
        self._number, self._jobs, self._deadline = number, jobs, deadline
        self._steps: dict[int, tuple[Step, Step]] = {}
        self._best: float | None = None
        self.checkpoints = checkpoints_of(inner).within(f"trial-{number}")
        self.reports: list[float] = []
        self.failure: EngineError | None = None

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Pass on; raises `Pruned` if earlier trials were better at this epoch."""
        shown = self._steps.setdefault(id(step), (step, self._shown(step)))[1]
        self._inner.epoch(shown, epochs, metric, point)
        same_sense = metric == self._metric.name or (metric in LOWER_IS_BETTER) != self._metric.higher_is_better
        value = point.valid if same_sense else -point.valid
        best_of = max if self._metric.higher_is_better else min
        self._best = value if self._best is None else best_of(value, self._best)
        self.reports.append(self._best)
        self._proposal.report(self._best, self.epochs)
        if self._proposal.should_prune():
            raise Pruned

    @property
    def epochs(self) -> int:
        """Epochs so far."""
        return len(self.reports)

    def _shown(self, step: Step) -> Step:
        left = step.left + self._jobs - self._number - 1
        return replace(step, words=f"trial {self._number + 1}/{self._jobs}  {step.words}", left=left)

    def note(self, message: str) -> None:
        """Pass on."""
        self._inner.note(message)

    def stop_requested(self) -> bool:
        """Whether the platform wants an end, or the search's time is over."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self._inner.stop_requested()


def _try(
    make: Make,
    hyperparameters: Mapping[str, str],
    graph: EncodedGraph,
    target: Target,
    metric: EvalMetric,
    watch: _Watch,
    number: int,
    settings: Mapping[str, str],
) -> tuple[Trial, Fit | None, Objective | None]:
    started = time.perf_counter()
    fit: Fit | None = None
    objective: Objective | None = None
    state, error = TrialState.COMPLETE, None
    try:
        fit = make(hyperparameters).fit(graph, target, watch)
        objective = objective_of(fit, graph, target, metric)
        state = TrialState.STOPPED if fit.stopped else TrialState.COMPLETE
    except Pruned:
        state = TrialState.PRUNED
    except BadData as failure:
        state, error, watch.failure = TrialState.FAILED, f"{failure.code}: {failure.message}"[:300], failure
    except Exception as failure:
        if not is_out_of_memory(failure):
            raise
        state, error = TrialState.FAILED, "OUT_OF_MEMORY: these hyper-parameters need more memory than there is"
    seconds = round(time.perf_counter() - started, 3)
    value = None if objective is None else objective.value
    name = metric.name if objective is None else objective.name
    return Trial(number, dict(settings), name, value, state, seconds, watch.epochs, error=error), fit, objective


def _tell(
    study: optuna.Study,
    proposal: optuna.trial.Trial,
    trial: Trial,
    tuned: tuple[HpoParam, ...],
    settings: Mapping[str, str],
) -> None:
    from optuna.trial import TrialState as Told

    if trial.state is TrialState.PRUNED:
        study.tell(proposal, state=Told.PRUNED)
    elif trial.value is None or not all(holds(p, settings[p.name]) or trial.number for p in tuned):
        study.tell(proposal, state=Told.FAIL)  # also defaults outside the ranges: they would be credited to others
    else:
        study.tell(proposal, trial.value)


def _whole(text: str | None, default: int) -> int:
    try:
        return int(float((text or "").strip().strip('"')))
    except (ValueError, OverflowError):
        return default


def _line(trial: Trial, jobs: int) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial.hyperparameters.items())
    value = "" if trial.value is None else f" {trial.metric} {trial.value:.4f}"
    return f"trial {trial.number + 1}/{jobs} {trial.state.value.lower()}{value} in {trial.seconds:.1f} s: {settings}"
