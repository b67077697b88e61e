"""The training edges of one member where not even they need to fit into memory: ends and residuals on disk, and what
the nodes' biases start from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.baselines import SHRINKAGE
from ekiden_engine.models.edges_decoders import ClassCounts, ClassDecoder, Decoder, NumberDecoder
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.sampler import chunks, mapped

BIAS_ROUNDS: Final = 8


class TrainingEdges:
    """`ends` int32 [E] on disk; `degrees` float32 [n] of the nodes at either end, and their biases to start from,
    `starts` float32 [n, outputs]; `residual` float32 [E] on disk: what biases leave of labels, of numbers only."""

    decoder: Decoder
    starts: tuple[FloatArray, FloatArray]
    residual: FloatArray | None = None

    def __init__(self, problem: EdgeProblem, train: RowArray, folder: Path) -> None:
        """`train` are the rows; nothing but chunks of them is held in memory."""
        self.problem, self._rows = problem, train
        self.ends = (mapped(folder / "source", np.int32, len(train)), mapped(folder / "dest", np.int32, len(train)))
        degrees = [np.zeros(n, np.float32) for n in problem.counts]
        for part in chunks(len(train)):
            rows = train[part]
            for end, given in enumerate((problem.source, problem.dest)):
                self.ends[end][part] = given[rows]
                degrees[end] += np.bincount(self.ends[end][part], minlength=problem.counts[end])
        self.degrees = (degrees[0], degrees[1])

    def __len__(self) -> int:
        """Number of edges."""
        return len(self._rows)

    def wanted(self, edges: npt.NDArray[np.integer[Any]] | slice) -> Tensor:
        """What should be said of edges (`Decoder.wanted`)."""
        return self.decoder.wanted(torch.from_numpy(self.problem.label[self._rows[edges]]))


class NumberEdges(TrainingEdges):
    """Numbers: biases are those of the two ends."""

    decoder: NumberDecoder
    residual: FloatArray

    def __init__(self, problem: EdgeProblem, train: RowArray, folder: Path) -> None:
        """See `TrainingEdges`."""
        super().__init__(problem, train, folder)
        total = squares = 0.0
        low, high = math.inf, -math.inf
        for part in chunks(len(train)):
            labels = problem.label[train[part]].astype(np.float64)
            total, squares = total + float(labels.sum()), squares + float((labels**2).sum())
            low, high = min(low, float(labels.min())), max(high, float(labels.max()))
        mean = total / len(train)
        scale = math.sqrt(max(squares / len(train) - mean**2, 0.0)) or 1.0
        self.decoder = NumberDecoder(mean, scale, low, high)
        self.residual = mapped(folder / "residual", np.float32, len(train))
        biases = [np.zeros(n, np.float32) for n in problem.counts]
        for part in chunks(len(train)):
            self.residual[part] = self.wanted(part).numpy()
        for _ in range(BIAS_ROUNDS):
            for end in (0, 1):
                self._fit(end, biases)
        for part in chunks(len(train)):
            for bias, nodes in zip(biases, self.ends, strict=True):
                self.residual[part] -= bias[nodes[part]]
        self.starts = (biases[0][:, None], biases[1][:, None])

    def _fit(self, end: int, biases: list[FloatArray]) -> None:
        """Ridge regression on one end, the other held, as if each node had `SHRINKAGE` more labels of zero."""
        sums = np.zeros(len(biases[end]))
        for part in chunks(len(self)):
            left = self.residual[part] - biases[1 - end][self.ends[1 - end][part]]
            sums += np.bincount(self.ends[end][part], left, len(sums))
        biases[end] = (sums / (self.degrees[end] + SHRINKAGE)).astype(np.float32)


class ClassEdges(TrainingEdges):
    """Classes, one or several an edge: biases are those of naive Bayes, and no message is weighted by a label."""

    def __init__(
        self,
        problem: EdgeProblem,
        train: RowArray,
        folder: Path,
        width: int,
        generator: torch.Generator,
        *,
        class_weights: bool,
    ) -> None:
        """See `TrainingEdges` and `ClassDecoder`."""
        super().__init__(problem, train, folder)
        counts = ClassCounts(problem, train)
        self.decoder = ClassDecoder(counts, width, generator, class_weights=class_weights)
        self.starts = (counts.starts(0, self.degrees[0]), counts.starts(1, self.degrees[1]))
