"""What must hold after the storm, by four witnesses: the ledger, the job service's records, the jobs' notes, S3."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ekiden.adapters.dynamodb_client import Table
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.domain.model import Attempt, AttemptStatus, JobKind, Run, RunStatus, Stage
from ekiden_local.deploy import client
from ekiden_local.state import Cloud
from tests.chaos.lanes import Lane


@dataclass(slots=True)
class Verdict:
    """Violations by kind; each is a sentence with the run or job that it is about."""

    runs: int = 0
    jobs: int = 0
    attempts: int = 0
    requests: int = 0
    lost: list[str] = field(default_factory=list)
    """Requests without exactly one run, runs that did not end well, scores that are not there."""
    twice: list[str] = field(default_factory=list)
    """Attempts whose program was started other than once, score parts that were written other than once."""
    disordered: list[str] = field(default_factory=list)
    """Stages before their time, histories with gaps."""
    running: list[str] = field(default_factory=list)
    """What runs though nobody waits for it."""

    @property
    def violations(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.twice, *self.disordered, *self.running]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a job's program wrote: when (nanoseconds), and as which process."""

    job: str
    at: int
    pid: int


def judge(cloud: Cloud, lanes: list[Lane], notes: Path) -> Verdict:
    """Compare what everybody says. The storm is over, and every command has ended."""
    verdict = Verdict()
    ledger = DynamoDBLedger(Table(client("dynamodb", cloud.endpoint_url), cloud.ledger_table))
    asked = {done.request_id: done.name for lane in lanes for done in lane.runs}
    runs = _requests_and_runs(cloud, ledger, asked, verdict)
    starts, ends = _marks(notes / "starts"), _marks(notes / "ends")
    records = _records(Path(cloud.home) / "jobs")
    known: set[str] = set()
    for run in runs:
        _check_run(run, ledger, verdict)
        for attempt in run.attempts:
            if attempt.ref.kind is not JobKind.ENDPOINT:
                known.add(attempt.job)
                _check_job(run, attempt, starts, records, verdict)
        _check_order(run, starts, ends, verdict)
    verdict.twice += [f"{job} was started and no attempt knows it" for job in sorted(set(starts) - known)]
    verdict.twice += [f"the job service has a job {job} that no attempt knows" for job in sorted(set(records) - known)]
    _check_endpoints(cloud, lanes, runs, verdict)
    _check_scores(cloud, lanes, verdict)
    verdict.runs, verdict.attempts = len(runs), sum(len(run.attempts) for run in runs)
    verdict.jobs, verdict.requests = len(known), len(asked) + sum(len(lane.scores) for lane in lanes)
    return verdict


def _requests_and_runs(cloud: Cloud, ledger: DynamoDBLedger, asked: dict[str, str], verdict: Verdict) -> list[Run]:
    pages = (
        client("dynamodb", cloud.endpoint_url)
        .get_paginator("scan")
        .paginate(
            TableName=cloud.ledger_table,
            FilterExpression="sk = :request OR begins_with(pk, :run)",
            ExpressionAttributeValues={":request": {"S": "REQUEST"}, ":run": {"S": "RUN#"}},
        )
    )
    items = [item for page in pages for item in page["Items"]]
    accepted = {
        item["pk"]["S"].removeprefix("REQUEST#"): item["run_id"]["S"]
        for item in items
        if item["sk"]["S"] == "REQUEST" and "run_id" in item
    }
    stored = {item["pk"]["S"].removeprefix("RUN#") for item in items if item["pk"]["S"].startswith("RUN#")}
    for request, run_id in asked.items():
        if accepted.get(request) != run_id:
            verdict.lost.append(f"request {request} was told {run_id}, the ledger has {accepted.get(request)}")
    verdict.lost += [f"request {request} was accepted and nobody heard of it" for request in accepted.keys() - asked]
    verdict.twice += [f"run {run_id} belongs to no request" for run_id in stored - set(accepted.values())]
    loaded = {run_id: ledger.load(run_id) for run_id in sorted(set(accepted.values()))}
    verdict.lost += [f"run {run_id} is not in the ledger" for run_id, run in loaded.items() if run is None]
    return [run for run in loaded.values() if run is not None]


