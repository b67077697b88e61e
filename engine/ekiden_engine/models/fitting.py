"""The training loop of one member of an edge model, on all neighbours or on samples of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.kernels import gather
from ekiden_engine.models.base import Curve, CurvePoint
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.edges_decoders import Decoder, Trained
from ekiden_engine.models.edges_objectives import MakeObjective
from ekiden_engine.models.edges_problem import EdgeProblem
from ekiden_engine.models.edges_states import described, trained_of
from ekiden_engine.models.optimizer import Adam
from ekiden_engine.models.passes import Pass, breaks_off

CARVED: Final = 0.05
"""Share of the training edges that each member sets aside to decide when to stop, if the data has no
validation edges. Each member takes others, so together they train on all."""
HALVE_EVERY: Final = 20
"""Epochs between halvings of the learning rate."""
TOLERANCE: Final = 1e-5
"""The validation loss (RMSE of unit-variance labels, or nats) must fall by more than this to count as better."""
STRENGTH: Final = "regularization-coef"
"""The hyperparameter in which members of a search differ."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a member is trained."""

    width: int
    epochs: int
    lr: float
    dropout: float
    batch_size: int
    regularization: float
    patience: int


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A trained member at the epoch that was kept, the validation loss there, the learning curve."""

    trained: Trained
    loss: float
    curve: Curve


class Learner(Protocol):
    """A member in training on `edges` training edges."""

    edges: int
    decoder: Decoder

    def epoch(self, number: int) -> Iterator[tuple[float, int]]:
        """Train on every edge once, a batch between one value and the next: its mean loss before it, its size."""

    def judge(self) -> tuple[float, float]:
        """What validation edges decide by (lower is better), and the metric shown; no gradients."""

    def trained(self) -> Trained:
        """The member as it was last judged."""

    def keep(
        self, run: Pass, points: Sequence[CurvePoint], document: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """`Pass.keep`, with all that the next epoch starts from."""

    def restore(self, run: Pass) -> Mapping[str, Tensor]:
        """Be what was kept; returns the `tensors`."""


def fit_member(
    problem: EdgeProblem,
    make_objective: MakeObjective,
    recipe: Recipe,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    device: torch.device = CPU,
    run: Pass | None = None,
) -> Member:
    """Train one member on all neighbours; the rest is as for `train`."""
    started = time.perf_counter()
    return train(
        _Full(problem, make_objective, recipe, seed, device), recipe, seed, report, stop_requested, run, started
    )


def train(
    learner: Learner,
    recipe: Recipe,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    run: Pass | None,
    started: float,
) -> Member:
    """Train one member; the same arguments give the same member, also if `run` was interrupted and is resumed.

    Keeps the epoch with the lowest validation loss; stops `patience` epochs after it, after `epochs`, or at the end of
    the epoch in which `stop_requested` turns true (within it, if it is long: `breaks_off`). `started` is when the
    member was begun (`time.perf_counter`). Raises `BadData` TRAINING_DIVERGED.
    """
    decoder, run = learner.decoder, run or Pass(Checkpoints(), "")
    points = list(run.points)
    best, best_epoch, kept = float("inf"), 0, None
    if run.resumed:
        kept = trained_of(run.document["kept"], learner.restore(run))
        best, best_epoch = run.document["best"], run.document["best_epoch"]
        started -= points[-1].seconds
    for point in points:
        report(decoder.metric, point)
    for epoch in range(len(points) + 1, recipe.epochs + 1):
        if points and epoch - 1 - best_epoch >= recipe.patience:
            break
        total, seen, began = 0.0, 0, time.perf_counter()
        for loss, size in learner.epoch(epoch):
            total, seen = total + loss * size, seen + size
            if breaks_off(began, stop_requested):
                break
        if seen < learner.edges and points:
            break
        with torch.no_grad():
            valid_loss, score = learner.judge()
            if not np.isfinite(valid_loss):
                break  # diverged; an earlier epoch may be good
            seconds = round(time.perf_counter() - started, 3)
            point = CurvePoint(epoch, decoder.shown(total / seen), score, seconds)
            points.append(point)
            if valid_loss < best - TOLERANCE:
                kept = None  # before there is another: memory may not hold both
                best, best_epoch, kept = valid_loss, epoch, learner.trained()
        report(decoder.metric, point)
        if run.due() and kept is not None and seen == learner.edges:
            document, tensors = described(kept)
            learner.keep(run, points, {"best": best, "best_epoch": best_epoch, "kept": document}, tensors)
        if stop_requested():
            break

    if kept is None:
        raise BadData("TRAINING_DIVERGED", f"no epoch gave a finite validation error: lower lr (it is {recipe.lr:g})")
    settings = {STRENGTH: recipe.regularization}
    curve = Curve(seed, decoder.metric, decoder.higher_is_better, best_epoch, True, tuple(points), settings)
    return Member(kept, best, curve)


class _Full:
    """Encodes all nodes from all neighbours for every batch."""

    def __init__(
        self, problem: EdgeProblem, make_objective: MakeObjective, recipe: Recipe, seed: int, device: torch.device
    ) -> None:
        self._recipe, self._device = recipe, device
        self._generator = torch.Generator().manual_seed(seed)
        rows = problem.set_aside(seed, CARVED)
        self.edges = len(rows[0])
        self._objective = make_objective(problem, rows, recipe.width, self._generator, device)
        self._encoders, self.decoder = self._objective.encoders, self._objective.decoder
        self._source = on(device, problem.source[rows[0]]).long()
        self._dest = on(device, problem.dest[rows[0]]).long()
        per_edge = recipe.regularization / self.edges
        self._parameters = [p for encoder in self._encoders for p in encoder.parameters(per_edge)]
        self._parameters += self.decoder.parameters()
        self._optimizer = Adam(self._parameters, recipe.lr)

    def epoch(self, number: int) -> Iterator[tuple[float, int]]:
        """See `Learner`."""
        recipe, (one, other) = self._recipe, self._encoders
        self._optimizer.lr = recipe.lr * 0.5 ** ((number - 1) // HALVE_EVERY)
        for shuffled in torch.split(torch.randperm(self.edges, generator=self._generator), recipe.batch_size):
            batch = shuffled.sort().values.to(self._device)  # neighbours in memory
            with one.hiding(batch), other.hiding(batch):
                s, t, ends = one.encode(), other.encode(), (self._source[batch], self._dest[batch])
                if recipe.dropout:
                    s, ends = dropped(s, ends, recipe.width, recipe.dropout, self._generator)
                loss = self._objective.loss(s, t, ends, batch)
                loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            yield float(loss.detach()), len(batch)

    def judge(self) -> tuple[float, float]:
        """See `Learner`."""
        return self._objective.judge(self._encoders[0].encode(), self._encoders[1].encode())

    def trained(self) -> Trained:
        """See `Learner`."""
        return self.decoder.trained(self._encoders[0].state(), self._encoders[1].state())

    def keep(
        self, run: Pass, points: Sequence[CurvePoint], document: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """See `Learner`."""
        run.keep(points, self._parameters, self._optimizer, [self._generator], document, tensors)

    def restore(self, run: Pass) -> Mapping[str, Tensor]:
        """See `Learner`."""
        return run.restore(self._parameters, self._optimizer, [self._generator])


def dropped(
    source: Tensor, ends: tuple[Tensor, Tensor], width: int, share: float, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A row of `source` for each edge, a `share` of the numbers of its vector left out, of each edge its own; and the
    `ends` in it and in the other table."""
    rows, columns = ends
    keep = (torch.rand(len(rows), width, generator=generator) >= share).to(source.device)
    found = gather(source, rows)
    found = torch.cat([found[:, :width] * keep / (1 - share), found[:, width:]], 1)
    return found, (torch.arange(len(rows), device=source.device), columns)
