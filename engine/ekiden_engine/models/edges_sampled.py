"""Edge regression where the graph does not fit into memory: the model of `encoder`, trained on sampled neighbours.

A batch of training edges needs the encodings of its end points only, and for those of a node with many neighbours a
sample of them (`edges_sampled_encoder`). Tables move where the batch touched them, with penalties in proportion: both
have the expectation of the full batch. Lists of neighbours, labels and residuals lie in memory-mapped files; in memory
are the nodes' tables and some bytes per edge. What is kept is encoded from all neighbours, block by block.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import Curve, CurvePoint, FloatArray
from ekiden_engine.models.baselines import SHRINKAGE
from ekiden_engine.models.edges_objectives import biased_dot, in_label_units
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.edges_sampled_encoder import Asked, SampledEncoder, TargetEdges
from ekiden_engine.models.fitting import CARVED, STRENGTH, TOLERANCE, Member, Recipe
from ekiden_engine.models.optimizer import Adam
from ekiden_engine.models.sampled_tables import Distinct, Used
from ekiden_engine.models.sampler import chunks, mapped

METRIC: Final = "rmse"
HALF_LIFE, HALF_LIFE_STEPS = 4, 250
"""Epochs in which the learning rate halves, and the fewest steps: many small steps need a decay that few large ones do
not."""
REFRESHES: Final = 4
"""How often in an epoch the sums over all neighbours are computed anew."""
BIAS_ROUNDS: Final = 8
SAMPLED_BATCH: Final = 8192

BYTES_PER_TARGET_EDGE: Final = 300
"""What full-batch training holds per edge of the target: four matrices with their transposes and places, and the
linear start; measured."""
BYTES_PER_OTHER_EDGE: Final = 100
COPIES: Final = 4
"""Of each parameter: the value, its gradient, two moments."""


def fit_sampled(
    problem: EdgeProblem,
    recipe: Recipe,
    fanout: int,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    folder: Path | None = None,
) -> Member:
    """As `fitting.fit_member`, for numbers, by samples of `fanout` neighbours; there is no dropout. Files go below
    `folder` (default: the system's temporary folder), and are removed. Raises `BadData` TRAINING_DIVERGED."""
    with tempfile.TemporaryDirectory(prefix="ekiden-sampled-", dir=folder) as scratch:
        return _Fitting(problem, recipe, fanout, seed, Path(scratch)).run(report, stop_requested)


def full_batch_bytes(problem: EdgeProblem, width: int) -> int:
    """An estimate of what full-batch training would hold in memory."""
    same = 2 if problem.ends[0] == problem.ends[1] else 1
    edges = BYTES_PER_TARGET_EDGE * same * len(problem.train)
    rows = 0
    for end, extra in enumerate((problem.source_extra, problem.dest_extra)):
        edges += BYTES_PER_OTHER_EDGE * sum(len(given.rows) for given in extra)
        rows += problem.counts[end] + 2 * same * problem.counts[1 - end] + sum(given.count for given in extra)
    return edges + rows * (width + 1) * 4 * COPIES


class TrainingEdges:
    """The training edges of one member on disk: ends, labels of unit variance, what biases leave of them."""

    def __init__(self, problem: EdgeProblem, train: RowArray, folder: Path) -> None:
        """`train` are the rows; nothing but chunks of them is held in memory."""
        count = len(train)
        self.counts = problem.counts
        self.ends = (mapped(folder / "source", np.int32, count), mapped(folder / "dest", np.int32, count))
        self.unit: FloatArray = mapped(folder / "unit", np.float32, count)
        self.residual: FloatArray = mapped(folder / "residual", np.float32, count)
        degrees = [np.zeros(n, np.float32) for n in problem.counts]
        total = squares = 0.0
        for part in chunks(count):
            rows = train[part]
            for end, given in enumerate((problem.source, problem.dest)):
                self.ends[end][part] = given[rows]
                degrees[end] += np.bincount(self.ends[end][part], minlength=problem.counts[end])
            labels = problem.label[rows].astype(np.float64)
            self.unit[part] = labels
            total, squares = total + float(labels.sum()), squares + float((labels**2).sum())
        self.degrees = (degrees[0], degrees[1])
        self.mean = total / count
        self.scale = math.sqrt(max(squares / count - self.mean**2, 0.0)) or 1.0
        low, high = math.inf, -math.inf
        for part in chunks(count):
            unit = (self.unit[part] - self.mean) / self.scale
            self.unit[part] = unit
            low, high = min(low, float(unit.min())), max(high, float(unit.max()))
        self.bounds = (low, high)
        self.biases = self._fit_biases()
        for part in chunks(count):
            s, t = (bias[nodes[part]] for bias, nodes in zip(self.biases, self.ends, strict=True))
            self.residual[part] = self.unit[part] - s - t

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.unit)

    def _fit_biases(self) -> tuple[FloatArray, FloatArray]:
        """Ridge regression on the two ends in turn, as if each node had `SHRINKAGE` more labels of zero."""
        biases = [np.zeros(n, np.float32) for n in self.counts]
        for _ in range(BIAS_ROUNDS):
            for end in (0, 1):
                sums = np.zeros(len(biases[end]))
                for part in chunks(len(self)):
                    left = self.unit[part] - biases[1 - end][self.ends[1 - end][part]]
                    sums += np.bincount(self.ends[end][part], left, len(sums))
                biases[end] = (sums / (self.degrees[end] + SHRINKAGE)).astype(np.float32)
        return biases[0], biases[1]


