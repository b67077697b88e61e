"""From a spec that asks for a tuning job, and the configuration that data processing left, to what is to be tuned."""

from __future__ import annotations

import json

from ekiden.contracts.base import DocumentError
from ekiden.contracts.hpo import HPO_FILE, HPO_NAMES, MAX_BYTES, HpoModel, HpoParam, load_hpo
from ekiden.contracts.hpo_metric import LOWER_IS_BETTER, OBJECTIVE, OBJECTIVE_REGEX, default_metric
from ekiden.contracts.s3uri import S3Uri
from ekiden.contracts.spec import PipelineSpec
from ekiden.domain import naming
from ekiden.domain.model import Attempt, Run, Stage
from ekiden.errors import Permanent, StageRejected
from ekiden.ports import Jobs, Objects, Range, Trial, Tuning

MAX_FAULTS = 3
MIN_SECONDS = 120
"""SageMaker's lower bound for the time of a whole tuning job."""


def read_space(objects: Objects, run: Run) -> HpoModel:
    """The configuration in the output of data processing, under either of its names; people may have edited it.

    Raises:
        StageRejected: there is none, or it cannot be used.
        Transient: it cannot be read now.
    """
    folder = run.output_of(Stage.PROCESS).rstrip("/")
    for name in HPO_NAMES:
        uri = S3Uri.parse(f"{folder}/{name}")
        try:
            body = objects.get(uri.bucket, uri.key, limit=MAX_BYTES)
        except Permanent:  # without the right to list, S3 says "denied" of what is not there
            continue
        if body is None:
            continue
        try:
            return load_hpo(body, name)
        except DocumentError as error:
            shown = "; ".join(map(str, error.faults[:MAX_FAULTS]))
            raise StageRejected(f"{uri}: {shown}", code="BAD_HPO_CONFIGURATION") from None
    raise StageRejected(f"{folder}/ has no {HPO_FILE}; retry from process", code="NO_HPO_CONFIGURATION")


def tuning_of(spec: PipelineSpec, space: HpoModel, *, stage_seconds: int) -> tuple[Tuning, dict[str, str]]:
    """What varies, and the hyper-parameters that do not.

    Raises:
        StageRejected: nothing varies.
    """
    search = spec.model.search
    if search is None:
        raise LookupError("the spec asks for no search")
    tuned = space.tuned(search.jobs)
    if not tuned:
        raise StageRejected(
            f"{space.source}: no tier that {search.jobs} jobs search has a hyper-parameter to vary",
            code="NOTHING_TO_SEARCH",
        )
    names = {param.name for param in tuned}
    static = space.untuned(search.jobs)
    static |= {n: plain_text(value) for n, value in spec.model.hyperparameters.items() if n not in names}
    seconds = stage_seconds if search.minutes is None else min(stage_seconds, round(60 * search.minutes))
    metric = space.metric
    return (
        Tuning(
            ranges=tuple(map(_range, tuned)),
            objective=metric.name if metric.is_scripts_own else OBJECTIVE,
            maximize=metric.higher_is_better if metric.is_scripts_own else _more_is_better(spec),
            metrics=dict(metric.regexes) if metric.is_scripts_own else {OBJECTIVE: OBJECTIVE_REGEX},
            jobs=search.jobs,
            parallel=search.parallel,
            max_seconds=max(MIN_SECONDS, seconds),
            seed=int(seed) if (seed := static.get("seed", "")).isdecimal() else 0,
        ),
        static,
    )


def plain_text(value: bool | int | float | str) -> str:
    """A hyper-parameter of a spec as SageMaker takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def keep_trials(jobs: Jobs, objects: Objects, attempt: Attempt, best_job: str) -> None:
    """Write down what a tuning job that has succeeded tried, beside its models. Repeating it changes nothing.

    Raises:
        Transient: try again later.
    """
    uri = S3Uri.parse(naming.trials_of(attempt))
    document = {
        "version": "ekiden.trials.v1",
        "tuning_job": attempt.job,
        "best_training_job": best_job,
        "trials": [
            {
                "number": number,
                "job": trial.job,
                "hyperparameters": trial.hyperparameters,
                "value": trial.value,
                "state": trial.status,
                "seconds": _seconds(trial),
                "best": trial.job == best_job,
            }
            for number, trial in enumerate(jobs.trials(attempt.job))
        ],
    }
    objects.put(uri.bucket, uri.key, (json.dumps(document, indent=1) + "\n").encode(), "application/json")


def _seconds(trial: Trial) -> float | None:
    if trial.started_at is None or trial.ended_at is None:
        return None
    return round((trial.ended_at - trial.started_at).total_seconds(), 3)


def _more_is_better(spec: PipelineSpec) -> bool:
    """Of the first target's metrics: all that it could be judged by have the same sense."""
    return default_metric(spec.predicts[0].task) not in LOWER_IS_BETTER


def _range(param: HpoParam) -> Range:
    """SageMaker knows no steps: whole numbers lie at any place between the ends, powers of two are listed."""
    if param.choices or param.bounds is None:
        return Range(param.name, "categorical", values=param.choices)
    low, high = (param.text(end) for end in param.bounds)
    kind = "integer" if param.kind is int else "continuous"
    return Range(param.name, "integer" if kind == "integer" else "continuous", low, high, param.strategy == "log")
