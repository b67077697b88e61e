"""What every model is to the engine: something that fits on an encoded graph and gives a predictor.

Training and predicting are two interfaces because serving must not load torch: a `Trainer` runs in the training job,
a `Predictor` is what the model folder holds. A task decides which of the three predictors it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from ekiden_engine.graph import EdgeType, EncodedGraph, Target

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

Direction = Literal["tail", "head"]
"""Which end of a link is asked for: its destination (`tail`) or its source (`head`)."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One epoch of one member: `valid` in the units of `Curve.metric`, `train` too where it is an error, else the
    loss; `seconds` since the member began."""

    epoch: int
    train: float
    valid: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The learning curve of one member of the ensemble; `best_epoch` is the one that was kept.

    `settings` are the hyperparameters in which this member differs from others, by public name; `kept` is False for a
    trial that lost.
    """

    seed: int
    metric: str
    higher_is_better: bool
    best_epoch: int
    kept: bool
    points: tuple[CurvePoint, ...]
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_valid(self) -> float:
        """The validation metric of the kept epoch."""
        return self.points[self.best_epoch - 1].valid


def curve_of(document: Mapping[str, Any]) -> Curve:
    """A curve from what `dataclasses.asdict` made of it."""
    return Curve(**{**document, "points": tuple(CurvePoint(**point) for point in document["points"])})


@dataclass(frozen=True, slots=True)
class Step:
    """One pass through the training loop: what it is, in words for people (`member 2/6`), and how many passes are
    expected after it. The first `resumed` epochs are those of an earlier start of the job, told again."""

    words: str
    left: int
    resumed: int = 0


class Progress(Protocol):
    """The training job as a model sees it: where progress goes, and whether to stop.

    It may have an attribute `checkpoints` besides, which `ekiden_engine.checkpoints.checkpoints_of` finds.
    """

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Told after every epoch of `step`; `epochs` is the most there can be, `metric` what `point.valid` is."""

    def note(self, message: str) -> None:
        """Told one line about a decision."""

    def stop_requested(self) -> bool:
        """True once the platform wants the job to end: keep the best so far and return."""


class Predictor(Protocol):
    """A fitted model of one target, kept in a folder of its own; numpy alone is enough to use it."""

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    def save(self, folder: Path) -> None:
        """Write the parameters into `folder` (safetensors, npz, JSON)."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""

    def embeddings(self, label: str) -> FloatArray | None:
        """A vector per node of type `label`, float32 [n, d], for nearest neighbours; None where it has none."""

    def counts(self) -> Mapping[str, int]:
        """Nodes per node type that the model knows, to be held against the id files."""


@dataclass(frozen=True, slots=True)
class NewEdge:
    """An edge between a new node and a known one: `node` is the index of the known end, `outgoing` tells whether the
    new node is the source, `label` is the value of the target's own property if the edge carries one."""

    edge_type: EdgeType
    outgoing: bool
    node: int
    label: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NewNode:
    """A node that training never saw: `features` float32 [f] are the columns of `NodeSet.features`, None if nothing
    is known."""

    features: FloatArray | None
    neighbours: tuple[NewEdge, ...] = ()


class EdgePredictor(Predictor, Protocol):
    """A fitted model of one edge property. Index -1 is a node that it never saw."""

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """Predictions for the pairs (source[i], dest[i]), int32 [m]: numbers float32 [m] within the label range of
        training, or class probabilities float32 [m, k]."""

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[BoolArray, BoolArray]:
        """Whether the model knows anything of the source, and of the destination; bool [m] each."""


class NodePredictor(Predictor, Protocol):
    """A fitted model of one node property. Index -1 is a node that it never saw."""

    def predict(self, nodes: IndexArray) -> FloatArray:
        """Numbers float32 [m], or class probabilities float32 [m, k] (of several classes a row each for itself)."""

    def known(self, nodes: IndexArray) -> BoolArray:
        """Whether the model knows anything of the node, bool [m]."""


class LinkPredictor(Predictor, Protocol):
    """A fitted model of links. Every one is an inner product, so top-N and nearest neighbours are one thing:
    score = queries @ items.T, higher is likelier; biases ride in columns of their own."""

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """The edge types whose links it predicts; a position in it is the `edge_type` of the methods."""

    def queries(self, edge_type: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        """Float32 [m, d] for the given ends (sources if tails are asked for); index -1 is an unseen node."""

    def items(self, edge_type: int, direction: Direction) -> FloatArray:
        """Float32 [n, d] of all candidates, in index order (destinations if tails are asked for)."""

    def known(self, label: str, nodes: IndexArray) -> BoolArray:
        """Whether the model knows anything of the node, bool [m]."""


@runtime_checkable
class InductiveEdges(Protocol):
    """An `EdgePredictor` that also answers for nodes never seen, from what the request says of them."""

    def predict_new(self, source: Sequence[int | NewNode], dest: Sequence[int | NewNode]) -> FloatArray:
        """As `EdgePredictor.predict`; an end is an index or a `NewNode`."""


@runtime_checkable
class InductiveNodes(Protocol):
    """A `NodePredictor` that also answers for nodes never seen, from what the request says of them."""

    def predict_new(self, nodes: Sequence[NewNode]) -> FloatArray:
        """As `NodePredictor.predict`."""


@runtime_checkable
class InductiveVectors(Protocol):
    """A `Predictor` that also has vectors of nodes never seen, from what the request says of them."""

    def embed_new(self, label: str, nodes: Sequence[NewNode]) -> FloatArray | None:
        """Vectors of new nodes of type `label` among those of `embeddings`, float32 [m, d], zero where nothing is
        known; None where only the nodes of training have any."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The outcome of a training: the predictor, how it went, the hyperparameters that were in force.

    `stopped`: on request, before it was done; `threads`: that computed it (sums differ in the last bit with
    their number); `device`: cpu, or the name of the GPU. `trials`: what a search tried (see `ekiden_engine.search`).
    """

    predictor: Predictor
    curves: tuple[Curve, ...]
    hyperparameters: Mapping[str, str]
    stopped: bool
    threads: int
    device: str = "cpu"
    trials: tuple[Mapping[str, object], ...] = ()


class Trainer(Protocol):
    """A kind of model that can be named in a spec, for one task."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Check the hyperparameters. Raises `BadData` BAD_HYPERPARAMETERS."""

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """Train on the target's training rows; validation rows decide when to stop, test rows are never read."""
