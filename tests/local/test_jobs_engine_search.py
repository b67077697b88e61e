"""A search from the spec to the best model: the configuration that data processing writes, the adapter's own request,
real training jobs of the custom example, and the trial that SageMaker's rules call the best."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ekiden.adapters.sagemaker_jobs import SageMakerJobs
from ekiden.adapters.sagemaker_requests import SageMakerSettings
from ekiden.application.tuning import tuning_of
from ekiden.contracts.hpo import HPO_FILE, load_hpo
from ekiden.contracts.spec import parse_spec
from ekiden.domain import naming
from ekiden.domain.decisions import JobStatus
from ekiden.domain.model import Attempt, AttemptStatus, JobRef, Stage
from ekiden.ports import Job, JobReport
from ekiden_engine.custom_predictors import CustomEdgePredictor
from ekiden_engine.hpo_training import write_configuration
from tests.engine.search_factories import make_ratings
from tests.fakes import NOW
from tests.local.jobs_support import BUCKET, ROLE, Service, name, wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-model"
PROGRAM = Path(__file__).with_name("jobs_search_program.py")
OWN_METRIC = ("validation:rmse", {"validation:rmse": "validation:rmse=([0-9.]+)"})


@pytest.mark.parametrize("whose", ["the script's own metric", "the engine's metric"])
def test_a_search_ends_with_the_model_that_validated_best(own_jobs: Service, tmp_path: Path, whose: str) -> None:
    # GIVEN processed data and scripts in S3, and a spec that asks for a tuning job
    own_jobs.start(f"--image=ekiden-engine:*={sys.executable} {PROGRAM}", "--max-jobs=2")
    source = {"name": "custom", "source": f"s3://{BUCKET}/scripts/"}
    target = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
    spec = parse_spec(
        {
            "version": 1,
            "name": "own",
            "graph": {"source": "s3://bucket/graph/"},
            "targets": [target],
            "model": {**source, "search": {"jobs": 3, "parallel": 2, "where": "tuning-job"}},
        }
    )
    graph, folder, prefix = make_ratings(60, 40, 1400), tmp_path / "processed", name("search")
    folder.mkdir()
    write_configuration(folder, spec, graph, EXAMPLE)
    if whose != "the script's own metric":
        document = json.loads((folder / HPO_FILE).read_text())
        document["models"][0]["eval_metric"] = {"metric": "mae"}
        (folder / HPO_FILE).write_text(json.dumps(document))
    graph.save(folder)
    upload(own_jobs, folder, f"{prefix}/processed")
    upload(own_jobs, EXAMPLE, "scripts")
    own_jobs.put(f"{prefix}/spec/spec.json", json.dumps(spec.model_dump(mode="json")))

    # WHEN the train stage's job is started as the Lambda starts it
    tuning, static = tuning_of(spec, load_hpo((folder / HPO_FILE).read_bytes()), stage_seconds=300)
    own = whose == "the script's own metric"
    assert ((tuning.objective, tuning.metrics) == OWN_METRIC) == own
    run_id = f"own-20261121-000000-{prefix[-6:]}"
    channels = {part: f"s3://{BUCKET}/{prefix}/{part}/" for part in ("processed", "spec")}
    job = Job(
        name=naming.job_name(run_id, Stage.TRAIN, 1),
        stage=Stage.TRAIN,
        run_id=run_id,
        inputs={**channels, "source": f"s3://{BUCKET}/scripts/"},
        instance_type="ml.m5.xlarge",
        max_runtime_seconds=300,
        output=f"s3://{BUCKET}/{prefix}/train/1/",
        hyperparameters=static,
        tuning=tuning,
    )
    jobs = SageMakerJobs(own_jobs.sm, SageMakerSettings("ekiden-engine:local", ROLE))
    jobs.start(job)
    report = over(jobs, job)

    # THEN all three were trained, the best is the one with the smallest error, and its model can be loaded
    assert report.status is JobStatus.SUCCEEDED, report.failure
    trials = jobs.trials(job.name)
    assert len(trials) == 3
    assert report.best_job == min(trials, key=lambda trial: trial.value or 9e9).job
    assert all(
        trial.value is not None and trial.hyperparameters.keys() == {"num-factors", "regularization"}
        for trial in trials
    )
    model = naming.model_prefix(job.output, str(report.best_job))
    for file in CustomEdgePredictor.files:
        bucket, _, key = f"{model}{file}".removeprefix("s3://").partition("/")
        (tmp_path / file).write_bytes(own_jobs.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert CustomEdgePredictor.load(tmp_path).counts() == {"user": 60, "movie": 40}
    own_jobs.end()


def upload(service: Service, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            service.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def over(jobs: SageMakerJobs, job: Job) -> JobReport:
    """What became of the job."""
    attempt = Attempt(
        stage=job.stage,
        number=1,
        job=job.name,
        ref=JobRef(job.kind, job.name),
        status=AttemptStatus.RUNNING,
        created_at=NOW,
        deadline=NOW + timedelta(hours=1),
        output=job.output,
        next_check_at=NOW,
    )

    def look() -> JobReport | None:
        report = jobs.describe(attempt)
        return None if report is None or report.status is JobStatus.RUNNING else report

    return wait_for(look, "the end of the search", 60)
