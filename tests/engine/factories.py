"""Graphs for the engine's tests: Gremlin CSV files, specs, jobs and encoded graphs, made to measure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ekiden.contracts.spec import PipelineSpec, parse_spec
from ekiden.contracts.tasks import Task
from ekiden_engine.export import export_graph
from ekiden_engine.graph import EdgeSet, EncodedGraph, Labels, NodeSet, Split, Target
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.process import process_graph

USERS = "~id,~label,age:Int(single)\nu1,user,20\nu2,user,30\nu3,user,\n"
MOVIES = "~id,~label,genres:String(set),title:String\nm1,movie,Drama;War,One\nm2,movie,Drama,Two\n"
RATED = (
    "~id,~from,~to,~label,rating:Double\n"
    "e1,u1,m1,rated,5\ne2,u1,m2,rated,4\ne3,u2,m1,rated,3\ne4,u2,m2,rated,2\ne5,u3,m1,rated,1\n"
)
SMALL_GRAPH: Mapping[str, str] = {"users.csv": USERS, "movies.csv": MOVIES, "rated.csv": RATED}
EDGE = ("user", "rated", "movie")


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files (names may have folders) and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def make_document(**changes: Any) -> dict[str, Any]:
    """A spec for the small graph; `target` and `model` entries are merged into their parts, others replace."""
    target = {"edge": list(EDGE), "property": "rating", "type": "regression", **changes.pop("target", {})}
    return {
        "version": 1,
        "name": "small",
        "graph": {"source": "s3://bucket/small/"},
        "targets": [target],
        "features": [],
        **changes,
    }


def make_spec(**changes: Any) -> PipelineSpec:
    """`make_document`, validated."""
    return parse_spec(make_document(**changes))


def make_job(folder: Path, files: Mapping[str, str | bytes], document: Mapping[str, Any]) -> MlRoot:
    """The `/opt/ml` of an export job."""
    root = MlRoot(folder)
    write_files(root.processing_input("graph"), files)
    write_files(root.processing_input("spec"), {"spec.json": json.dumps(document)})
    return root


def export_files(folder: Path, files: Mapping[str, str | bytes], **changes: Any) -> Path:
    """Export a graph given as files; return the export's folder."""
    source = write_files(folder / "graph", files)
    export_graph(source, folder / "export", make_spec(**changes))
    return folder / "export"


def process_files(folder: Path, files: Mapping[str, str | bytes], **changes: Any) -> EncodedGraph:
    """Export and process a graph given as files; the encoded graph is in `folder / "processed"`."""
    return process_graph(export_files(folder, files, **changes), folder / "processed", make_spec(**changes))


def make_encoded_graph(
    users: int = 40, movies: int = 30, edges: int = 600, seed: int = 0, *, label_scale: float = 1.0
) -> EncodedGraph:
    """A rating graph that can be learnt: biases plus taste times kind; 80/10/10 split."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * movies, size=edges, replace=False)
    source, dest = (pairs // movies).astype(np.int32), (pairs % movies).astype(np.int32)
    taste, kind = rng.normal(size=users), rng.normal(size=movies)
    bias = rng.normal(scale=0.5, size=users)[source] + rng.normal(scale=0.5, size=movies)[dest]
    noise = rng.normal(scale=0.3, size=edges)
    label = np.clip(3.5 + bias + 0.6 * taste[source] * kind[dest] + noise, 1.0, 5.0) * label_scale
    split = rng.choice([Split.TRAIN, Split.VALID, Split.TEST], p=[0.8, 0.1, 0.1], size=edges).astype(np.uint8)
    known = label[split == Split.TRAIN]
    return EncodedGraph(
        nodes=(
            NodeSet("user", pa.array([f"u{i}" for i in range(users)]), taste[:, None].astype(np.float32), ("taste",)),
            NodeSet("movie", pa.array([f"m{i}" for i in range(movies)]), kind[:, None].astype(np.float32), ("kind",)),
        ),
        edges=(EdgeSet(*EDGE, source=source, dest=dest, labels=(Labels(0, split, label.astype(np.float32)),)),),
        targets=(
            Target(
                task=Task.EDGE_REGRESSION,
                edge=EDGE,
                property="rating",
                label_min=float(known.min()),
                label_max=float(known.max()),
            ),
        ),
    )
