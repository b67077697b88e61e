"""Tuning jobs of the job service: real training jobs, the best of them chosen by what their logs say."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.jobs_support import (
    BUCKET,
    KIND,
    EventLog,
    Service,
    X,
    channel,
    name,
    tuning_request,
    wait_for,
)

NAME = "HyperParameterTuningJobName"


def short(stem: str) -> str:
    """A name of at most 32 characters."""
    return name(stem)[-32:]


def test_a_search_trains_as_many_models_as_asked_for_and_names_the_best(jobs: Service) -> None:
    job = short("tune")
    jobs.tune(job, Tags=[{"Key": "ekiden:run", "Value": "r1"}])
    found = jobs.tuned(job)
    # THEN ten training jobs ran, each with values out of its ranges and what does not vary
    trainings = jobs.trainings_of(job)
    assert len(trainings) == 10
    assert found["TrainingJobStatusCounters"]["Completed"] == 10
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 10, "Pending": 0, "Failed": 0}
    assert all(t["TrainingJobName"].startswith(f"{job}-0") and t["TuningJobName"] == job for t in trainings)
    assert all(0 <= float(t["TunedHyperParameters"]["x"]) <= 10 for t in trainings)
    assert {t["TunedHyperParameters"]["kind"] for t in trainings} == {"a", "b"}
    # AND the best is the one with the smallest last value in its log
    values = {t["TrainingJobName"]: t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in trainings}
    best = found["BestTrainingJob"]
    assert best["TrainingJobName"] == min(values, key=lambda key: values[key])
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "loss"
    # AND its training job can be described, and left its model
    trained = jobs.sm.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert trained["TuningJobArn"] == found["HyperParameterTuningJobArn"]
    assert trained["FinalMetricDataList"][0]["Value"] == pytest.approx(values[best["TrainingJobName"]])
    assert trained["HyperParameters"]["_tuning_objective_metric"] == "loss"
    model = jobs.text(f"s3://{BUCKET}/trained/{best['TrainingJobName']}/output/model/model.txt")
    assert json.loads(model)["seed"] == "7"
    assert json.loads(model)["x"] == best["TunedHyperParameters"]["x"]
    tags = jobs.sm.list_tags(ResourceArn=trained["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "ekiden:run", "Value": "r1"}]


def test_the_search_learns_from_results(jobs: Service) -> None:
    # GIVEN 24 training jobs, by chance and by Optuna with the same seed
    found = {}
    for strategy in ("Random", "Bayesian"):
        job = short(strategy.lower())
        jobs.tune(job, Strategy=strategy, MaxNumberOfTrainingJobs=24, MaxParallelTrainingJobs=3)
        jobs.tuned(job)
        values = [t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in jobs.trainings_of(job)]
        found[strategy] = sum(values[12:]) / 12
    # THEN the second half of what Optuna proposed is better than chance
    assert found["Bayesian"] < found["Random"]


def test_a_grid_tries_every_combination_once(jobs: Service) -> None:
    job = short("grid")
    ranges = {"CategoricalParameterRanges": [KIND, {"Name": "x", "Values": ["1", "3", "5"]}]}
    request = tuning_request(job, Strategy="Grid", ParameterRanges=ranges)
    del request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    jobs.sm.create_hyper_parameter_tuning_job(**request)
    assert jobs.tuned(job)["BestTrainingJob"]["TunedHyperParameters"] == {"kind": "b", "x": "3"}
    tried = [tuple(t["TunedHyperParameters"].values()) for t in jobs.trainings_of(job)]
    assert len(tried) == len(set(tried)) == 6


def test_no_more_run_at_a_time_than_asked_for_and_a_stop_ends_them_all(jobs: Service, tmp_path: Path) -> None:
    job = short("held")
    jobs.tune(job, MaxParallelTrainingJobs=2, Environment={"GATE": str(tmp_path / "gate")})
    wait_for(lambda: len(jobs.trainings_of(job, StatusEquals="InProgress")) == 2, "two training jobs")
    jobs.sm.stop_hyper_parameter_tuning_job(**{NAME: job})
    found = jobs.tuned(job, "Stopped")
    assert found["TrainingJobStatusCounters"]["Stopped"] == 2
    assert "BestTrainingJob" not in found
    # AND a second stop says that it is over, as SageMaker does
    with pytest.raises(ClientError, match="in status Stopped"):
        jobs.sm.stop_hyper_parameter_tuning_job(**{NAME: job})


def test_training_jobs_that_fail_do_not_end_the_search_unless_none_succeeds(jobs: Service) -> None:
    some, none = short("some"), short("none")
    jobs.tune(some, Environment={"FAIL_ABOVE": "6"})
    jobs.tune(none, Environment={"FAIL_ABOVE": "-1"})
    found = jobs.tuned(some)
    assert found["TrainingJobStatusCounters"]["NonRetryableError"] > 0
    assert float(found["BestTrainingJob"]["TunedHyperParameters"]["x"]) <= 6
    lost = jobs.tuned(none, "Failed")
    assert "No training job succeeded after" in lost["FailureReason"]
    assert lost["TrainingJobStatusCounters"]["NonRetryableError"] < 10
    (latest,) = jobs.sm.list_training_jobs_for_hyper_parameter_tuning_job(
        **{NAME: none}, StatusEquals="Failed", SortBy="CreationTime", SortOrder="Descending", MaxResults=1
    )["TrainingJobSummaries"]
    assert latest["FailureReason"] == "AlgorithmError: BAD_HYPERPARAMETERS: x is too large, exit code: 65"


def test_every_change_of_status_is_an_event_and_training_jobs_name_their_search(jobs: Service, job_cloud: str) -> None:
    log, job = EventLog(job_cloud), short("told")
    jobs.tune(job, MaxNumberOfTrainingJobs=1, MaxParallelTrainingJobs=1)
    found = jobs.tuned(job)
    events = log.expect(job, 2)
    assert [e["detail"]["HyperParameterTuningJobStatus"] for e in events] == ["InProgress", "Completed"]
    assert events[0]["detail-type"] == "SageMaker HyperParameter Tuning Job State Change"
    assert events[1]["resources"] == [found["HyperParameterTuningJobArn"]]
    assert isinstance(events[1]["detail"]["HyperParameterTuningEndTime"], int)
    (child,) = jobs.trainings_of(job)
    told = log.expect(child["TrainingJobName"], 3)
    assert {e["detail"]["TuningJobArn"] for e in told} == {found["HyperParameterTuningJobArn"]}


def test_a_name_is_taken_once_and_searches_are_listed_by_status_and_time(jobs: Service) -> None:
    job = short("listed")
    jobs.tune(job, MaxNumberOfTrainingJobs=2)
    with pytest.raises(ClientError) as caught:
        jobs.tune(job)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    done = jobs.tuned(job)
    shown = jobs.sm.list_hyper_parameter_tuning_jobs(NameContains=job, StatusEquals="Completed")
    (entry,) = shown["HyperParameterTuningJobSummaries"]
    assert (entry["HyperParameterTuningJobName"], entry["Strategy"]) == (job, "Bayesian")
    after = done["LastModifiedTime"] + timedelta(seconds=1)  # boto3 sends whole seconds
    later = jobs.sm.list_hyper_parameter_tuning_jobs(NameContains=job, LastModifiedTimeAfter=after)
    assert later["HyperParameterTuningJobSummaries"] == []
    with pytest.raises(ClientError) as caught:
        jobs.sm.describe_hyper_parameter_tuning_job(**{NAME: "nobody"})
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"


def test_training_jobs_are_listed_by_their_objective(jobs: Service) -> None:
    job = short("sorted")
    jobs.tune(job, MaxNumberOfTrainingJobs=4)
    best = jobs.tuned(job)["BestTrainingJob"]["TrainingJobName"]
    first, *_ = jobs.trainings_of(job, SortBy="FinalObjectiveMetricValue", SortOrder="Ascending")
    assert first["TrainingJobName"] == best


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Strategy": "Hyperband"}, "Bayesian, Random, Grid, not Hyperband"),
        ({"MaxParallelTrainingJobs": 11}, "must not be above"),
        ({"ParameterRanges": {}}, "At least one hyperparameter range"),
        ({"ParameterRanges": {"ContinuousParameterRanges": [{**X, "MinValue": "20"}]}}, "MinValue <= MaxValue"),
        ({"ParameterRanges": {"ContinuousParameterRanges": [{**X, "ScalingType": "Logarithmic"}]}}, "above 0"),
        ({"ParameterRanges": {"IntegerParameterRanges": [{**X, "Name": "seed"}]}}, "both static and in a range"),
        ({"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "mrr"}}, "no entry in metricDef"),
        ({"WarmStartConfig": {"ParentHyperParameterTuningJobs": [{NAME: "a"}], "WarmStartType": "TransferLearning"}},
         "WarmStartConfig is not provided"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_at_once(jobs: Service, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        jobs.tune(short("bad"), **changes)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_training_jobs_get_the_channels_of_the_search(jobs: Service) -> None:
    job, uri = short("fed"), jobs.put(f"{short('in')}/a.txt", "hello")
    request = tuning_request(job, MaxNumberOfTrainingJobs=1, MaxParallelTrainingJobs=1)
    request["TrainingJobDefinition"]["InputDataConfig"] = [channel("spec", uri)]
    jobs.sm.create_hyper_parameter_tuning_job(**request)
    jobs.tuned(job)
    (child,) = jobs.trainings_of(job)
    trained = jobs.sm.describe_training_job(TrainingJobName=child["TrainingJobName"])
    assert trained["InputDataConfig"][0]["ChannelName"] == "spec"


def test_a_search_survives_the_service_being_killed(own_jobs: Service, tmp_path: Path) -> None:
    # GIVEN a search of which two training jobs run
    gate, job = tmp_path / "gate", short("killed")
    own_jobs.start()
    own_jobs.tune(job, MaxNumberOfTrainingJobs=4, Environment={"GATE": str(gate)})
    running = wait_for(lambda: found if len(found := own_jobs.trainings_of(job)) == 2 else None, "two training jobs")
    before = {t["TrainingJobName"] for t in running}
    # WHEN the service dies, the training jobs end, and it comes back
    own_jobs.end(signal.SIGKILL)
    gate.write_text("")
    own_jobs.start()
    # THEN it knows what they came to, and goes on to the end
    found = own_jobs.tuned(job)
    trainings = {t["TrainingJobName"]: t["TrainingJobStatus"] for t in own_jobs.trainings_of(job)}
    assert len(trainings) == 4
    assert before < trainings.keys()
    assert set(trainings.values()) == {"Completed"}
    assert found["ObjectiveStatusCounters"]["Succeeded"] == 4
    own_jobs.end()


def test_a_search_whose_time_is_up_keeps_what_it_found(own_jobs: Service, tmp_path: Path) -> None:
    # GIVEN two searches that began, by their records, long ago: one has a model, the other none yet
    gate = tmp_path / "gate"
    found, empty = short("found"), short("empty")
    own_jobs.start("--max-jobs=4")
    own_jobs.tune(found, MaxRuntimeInSeconds=120, MaxNumberOfTrainingJobs=500)
    own_jobs.tune(empty, MaxRuntimeInSeconds=120, Environment={"GATE": str(gate)})
    wait_for(lambda: own_jobs.trainings_of(found, StatusEquals="Completed"), "a model")
    wait_for(lambda: len(own_jobs.trainings_of(empty)) == 2, "two training jobs")
    own_jobs.end(signal.SIGKILL)
    for job in (found, empty):
        path = own_jobs.home / "jobs/tuning" / job / "record.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "created_at": record["created_at"] - 200}))
    # WHEN the service looks at them again
    own_jobs.start("--max-jobs=4")
    # THEN no more training jobs begin, those that run are stopped, and a model that was found is the result
    assert "BestTrainingJob" in own_jobs.tuned(found)
    lost = own_jobs.tuned(empty, "Failed")
    assert lost["TrainingJobStatusCounters"]["Stopped"] == 2
    assert lost["ConsumedResources"]["RuntimeInSeconds"] >= 200
    own_jobs.end()
