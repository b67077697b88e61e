"""How long a run waits between a job's end and the next job's start; what a transition costs in CPU and imports.

    make bench NAME=transitions

Runs small pipelines one after the other on an embedded cloud of its own. *Job finished* and *next job started* are
SageMaker's own times (end time of one job, creation time of the next), read after the fact. The peer is a poller
that looks every 30 seconds, as Airflow's and SageMaker's own waiters do, at the very same jobs at the same time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import boto3

from benchmarks.common import Row, write
from benchmarks.handler_cpu import cpu_milliseconds
from ekiden_cli.api import ApiClient
from ekiden_cli.generate import generate
from ekiden_cli.graphs import read_spec
from ekiden_cli.storage import content_prefix, upload_folder
from ekiden_cli.target import resolve
from ekiden_local import supervisor
from ekiden_local.state import Cloud

POLL_SECONDS = 30.0
RUN_SECONDS = 120.0
FUNCTIONS = Path(__file__).parent.parent / "functions"


class Poller(threading.Thread):
    """Looks at all jobs every ``POLL_SECONDS``, and notes how long each had been over when it saw that."""

    def __init__(self, sagemaker: Any) -> None:
        super().__init__(daemon=True)
        self._sagemaker = sagemaker
        self._seen: dict[str, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Poll until stopped."""
        while not self._over.wait(POLL_SECONDS):
            self._look()

    def finish(self) -> list[float]:
        """Wait for the poll that sees the last job, and give all delays in seconds."""
        time.sleep(POLL_SECONDS)
        self._over.set()
        self.join()
        return list(self._seen.values())

    def _look(self) -> None:
        now = datetime.now(UTC)
        for name, ended in ended_jobs(self._sagemaker).items():
            self._seen.setdefault(name, (now - ended).total_seconds())


def ended_jobs(sagemaker: Any) -> dict[str, datetime]:
    """End time of every job that succeeded."""
    processing = sagemaker.get_paginator("list_processing_jobs").paginate(StatusEquals="Completed")
    training = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals="Completed")
    jobs = {
        j["ProcessingJobName"]: j["ProcessingEndTime"] for page in processing for j in page["ProcessingJobSummaries"]
    }
    return jobs | {
        j["TrainingJobName"]: j["TrainingEndTime"] for page in training for j in page["TrainingJobSummaries"]
    }


def gaps_of(sagemaker: Any, run: Mapping[str, Any]) -> list[float]:
    """Seconds between each job's end and the next one's creation."""
    export, process, train, _ = (stage["attempts"][-1]["job"] for stage in run["stages"])
    e = sagemaker.describe_processing_job(ProcessingJobName=export)
    p = sagemaker.describe_processing_job(ProcessingJobName=process)
    t = sagemaker.describe_training_job(TrainingJobName=train)
    d = sagemaker.describe_endpoint(EndpointName=run["endpoint"])
    ends = (e["ProcessingEndTime"], p["ProcessingEndTime"], t["TrainingEndTime"])
    starts = (p["CreationTime"], t["CreationTime"], d["CreationTime"])
    return [(start - end).total_seconds() for end, start in zip(ends, starts, strict=True)]


def job_service(cloud: Cloud, service: Literal["sagemaker", "sagemaker-runtime"]) -> Any:
    """A plain boto3 client of the cloud's job service."""
    return boto3.client(
        service,
        endpoint_url=cloud.sagemaker_url,
        region_name=cloud.region,
        aws_access_key_id=cloud.access_key,
        aws_secret_access_key=cloud.secret_key,
    )


def submit_generated(
    cloud: Cloud,
    folder: Path,
    name: str,
    *,
    users: int,
    movies: int,
    ratings: int,
    hyperparameters: Mapping[str, Any],
) -> str:
    """Generate a graph, upload it and submit a run on it whose endpoint is called ``name``; the run's id."""
    graph = folder / "graph"
    if not graph.exists():
        generate(out=graph, users=users, movies=movies, ratings=ratings, seed=1)
    target = resolve(cloud.name)
    found = read_spec(graph / "spec.yaml")
    prefix = content_prefix("benchmark", found.files())
    upload_folder(target, found.files(), prefix)
    document = found.spec.model_dump(mode="json", exclude_none=True) | {
        "graph": {"source": f"s3://{cloud.data_bucket}/{prefix}"},
        "model": {"name": "rgcn", "hyperparameters": dict(hyperparameters)},
        "deploy": {"endpoint": name},
    }
    return str(ApiClient(target).submit_run(document)["run_id"])


