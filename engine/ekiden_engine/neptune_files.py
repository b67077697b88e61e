"""The small files that Neptune ML puts beside its artefacts, by their names there, for tools that look for them.

- `train_instance_recommendation.json` (processed graph): `instance`, `cpu_instance`, `disk_size`, `mem_size` (bytes);
  `infer_instance_recommendation.json` (model): the same without `cpu_instance`.
  Source: "Instance selection for the Neptune ML stages" in the Amazon Neptune user guide.
- `eval_metrics_info.json`, `test_metrics_info.json`: the figures of the first target on validation and on test rows.
- `embeddings/entity.npy`: float32 [n, d], all node types that have vectors, one after another; `embeddings/entity.json`
  tells which rows are whose, in the order of `mappings/`.
- `predictions/result.npz`: `infer_scores`, a row per node, of the first target that is a property of nodes.

Neptune ML's `graph.bin`, `info.pkl` and `mapping.info` have no counterpart of that name: they are pickles. What they
hold is in `graph.json` and `mappings/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import NodePredictor, Predictor

GIB = 1 << 30
INSTANCES: Final = (
    ("ml.m5.large", 8),
    ("ml.m5.xlarge", 16),
    ("ml.m5.2xlarge", 32),
    ("ml.m5.4xlarge", 64),
    ("ml.m5.12xlarge", 192),
    ("ml.m5.24xlarge", 384),
    ("ml.r5.24xlarge", 768),
)
"""Instance types with their memory in GiB; the engine trains and serves on CPUs."""
PROGRAM_BYTES = 600 << 20
"""The engine and its libraries, before any data."""
VECTOR_BYTES = 64 * 4 * 12
"""Per node: 64 numbers of 4 bytes, their gradients, two moments of the optimiser, layers in between, and copies."""
EDGE_BYTES = 96
"""Per edge: both directions as rows of a sparse matrix, with indices, weights and what they are made from."""


def write_training_recommendation(folder: Path, graph: EncodedGraph) -> None:
    """Write `train_instance_recommendation.json` into `folder`, where the processed graph is about to lie."""
    features = sum(nodes.features.nbytes for nodes in graph.nodes)
    ids = sum(nodes.ids.nbytes for nodes in graph.nodes)
    ends = sum(edges.source.nbytes + edges.dest.nbytes for edges in graph.edges)
    memory = (
        PROGRAM_BYTES
        + 3 * features
        + VECTOR_BYTES * sum(len(nodes) for nodes in graph.nodes)
        + EDGE_BYTES * sum(len(edges) for edges in graph.edges)
    )
    instance = smallest_instance(memory)
    _write(
        folder / "train_instance_recommendation.json",
        {
            "instance": instance,
            "cpu_instance": instance,
            "disk_size": 2 * (features + ids + ends),  # and as much again for the model
            "mem_size": memory,
        },
    )


def write_model_files(
    folder: Path,
    graph: EncodedGraph,
    predictors: Sequence[tuple[Target, Predictor]],
    figures: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the files of a model, after all others but the manifest; `figures` are the first target's, by split."""
    for name, split in (("eval_metrics_info.json", "valid"), ("test_metrics_info.json", "test")):
        _write(folder / name, dict(figures.get(split, {})))
    _write_embeddings(folder / "embeddings", graph, predictors[0][1])
    for target, predictor in predictors:
        if target.node is not None:
            (folder / "predictions").mkdir()
            every = np.arange(len(graph.node(target.node)), dtype=np.int32)
            scores = cast(NodePredictor, predictor).predict(every)
            np.savez(folder / "predictions" / "result.npz", infer_scores=scores)
            break
    disk = _size(folder)
    memory = PROGRAM_BYTES + 3 * disk
    recommended = {"instance": smallest_instance(memory), "disk_size": disk, "mem_size": memory}
    _write(folder / "infer_instance_recommendation.json", recommended)


def smallest_instance(memory: int) -> str:
    """The smallest of `INSTANCES` with more than `memory` bytes; the largest if none has."""
    return next((name for name, gib in INSTANCES if gib * GIB > memory), INSTANCES[-1][0])


def _write_embeddings(folder: Path, graph: EncodedGraph, predictor: Predictor) -> None:
    """Vectors of the node types that have some, if they are all equally long."""
    found = {nodes.label: table for nodes in graph.nodes if (table := predictor.embeddings(nodes.label)) is not None}
    if not found or len({table.shape[1] for table in found.values()}) != 1:
        return
    folder.mkdir()
    np.save(folder / "entity.npy", np.concatenate(list(found.values())), allow_pickle=False)
    start, rows = 0, []
    for label, table in found.items():
        rows.append({"type": label, "start": start, "count": len(table)})
        start += len(table)
    _write(folder / "entity.json", {"rows": rows})


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")
