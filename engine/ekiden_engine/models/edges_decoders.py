"""What encodings of two nodes say of an edge between them, and how wrong that is: a number, or classes.

    number:   y(s, t)   = mean + bias_s + bias_t + <vector_s, vector_t>
    classes:  raw_c(s, t) = b_c + bias_sc + bias_tc + <vector_s * R_c, vector_t>,  P(c | s, t) = softmax_c raw

with a bias per class and end, R_c a vector per class (DistMult, Yang et al. 2015), and b from the frequencies of the
classes. With several classes an edge each has a sigmoid of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.kernels import gather, pair_dot
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.baselines import SHRINKAGE, DoubleArray
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.encoder import EndState
from ekiden_engine.models.label_losses import make_loss, metric_of
from ekiden_engine.models.nodes_structure import Kind
from ekiden_engine.models.optimizer import Parameter
from ekiden_engine.models.sampler import chunks

PENALTY_CLASS: Final = 1e-4
"""L2 weight of the classes' vectors: just enough to settle who is long, they or the nodes' vectors."""
MARGIN: Final = 1e-4
"""Class frequencies are held so far from 0 and 1."""
PAIRS_AT_ONCE: Final = 65_536
"""Pairs that are judged at a time: their vectors side by side are larger than what comes of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A member's tables in units of the labels: `source`, `dest`; for classes `relation` [k, d] and `prior` [k]."""

    source: EndState
    dest: EndState
    relation: Tensor | None = None
    prior: Tensor | None = None


