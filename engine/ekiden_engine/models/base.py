"""What every model is to the engine: something that fits on an encoded graph and gives a predictor of pairs.

Training and predicting are two interfaces because serving must not load torch: `EdgeTrainer.fit` runs in the
training job, `EdgePredictor` is what the model folder holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from ekiden_engine.graph import EncodedGraph, Target

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One epoch of one member: RMSE in label units, `seconds` since the member began."""

    epoch: int
    train_rmse: float
    valid_rmse: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The learning curve of one member of the ensemble; `best_epoch` is the one that was kept.

    `regularization` is the multiple that this member trained with; `kept` is False for a trial that lost.
    """

    seed: int
    regularization: float
    best_epoch: int
    kept: bool
    points: tuple[CurvePoint, ...]

    @property
    def best_valid_rmse(self) -> float:
        """Validation RMSE of the kept epoch, in label units."""
        return self.points[self.best_epoch - 1].valid_rmse


@dataclass(frozen=True, slots=True)
class Step:
    """One pass through the training loop: what it is, in words for people (`member 2/6`), and how many passes are
    expected after it."""

    words: str
    left: int


class Progress(Protocol):
    """The training job as a model sees it: where progress goes, and whether to stop."""

    def epoch(self, step: Step, epochs: int, point: CurvePoint) -> None:
        """Told after every epoch of `step`; `epochs` is the most there can be."""

    def note(self, message: str) -> None:
        """Told one line about a decision."""

    def stop_requested(self) -> bool:
        """True once the platform wants the job to end: keep the best so far and return."""


class EdgePredictor(Protocol):
    """A fitted model of one edge property. Index -1 is a node that it never saw."""

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """Predicted labels, float32 [m], of the pairs (source[i], dest[i]), int32 [m]; within the label
        range of training."""

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[npt.NDArray[np.bool_], ...]:
        """Two boolean arrays [m]: whether the model knows anything of the source, and of the destination."""

    @property
    def counts(self) -> tuple[int, int]:
        """Number of source and destination nodes."""

    def save(self, folder: Path) -> None:
        """Write the parameters into `folder` (safetensors)."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The outcome of a training: the predictor, how it went, the hyperparameters that were in force.

    `stopped`: on request, before it was done; `threads`: that computed it (sums differ in the last bit with
    their number).
    """

    predictor: EdgePredictor
    curves: tuple[Curve, ...]
    hyperparameters: Mapping[str, str]
    stopped: bool
    threads: int


class EdgeTrainer(Protocol):
    """A kind of model that can be named in a spec."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Check the hyperparameters. Raises `BadData` BAD_HYPERPARAMETERS."""

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """Train on the target's training edges; validation edges decide when to stop, test edges are never
        read."""
