"""The rating graphs of the quality benchmark: converted, split, exported and processed by the real engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import yaml

from benchmarks.main_job import run_engine, stage
from ekiden_cli.gremlin import write_rows
from ekiden_cli.movielens import convert

TEST_SHARE = 0.1
SPLIT_SEED = 0

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RatingSet:
    """A data set and its split: `u1` as published, `random` nine to one, `time` with the latest tenth for test."""

    title: str
    folder: str
    split: Literal["u1", "random", "time"]


ML_100K = RatingSet("MovieLens 100K u1", "ml-100k", "u1")
ML_1M = RatingSet("60 % of MovieLens 1M, random 90/10", "ml-1m-60pct", "random")
TWEETS = RatingSet("MovieTweetings 100K, random 90/10", "movietweetings-100k", "random")
TWEETS_TIME = RatingSet("MovieTweetings 100K, latest 10 %", "movietweetings-100k", "time")


@dataclass(frozen=True, slots=True)
class Processed:
    """An encoded graph on disk, the spec that made it, and the wall seconds of the processing job."""

    folder: Path
    spec: Mapping[str, Any]
    seconds: float


def prepare(chosen: RatingSet, data: Path, folder: Path) -> Processed:
    """Convert the files in `data` / its folder, write the split, export and process; everything below `folder`."""
    graph = convert(data / chosen.folder, folder / "graph", split="u1" if chosen.split == "u1" else None)
    spec = yaml.safe_load(graph.spec.read_text("utf-8"))
    spec["graph"]["source"] = "s3://bench-graph/ratings/"
    if chosen.split != "u1":
        spec["targets"][0].pop("split_rate")
        spec["targets"][0]["custom_split_filenames"] = _write_split(graph.folder, chosen.split)
    export = stage(folder / "export", {"processing/input/graph": graph.folder}, spec, "processing/input/spec")
    run_engine("export", export)
    links = {"processing/input/export": export / "processing/output/export"}
    root = stage(folder / "process", links, spec, "processing/input/spec")
    seconds = run_engine("process", root)
    return Processed(root / "processing/output/processed", spec, seconds)


def _write_split(folder: Path, rule: Literal["random", "time"]) -> dict[str, str]:
    """`splits/train.csv` and `splits/test.csv` of pairs; a pair that is rated twice is for training."""
    edges = pv.read_csv(folder / "edges-rated.csv")
    test = _latest(edges["timestamp:Long"]) if rule == "time" else _random(len(edges))
    pairs = pc.binary_join_element_wise(edges["~from"], edges["~to"], " ")
    repeated = pc.is_in(pairs, value_set=pairs.filter(pa.array(~test)))
    test &= ~np.asarray(repeated.to_numpy(zero_copy_only=False), np.bool_)
    (folder / "splits").mkdir(exist_ok=True)
    for name, rows in (("train", ~test), ("test", test)):
        part = edges.filter(pa.array(rows)).combine_chunks()
        ends = {end: part[end].combine_chunks() for end in ("~from", "~to")}
        write_rows(folder / "splits" / f"{name}.csv", ends)
    return {"train": "splits/train.csv", "test": "splits/test.csv"}


def _random(count: int) -> BoolArray:
    test = np.zeros(count, np.bool_)
    test[np.random.default_rng(SPLIT_SEED).permutation(count)[: round(count * TEST_SHARE)]] = True
    return test


def _latest(times: pa.ChunkedArray) -> BoolArray:
    order = np.argsort(times.to_numpy(), kind="stable")
    test = np.zeros(len(order), np.bool_)
    test[order[len(order) - round(len(order) * TEST_SHARE) :]] = True
    return test
