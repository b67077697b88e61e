"""How good a model is: errors per split beside two baselines, and a prediction for every held-out edge."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.base import EdgePredictor, FloatArray, IndexArray
from ekiden_engine.models.baselines import BiasBaseline

VERSION = "ekiden.evaluation.v1"
PREDICTIONS_FILE = "predictions.parquet"
EVALUATION_FILE = "evaluation.json"

FEW_EDGES = 100
"""With fewer labelled training edges than this, what a model says is little better than their mean."""

SCORED = "scored"
STATUSES = (SCORED, "fallback_source", "fallback_target", "fallback_both")
"""How a pair was scored; a fallback stands in for a node that the model never saw."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors in label units over `count` edges; None where they are undefined (no edge, or labels all
    alike)."""

    rmse: float | None
    mae: float | None
    r2: float | None
    count: int

    @classmethod
    def of(cls, actual: FloatArray, predicted: FloatArray) -> Metrics:
        """`actual`, `predicted` float32 [m]. R² is 1 - sum of squared errors / sum of squared deviations."""
        if not len(actual):
            return cls(None, None, None, 0)
        error = predicted.astype(np.float64) - actual
        spread = float(np.sum((actual.astype(np.float64) - actual.mean(dtype=np.float64)) ** 2))
        alike = float(actual.min()) == float(actual.max())  # then the spread is dust at best
        r2 = None if alike or not spread > 0 else 1 - float(np.sum(error**2)) / spread
        return cls(math.sqrt(float(np.mean(error**2))), float(np.mean(np.abs(error))), r2, len(actual))


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The edges that the headline figures are about, with what was predicted for them; all arrays [m].

    `split` names where they come from: test, else valid, else train. `source_degree` and `dest_degree`:
    training edges of the end points. `status` indexes `STATUSES`.
    """

    split: str
    source: IndexArray
    dest: IndexArray
    actual: FloatArray
    predicted: FloatArray
    global_mean: FloatArray
    user_item_bias: FloatArray
    source_degree: npt.NDArray[np.int64]
    dest_degree: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Metrics of the model per split, and of the baselines on the held-out edges."""

    held_out: HeldOut
    splits: dict[str, Metrics]
    baselines: dict[str, Metrics]
    counts: dict[str, Any]

    @property
    def metrics(self) -> Metrics:
        """The model's on the held-out edges."""
        return self.splits[self.held_out.split]

    def document(self) -> dict[str, Any]:
        """What evaluation.json says about errors (the training job adds what it knows of the training)."""
        return {
            "version": VERSION,
            "evaluated_on": self.held_out.split,
            **asdict(self.metrics),
            "baselines": {name: asdict(m) for name, m in self.baselines.items()},
            "splits": {name: asdict(m) for name, m in self.splits.items()},
            "counts": self.counts,
        }


def evaluate(graph: EncodedGraph, target: Target, predictor: EdgePredictor) -> Evaluation:
    """Score every labelled edge of the target as the endpoint would, and fit the baselines on the training
    edges."""
    edges = graph.edge(target.edge)
    label = edges.label
    if label is None:
        raise ValueError("the target's edges carry no label")
    rows = {split.name.lower(): edges.rows(split) for split in (Split.TRAIN, Split.VALID, Split.TEST)}
    held = next((name for name in ("test", "valid") if len(rows[name])), "train")
    predicted = {name: predictor.predict(edges.source[which], edges.dest[which]) for name, which in rows.items()}
    counts = (len(graph.node(target.edge[0])), len(graph.node(target.edge[2])))
    train, which = rows["train"], rows[held]
    source, dest, actual = edges.source[which], edges.dest[which], label[which]
    bias = BiasBaseline.fit(edges.source[train], edges.dest[train], label[train], counts)
    known_source, known_dest = predictor.known(source, dest)
    held_out = HeldOut(
        split=held,
        source=source,
        dest=dest,
        actual=actual,
        predicted=predicted[held],
        global_mean=np.full(len(which), bias.mean, np.float32),
        user_item_bias=bias.predict(source, dest),
        source_degree=np.bincount(edges.source[train], minlength=counts[0])[source],
        dest_degree=np.bincount(edges.dest[train], minlength=counts[1])[dest],
        status=status_codes(known_source, known_dest),
    )
    return Evaluation(
        held_out=held_out,
        splits={name: Metrics.of(label[rows[name]], predicted[name]) for name in rows},
        baselines={
            "global_mean": Metrics.of(actual, held_out.global_mean),
            "user_item_bias": Metrics.of(actual, held_out.user_item_bias),
        },
        counts={
            "nodes": {nodes.label: len(nodes) for nodes in graph.nodes},
            "edges": {"-".join(e.edge_type): len(e) for e in graph.edges},
            "target": {
                **{name: len(which) for name, which in rows.items()},
                "unused": int((edges.split == Split.NONE).sum()),
            },
            "statuses": {
                name: int(n) for name, n in zip(STATUSES, np.bincount(held_out.status, minlength=4), strict=True)
            },
        },
    )


def few_edges_warning(count: int) -> str:
    """What to say of a training on `count` labelled edges, fewer than `FEW_EDGES`."""
    edges = "1 labelled edge" if count == 1 else f"{count} labelled edges"
    return f"only {edges} to train on, {FEW_EDGES} or more are advisable: expect little more than the mean"


def status_codes(known_source: npt.NDArray[np.bool_], known_dest: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Index into `STATUSES` per pair, uint8 [m]."""
    codes: npt.NDArray[np.uint8] = (~known_source).view(np.uint8) + 2 * (~known_dest).view(np.uint8)
    return codes


def write_predictions(folder: Path, graph: EncodedGraph, target: Target, held_out: HeldOut) -> None:
    """Write `predictions.parquet`: one row per held-out edge, ids as in the graph."""
    source, dest = graph.node(target.edge[0]), graph.node(target.edge[2])
    table = pa.table(
        {
            "source": source.ids.take(pa.array(held_out.source)),
            "target": dest.ids.take(pa.array(held_out.dest)),
            "actual": held_out.actual,
            "predicted": held_out.predicted,
            "global_mean": held_out.global_mean,
            "user_item_bias": held_out.user_item_bias,
            "status": pa.DictionaryArray.from_arrays(
                pa.array(held_out.status.astype(np.int8)), pa.array(STATUSES)
            ).cast(pa.string()),
        }
    )
    pq.write_table(table, folder / PREDICTIONS_FILE, compression="zstd")
