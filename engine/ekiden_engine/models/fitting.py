"""The training loop of one ensemble member."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.errors import BadData
from ekiden_engine.kernels import gather
from ekiden_engine.models.base import Curve, CurvePoint, FloatArray, IndexArray
from ekiden_engine.models.encoder import Encoder, Neighbours
from ekiden_engine.models.optimizer import Adam
from ekiden_engine.models.warm_start import End, solve

CARVED = 0.05
"""Share of the training edges that each member sets aside to decide when to stop, if the data has no
validation edges. Each member takes others, so together they train on all."""
HALVE_EVERY = 20
"""Epochs between halvings of the learning rate."""
TOLERANCE = 1e-5
"""Validation RMSE (unit-variance labels) must fall by more than this to count as better."""

METRIC = "rmse"
STRENGTH = "regularization-coef"
"""The hyperparameter in which members of a search differ."""

RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One regression target as arrays: `source`, `dest` int32 [E], `label` float32 [E] of all target edges;
    `train`, `valid` int64 row numbers; features [n, f] of both ends; relations other than the target."""

    source: IndexArray
    dest: IndexArray
    label: FloatArray
    train: RowArray
    valid: RowArray
    source_features: FloatArray
    dest_features: FloatArray
    same_type: bool
    source_extra: tuple[Neighbours, ...]
    dest_extra: tuple[Neighbours, ...]
    relational: bool

    @property
    def train_count(self) -> int:
        """Number of training edges."""
        return len(self.train)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of nodes at either end."""
        return len(self.source_features), len(self.dest_features)

    def degrees(self, rows: RowArray) -> tuple[FloatArray, FloatArray]:
        """Edges among `rows` per source node and per destination node."""
        s = np.bincount(self.source[rows], minlength=self.counts[0]).astype(np.float32)
        return s, np.bincount(self.dest[rows], minlength=self.counts[1]).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A trained member in label units: `source` [n + 1, d + 1] and `dest`, biases in the last column (see
    `Encoder.encode_inductive`)."""

    source: FloatArray
    dest: FloatArray
    curve: Curve


@dataclass(slots=True)
class _Best:
    rmse: float = float("inf")
    epoch: int = 0
    source: Tensor | None = None
    dest: Tensor | None = None


