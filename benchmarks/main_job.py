"""Edge regression on MovieLens 100K, canonical split 1: test RMSE, and the seconds that processing and training take.

    make bench NAME=main-job

The real engine runs as the platform runs it: `ekiden-engine export`, `process` and `train` as child processes on an
`/opt/ml` tree each, three seeds, medians. Export is not in the time: it is the platform's copying, not the engine's
learning. Peers: the two baselines of `evaluation.json`, and plain biased matrix factorisation, trained in the same run
on the same encoded graph with the same loop and ensemble.

The data is not part of the project: it is looked for in `$EKIDEN_SHARED/data/ml-100k`, else `../shared/data/ml-100k`;
`--data` names another folder. Default hyperparameters were chosen on validation edges; the figures reported are
those of the test set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import Row, write
from ekiden.contracts.tasks import Task
from ekiden_cli.movielens import convert
from ekiden_engine.evaluation import evaluate
from ekiden_engine.graph import EncodedGraph
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import CurvePoint, Step

ROOT = Path(__file__).resolve().parent.parent
RMSE_GOAL, SECONDS_GOAL = 0.905, 60.0
SEEDS = (0, 100, 200)
"""The ensemble's members have consecutive seeds, so these share none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One seed: wall seconds of the two stages, and evaluation.json."""

    process_seconds: float
    train_seconds: float
    evaluation: dict[str, Any]

    @property
    def target(self) -> dict[str, Any]:
        """What it says of the only target."""
        entry: dict[str, Any] = self.evaluation["targets"][0]
        return entry

    @property
    def rmse(self) -> float:
        """Test RMSE."""
        return float(self.target["metrics"]["rmse"])

    @property
    def seconds(self) -> float:
        """Processing and training, process starts included."""
        return self.process_seconds + self.train_seconds


class Silent:
    """No progress lines for the peer."""

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""

    def stop_requested(self) -> bool:
        """Never."""
        return False


def run_engine(command: str, root: Path) -> float:
    """Run one engine command on its ML root; return wall seconds. Raises `CalledProcessError`, after its log."""
    environment = {**os.environ, "EKIDEN_ML_ROOT": str(root)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ekiden_engine", command], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
    return seconds


def stage(folder: Path, links: Mapping[str, Path], spec: Mapping[str, Any], spec_folder: str) -> Path:
    """Make an ML root whose inputs are links to `links` (path in the root to target)."""
    for name, target in links.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target, target_is_directory=True)
    path = folder / spec_folder
    path.mkdir(parents=True)
    (path / "spec.json").write_text(json.dumps(spec), "utf-8")
    return folder


def measure(data: Path, folder: Path, seeds: Sequence[int]) -> tuple[list[Measured], Path]:
    """Every seed's figures, and the folder of the encoded graph."""
    graph = convert(data, folder / "graph", split="u1")
    spec = yaml.safe_load(graph.spec.read_text("utf-8"))
    spec["graph"]["source"] = "s3://bench-graph/ml-100k/"
    export = stage(folder / "export", {"processing/input/graph": graph.folder}, spec, "processing/input/spec")
    run_engine("export", export)
    found = []
    for seed in seeds:
        links = {"processing/input/export": export / "processing/output/export"}
        process = stage(folder / f"process-{seed}", links, spec, "processing/input/spec")
        process_seconds = run_engine("process", process)
        links = {"input/data/processed": process / "processing/output/processed"}
        train = stage(folder / f"train-{seed}", links, spec, "input/data/spec")
        (train / "input/config").mkdir(parents=True)
        (train / "input/config/hyperparameters.json").write_text(json.dumps({"seed": str(seed)}), "utf-8")
        train_seconds = run_engine("train", train)
        evaluation = json.loads((train / "model/evaluation.json").read_text("utf-8"))
        found.append(Measured(process_seconds, train_seconds, evaluation))
        print(f"seed {seed}: rmse {found[-1].rmse:.4f}, {found[-1].seconds:.1f} s", flush=True)
    return found, folder / f"process-{seeds[0]}" / "processing/output/processed"


def factorization(processed: Path, seeds: Sequence[int]) -> list[float]:
    """Test RMSE of model `mf` per seed."""
    graph = EncodedGraph.load(processed)
    found = []
    for seed in seeds:
        fit = make_trainer("mf", Task.EDGE_REGRESSION, {"seed": str(seed)}).fit(graph, graph.targets[0], Silent())
        rmse = evaluate(graph, graph.targets[0], fit.predictor).metric.value
        found.append(rmse if rmse is not None else float("nan"))
    return found


def rows(measured: Sequence[Measured], mf: Sequence[float]) -> list[Row]:
    """The benchmark's figures: medians over the seeds."""
    baselines = measured[0].target["baselines"]
    return [
        Row(
            "test RMSE, MovieLens 100K u1",
            statistics.median(m.rmse for m in measured),
            "",
            RMSE_GOAL,
            "lower",
            {
                "matrix factorisation": statistics.median(mf),
                "user and item biases": baselines["user_item_bias"]["rmse"],
                "global mean": baselines["global_mean"]["rmse"],
            },
        ),
        Row("processing and training", statistics.median(m.seconds for m in measured), "s", SECONDS_GOAL, "lower"),
    ]


def main() -> int:
    """Measure and write `results/main-job.json`."""
    shared = Path(os.environ.get("EKIDEN_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "data" / "ml-100k", help="folder of MovieLens 100K")
    data = parser.parse_args().data
    if not (data / "u1.base").is_file():
        print(f"{data} has no u1.base: pass --data with the folder of MovieLens 100K", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ekiden-bench-") as folder:
        measured, processed = measure(data, Path(folder), SEEDS)
        found = rows(measured, factorization(processed, SEEDS))
    write(
        "main-job",
        found,
        data="MovieLens 100K, u1.base (80,000 ratings) and u1.test (20,000)",
        seeds=list(SEEDS),
        hyperparameters=measured[0].target["hyperparameters"],
        per_seed=[
            {
                "seed": seed,
                "rmse": m.rmse,
                "process_seconds": round(m.process_seconds, 2),
                "train_seconds": round(m.train_seconds, 2),
            }
            for seed, m in zip(SEEDS, measured, strict=True)
        ],
    )
    return 0 if all(row.reached for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