class Decoder(Protocol):
    """See the module. Encodings are float32 [n, width + outputs]; what is said of m edges is float32 [m] for numbers,
    [m, outputs] for classes."""

    metric: str
    higher_is_better: bool

    def parameters(self) -> list[Parameter]:
        """Its own; the encoders' come on top."""

    def wanted(self, label: Tensor) -> Tensor:
        """What should be said of edges, given their labels as in `EdgeProblem`."""

    def decode(self, source: Tensor, dest: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What is said of the pairs (rows[i], columns[i]), int64 [m]."""

    def loss(self, said: Tensor, wanted: Tensor) -> Tensor:
        """Mean over edges."""

    def shown(self, loss: float) -> float:
        """The mean loss of an epoch as the learning curve shows it."""

    def measure(self, said: Tensor, wanted: Tensor) -> tuple[float, float]:
        """Of validation edges: what they decide by (lower is better), and the metric shown."""

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """The member's tables, given those of its encoders."""


class NumberDecoder:
    """Labels of unit variance, and mean squared error."""

    metric = "rmse"
    higher_is_better = False

    def __init__(self, mean: float, scale: float, low: float, high: float) -> None:
        """`mean`, `scale` (not 0), `low` and `high` are those of the training labels; nothing beyond is predicted."""
        self.mean, self.scale = mean, scale
        self._bounds = (low - mean) / scale, (high - mean) / scale

    def parameters(self) -> list[Parameter]:
        """None: it is a dot product."""
        return []

    def wanted(self, label: Tensor) -> Tensor:
        """Labels of unit variance."""
        return ((label.double() - self.mean) / self.scale).float()

    def decode(self, source: Tensor, dest: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """bias_s + bias_t + <vector_s, vector_t>; the last column of either table is the bias."""
        one, other = source.new_ones(len(source), 1), dest.new_ones(len(dest), 1)
        s, t = torch.cat([source, one], 1), torch.cat([dest[:, :-1], other, dest[:, -1:]], 1)
        return pair_dot(s, t, rows, columns)

    def loss(self, said: Tensor, wanted: Tensor) -> Tensor:
        """See `Decoder`."""
        return functional.mse_loss(said, wanted)

    def shown(self, loss: float) -> float:
        """RMSE in units of the label."""
        return float(np.sqrt(loss)) * self.scale

    def measure(self, said: Tensor, wanted: Tensor) -> tuple[float, float]:
        """RMSE in standard deviations, and in units of the label."""
        rmse = float((said.clamp(*self._bounds) - wanted).square().mean().sqrt())
        return rmse, rmse * self.scale

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """What was learnt of labels of unit variance, in units of the label, and for weights in it; the mean is in the
        sources' biases."""
        ends = []
        for state, level in ((source, self.mean), (dest, 0.0)):
            size = torch.full((state.encoded.shape[1],), self.scale**0.5)
            size[-1] = self.scale
            encoded, usual = state.encoded * size, state.usual * size
            encoded[:, -1] += level
            usual[:2, -1] += level
            project = None if state.project is None else state.project * size
            messages = tuple(
                (key, labelled, m * (size / self.scale if labelled else size)) for key, labelled, m in state.messages
            )
            ends.append(EndState(encoded, usual, project, messages))
        return Trained(ends[0], ends[1])


class ClassCounts:
    """How often each class is among all training edges, and among those of each node."""

    def __init__(self, problem: EdgeProblem, train: RowArray) -> None:
        """`train` are the rows, of which some are counted at a time."""
        self.several = problem.kind == "labels"
        k = problem.outputs
        self._sums: list[DoubleArray] = [np.zeros((n, k)) for n in problem.counts]
        for part in chunks(len(train)):
            rows = train[part]
            label = problem.label[rows]
            for nodes, sums in zip((problem.source[rows], problem.dest[rows]), self._sums, strict=True):
                _count(nodes, label, sums)
        self.frequencies: DoubleArray = self._sums[0].sum(0) / len(train)
        self.share: DoubleArray = np.clip(self.frequencies, MARGIN, 1 - MARGIN)

    def starts(self, end: int, degree: FloatArray) -> FloatArray:
        """Log of how much more frequent each class is among a node's edges, drawn towards 0 as by `SHRINKAGE` edges:
        with the same of the other end, naive Bayes (`baselines.EndPriors`). Of the nodes at an end (0: sources),
        float32 [n, k]; `degree` [n] are their edges."""
        near = self._sums[end] + SHRINKAGE * self.share
        near /= degree.astype(np.float64)[:, None] + SHRINKAGE
        share = np.clip(near, MARGIN, 1 - MARGIN, out=near)
        return (log_odds(share, self.several) - log_odds(self.share, self.several)).astype(np.float32)


class ClassDecoder:
    """Cross-entropy, or with several classes an edge binary cross-entropy."""

    def __init__(
        self,
        counts: ClassCounts,
        width: int,
        generator: torch.Generator,
        device: torch.device = CPU,
        *,
        class_weights: bool,
    ) -> None:
        """`counts` are those of the training edges; `generator` draws the classes' vectors."""
        self._several, self._width = counts.several, width
        kind: Kind = "labels" if counts.several else "classes"
        outputs = len(counts.frequencies)
        self._prior = on(device, log_odds(counts.share, counts.several)).float()
        mean_loss = make_loss(kind, on(device, counts.frequencies).float(), class_weights=class_weights)
        # per edge: a mean over its classes would leave less of it the more there are, against the same penalties
        self._loss = (lambda said, wanted: mean_loss(said, wanted) * outputs) if counts.several else mean_loss
        shown = metric_of(kind, class_weights=class_weights)
        self.metric, self.higher_is_better, self._measure = shown.name, shown.higher_is_better, shown.measure
        self._relation = torch.randn(outputs, width, generator=generator).to(device)

    def parameters(self) -> list[Parameter]:
        """The classes' vectors."""
        self._relation.requires_grad_()
        return [Parameter(self._relation, PENALTY_CLASS)]

    def wanted(self, label: Tensor) -> Tensor:
        """One-hot, or several-hot."""
        return label.float() if self._several else functional.one_hot(label.long(), len(self._relation)).float()

    def decode(self, source: Tensor, dest: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Raw outputs; either table's last columns are biases."""
        size = max(1, len(rows)) if torch.is_grad_enabled() else PAIRS_AT_ONCE
        pairs = zip(torch.split(rows, size), torch.split(columns, size), strict=True)
        return torch.cat([self._raw(gather(source, r), gather(dest, c)) for r, c in pairs])

    def loss(self, said: Tensor, wanted: Tensor) -> Tensor:
        """See `Decoder`."""
        return self._loss(said, wanted)

    def shown(self, loss: float) -> float:
        """The loss itself, in nats."""
        return loss

    def measure(self, said: Tensor, wanted: Tensor) -> tuple[float, float]:
        """The loss, and the metric."""
        return float(self._loss(said, wanted)), self._measure(said, wanted)

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """See `Decoder`."""
        return Trained(source, dest, self._relation.detach().clone().cpu(), self._prior.cpu())

    def _raw(self, s: Tensor, t: Tensor) -> Tensor:
        w = self._width
        return (s[:, :w] * t[:, :w]) @ self._relation.T + s[:, w:] + t[:, w:] + self._prior


def log_odds(share: DoubleArray, several: bool) -> DoubleArray:
    """Log of shares, for several classes an edge of p / (1 - p)."""
    found: DoubleArray = np.log(share) - np.log1p(-share) if several else np.log(share)
    return found


def _count(nodes: npt.NDArray[np.integer[Any]], label: npt.NDArray[Any], sums: DoubleArray) -> None:
    n, k = sums.shape
    if label.ndim == 2:
        for c in range(k):
            sums[:, c] += np.bincount(nodes, label[:, c], n)
    else:
        sums += np.bincount(nodes.astype(np.int64) * k + label, minlength=n * k).reshape(n, k)