def finished_run(client: ApiClient, run_id: str) -> Mapping[str, Any]:
    """The run once it succeeded.

    Raises:
        RuntimeError: it failed, or took longer than ``RUN_SECONDS``.
    """
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        run = client.get_run(run_id)
        if run["status"] == "SUCCEEDED":
            return run
        if run["status"] != "RUNNING":
            raise RuntimeError(f"{run_id} ended {run['status']}: {run['error']}")
        time.sleep(0.5)
    raise RuntimeError(f"{run_id} did not end within {RUN_SECONDS:g} s")


def measure(cloud: Cloud, folder: Path, runs: int) -> tuple[list[float], list[float]]:
    """Transition times of the event path and of the poller, in seconds."""
    client, sagemaker = ApiClient(resolve(cloud.name)), job_service(cloud, "sagemaker")
    poller = Poller(sagemaker)
    poller.start()
    gaps: list[float] = []
    for number in range(runs):
        endpoint = f"transitions-{number}"
        run_id = submit_generated(
            cloud, folder, endpoint, users=60, movies=40, ratings=900, hyperparameters={"num-epochs": 1, "seeds": 1}
        )
        gaps += gaps_of(sagemaker, finished_run(client, run_id))
        sagemaker.delete_endpoint(EndpointName=endpoint)
        print(f"run {number + 1}/{runs}: median so far {statistics.median(gaps) * 1000:.0f} ms", file=sys.stderr)
    return gaps, poller.finish()


def cold_import_milliseconds(tries: int = 7) -> dict[str, float]:
    """Median time to import each handler in a fresh interpreter, interpreter start excluded."""
    script = (
        "import sys, time; sys.path[:0] = sys.argv[1:]; start = time.perf_counter(); import handler; "
        "print((time.perf_counter() - start) * 1000)"
    )
    layer = str(FUNCTIONS.parent / "layers" / "shared")
    return {
        folder.name: statistics.median(
            float(subprocess.check_output([sys.executable, "-c", script, str(folder), layer])) for _ in range(tries)
        )
        for folder in sorted(path.parent for path in FUNCTIONS.glob("*/handler.py"))
    }


def percentile(values: list[float], percent: int) -> float:
    """The ``percent``-th percentile (inclusive method)."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure and write ``results/transitions.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=17, help="runs of three measured transitions each")
    runs = parser.parse_args().runs
    imports = cold_import_milliseconds()
    heaviest = max(imports, key=lambda name: imports[name])
    with tempfile.TemporaryDirectory() as home:
        os.environ["EKIDEN_HOME"] = home
        cloud = supervisor.up("bench", home=Path(home))
        try:
            gaps, polled = measure(cloud, Path(home), runs)
        finally:
            supervisor.down("bench", home=Path(home), purge=True)
    cpu = cpu_milliseconds()
    rows = [
        Row(
            "job finished → next job started, p50",
            statistics.median(gaps) * 1000,
            "ms",
            500,
            "lower",
            {"30-second poller": statistics.median(polled) * 1000},
        ),
        Row(
            "job finished → next job started, p99",
            percentile(gaps, 99) * 1000,
            "ms",
            2000,
            "lower",
            {"30-second poller": percentile(polled, 99) * 1000},
        ),
        Row(
            "the same, first run after deployment (cold functions), slowest",
            max(gaps[:3]) * 1000,
            "ms",
            5000,
            "lower",
            {},
        ),
        Row("transitions measured", len(gaps), "", 50, "higher", {"30-second poller": len(polled)}),
        Row("own CPU per transition, p50", statistics.median(cpu), "ms", 5, "lower", {}),
        Row("own CPU per transition, p99", percentile(cpu, 99), "ms", 20, "lower", {}),
        Row(f"cold import of the heaviest handler ({heaviest})", imports[heaviest], "ms", 500, "lower", {}),
    ]
    write("transitions", rows)


if __name__ == "__main__":
    main()
