"""Top-10 of 200,000 and 500,000 candidates: exact, and by the index that serving builds from 200,000 on.

    make bench NAME=neighbours

Candidates are 64 wide, in 200 groups, with a popularity that few have much of, as trained models of links have them;
queries come from the same groups. Both answer the same queries with the same threads, one query per call, as an
endpoint gets them, and 64 per call; the rate is the median of several passes. Recall is the share of the exact answer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Row, write
from ekiden_engine.models.base import FloatArray
from ekiden_engine.neighbours import SAMPLE, ApproximateTop, ExactTop, TopItems, recall_of

SEED, WIDTH, GROUPS, K = 7, 64, 200, 10
SIZES = (200_000, 500_000)
QUERIES, PASSES = 512, 5
SINGLE = 64
"""Queries of a pass of single calls."""
RATE_GOAL, RATIO_GOAL, RECALL_GOAL, BUILD_GOAL = 500.0, 3.0, 0.95, 60.0


def make_items(count: int, rng: np.random.Generator, centres: FloatArray) -> FloatArray:
    """Candidates float32 [count, WIDTH + 1], popularity last."""
    items = (centres[rng.integers(GROUPS, size=count)] + rng.normal(size=(count, WIDTH))) / WIDTH**0.5
    return np.concatenate((items, rng.gamma(1.0, 0.5, size=(count, 1))), axis=1, dtype=np.float32)


def make_queries(count: int, rng: np.random.Generator, centres: FloatArray) -> FloatArray:
    """Queries float32 [count, WIDTH + 1]."""
    queries = centres[rng.integers(GROUPS, size=count)] + rng.normal(size=(count, WIDTH))
    return np.concatenate((queries, np.ones((count, 1))), axis=1, dtype=np.float32)


def rate(searched: TopItems, queries: FloatArray, each: int) -> float:
    """Queries per second with `each` per call, median of the passes."""
    seconds = []
    for _ in range(PASSES):
        start = time.perf_counter()
        for first in range(0, len(queries), each):
            searched.top(queries[first : first + each], K)
        seconds.append(time.perf_counter() - start)
    return len(queries) / statistics.median(seconds)


def measure(count: int) -> list[Row]:
    """The figures at one number of candidates."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(GROUPS, WIDTH)).astype(np.float32)
    exact = ExactTop(make_items(count, rng, centres))
    sample, queries = make_queries(SAMPLE, rng, centres), make_queries(QUERIES, rng, centres)
    start = time.perf_counter()
    index = ApproximateTop(exact, sample)
    built = time.perf_counter() - start
    recall = recall_of(index.top(queries, K).rows, exact.top(queries, K).rows)
    of = f"{count:,} candidates"
    rows = [
        Row(f"recall@{K} of the index, {of}", recall, "", RECALL_GOAL, "higher"),
        Row(f"building the index, {of}", built, "s", BUILD_GOAL, "lower"),
    ]
    for each, asked in ((1, queries[:SINGLE]), (64, queries)):
        name, fast, slow = f"index, {of}, {each} per call", rate(index, asked, each), rate(exact, asked, each)
        rows.append(Row(name, fast, "queries/s", RATE_GOAL, "higher", {"exact": slow}))
        rows.append(Row(f"{name}, over exact", fast / slow, "", RATIO_GOAL, "higher"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write `results/neighbours.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args(arguments).sizes
    rows = [row for size in sizes for row in measure(size)]
    write("neighbours", rows, seed=SEED, width=WIDTH, groups=GROUPS, k=K, sizes=list(sizes))


if __name__ == "__main__":
    main()