def _check_run(run: Run, ledger: DynamoDBLedger, verdict: Verdict) -> None:
    if run.status is not RunStatus.SUCCEEDED:
        verdict.lost.append(f"{run.run_id} is {run.status}: {run.failure}")
    live = [attempt.job for attempt in run.attempts if attempt.is_live]
    verdict.running += [f"{run.run_id}: {job} is live though the run is {run.status}" for job in live]
    for stage in Stage:
        made = sorted((attempt for attempt in run.attempts if attempt.stage is stage), key=lambda a: a.number)
        if [attempt.number for attempt in made] != list(range(1, len(made) + 1)):
            verdict.disordered.append(f"{run.run_id}: attempts of {stage} are {[a.number for a in made]}")
        good = [attempt.number for attempt in made if attempt.status is AttemptStatus.SUCCEEDED]
        if good != [len(made)]:
            verdict.disordered.append(f"{run.run_id}: of {len(made)} attempts of {stage}, {good} succeeded")
    # A redrive leaves a note, beside the transition at whose time it was made.
    sequence = [entry.sequence for entry in ledger.history(run.run_id) if not entry.what.startswith("redrive of ")]
    if sequence != list(range(run.version + 1)):
        verdict.disordered.append(f"{run.run_id}: the history has gaps: {sequence}")


def _check_job(
    run: Run, attempt: Attempt, starts: dict[str, list[Mark]], records: dict[str, dict[str, Any]], verdict: Verdict
) -> None:
    """One process start per attempt, by what the program wrote and by what the job service recorded."""
    job = attempt.job
    # An attempt that was killed may have ended before its program could write anything.
    if len(starts.get(job, [])) not in ({1} if attempt.status is AttemptStatus.SUCCEEDED else {0, 1}):
        verdict.twice.append(f"{run.run_id}: the program of {job} was started {len(starts.get(job, []))} times")
    record = records.get(job)
    if record is None:
        verdict.lost.append(f"{run.run_id}: the job service has no job {job}")
        return
    recorded = Counter(step["Status"] for step in record["transitions"])["Training"]
    if recorded != 1:
        verdict.twice.append(f"{run.run_id}: the job service recorded {recorded} starts of {job}")
    wanted = "Completed" if attempt.status is AttemptStatus.SUCCEEDED else "Failed"
    if record["status"] != wanted:
        verdict.running.append(f"{job} is {record['status']} for the job service, {attempt.status} in the ledger")


def _check_order(run: Run, starts: dict[str, list[Mark]], ends: dict[str, list[Mark]], verdict: Verdict) -> None:
    """No program began before the stage before it had ended."""
    for stage in (Stage.PROCESS, Stage.TRAIN):
        earlier = Stage.EXPORT if stage is Stage.PROCESS else Stage.PROCESS
        before = run.attempt(earlier)
        done = [mark.at for mark in ends.get(before.job, [])] if before else []
        began = [mark.at for attempt in run.attempts if attempt.stage is stage for mark in starts.get(attempt.job, [])]
        if began and not (done and min(began) > max(done)):
            verdict.disordered.append(f"{run.run_id}: {stage} began before {earlier} had ended")


def _check_endpoints(cloud: Cloud, lanes: list[Lane], runs: list[Run], verdict: Verdict) -> None:
    """One deployment per deploy attempt: an endpoint counts its generations."""
    for lane in lanes:
        own = sorted((run for run in runs if run.name == lane.endpoint), key=lambda run: run.created_at)
        deployed = [attempt for run in own for attempt in run.attempts if attempt.stage is Stage.DEPLOY]
        record = Path(cloud.home) / "jobs/endpoints" / lane.endpoint / "record.json"
        if not own or not record.exists():
            continue
        found = json.loads(record.read_text())
        if found["generation"] != len(deployed) or found["target"]:
            verdict.twice.append(f"{lane.endpoint}: {len(deployed)} deployments, generation {found['generation']}")
        serves = found["deployments"][str(found["generation"])]["config"]
        if deployed and serves != deployed[-1].job:
            verdict.lost.append(f"{lane.endpoint} serves {serves}, not {deployed[-1].job}")


def _check_scores(cloud: Cloud, lanes: list[Lane], verdict: Verdict) -> None:
    """Results were written once. What is in them, the lanes compared."""
    pages = client("s3", cloud.endpoint_url).get_paginator("list_object_versions")
    versions: Counter[str] = Counter()
    for page in pages.paginate(Bucket=cloud.data_bucket, Prefix="scores/"):
        versions.update(v["Key"] for v in page.get("Versions", []) if "/results/" in v["Key"])
    verdict.twice += [f"{key} was written {count} times" for key, count in versions.items() if count != 1]
    wanted = {done.request_id for lane in lanes for done in lane.scores}
    verdict.lost += [f"{request} has no results" for request in wanted - {key.split("/")[1] for key in versions}]


def _marks(folder: Path) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for path in sorted(folder.glob("*")):
        job, at, pid = path.name.rsplit(".", 2)
        found.setdefault(job, []).append(Mark(job, int(at), int(pid)))
    return found


def _records(home: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in home.glob("jobs/*/*/record.json")}
