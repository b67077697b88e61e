"""What a member of an edge model is trained for: a number by squared error, or classes by cross-entropy.

    number:   y(s, t)   = mean + bias_s + bias_t + <vector_s, vector_t>
    classes:  raw_c(s, t) = b_c + bias_sc + bias_tc + <vector_s * R_c, vector_t>,  P(c | s, t) = softmax_c raw

with a bias per class and end, R_c a vector per class (DistMult, Yang et al. 2015), and b from the frequencies of the
classes. With several classes an edge each has a sigmoid of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.kernels import gather, pair_dot
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.baselines import SHRINKAGE, DoubleArray, class_frequencies
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.encoder import Encoder, EndState, Neighbours
from ekiden_engine.models.label_losses import make_loss, metric_of
from ekiden_engine.models.optimizer import Parameter
from ekiden_engine.models.warm_start import End, solve

PENALTY_CLASS: Final = 1e-4
"""L2 weight of the classes' vectors: just enough to settle who is long, they or the nodes' vectors."""
MARGIN: Final = 1e-4
"""Class frequencies are held so far from 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A member's tables in units of the labels: `source`, `dest`; for classes `relation` [k, d] and `prior` [k]."""

    source: EndState
    dest: EndState
    relation: Tensor | None = None
    prior: Tensor | None = None


class Objective(Protocol):
    """See the module. Positions are those in the member's training rows."""

    metric: str
    higher_is_better: bool
    encoders: tuple[Encoder, Encoder]

    def parameters(self) -> list[Parameter]:
        """Those of the decoder; the encoders' come on top."""

    def loss(self, source: Tensor, dest: Tensor, ends: tuple[Tensor, Tensor], batch: Tensor) -> Tensor:
        """Of the edges at positions `batch` [m], whose ends are the rows `ends` [m] of `source` and of `dest`
        [n, width + outputs]."""

    def shown(self, loss: float) -> float:
        """The mean loss of an epoch as the learning curve shows it."""

    def judge(self, source: Tensor, dest: Tensor) -> tuple[float, float]:
        """Given all nodes' encodings: what validation edges decide by (lower is better), and the metric shown."""

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """The member's tables, given those of its encoders."""


class NumberObjective:
    """Labels of unit variance, and mean squared error."""

    metric = "rmse"
    higher_is_better = False

    def __init__(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        width: int,
        generator: torch.Generator,
        device: torch.device = CPU,
    ) -> None:
        """`rows`: to train on, to validate on."""
        train, valid = rows
        labels = problem.label[train].astype(np.float64)
        self._mean, self.scale = float(labels.mean()), float(labels.std()) or 1.0
        unit = ((labels - self._mean) / self.scale).astype(np.float32)
        self._unit = on(device, unit)
        self._bounds = float(unit.min()), float(unit.max())
        self._width = width
        self._valid = _Ends(problem, valid, device)
        self._wanted = on(device, (problem.label[valid] - self._mean) / self.scale).float()
        given = (
            End(problem.source[train], problem.source_features, problem.source_extra),
            End(problem.dest[train], problem.dest_features, problem.dest_extra),
        )
        first, second, residual = solve(*given, unit)
        made = []
        for i, part in enumerate((first, second)):
            encoder = _encoder(problem, train, i, residual, width, 1, generator, device)
            keys = [relation.key for relation in given[i].neighbours]
            encoder.start_biases(part.own[:, None], part.features, dict(zip(keys, part.neighbours, strict=True)))
            made.append(encoder)
        self.encoders = (made[0], made[1])

    def parameters(self) -> list[Parameter]:
        """None: the decoder is a dot product."""
        return []

    def loss(self, source: Tensor, dest: Tensor, ends: tuple[Tensor, Tensor], batch: Tensor) -> Tensor:
        """See `Objective`."""
        return functional.mse_loss(biased_dot(source, dest, *ends), self._unit[batch])

    def shown(self, loss: float) -> float:
        """RMSE in units of the label."""
        return float(np.sqrt(loss)) * self.scale

    def judge(self, source: Tensor, dest: Tensor) -> tuple[float, float]:
        """RMSE in standard deviations, and in units of the label."""
        said = biased_dot(source, dest, self._valid.source, self._valid.dest).clamp(*self._bounds)
        rmse = float((said - self._wanted).square().mean().sqrt())
        return rmse, rmse * self.scale

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """See `in_label_units`."""
        return in_label_units(source, dest, self._mean, self.scale)


