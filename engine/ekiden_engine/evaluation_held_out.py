"""What an evaluation is about: the held-out rows of a target with what was predicted for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType, EncodedGraph, Labels, Split, Target
from ekiden_engine.metrics import BoolArray, CountArray, DoubleArray, Figures, FloatArray
from ekiden_engine.metrics_ranking import Ranks
from ekiden_engine.models.base import IndexArray

SCORED = "scored"
STATUSES = (SCORED, "fallback_source", "fallback_target", "fallback_both")
"""How a pair was scored; a fallback stands in for a node that the model never saw."""
NODE_STATUSES = (SCORED, "fallback")
"""How a single node was answered, or a query for links."""

SHOWN_EXAMPLES = 5
MAX_TYPES = 50
"""Node and edge types that are counted one by one: evaluation.json stays small enough to be shown whole."""


def status_codes(known_source: BoolArray, known_dest: BoolArray) -> npt.NDArray[np.uint8]:
    """Index into `STATUSES` per pair, uint8 [m]."""
    codes: npt.NDArray[np.uint8] = (~known_source).view(np.uint8) + 2 * (~known_dest).view(np.uint8)
    return codes


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure that stands for the model: its name in `metrics`, the value on the held-out rows."""

    name: str
    value: float | None
    higher_is_better: bool

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.higher_is_better else one < other


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out row, for people: ids of its ends, the truth, the prediction."""

    ids: tuple[str, ...]
    actual: str
    predicted: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The rows that the model was most right about, and most wrong about; `columns` name the ids."""

    columns: tuple[str, ...]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """The nodes at one end of the held-out rows: `role` source, target or node; `nodes` int32 [m]; `degree` int64
    [m], their training edges."""

    role: Literal["source", "target", "node"]
    label: str
    nodes: IndexArray
    degree: CountArray


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutValues:
    """Held-out rows of a property: all arrays have m rows.

    `split` names where they come from: test, else valid, else train. `rows` are positions in the node or edge type.
    `actual`: float32 [m], class indices int32 [m] or 0/1 uint8 [m, k]; `predicted` and each of `baselines` float32 [m]
    or probabilities float32 [m, k]. `status` indexes `statuses`.
    """

    split: str
    rows: npt.NDArray[np.int64]
    ends: tuple[End, ...]
    actual: npt.NDArray[Any]
    predicted: FloatArray
    baselines: Mapping[str, FloatArray]
    status: npt.NDArray[np.uint8]
    statuses: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutLinks:
    """Held-out links as queries [q], each with one truth or more (see `metrics_ranking`).

    Query i: `edge_type[i]` indexes `edge_types`; `head[i]` is True where the source is asked for; `node[i]` is the end
    that is given; its truths are `truth[offsets[i]:offsets[i + 1]]`. `top` int32 [q, 10] are the best candidates (-1
    where there are fewer), `top_scores` float32 [q, 10]; links of other splits are not among them. `baselines`: ranks
    of the same truths. `node_degree` [q] and `truth_degree` [t] count training links. `status` indexes `NODE_STATUSES`.
    """

    split: str
    edge_types: tuple[EdgeType, ...]
    edge_type: IndexArray
    head: BoolArray
    node: IndexArray
    offsets: CountArray
    truth: IndexArray
    ranks: Ranks
    baselines: Mapping[str, Ranks]
    top: IndexArray
    top_scores: FloatArray
    node_degree: CountArray
    truth_degree: CountArray
    status: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class TargetEvaluation:
    """Figures of the model on the held-out rows of one target, of the model on every split, and of the baselines.

    `left_out` says why a baseline is missing. `details` are tables that evaluation.json has and the report draws
    (calibration, by_degree, classes, confusion, directions, edge_types); `precision_recall` and `examples` are for the
    report alone: (name, average precision, curve) and rows.
    """

    target: Target
    held_out: HeldOutValues | HeldOutLinks
    metric: Headline
    splits: Mapping[str, Figures]
    baselines: Mapping[str, Figures]
    left_out: Mapping[str, str]
    counts: Mapping[str, Any]
    details: Mapping[str, Any]
    examples: Examples
    precision_recall: tuple[tuple[str, float, list[tuple[float, float]]], ...] = field(default=())

    @property
    def metrics(self) -> Figures:
        """The model's on the held-out rows."""
        return self.splits[self.held_out.split]

    @property
    def strongest_baseline(self) -> str | None:
        """The baseline with the best headline figure; None if there is none."""
        return strongest(self.metric, self.baselines)

    def document(self) -> dict[str, Any]:
        """The entry in evaluation.json's `targets` (the training job adds what it knows of the training)."""
        target = self.target
        return {
            "target": {
                "name": target.name,
                "task": target.task.value,
                "node": target.node,
                "edge": None if target.edge is None else list(target.edge),
                "property": target.property,
                "classes": list(target.classes),
                "multi_label": target.multi_label,
            },
            "evaluated_on": self.held_out.split,
            "metric": {
                "name": self.metric.name,
                "value": self.metric.value,
                "higher_is_better": self.metric.higher_is_better,
            },
            "metrics": self.metrics,
            "baselines": dict(self.baselines),
            "left_out": dict(self.left_out),
            "splits": dict(self.splits),
            "counts": dict(self.counts),
            **self.details,
        }