def fit_member(
    problem: Problem,
    *,
    seed: int,
    width: int,
    epochs: int,
    lr: float,
    dropout: float,
    batch_size: int,
    regularization: float,
    patience: int,
    report: Callable[[CurvePoint], None],
    stop_requested: Callable[[], bool],
) -> Member:
    """Train one member; the same arguments give the same member.

    Keeps the epoch with the lowest validation RMSE; stops `patience` epochs after it, after `epochs`, or at
    the end of the epoch in which `stop_requested` turns true.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    train, valid = _validation(problem, seed)
    labels = problem.label[train].astype(np.float64)
    mean, scale = float(labels.mean()), float(labels.std()) or 1.0
    unit = torch.from_numpy(((labels - mean) / scale).astype(np.float32))
    low, high = float(unit.min()), float(unit.max())
    source, dest = torch.from_numpy(problem.source[train]).long(), torch.from_numpy(problem.dest[train]).long()
    encoders = _encoders(problem, train, unit.numpy(), width, generator)
    per_edge = regularization / len(train)
    optimizer = Adam([p for encoder in encoders for p in encoder.parameters(per_edge)], lr)
    points: list[CurvePoint] = []
    best = _Best()

    for epoch in range(1, epochs + 1):
        squared = 0.0
        for shuffled in torch.split(torch.randperm(len(train), generator=generator), batch_size):
            batch = shuffled.sort().values  # neighbours in memory
            with encoders[0].hiding(batch), encoders[1].hiding(batch):
                s = gather(encoders[0].encode(), source[batch])
                t = gather(encoders[1].encode(), dest[batch])
                if dropout:
                    keep = torch.rand(len(batch), width, generator=generator) >= dropout
                    s = torch.cat([s[:, :-1] * keep / (1 - dropout), s[:, -1:]], 1)
                loss = functional.mse_loss(_decode(s, t), unit[batch])
                loss.backward()  # type: ignore[no-untyped-call]
            squared += float(loss.detach()) * len(batch)
            optimizer.step()
        optimizer.lr = lr * 0.5 ** (epoch // HALVE_EVERY)
        with torch.no_grad():
            encoded = (encoders[0].encode(), encoders[1].encode())
            rmse = _rmse(problem, valid, encoded, (mean, scale), (low, high))
            if not np.isfinite(rmse):
                break  # diverged; an earlier epoch may be good
            point = CurvePoint(
                epoch,
                train=float(np.sqrt(squared / len(train))) * scale,
                valid=rmse * scale,
                seconds=round(time.perf_counter() - started, 3),
            )
            points.append(point)
            if rmse < best.rmse - TOLERANCE:
                best = _Best(rmse, epoch, encoders[0].encode_inductive(), encoders[1].encode_inductive())
        report(point)
        if epoch - best.epoch >= patience or stop_requested():
            break

    if best.source is None or best.dest is None:
        raise BadData("TRAINING_DIVERGED", f"no epoch gave a finite validation error: lower lr (it is {lr:g})")
    return Member(
        source=_in_label_units(best.source, scale, mean),
        dest=_in_label_units(best.dest, scale, 0.0),
        curve=Curve(seed, METRIC, False, best.epoch, True, tuple(points), {STRENGTH: regularization}),
    )


def _validation(problem: Problem, seed: int) -> tuple[RowArray, RowArray]:
    """Training and validation rows of one member. A handful of edges is validated on itself."""
    if len(problem.valid):
        return problem.train, problem.valid
    carved = round(len(problem.train) * CARVED)
    if not carved:
        return problem.train, problem.train
    order = np.random.default_rng(seed).permutation(problem.train)
    return np.sort(order[carved:]), np.sort(order[:carved])


def _encoders(
    problem: Problem, train: RowArray, unit: FloatArray, width: int, generator: torch.Generator
) -> tuple[Encoder, Encoder]:
    s, t = problem.source[train], problem.dest[train]
    counts, degrees = problem.counts, problem.degrees(train)
    ends = (
        End(s, problem.source_features, problem.source_extra),
        End(t, problem.dest_features, problem.dest_extra),
    )
    *linear, residual = solve(*ends, unit)
    encoders = []
    for i, (end, part) in enumerate(zip(ends, linear, strict=True)):
        own: list[Neighbours] = []
        here, there = (s, t) if i == 0 else (t, s)
        if problem.relational:
            for label, weights in (("seen", None), ("residual", residual)):
                own.append(Neighbours(f"target {label}", here, there, counts[1 - i], True, weights))
                if problem.same_type:  # a node is also at the other end of edges
                    own.append(Neighbours(f"target reversed {label}", there, here, counts[1 - i], True, weights))
        encoder = Encoder(degrees[i], end.features, [*own, *end.neighbours], width, generator)
        names = [given.name for given in end.neighbours]
        encoder.start_biases(part.own, part.features, dict(zip(names, part.neighbours, strict=True)))
        encoders.append(encoder)
    return encoders[0], encoders[1]


def _decode(s: Tensor, t: Tensor) -> Tensor:
    return (s[:, :-1] * t[:, :-1]).sum(1) + s[:, -1] + t[:, -1]


def _rmse(
    problem: Problem,
    rows: RowArray,
    encoded: tuple[Tensor, Tensor],
    units: tuple[float, float],
    bounds: tuple[float, float],
) -> float:
    """Validation RMSE, in standard deviations of the training labels."""
    s = encoded[0][torch.from_numpy(problem.source[rows]).long()]
    t = encoded[1][torch.from_numpy(problem.dest[rows]).long()]
    wanted = torch.from_numpy((problem.label[rows] - units[0]) / units[1]).float()
    return float((_decode(s, t).clamp(*bounds) - wanted).square().mean().sqrt())


def _in_label_units(encoded: Tensor, scale: float, mean: float) -> FloatArray:
    values = encoded.clone()
    values[:, :-1] *= scale**0.5
    values[:, -1] = values[:, -1] * scale + mean
    found: FloatArray = values.detach().numpy()
    return found