class _Fitting:
    def __init__(self, problem: EdgeProblem, recipe: Recipe, fanout: int, seed: int, folder: Path) -> None:
        self._started = time.perf_counter()
        self._problem, self._recipe, self._fanout, self._seed = problem, recipe, fanout, seed
        self._random = np.random.default_rng(seed)
        train, self._valid = problem.set_aside(seed, CARVED)
        self._edges = TrainingEdges(problem, train, folder)
        generator = torch.Generator().manual_seed(seed)
        self._encoders = [self._encoder(end, generator, folder) for end in (0, 1)]
        self._dense = Adam([p for encoder in self._encoders for p in encoder.dense()], recipe.lr)
        self._distinct = [Distinct(count) for count in problem.counts]
        self._visible = np.ones(len(train), np.float32)
        self._steps = 0

    def run(self, report: Callable[[str, CurvePoint], None], stop_requested: Callable[[], bool]) -> Member:
        """All epochs."""
        recipe, edges = self._recipe, self._edges
        points: list[CurvePoint] = []
        best, best_epoch, kept = math.inf, 0, None
        self._remember()
        for epoch in range(1, recipe.epochs + 1):
            loss = self._epoch(epoch)
            parts = self._remember()
            rmse = self._rmse([learnt if told is None else learnt + told for learnt, told in parts])
            if not np.isfinite(rmse):
                break  # diverged; an earlier epoch may be good
            seconds = round(time.perf_counter() - self._started, 3)
            points.append(CurvePoint(epoch, math.sqrt(loss) * edges.scale, rmse * edges.scale, seconds))
            if rmse < best - TOLERANCE:
                best, best_epoch = rmse, epoch
                with torch.no_grad():
                    states = [e.state(*part) for e, part in zip(self._encoders, parts, strict=True)]
                kept = in_label_units(states[0], states[1], edges.mean, edges.scale)
            report(METRIC, points[-1])
            if epoch - best_epoch >= recipe.patience or stop_requested():
                break
        if kept is None:
            raise BadData(
                "TRAINING_DIVERGED", f"no epoch gave a finite validation error: lower lr (it is {recipe.lr:g})"
            )
        settings = {STRENGTH: recipe.regularization}
        return Member(kept, best, Curve(self._seed, METRIC, False, best_epoch, True, tuple(points), settings))

    def _epoch(self, epoch: int) -> float:
        """Every training edge once, in random order; the mean loss."""
        size, total = self._recipe.batch_size, 0.0
        order = self._random.permutation(np.arange(len(self._edges), dtype=np.int32))
        refresh = -(-len(order) // (size * REFRESHES))
        half_life = max(HALF_LIFE, HALF_LIFE_STEPS * size / len(order))
        for number, start in enumerate(range(0, len(order), size)):
            if number and number % refresh == 0:
                self._remember()
            done = epoch - 1 + start / len(order)
            self._dense.lr = self._recipe.lr * 0.5 ** (done / half_life)
            batch = np.sort(order[start : start + size])  # neighbours on disk
            total += self._step(batch) * len(batch)
        return total / len(order)

    def _step(self, batch: npt.NDArray[np.int32]) -> float:
        """One batch; the loss before it."""
        edges = self._edges
        self._steps += 1
        self._visible[batch] = 0
        ends = [nodes[batch] for nodes in edges.ends]
        tables, places, used = [], [], list[Used]()
        for end, encoder in enumerate(self._encoders):
            nodes, place = self._distinct[end](ends[end])
            counts = np.bincount(place, minlength=len(nodes)).astype(np.float32)
            asked = Asked(nodes, counts, place, ends[1 - end], edges.residual[batch], self._visible)
            encoded, more = encoder.encode(asked, self._fanout, self._random)
            tables.append(encoded)
            places.append(torch.from_numpy(place).long())
            used += more
        loss = functional.mse_loss(biased_dot(*tables, *places), torch.from_numpy(edges.unit[batch]))
        loss.backward()  # type: ignore[no-untyped-call]
        self._visible[batch] = 1
        with torch.no_grad():
            for one in used:
                one.table.step(one, self._recipe.regularization / len(batch), self._dense.lr, self._steps)
        self._dense.step()
        return float(loss.detach())

    def _remember(self) -> list[tuple[Tensor, Tensor | None]]:
        with torch.no_grad():
            return [encoder.encode_all() for encoder in self._encoders]

    def _rmse(self, encoded: Sequence[Tensor]) -> float:
        """Of the validation edges, in standard deviations."""
        problem, edges, squares = self._problem, self._edges, 0.0
        with torch.no_grad():
            for part in chunks(len(self._valid)):
                rows = self._valid[part]
                places = [torch.from_numpy(nodes[rows]).long() for nodes in (problem.source, problem.dest)]
                said = biased_dot(*encoded, *places).clamp(*edges.bounds)
                wanted = torch.from_numpy((problem.label[rows] - edges.mean) / edges.scale)
                squares += float((said - wanted).square().sum())
        return math.sqrt(squares / max(len(self._valid), 1))

    def _encoder(self, end: int, generator: torch.Generator, folder: Path) -> SampledEncoder:
        problem, edges = self._problem, self._edges
        ways = []
        if problem.relational:
            ways.append((end == 0, edges.ends[end], edges.ends[1 - end]))
            if problem.ends[0] == problem.ends[1]:  # a node is also at the other end of edges
                ways.append((end == 1, edges.ends[1 - end], edges.ends[end]))
        count = problem.counts[1 - end]
        target = [TargetEdges((problem.edge, out), here, there, count, edges.residual) for out, here, there in ways]
        features = problem.dest_features if end else problem.source_features
        extra = problem.dest_extra if end else problem.source_extra
        own = folder / str(end)
        own.mkdir()
        return SampledEncoder(
            edges.degrees[end], edges.biases[end], features, target, extra, self._recipe.width, generator, own
        )
