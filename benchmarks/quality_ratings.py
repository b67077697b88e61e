"""Rating prediction on three data sets: test RMSE and seconds of models `fm` and `rgcn`, with their peers.

    python -m benchmarks.quality --part ratings

The real engine runs as the platform runs it: `ekiden-engine export`, `process` and `train` as child processes on an
`/opt/ml` tree each, with the features of users and movies and default hyperparameters, the same for all graphs.
Seconds are those of `process` and `train`, starts of processes, evaluation and report included. One row shows a setting
for haste, 40 iterations instead of 300.

Peers, in the same run on the same encoded graph: plain matrix factorisation (model `mf`), user and item biases, the
mean, and `myfm`, which gets the same columns and rank as `fm`, 200 iterations, and its fitting alone is timed. It lives
in a throw-away virtual environment (`benchmarks.myfm_peer` says why); where that cannot be made, the document says so.

Random splits leak the future, so MovieTweetings is also split by time. The defaults were chosen on training edges set
aside (see `ekiden_engine.models.fm`), and alternatives of the design compared by figures from there; those reported
are of test edges.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, write
from benchmarks.main_job import run_engine, stage
from benchmarks.peers import make_environment
from benchmarks.rating_data import ML_1M, ML_100K, TWEETS, TWEETS_TIME, Processed, RatingSet, prepare
from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models.fm_kernels import compile_kernels

ROOT = Path(__file__).resolve().parent.parent
PEER = Path(__file__).parent / "myfm_peer.py"
PEER_PACKAGES = ("myfm==0.4.0", "setuptools<81", "numpy", "scipy")
PEER_RANK, PEER_ITERATIONS, PEER_KEPT = 15, 200, 190
HASTE = {"num-epochs": "40"}
MODELS = ("fm", "rgcn", "mf")
PUBLISHED = {"GLocal-K, published": 0.8889, "GC-MC with features, published": 0.905}
"""Test RMSE on ML-100K u1: the READMEs of usydnlp/Glocal_K and of dmlc/dgl's GC-MC example."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One training job: wall seconds, and what evaluation.json says of the target."""

    seconds: float
    target: Mapping[str, Any]

    @property
    def rmse(self) -> float:
        """Test RMSE."""
        return float(self.target["metrics"]["rmse"])


@dataclass(frozen=True, slots=True)
class Measured:
    """All models on one data set; `peer` is what `myfm` said, or {"skipped": reason}."""

    chosen: RatingSet
    process_seconds: float
    models: Mapping[str, Trained]
    peer: Mapping[str, Any]
    peers: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """The test RMSE of everything beside `fm`, by name."""
        self.peers.update({name: t.rmse for name, t in self.models.items() if name in MODELS and name != "fm"})
        if "rmse" in self.peer:
            self.peers["myfm"] = float(self.peer["rmse"])
        self.peers["user and item biases"] = self.biases

    @property
    def biases(self) -> float:
        """Test RMSE of regularised user and item biases."""
        return float(self.models["fm"].target["baselines"]["user_item_bias"]["rmse"])

    def seconds(self, model: str) -> float:
        """Processing and training."""
        return self.process_seconds + self.models[model].seconds

    def document(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "process_seconds": round(self.process_seconds, 2),
            "models": {
                name: {
                    "rmse": t.rmse,
                    "mae": t.target["metrics"].get("mae"),
                    "train_seconds": round(t.seconds, 2),
                    "hyperparameters": t.target["hyperparameters"],
                }
                for name, t in self.models.items()
            },
            "baselines": self.models["fm"].target["baselines"],
            "myfm": dict(self.peer),
        }


def train(folder: Path, name: str, processed: Processed, model: str, given: Mapping[str, str]) -> Trained:
    """One training job."""
    spec = {**processed.spec, "model": {"name": model}}
    root = stage(folder / name, {"input/data/processed": processed.folder}, spec, "input/data/spec")
    (root / "input/config").mkdir(parents=True)
    (root / "input/config/hyperparameters.json").write_text(json.dumps(dict(given)), "utf-8")
    seconds = run_engine("train", root)
    evaluation = json.loads((root / "model/evaluation.json").read_text("utf-8"))
    return Trained(seconds, evaluation["targets"][0])


