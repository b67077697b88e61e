"""The training loop of one member of a node model: epochs, full batch or sampled, of which the one with the best
validation is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.models.base import Curve, CurvePoint
from ekiden_engine.models.device import CPU, array_of, half_of, on
from ekiden_engine.models.label_losses import Loss, make_loss, metric_of
from ekiden_engine.models.nodes_network import Design, Network
from ekiden_engine.models.nodes_problem import NodeProblem, RowArray
from ekiden_engine.models.nodes_views import AllNodes
from ekiden_engine.models.optimizer import Adam, Parameter
from ekiden_engine.models.passes import Pass

CARVED: Final = 0.1
"""Share of the training rows that each member sets aside to decide when to stop, if the data has no validation rows.
Each member takes others, so together they train on all."""
CONSISTENCY: Final = 1.0
SHARPNESS: Final = 2.0
RAMP: Final = 20
"""Weight of the consistency loss, exponent that its targets are raised to, epochs until it has its full weight."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a member is trained; `decay`: see `Network.parameters`."""

    epochs: int
    patience: int
    lr: float
    dropout: float
    decay: float
    class_weights: bool


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A trained member: its network at the epoch that was kept, the validation loss there, the learning curve."""

    network: Network
    loss: float
    curve: Curve


class Consistency:
    """Nodes without a training label should be told the same whatever dropout hides.

    Mean squared distance between the class probabilities of a training pass and those, sharpened, of the whole network
    one epoch before. Weighted by the share of such nodes: they matter where labels are few. Only for one class a row,
    and nodes with features: what hangs on free vectors alone would confirm its own first guesses.
    After Laine and Aila 2017 ("Temporal ensembling"), and Feng et al. 2020 ("GRAND") for the sharpening.
    """

    def __init__(self, problem: NodeProblem, train: RowArray, device: torch.device = CPU) -> None:
        """`train`: rows whose labels are learnt from."""
        count = problem.counts[problem.target]
        rest = np.ones(count, np.bool_)
        rest[train] = False
        self._rows = on(device, np.flatnonzero(rest))
        usual = not (problem.regression or problem.multi_label or problem.bare[problem.target])
        self._weight = CONSISTENCY * len(self._rows) / count if usual else 0.0
        self.taught: Tensor | None = None

    def learn(self, said: Tensor) -> None:
        """Keep what the whole network says of all nodes [n, k] as the next epoch's target."""
        if self._weight:
            self.taught = _shares(said[self._rows] * SHARPNESS)

    def __call__(self, said: Tensor, epoch: int) -> Tensor:
        """The loss of a training pass, a number; 0 in the first epoch."""
        return self._distance(said[self._rows], self.taught, epoch)

    def some(self, count: int, random: np.random.Generator) -> tuple[RowArray, Callable[[Tensor, int], Tensor]]:
        """At most `count` of the nodes without a label, at random, and the loss of what a pass says of these [m, k]."""
        if self.taught is None:
            return np.zeros(0, np.int64), lambda said, epoch: torch.zeros(())
        places = np.sort(random.choice(len(self._rows), min(count, len(self._rows)), replace=False, shuffle=False))
        chosen = torch.from_numpy(places)
        taught = self.taught.index_select(0, chosen)
        return array_of(self._rows.index_select(0, chosen)), lambda said, epoch: self._distance(said, taught, epoch)

    def _distance(self, said: Tensor, taught: Tensor | None, epoch: int) -> Tensor:
        if taught is None:
            return torch.zeros((), device=said.device)
        distance = (_shares(said) - taught).square().sum(1).mean()
        return distance * (self._weight * min(1.0, epoch / RAMP))


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What the epochs of a member are trained with: its training rows int64 [m], the loss, and what is random."""

    network: Network
    train: RowArray
    loss_of: Loss
    consistency: Consistency
    recipe: Recipe
    seed: int


class Training(Protocol):
    """How an epoch is trained: in one step (`FullBatch`), or by samples (`nodes_sampled.SampledBatches`)."""

    parameters: list[Parameter]
    """What its `optimizer` moves."""
    optimizer: Adam

    def epoch(self, number: int, stop_requested: Callable[[], bool]) -> tuple[float, bool]:
        """Train epoch `number`, from 1: the mean loss before each step, and whether it was not broken off."""

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What else goes into a checkpoint: JSON, and tensors."""

    def resume(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""


class FullBatch:
    """One step an epoch, on all training rows, through the network's own view."""

    def __init__(self, lessons: Lessons) -> None:
        """Nothing is trained yet."""
        network, device = lessons.network, lessons.network.device
        self.parameters = network.parameters(lessons.recipe.decay)
        self.optimizer = Adam(self.parameters, lessons.recipe.lr)
        self._lessons = lessons
        self._rows = on(device, lessons.train)
        self._wanted = on(device, network.problem.values[lessons.train])
        network.half = half_of(device) if device.type == "cuda" else torch.float32

    def epoch(self, number: int, stop_requested: Callable[[], bool]) -> tuple[float, bool]:
        """See `Training`."""
        lessons = self._lessons
        said = lessons.network.forward(lessons.recipe.dropout)
        loss = lessons.loss_of(said[self._rows], self._wanted)
        (loss + lessons.consistency(said, number)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach()), True

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `Training`: nothing else."""
        return {}, {}

    def resume(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """See `Training`."""


def fit_member(
    problem: NodeProblem,
    view: AllNodes,
    design: Design,
    recipe: Recipe,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    run: Pass | None = None,
    make_training: Callable[[Lessons], Training] = FullBatch,
) -> Member:
    """Train one member; the same arguments give the same member, also if `run` was interrupted and is resumed.

    Keeps the epoch with the lowest validation loss, of answers from all neighbours as `view` has them; stops `patience`
    epochs after it, after `epochs`, or at the end of the epoch in which `stop_requested` turns true. Raises `BadData`
    TRAINING_DIVERGED.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    train, valid = _validation(problem, seed)
    network = Network(problem, view, design, generator)
    device = view.device
    valid_rows, valid_wanted = on(device, valid), on(device, problem.values[valid])
    share = on(device, problem.values[train].mean(0))
    loss_of = make_loss(problem.kind, share, class_weights=recipe.class_weights)
    consistency = Consistency(problem, train, device)
    metric = metric_of(problem.kind, class_weights=recipe.class_weights)
    training = make_training(Lessons(network, train, loss_of, consistency, recipe, seed))
    parameters = [parameter.value for parameter in network.parameters(recipe.decay)]
    run = run or Pass(Checkpoints(), "")
    points = list(run.points)
    best, best_epoch, kept = float("inf"), 0, [view.held(value) for value in parameters]
    random = [generator] if network.noise is generator else [generator, network.noise]
    if run.resumed:
        tensors = run.restore(training.parameters, training.optimizer, random)
        best, best_epoch = run.document["best"], run.document["best_epoch"]
        for i, copy in enumerate(kept):
            copy.copy_(tensors[f"kept.{i}"])
        consistency.taught = tensors["taught"].to(device) if "taught" in tensors else None
        training.resume(run.document, tensors)
        started -= points[-1].seconds
    for point in points:
        report(metric.name, point)
    for epoch in range(len(points) + 1, recipe.epochs + 1):
        if points and epoch - 1 - best_epoch >= recipe.patience:
            break
        shown, whole_epoch = training.epoch(epoch, stop_requested)
        if not whole_epoch and points:
            break
        with torch.no_grad():
            whole = network.forward()
            consistency.learn(whole)
            said = whole[valid_rows]
            valid_loss = float(loss_of(said, valid_wanted))
            score = metric.measure(said, valid_wanted) * (problem.scale if problem.regression else 1.0)
        if not np.isfinite(valid_loss):
            break  # diverged; an earlier epoch may be good
        train_shown = shown**0.5 * problem.scale if problem.regression else shown
        point = CurvePoint(epoch, train_shown, score, round(time.perf_counter() - started, 3))
        points.append(point)
        report(metric.name, point)
        if valid_loss < best:
            best, best_epoch = valid_loss, epoch
            for copy, value in zip(kept, parameters, strict=True):
                copy.copy_(value.detach())
        if whole_epoch and run.due():
            document, tensors = training.state()
            tensors |= {f"kept.{i}": tensor for i, tensor in enumerate(kept)}
            tensors |= {} if consistency.taught is None else {"taught": consistency.taught}
            document |= {"best": best, "best_epoch": best_epoch}
            run.keep(points, training.parameters, training.optimizer, random, document, tensors)
        if stop_requested():
            break
    if not best_epoch:
        raise BadData(
            "TRAINING_DIVERGED",
            "no epoch gave a finite validation loss: "
            f"lower lr (it is {recipe.lr:g}), or look for extreme values among the features",
        )
    with torch.no_grad():
        for copy, value in zip(kept, parameters, strict=True):
            value.copy_(copy)
            value.requires_grad_(False)
    network.half = torch.float32
    curve = Curve(seed, metric.name, metric.higher_is_better, best_epoch, True, tuple(points))
    return Member(network, best, curve)


def restore_member(
    problem: NodeProblem,
    view: AllNodes,
    design: Design,
    seed: int,
    kept: tuple[Sequence[npt.NDArray[Any]], float, Curve],
) -> Member:
    """The member that `fit_member` gave with the same arguments: its parameters, in order, its loss and its curve."""
    values, loss, curve = kept
    network = Network(problem, view, design, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(0.0), values, strict=True):
            parameter.value.copy_(on(view.device, value))
            parameter.value.requires_grad_(False)
    return Member(network, loss, curve)


def _shares(said: Tensor) -> Tensor:
    """Softmax over the columns; torch's own takes five times as long where there are few."""
    powers = (said - said.detach().amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


def _validation(problem: NodeProblem, seed: int) -> tuple[RowArray, RowArray]:
    """Training and validation rows of one member. A handful of rows is validated on itself."""
    if len(problem.valid):
        return problem.train, problem.valid
    carved = round(len(problem.train) * CARVED)
    if not carved:
        return problem.train, problem.train
    order = np.random.default_rng(seed).permutation(problem.train)
    return np.sort(order[carved:]), np.sort(order[:carved])
