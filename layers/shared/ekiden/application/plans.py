"""From a spec to what each stage's job needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta

from ekiden.application.tuning import plain_text, tuning_of
from ekiden.contracts.hpo import HpoModel
from ekiden.contracts.spec import PipelineSpec, parse_spec
from ekiden.domain import naming
from ekiden.domain.decisions import Plan
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, Run, Stage
from ekiden.ports import Deployment, Job


@dataclass(frozen=True, slots=True)
class Deployed:
    """Names the deployment of Ekiden fixes."""

    bucket: str


def spec_of(run: Run) -> PipelineSpec:
    """The run's spec; it was validated when the run was submitted."""
    return parse_spec(json.loads(run.spec), accepted=True)


def plan_for(spec: PipelineSpec, deployed: Deployed) -> Plan:
    """What ``spec`` and the deployment fix for all attempts of a run."""
    limits = spec.limits
    return Plan(
        bucket=deployed.bucket,
        endpoint=spec.endpoint_name,
        stage_timeout=timedelta(hours=limits.stage_hours),
        tries=limits.attempts,
        stage_timeouts={Stage(n): timedelta(hours=own.hours) for n, own in limits.stages.items() if own.hours},
        stage_tries={Stage(n): own.attempts for n, own in limits.stages.items() if own.attempts},
        run_timeout=timedelta(hours=limits.run_hours) if limits.run_hours else None,
        stage_kinds={Stage.TRAIN: JobKind.TUNING} if tunes(spec) else {},
    )


def tunes(spec: PipelineSpec) -> bool:
    """Whether the model is trained by a tuning job."""
    return spec.model.searches_in == "tuning-job"


def export_job(run: Run, attempt: Attempt, deployed: Deployed) -> Job:
    """Gremlin CSV in, Neptune-Export's layout out."""
    return _processing_job(run, attempt, deployed, "graph", spec_of(run).graph.source)


def process_job(run: Run, attempt: Attempt, deployed: Deployed) -> Job:
    """The export in, the encoded graph out."""
    job = _processing_job(run, attempt, deployed, "export", run.output_of(Stage.EXPORT))
    return replace(job, inputs=job.inputs | _scripts(spec_of(run)))  # they may bring a configuration for searches


def train_job(run: Run, attempt: Attempt, deployed: Deployed, space: HpoModel | None = None) -> Job:
    """The encoded graph in, a model with its evaluation out; with ``space`` as a tuning job.

    Raises:
        StageRejected: nothing varies in ``space``.
    """
    spec = spec_of(run)
    seconds = _seconds(spec, attempt.stage)
    static = {name: plain_text(value) for name, value in spec.model.hyperparameters.items()}
    tuning = None
    if space is not None:
        tuning, static = tuning_of(spec, space, stage_seconds=seconds)
    return Job(
        name=attempt.job,
        stage=attempt.stage,
        run_id=run.run_id,
        inputs={
            "processed": run.output_of(Stage.PROCESS),
            "spec": _spec_prefix(run, deployed),
        }
        | _scripts(spec),
        instance_type=spec.model.instance_type,
        max_runtime_seconds=seconds,
        output=attempt.output,
        environment={"EKIDEN_TIMELINE": _timeline(run)},
        hyperparameters=static,
        tuning=tuning,
        spot=spec.model.spot,
    )


def deployment(run: Run, attempt: Attempt) -> Deployment:
    """The trained model behind the spec's endpoint."""
    spec = spec_of(run)
    trained = run.attempt(Stage.TRAIN)
    if trained is None:
        raise LookupError(f"{run.run_id} has no trained model")
    return Deployment(
        name=attempt.job,
        run_id=run.run_id,
        endpoint=spec.endpoint_name,
        model=naming.model_of(trained),
        instance_type=spec.deploy.instance_type,
        instance_count=spec.deploy.instance_count,
    )


def _processing_job(run: Run, attempt: Attempt, deployed: Deployed, channel: str, source: str) -> Job:
    spec = spec_of(run)
    return Job(
        name=attempt.job,
        stage=attempt.stage,
        run_id=run.run_id,
        inputs={channel: source, "spec": _spec_prefix(run, deployed)},
        instance_type=spec.processing_instance_type,
        max_runtime_seconds=_seconds(spec, attempt.stage),
        output=attempt.output,
    )


def _spec_prefix(run: Run, deployed: Deployed) -> str:
    return f"s3://{deployed.bucket}/{naming.spec_key(run.run_id).rpartition('/')[0]}/"


def _seconds(spec: PipelineSpec, stage: Stage) -> int:
    """To the second what earlier versions ask for: it is part of the fingerprint by which a job is adopted."""
    own = spec.limits.stages.get(stage.value)
    return max(60, int((own.hours if own and own.hours else spec.limits.stage_hours) * 3600))


def _scripts(spec: PipelineSpec) -> dict[str, str]:
    """The channel with a custom model's scripts."""
    return {"source": spec.model.source} if spec.model.source is not None else {}


def _timeline(run: Run) -> str:
    """The stages before training. SageMaker takes 512 characters: the attempts whose output counts, to the second."""
    return json.dumps(
        [
            {
                "name": attempt.stage.value,
                "status": attempt.status.value,
                "started_at": (attempt.started_at or attempt.created_at).isoformat(timespec="seconds"),
                "ended_at": attempt.ended_at.isoformat(timespec="seconds") if attempt.ended_at else None,
            }
            for attempt in (run.attempt(Stage.EXPORT), run.attempt(Stage.PROCESS))
            if attempt is not None and attempt.status is AttemptStatus.SUCCEEDED
        ]
    )
