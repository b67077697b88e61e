"""The engine against its peers: training throughput, and how export, process and training grow with the graph.

    make bench NAME=engine            (ten minutes on an idle machine with two cores)
    make bench NAME=engine ARGS=--quick   (under a minute; writes no result)

Throughput: see `benchmarks.engine_throughput`; the graph is 60 % of MovieLens 1M (`$EKIDEN_SHARED/data`, else
`../shared/data`; `--data` names another folder), or without it a generated one of that size. Directed edges: every
training edge brings a message each way. An epoch asks for every training edge once, in sixteen steps that each pass
messages over the whole graph.

Scale: generated graphs (`benchmarks.engine_graph`) go through `ekiden-engine export`, `process` and one epoch of
`train`, each in a process of its own whose memory is limited to 8 GiB of addresses. Memory is the peak of resident
pages. The exponent is that of a power law through two sizes, ten apart; the largest is reported. Beside: a plain pandas
program for export and process together (`benchmarks.engine_pandas`), which does less.

The peers live in a throw-away virtual environment; where that cannot be made, the document says why they are missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Row, write
from benchmarks.engine_graph import SPEC, Size, generate
from benchmarks.main_job import run_engine, stage
from benchmarks.peers import ROOT, make_environment, run_module
from benchmarks.rating_data import ML_1M, prepare

PEERS, PEER_MODULES = ("torch_geometric==2.8.1", "pandas==3.1.1"), ("torch_geometric", "pandas")
MEASURED = Path(__file__).parent / "measured.py"
SIZES = (100_000, 1_000_000, 10_000_000)
MEMORY_GIB = 8
EPOCH = {"num-epochs": "1", "seeds": "1", "regularization-coef": "1"}
ML_1M_EDGES = 600_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One process: wall and processor seconds, peak of resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Scaled:
    """A generated graph's way through the engine."""

    size: Size
    export: Stage
    process: Stage
    train: Stage
    pandas: Stage | None

    @property
    def rows_per_second(self) -> float:
        """Vertices and edges over export and process, starts of processes included."""
        return self.size.rows / (self.export.seconds + self.process.seconds)


