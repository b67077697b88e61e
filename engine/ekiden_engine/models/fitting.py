"""The training loop of one member of an edge model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.kernels import gather
from ekiden_engine.models.base import Curve, CurvePoint
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.edges_objectives import Objective, Trained
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
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

MakeObjective = Callable[[EdgeProblem, tuple[RowArray, RowArray], int, torch.Generator, torch.device], Objective]
"""From the problem, training and validation rows, the width of a vector, the source of its starting values, and the
device."""


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
    """Train one member; the same arguments give the same member, also if `run` was interrupted and is resumed.

    Keeps the epoch with the lowest validation loss; stops `patience` epochs after it, after `epochs`, or at the end of
    the epoch in which `stop_requested` turns true. Raises `BadData` TRAINING_DIVERGED.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    train, valid = problem.set_aside(seed, CARVED)
    objective = make_objective(problem, (train, valid), recipe.width, generator, device)
    encoders, width = objective.encoders, recipe.width
    source, dest = on(device, problem.source[train]).long(), on(device, problem.dest[train]).long()
    per_edge = recipe.regularization / len(train)
    parameters = [p for encoder in encoders for p in encoder.parameters(per_edge)]
    parameters += objective.parameters()
    optimizer = Adam(parameters, recipe.lr)
    run = run or Pass(Checkpoints(), "")
    points = list(run.points)
    best, best_epoch, kept = float("inf"), 0, None
    if run.resumed:
        kept = trained_of(run.document["kept"], run.restore(parameters, optimizer, [generator]))
        best, best_epoch = run.document["best"], run.document["best_epoch"]
        optimizer.lr = recipe.lr * 0.5 ** (len(points) // HALVE_EVERY)
        started -= points[-1].seconds
    for point in points:
        report(objective.metric, point)
    for epoch in range(len(points) + 1, recipe.epochs + 1):
        if points and epoch - 1 - best_epoch >= recipe.patience:
            break
        total, seen, began = 0.0, 0, time.perf_counter()
        for shuffled in torch.split(torch.randperm(len(train), generator=generator), recipe.batch_size):
            batch = shuffled.sort().values.to(device)  # neighbours in memory
            with encoders[0].hiding(batch), encoders[1].hiding(batch):
                s, t, ends = encoders[0].encode(), encoders[1].encode(), (source[batch], dest[batch])
                if recipe.dropout:  # of each edge its own
                    keep = (torch.rand(len(batch), width, generator=generator) >= recipe.dropout).to(device)
                    s = gather(s, ends[0])
                    s = torch.cat([s[:, :width] * keep / (1 - recipe.dropout), s[:, width:]], 1)
                    ends = torch.arange(len(batch), device=device), ends[1]
                loss = objective.loss(s, t, ends, batch)
                loss.backward()  # type: ignore[no-untyped-call]
            total, seen = total + float(loss.detach()) * len(batch), seen + len(batch)
            optimizer.step()
            if breaks_off(began, stop_requested):
                break
        if seen < len(train) and points:
            break
        optimizer.lr = recipe.lr * 0.5 ** (epoch // HALVE_EVERY)
        with torch.no_grad():
            valid_loss, score = objective.judge(encoders[0].encode(), encoders[1].encode())
            if not np.isfinite(valid_loss):
                break  # diverged; an earlier epoch may be good
            seconds = round(time.perf_counter() - started, 3)
            point = CurvePoint(epoch, objective.shown(total / seen), score, seconds)
            points.append(point)
            if valid_loss < best - TOLERANCE:
                best, best_epoch = valid_loss, epoch
                kept = objective.trained(encoders[0].state(), encoders[1].state())
        report(objective.metric, point)
        if run.due() and kept is not None and seen == len(train):
            document, tensors = described(kept)
            found = {"best": best, "best_epoch": best_epoch, "kept": document}
            run.keep(points, parameters, optimizer, [generator], found, tensors)
        if stop_requested():
            break

    if kept is None:
        raise BadData("TRAINING_DIVERGED", f"no epoch gave a finite validation error: lower lr (it is {recipe.lr:g})")
    settings = {STRENGTH: recipe.regularization}
    curve = Curve(seed, objective.metric, objective.higher_is_better, best_epoch, True, tuple(points), settings)
    return Member(kept, best, curve)