class ClassObjective:
    """Cross-entropy, or with several classes an edge binary cross-entropy."""

    def __init__(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        width: int,
        generator: torch.Generator,
        device: torch.device = CPU,
        *,
        class_weights: bool,
    ) -> None:
        """`rows`: to train on, to validate on."""
        train, valid = rows
        self._several = problem.kind == "labels"
        self._label = on(device, problem.label[train]).long()
        frequencies = class_frequencies(problem.label[train], problem.outputs)
        self._share = np.clip(frequencies, MARGIN, 1 - MARGIN)
        self._prior = on(device, _log_odds(self._share, self._several)).float()
        mean_loss = make_loss(problem.kind, on(device, frequencies).float(), class_weights=class_weights)
        # per edge: a mean over its classes would leave less of it the more there are, against the same penalties
        self._loss = (lambda said, wanted: mean_loss(said, wanted) * problem.outputs) if self._several else mean_loss
        shown = metric_of(problem.kind, class_weights=class_weights)
        self.metric, self.higher_is_better, self._measure = shown.name, shown.higher_is_better, shown.measure
        self._width = width
        self._valid = _Ends(problem, valid, device)
        self._wanted = on(device, problem.wanted(valid))
        outputs = problem.outputs
        hot = problem.wanted(train)
        made = []
        for i, nodes in enumerate((problem.source[train], problem.dest[train])):
            encoder = _encoder(problem, train, i, None, width, outputs, generator, device)
            encoder.start_biases(self._start(nodes, hot, problem.counts[i]))
            made.append(encoder)
        self.encoders = (made[0], made[1])
        self._relation = torch.randn(outputs, width, generator=generator).to(device)

    def _start(self, nodes: IndexArray, hot: FloatArray, count: int) -> FloatArray:
        """Log of how much more frequent each class is among a node's edges, drawn towards 0 as by `SHRINKAGE` edges:
        with the same of the other end, naive Bayes (`baselines.EndPriors`)."""
        degree = np.bincount(nodes, minlength=count)[:, None]
        sums = np.stack([np.bincount(nodes, hot[:, c], count) for c in range(hot.shape[1])], 1)
        share = np.clip((sums + SHRINKAGE * self._share) / (degree + SHRINKAGE), MARGIN, 1 - MARGIN)
        return (_log_odds(share, self._several) - _log_odds(self._share, self._several)).astype(np.float32)

    def parameters(self) -> list[Parameter]:
        """The classes' vectors."""
        self._relation.requires_grad_()
        return [Parameter(self._relation, PENALTY_CLASS)]

    def loss(self, source: Tensor, dest: Tensor, ends: tuple[Tensor, Tensor], batch: Tensor) -> Tensor:
        """See `Objective`."""
        label = self._label[batch]
        wanted = label.float() if self._several else functional.one_hot(label, len(self._relation)).float()
        return self._loss(self._decode(gather(source, ends[0]), gather(dest, ends[1])), wanted)

    def shown(self, loss: float) -> float:
        """The loss itself, in nats."""
        return loss

    def judge(self, source: Tensor, dest: Tensor) -> tuple[float, float]:
        """The loss, and the metric."""
        said = self._decode(source[self._valid.source], dest[self._valid.dest])
        return float(self._loss(said, self._wanted)), self._measure(said, self._wanted)

    def trained(self, source: EndState, dest: EndState) -> Trained:
        """See `Objective`."""
        return Trained(source, dest, self._relation.detach().clone().cpu(), self._prior.cpu())

    def _decode(self, s: Tensor, t: Tensor) -> Tensor:
        w = self._width
        return (s[:, :w] * t[:, :w]) @ self._relation.T + s[:, w:] + t[:, w:] + self._prior


class _Ends:
    """Ends of some edges, as torch indexes with them."""

    def __init__(self, problem: EdgeProblem, rows: RowArray, device: torch.device) -> None:
        self.source = on(device, problem.source[rows]).long()
        self.dest = on(device, problem.dest[rows]).long()


def _encoder(
    problem: EdgeProblem,
    train: RowArray,
    end: int,
    residual: FloatArray | None,
    width: int,
    outputs: int,
    generator: torch.Generator,
    device: torch.device,
) -> Encoder:
    """The encoder of an end (0: sources). The target's training edges bring messages, and once more weighted by
    `residual` float32 [E], what is left of their labels."""
    own: list[Neighbours] = []
    here, there = problem.source[train], problem.dest[train]
    if end:
        here, there = there, here
    count = problem.counts[1 - end]
    if problem.relational:
        for weights in (None,) if residual is None else (None, residual):
            own.append(Neighbours((problem.edge, end == 0), here, there, count, True, weights))
            if problem.ends[0] == problem.ends[1]:  # a node is also at the other end of edges
                own.append(Neighbours((problem.edge, end == 1), there, here, count, True, weights))
    features, extra = (
        (problem.dest_features, problem.dest_extra) if end else (problem.source_features, problem.source_extra)
    )
    return Encoder(problem.degrees(train)[end], features, [*own, *extra], width, generator, outputs, device)


def biased_dot(source: Tensor, dest: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """bias_s + bias_t + <vector_s, vector_t> of the pairs (rows[i], columns[i]), [m]; the last column of either table
    is the bias."""
    one, other = source.new_ones(len(source), 1), dest.new_ones(len(dest), 1)
    s, t = torch.cat([source, one], 1), torch.cat([dest[:, :-1], other, dest[:, -1:]], 1)
    return pair_dot(s, t, rows, columns)


def in_label_units(source: EndState, dest: EndState, mean: float, scale: float) -> Trained:
    """What was learnt of labels of unit variance, in units of the label, and for weights in it; the mean is in the
    sources' biases."""
    ends = []
    for state, level in ((source, mean), (dest, 0.0)):
        size = torch.full((state.encoded.shape[1],), scale**0.5)
        size[-1] = scale
        encoded, usual = state.encoded * size, state.usual * size
        encoded[:, -1] += level
        usual[:2, -1] += level
        project = None if state.project is None else state.project * size
        messages = tuple(
            (key, labelled, m * (size / scale if labelled else size)) for key, labelled, m in state.messages
        )
        ends.append(EndState(encoded, usual, project, messages))
    return Trained(ends[0], ends[1])


def _log_odds(share: DoubleArray, several: bool) -> DoubleArray:
    found: DoubleArray = np.log(share) - np.log1p(-share) if several else np.log(share)
    return found