def measure(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Stage:
    """Run a command within `MEMORY_GIB`. Raises `CalledProcessError`, after its output."""
    done = subprocess.run(
        [sys.executable, "-S", str(MEASURED), str(MEMORY_GIB), *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return Stage(**json.loads(done.stdout))


def engine(command: str, root: Path) -> Stage:
    """One engine command on its ML root."""
    return measure([sys.executable, "-m", "ekiden_engine", command], {"EKIDEN_ML_ROOT": str(root)})


def scale(size: Size, folder: Path, python: Path | str) -> Scaled:
    """Generate a graph, and everything that is measured of it."""
    generate(size, folder / "graph")
    root = stage(folder / "export", {"processing/input/graph": folder / "graph"}, SPEC, "processing/input/spec")
    export = engine("export", root)
    links = {"processing/input/export": root / "processing/output/export"}
    root = stage(folder / "process", links, SPEC, "processing/input/spec")
    process = engine("process", root)
    root = stage(
        folder / "train", {"input/data/processed": root / "processing/output/processed"}, SPEC, "input/data/spec"
    )
    (root / "input/config").mkdir(parents=True)
    (root / "input/config/hyperparameters.json").write_text(json.dumps(EPOCH), "utf-8")
    train = engine("train", root)
    pandas = None
    if isinstance(python, Path):
        pandas = measure([python, "-m", "benchmarks.engine_pandas", folder / "graph", folder / "pandas"])
    found = Scaled(size, export, process, train, pandas)
    print(f"{size.edges:,} edges: {found.rows_per_second:,.0f} rows/s, training {train.seconds:.1f} s", flush=True)
    return found


def exponent(small: float, large: float, factor: float) -> float:
    """Of the power law through two figures whose sizes are `factor` apart."""
    return math.log(large / small) / math.log(factor)


def exponents(measured: Sequence[Scaled]) -> tuple[dict[str, float], dict[str, float]]:
    """The largest exponents of seconds and of memory between neighbouring sizes, by stage."""
    time_by, memory_by = {}, {}
    for name in ("export", "process", "train", "pandas"):
        stages = [(s.size.edges, getattr(s, name)) for s in measured if getattr(s, name) is not None]
        pairs = list(itertools.pairwise(stages))
        if pairs:
            time_by[name] = max(exponent(a.seconds, b.seconds, m / n) for (n, a), (m, b) in pairs)
            memory_by[name] = max(exponent(a.peak_mib, b.peak_mib, m / n) for (n, a), (m, b) in pairs)
    return time_by, memory_by


def processed(folder: Path) -> Path:
    """The generated graph in `folder` / graph, exported and processed."""
    root = stage(folder / "export", {"processing/input/graph": folder / "graph"}, SPEC, "processing/input/spec")
    run_engine("export", root)
    links = {"processing/input/export": root / "processing/output/export"}
    root = stage(folder / "process", links, SPEC, "processing/input/spec")
    run_engine("process", root)
    return root / "processing/output/processed"


def throughput(data: Path, folder: Path, python: Path | str, rounds: int) -> dict[str, Any]:
    """Of one graph, and which it was."""
    if (data / ML_1M.folder / "ratings.csv").is_file():
        name, graph = ML_1M.title, prepare(ML_1M, data, folder).folder
    else:
        name = f"generated, {ML_1M_EDGES:,} edges"
        generate(Size(ML_1M_EDGES), folder / "graph")
        graph = processed(folder)
    interpreter = python if isinstance(python, Path) else Path(sys.executable)
    found = run_module(interpreter, "benchmarks.engine_throughput", [graph, "--rounds", str(rounds)])
    return {"graph": name, **found}


def rows(speed: dict[str, Any], measured: Sequence[Scaled]) -> list[Row]:
    """The benchmark's figures."""
    edges = speed["directed_edges"]
    peers = {"PyTorch Geometric": edges / (16 * speed["batches"]["theirs"])} if "theirs" in speed["batches"] else {}
    found = [
        Row("training, directed edges asked for per second, d = 64", edges / speed["epoch"], "/s", 1e6, "higher", peers)
    ]
    for form, words in (("batches", "step for a sixteenth of the edges"), ("at_once", "step for all edges at once")):
        one = speed[form]
        if "ratio" in one:
            found.append(
                Row(
                    f"{words}, times as fast as PyTorch Geometric",
                    one["ratio"],
                    "x",
                    10,
                    "higher",
                    {"ours, seconds": one["ours"], "PyTorch Geometric, seconds": one["theirs"]},
                )
            )
    time_by, memory_by = exponents(measured)
    for scaled in measured[1:] or measured:
        peer = {} if scaled.pandas is None else {"pandas": scaled.size.rows / scaled.pandas.seconds}
        name = f"export and process, {scaled.size.edges:,} edges"
        found.append(Row(name, scaled.rows_per_second, "rows/s", 250_000, "higher", peer))
    if time_by:
        ours = ("export", "process", "train")
        for words, by in (("time", time_by), ("memory", memory_by)):
            peer = {name: value for name, value in by.items() if name not in ours}
            found.append(Row(f"exponent of {words} over size", max(by[n] for n in ours), "", 1.1, "lower", peer))
    largest = measured[-1]
    peak = max(stage.peak_mib for stage in (largest.export, largest.process, largest.train)) / 1024
    peer = {} if largest.pandas is None else {"pandas": largest.pandas.peak_mib / 1024}
    found.append(Row(f"peak memory, {largest.size.edges:,} edges", peak, "GiB", MEMORY_GIB, "lower", peer))
    return found


def main() -> int:
    """Measure and write `results/engine.json`."""
    shared = Path(os.environ.get("EKIDEN_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder that holds ml-1m-60pct")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, no result written")
    parser.add_argument("--peers", type=Path, help="an interpreter that has the peers, instead of making one")
    given = parser.parse_args()
    sizes = (30_000, 100_000) if given.quick else SIZES
    with tempfile.TemporaryDirectory(prefix="ekiden-bench-") as name:
        folder = Path(name)
        python = given.peers or make_environment(folder / "peers", PEERS, PEER_MODULES, sees_ours=True)
        speed = throughput(given.data, folder / "throughput", python, 1 if given.quick else 5)
        measured = [scale(Size(edges), folder / str(edges), python) for edges in sizes]
    found = rows(speed, measured)
    time_by, memory_by = exponents(measured)
    document = {
        "seed": 0,
        "memory_limit_gib": MEMORY_GIB,
        "training": speed,
        "peers": "measured" if isinstance(python, Path) else python,
        "sizes": [{"rows": s.size.rows, "rows_per_second": round(s.rows_per_second), **asdict(s)} for s in measured],
        "exponents": {"time": time_by, "memory": memory_by},
    }
    if given.quick:
        print(json.dumps(document, indent=1))
    else:
        write("engine", found, **document)
    return 0 if all(row.reached for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