def strongest(metric: Headline, baselines: Mapping[str, Figures]) -> str | None:
    """Name of the baseline whose figure `metric` is best; None if none has one."""
    known = {name: value for name, found in baselines.items() if (value := found.get(metric.name)) is not None}
    if not known:
        return None
    return max(known, key=lambda name: known[name] if metric.higher_is_better else -known[name])


def finite(values: FloatArray, target: Target) -> FloatArray:
    """The predictions, if they are numbers. Raises `BadData` DIVERGED: nobody should be served anything else."""
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise BadData(
            "DIVERGED",
            f"{target.name[:200]}: the model says infinity or not-a-number in {wrong} of {values.size} predictions; "
            "train with a smaller lr, or a larger regularization-coef",
        )
    return values


def held_out_split(rows: Mapping[str, npt.NDArray[np.int64]]) -> str:
    """The split that the headline is about: test, else valid, else train."""
    return next((name for name in ("test", "valid") if len(rows[name])), "train")


def rows_by_split(labels: Labels) -> dict[str, npt.NDArray[np.int64]]:
    """Row numbers of train, valid and test."""
    return {split.name.lower(): labels.rows(split) for split in (Split.TRAIN, Split.VALID, Split.TEST)}


def graph_counts(graph: EncodedGraph) -> dict[str, Any]:
    """Nodes and edges per type; of very many types the `MAX_TYPES` largest, and the rest together."""
    return {
        "nodes": _largest({nodes.label: len(nodes) for nodes in graph.nodes}),
        "edges": _largest({"-".join(e.edge_type): len(e) for e in graph.edges}),
    }


def _largest(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) <= MAX_TYPES:
        return counts
    kept = sorted(counts, key=lambda name: -counts[name])[:MAX_TYPES]
    rest = sum(counts.values()) - sum(counts[name] for name in kept)
    return {**{name: counts[name] for name in kept}, f"({len(counts) - MAX_TYPES} more types)": rest}


def status_counts(status: npt.NDArray[np.uint8], statuses: tuple[str, ...]) -> dict[str, int]:
    """How many rows have each status."""
    return {name: int(n) for name, n in zip(statuses, np.bincount(status, minlength=len(statuses)), strict=True)}


def extremes(loss: FloatArray | DoubleArray, count: int = SHOWN_EXAMPLES) -> tuple[CountArray, CountArray]:
    """Positions of the lowest and of the highest losses [m], the most extreme first; never the same in both."""
    few = min(count, len(loss) // 2)
    if not few:
        return np.arange(len(loss)), np.empty(0, np.int64)
    low, high = np.argpartition(loss, few - 1)[:few], np.argpartition(-loss, few - 1)[:few]
    return low[np.argsort(loss[low], kind="stable")], high[np.argsort(-loss[high], kind="stable")]
