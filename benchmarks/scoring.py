"""How fast a million pairs go through the queue, the workers and the endpoint, and whether memory stays flat.

    make bench NAME=scoring

Everything is real: the file in S3, the split into messages, the queue, the Lambda workers, the endpoint's process, the
results in S3, the ledger's progress. Peers in the same run, against the same endpoint: one pair per call, which is what
a caller without batches does, and a loop of full batches straight to the endpoint without queue, workers or results,
which is what the endpoint itself can do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, write
from benchmarks.transitions import finished_run, job_service, submit_generated
from ekiden_cli.api import ApiClient
from ekiden_cli.storage import upload_file
from ekiden_cli.target import Target, resolve
from ekiden_local import supervisor
from ekiden_local.state import Cloud

USERS, MOVIES, RATINGS = 6_000, 3_000, 120_000
SEED = 5
BATCH = 100_000
PEER_SECONDS = 5.0
DEADLINE_SECONDS = 300.0
SAMPLE_SECONDS = 0.1
PASSES = 5
"""The first warms the workers up; the median of all gives the rate."""


class MemoryWatch(threading.Thread):
    """Samples the resident memory of workers, endpoint and job service, in bytes.

    MiniStack's own process is left out: it keeps S3's objects in memory, and so grows by what is put there.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(daemon=True)
        self._roots = set(pids.values())
        self._store = pids["ministack"]
        self._over = threading.Event()
        self._samples: list[int] = []

    def run(self) -> None:
        """Sample until stopped."""
        while not self._over.wait(SAMPLE_SECONDS):
            self._samples.append(resident_bytes(self._roots, without=self._store))

    def peak(self) -> int:
        """The largest sample since the last call, in bytes."""
        largest = max(self._samples)
        self._samples.clear()
        return largest

    def stop(self) -> None:
        """Sample no more."""
        self._over.set()
        self.join()


def resident_bytes(roots: set[int], without: int) -> int:
    """Resident memory of the processes ``roots`` and all their descendants, process ``without`` left out."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            pages[int(entry.name)] = int(fields[21])
        except OSError:
            continue  # it ended meanwhile
    family = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(pages.get(pid, 0) for pid in family - {without}) * os.sysconf("SC_PAGE_SIZE")


def write_pairs(path: Path, count: int) -> bytes:
    """``count`` random pairs as a file, a few of them with a node the model never saw; the body of one batch."""
    rng = np.random.default_rng(SEED)
    users = rng.integers(1, USERS + 20, size=count)
    movies = rng.integers(1, MOVIES + 10, size=count)
    lines = [f"user-{u},movie-{m}" for u, m in zip(users, movies, strict=True)]
    path.write_text("source,target\n" + "\n".join(lines) + "\n")
    return ("\n".join(lines[:BATCH]) + "\n").encode()


def score_all(client: ApiClient, target: Target, endpoint: str, pairs: Path) -> tuple[float, Mapping[str, Any]]:
    """Seconds from the request to its completion, and the request as it stands then. The upload is not counted."""
    uri = upload_file(target, pairs, "uploads/bench.csv")
    start = time.perf_counter()
    request = client.submit_scores(endpoint, pairs_uri=uri)
    while time.perf_counter() - start < DEADLINE_SECONDS:
        view = client.get_scores(request["request_id"])
        if view["status"] in {"COMPLETED", "FAILED"}:
            return time.perf_counter() - start, view
        time.sleep(0.1)
    raise RuntimeError(f"{request['request_id']} did not complete within {DEADLINE_SECONDS:g} s: {view}")


def calls_per_second(runtime: Any, endpoint: str, body: bytes) -> float:
    """Calls per second of one caller who waits for each answer."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < PEER_SECONDS:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType="text/csv")["Body"].read()
        calls += 1
    return calls / (time.perf_counter() - start)


def measure(cloud: Cloud, folder: Path, count: int) -> list[Row]:
    """The figures of one embedded cloud."""
    target = resolve(cloud.name)
    client, runtime = ApiClient(target), job_service(cloud, "sagemaker-runtime")
    run_id = submit_generated(
        cloud,
        folder,
        "scoring",
        users=USERS,
        movies=MOVIES,
        ratings=RATINGS,
        hyperparameters={"num-epochs": 5, "seeds": 1},
    )
    endpoint = finished_run(client, run_id)["endpoint"]
    batch = write_pairs(folder / "pairs.csv", count)
    single = calls_per_second(runtime, endpoint, b"user-1,movie-1\n")
    direct = calls_per_second(runtime, endpoint, batch) * batch.count(b"\n")
    watch = MemoryWatch(cloud.pids)
    watch.start()
    passes: list[tuple[float, int]] = []
    for number in range(PASSES):
        seconds, view = score_all(client, target, endpoint, folder / "pairs.csv")
        if view["status"] != "COMPLETED" or view["pairs"]["total"] != count:
            raise RuntimeError(f"not every pair was scored: {view}")
        passes.append((seconds, watch.peak()))
        print(
            f"pass {number + 1}: {count:,} pairs in {seconds:.1f} s, {view['messages']['total']} messages",
            file=sys.stderr,
        )
    watch.stop()
    seconds = statistics.median(seconds for seconds, _ in passes)
    peaks = [peak for _, peak in passes]
    peers = {"one pair per call": single, "batches straight to the endpoint": direct}
    return [
        Row("pairs scored through queue, workers and endpoint", count, "pairs", 1_000_000, "higher", {}),
        Row("sustained rate, median of five passes", count / seconds, "pairs/s", 20_000, "higher", peers),
        Row(
            "peak memory of workers, endpoint and job service, last pass over second",
            peaks[-1] / peaks[1],
            "",
            1.05,
            "lower",
            {},
        ),
        Row("peak memory of workers, endpoint and job service", max(peaks) / 2**20, "MiB", 4096, "lower", {}),
    ]


def main() -> None:
    """Measure and write ``results/scoring.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    count = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as home:
        os.environ["EKIDEN_HOME"] = home
        cloud = supervisor.up("bench", home=Path(home))
        try:
            rows = measure(cloud, Path(home), count)
        finally:
            supervisor.down("bench", home=Path(home), purge=True)
    write("scoring", rows)


if __name__ == "__main__":
    main()