def run_peer(python: Path | str, processed: Processed, folder: Path) -> dict[str, Any]:
    """What `myfm` reaches on the encoded graph."""
    if isinstance(python, str):
        return {"skipped": python}
    graph = EncodedGraph.load(processed.folder)
    target = graph.targets[0]
    if target.edge is None:
        return {"skipped": "the target is no edge type"}
    edges, labels = graph.edge(target.edge), graph.labels(target)
    values = np.asarray(labels.values, np.float32)
    train, test = labels.rows(Split.TRAIN), labels.rows(Split.TEST)
    path = folder / "ratings.npz"
    np.savez(
        path,
        source=edges.source[train],
        dest=edges.dest[train],
        label=values[train],
        test_source=edges.source[test],
        test_dest=edges.dest[test],
        test_label=values[test],
        source_features=graph.node(target.edge[0]).features,
        dest_features=graph.node(target.edge[2]).features,
        settings=np.array([PEER_RANK, PEER_ITERATIONS, PEER_KEPT, 0]),
    )
    done = subprocess.run([str(python), str(PEER), str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"skipped": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "rank": PEER_RANK, "iterations": PEER_ITERATIONS}


def measure_set(chosen: RatingSet, data: Path, folder: Path, peer: Path | str) -> Measured:
    """Every model on one data set."""
    folder.mkdir()
    processed = prepare(chosen, data, folder)
    runs: dict[str, tuple[str, Mapping[str, str]]] = {model: (model, {}) for model in MODELS}
    if chosen is ML_100K:
        runs["fm in haste"] = ("fm", HASTE)
    models = {}
    for name, (model, given) in runs.items():
        models[name] = train(folder, name.replace(" ", "-"), processed, model, given)
        seconds = processed.seconds + models[name].seconds
        print(f"{chosen.title}, {name}: rmse {models[name].rmse:.4f}, {seconds:.1f} s", flush=True)
    said = run_peer(peer, processed, folder)
    print(f"{chosen.title}, myfm: {said}", flush=True)
    return Measured(chosen, processed.seconds, models, said)


def rows(found: Mapping[RatingSet, Measured]) -> list[Row]:
    """The benchmark's figures."""
    small, large, tweets, late = (found[chosen] for chosen in (ML_100K, ML_1M, TWEETS, TWEETS_TIME))
    haste = small.models["fm in haste"]
    seconds = {
        name: {m: entry.seconds(m) for m in MODELS[1:]}
        | ({"myfm, fitting alone": float(entry.peer["fit_seconds"])} if "fit_seconds" in entry.peer else {})
        for name, entry in (("small", small), ("large", large))
    }
    return [
        Row("test RMSE, MovieLens 100K u1, fm", small.models["fm"].rmse, "", 0.885, "lower", small.peers | PUBLISHED),
        Row("processing and training, MovieLens 100K u1, fm", small.seconds("fm"), "s", 30, "lower", seconds["small"]),
        Row("test RMSE, MovieLens 100K u1, fm in haste", haste.rmse, "", 0.895, "lower", {"rgcn": small.peers["rgcn"]}),
        Row(
            "processing and training, MovieLens 100K u1, fm in haste",
            small.seconds("fm in haste"),
            "s",
            5,
            "lower",
            {"rgcn": small.seconds("rgcn")},
        ),
        Row("test RMSE, 60 % of MovieLens 1M, fm", large.models["fm"].rmse, "", 0.842, "lower", large.peers),
        Row(
            "processing and training, 60 % of MovieLens 1M, fm", large.seconds("fm"), "s", 60, "lower", seconds["large"]
        ),
        Row("test RMSE, MovieTweetings, random, fm", tweets.models["fm"].rmse, "", 1.514, "lower", tweets.peers),
        Row("test RMSE, MovieTweetings, by time, fm", late.models["fm"].rmse, "", late.biases, "lower", late.peers),
        *(
            Row(
                f"test RMSE above that of biases, MovieTweetings, {words}, {model}",
                entry.models[model].rmse - entry.biases,
                "",
                0.0,
                "lower",
            )
            for words, entry in (("random", tweets), ("by time", late))
            for model in ("fm", "rgcn")
        ),
    ]


def measure(data: Path) -> tuple[list[Row], dict[str, Any]]:
    """The benchmark's rows, and what else its document holds; `data` is the folder of all data sets."""
    with tempfile.TemporaryDirectory(prefix="ekiden-bench-") as name:
        folder = Path(name)
        peer = make_environment(folder / "peer", PEER_PACKAGES, ["myfm"])
        compile_kernels()  # happens once per machine, the container has it done: no figure should hold it
        found = {
            chosen: measure_set(chosen, data, folder / f"set-{index}", peer)
            for index, chosen in enumerate((ML_100K, ML_1M, TWEETS, TWEETS_TIME))
        }
    return rows(found), {
        "data": {chosen.folder: chosen.title for chosen in found},
        "sets": {chosen.title: entry.document() for chosen, entry in found.items()},
    }


def main() -> int:
    """Measure and write `results/quality-ratings.json`."""
    shared = Path(os.environ.get("EKIDEN_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the data sets' folders")
    data = parser.parse_args().data
    for chosen in (ML_100K, ML_1M, TWEETS):
        if not (data / chosen.folder).is_dir():
            print(f"{data} has no {chosen.folder}: pass --data with the folder of the data sets", file=sys.stderr)
            return 2
    found, more = measure(data)
    write("quality-ratings", found, **more)
    return 0 if all(row.reached for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
