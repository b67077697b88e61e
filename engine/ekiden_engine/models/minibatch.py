"""Edge regression where the graph does not fit into memory: the model of `encoder`, trained on sampled neighbours.

A batch of training edges needs the encodings of its end points only, and for those of a node with many neighbours a
sample of `fanout` of them, each standing for several: the sum's expectation is the same. Tables are updated where the
batch touched them, with penalties in proportion, whose expectation is that of the full batch, too. Lists of neighbours,
labels and residuals lie in memory-mapped files; in memory are the tables of the nodes and some bytes per edge. What is
kept in the end is encoded from all neighbours, nothing sampled, block by block.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.errors import BadData
from ekiden_engine.kernels import counting_sort, csr, gather, product
from ekiden_engine.models.base import Curve, CurvePoint, FloatArray, IndexArray
from ekiden_engine.models.baselines import SHRINKAGE
from ekiden_engine.models.edges_objectives import Trained
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.encoder import (
    INIT_STD,
    PENALTY_BIAS,
    PENALTY_FEATURE,
    PENALTY_ID,
    PENALTY_MESSAGE,
    EndState,
)
from ekiden_engine.models.fitting import CARVED, STRENGTH, TOLERANCE, Member, Recipe
from ekiden_engine.models.nodes_structure import RelationKey
from ekiden_engine.models.optimizer import BETAS, EPSILON, Adam, Parameter
from ekiden_engine.models.sampler import Adjacency, Sample, chunks, mapped

DEFAULT_FANOUT: Final = 16
DEFAULT_BATCH: Final = 4096
HALVINGS: Final = 4
"""How often the learning rate halves over the epochs: many small steps need a decay that few large ones do not."""
BIAS_ROUNDS: Final = 8
import os
REFRESH=int(os.environ.get("REFRESH","1"))


@dataclass(frozen=True, slots=True, eq=False)
class _Used:
    """Rows of a table in one batch: its values there, as autograd sees them, and the L2 weight of each row."""

    table: _Table
    rows: Tensor
    values: Tensor
    penalty: Tensor


class _Table:
    """A parameter [rows, columns] of which each step moves some rows only, by Adam (Kingma and Ba 2015)."""

    def __init__(self, values: Tensor, weights: Tensor) -> None:
        """`weights` float32 [columns]: L2 weights."""
        self.values = values
        self._weights = weights
        self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)

    def use(self, rows: Tensor, penalty: Tensor) -> _Used:
        """The rows, int64 [m], to compute with; `penalty` float32 [m] scales their L2 weights."""
        return _Used(self, rows, self.values[rows].requires_grad_(), penalty)

    def step(self, used: _Used, lr: float, steps: int) -> None:
        """Move the rows along their gradient; `steps` so far, this one included."""
        gradient, value = used.values.grad, used.values.detach()
        if gradient is None:
            return
        gradient = gradient.addcmul_(value, used.penalty[:, None] * self._weights, value=2)
        first = self._first[used.rows].lerp_(gradient, 1 - BETAS[0])
        second = self._second[used.rows].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        self._first[used.rows], self._second[used.rows] = first, second
        scale = second.sqrt_().mul_((1 - BETAS[1] ** steps) ** -0.5).add_(EPSILON)
        self.values[used.rows] = value.addcdiv_(first, scale, value=-lr / (1 - BETAS[0] ** steps))


class _Distinct:
    """The distinct ones of numbers below a bound, without sorting."""

    def __init__(self, bound: int) -> None:
        self._there = np.zeros(bound, np.bool_)
        self._place = np.zeros(bound, np.int32)

    def __call__(self, numbers: IndexArray) -> tuple[RowArray, IndexArray]:
        """The distinct numbers, ascending, and the position of each number among them."""
        self._there[numbers] = True
        found = np.flatnonzero(self._there)
        self._there[found] = False
        self._place[found] = np.arange(len(found), dtype=np.int32)
        return found, self._place[numbers]


class _Relation:
    """One relation of an end: lists of neighbours, and what they say: with `residual` twice, also weighted by it."""

    def __init__(
        self,
        key: RelationKey,
        lists: Adjacency,
        count: int,
        residual: FloatArray | None,
        features: FloatArray | None,
        make: Callable[[int], Tensor],
        weights: Tensor,
    ) -> None:
        self.key = key
        self.target = residual is not None
        self._lists = lists
        self._residual = residual
        self._features = None if features is None else torch.from_numpy(features)
        self.project = None if features is None else make(features.shape[1])
        self.tables = [_Table(make(count), weights) for _ in range(2 if self.target else 1)]
        self._root = (1 / np.sqrt(np.maximum(lists.degree, 1))).astype(np.float32)
        self._distinct = _Distinct(count)

    def tell(
        self, nodes: RowArray, counts: FloatArray, most: int, visible: FloatArray, random: np.random.Generator, hidden=None
    ) -> tuple[Tensor, list[_Used]]:
        """What a sample of their neighbours says to `nodes` [m], and the rows used; `counts` float32 [m]: how often a
        node is an end of the batch, `visible` float32 [E]: 0 for the batch's own edges, else 1."""
        sample = self._lists.sample(nodes, most, random)
        columns, place = self._distinct(sample.columns)
        taken, owners = np.diff(sample.pointers), sample.owners
        exposure = np.bincount(place, (counts / np.maximum(taken, 1))[owners], len(columns)).astype(np.float32)
        order, begins = counting_sort(place, len(columns))
        rows, exposed = torch.from_numpy(columns), torch.from_numpy(exposure)
        used = [table.use(rows, exposed) for table in self.tables]
        told = self._told[torch.from_numpy(nodes)]
        if self._residual is not None and hidden is not None:
            told -= self._of_hidden(*hidden, len(nodes))
        plain = (self._root[nodes] * sample.share)[owners]
        for one, old in zip(used, self._old, strict=True):
            labelled = one is not used[0]
            values = plain if not labelled else plain * self._carried(sample) * visible[sample.edges]
            matrix = csr(sample.pointers, place, values, (len(nodes), len(columns)))
            transpose = csr(begins, owners[order], values[order], (len(columns), len(nodes)))
            told = told + product(matrix, transpose, self._said(one.values, rows) - old[rows])
        return told, used

    def _of_hidden(self, place: IndexArray, columns: IndexArray, residual: FloatArray, count: int) -> Tensor:
        order, begins = counting_sort(place, count)
        return csr(begins, columns[order], residual[order], (count, len(self._old[1]))) @ self._old[1]

    def tell_all(self) -> Tensor:
        """What all neighbours say to all nodes; it is remembered for `tell`."""
        said = self._old = [self._said(table.values, slice(None)).clone() for table in self.tables]
        told = torch.zeros(len(self._lists), said[0].shape[1])
        for block, sample in self._lists.blocks():
            plain = self._root[block][sample.owners]
            for labelled, message in enumerate(said):
                values = plain * self._carried(sample) if labelled else plain
                shape = (len(sample.share), len(message))
                told[block] += csr(sample.pointers, sample.columns, values, shape) @ message
        self._told = told
        return told

    def messages(self) -> list[tuple[RelationKey, bool, Tensor]]:
        """What each neighbour says, [count, columns], with whether it is weighted by labels."""
        return [
            (self.key, labelled, self._said(table.values, slice(None)).clone())
            for labelled, table in zip((False, True), self.tables, strict=False)
        ]

    def _carried(self, sample: Sample) -> FloatArray:
        if self._residual is None:
            raise ValueError("no residuals")
        return self._residual[sample.edges]

    def _said(self, values: Tensor, rows: Tensor | slice) -> Tensor:
        if self._features is None or self.project is None:
            return values
        return values + self._features[rows] @ self.project


class _End:
    """The encoder of one end point (see `encoder.Encoder`, whose parameters these are)."""

    def __init__(self, edges: _Edges, end: int, width: int, generator: torch.Generator, folder: Path) -> None:
        problem = edges.problem
        nodes, other = problem.counts[end], problem.counts[1 - end]
        features = problem.dest_features if end else problem.source_features
        self.width = width
        self.degree = edges.degrees[end]
        self._x = torch.from_numpy(features) if features.shape[1] else None

        def table(rows: int) -> Tensor:
            values = torch.randn(rows, width + 1, generator=generator) * INIT_STD
            values[:, width:] = 0
            return values

        columns = torch.ones(width + 1)
        own, told = columns * PENALTY_ID, columns * PENALTY_MESSAGE
        own[width:] = told[width:] = PENALTY_BIAS
        free = table(nodes) * torch.from_numpy(self.degree > 0)[:, None]
        free[:, width] = torch.from_numpy(edges.biases[end])
        self.free = _Table(free, own)
        self.project = None if self._x is None else table(features.shape[1])
        self.relations: list[_Relation] = []
        if problem.relational:
            ways = [(end == 0, edges.ends[end], edges.ends[1 - end])]
            if problem.ends[0] == problem.ends[1]:  # a node is also at the other end of edges
                ways.append((end == 1, edges.ends[1 - end], edges.ends[end]))
            for outgoing, here, there in ways:
                lists = Adjacency(here, there, nodes, folder, f"target-{end}-{outgoing}")
                key, weights = (problem.edge, outgoing), columns * PENALTY_MESSAGE
                self.relations.append(_Relation(key, lists, other, edges.residual, None, table, weights))
        for number, given in enumerate(problem.dest_extra if end else problem.source_extra):
            lists = Adjacency(given.rows, given.columns, nodes, folder, f"other-{end}-{number}")
            self.relations.append(_Relation(given.key, lists, given.count, None, given.features, table, told))

    def dense(self) -> list[Parameter]:
        """The parameters that every batch moves as a whole."""
        found = [p for p in (self.project, *(r.project for r in self.relations)) if p is not None]
        return [Parameter(p.requires_grad_(), PENALTY_FEATURE) for p in found]

    def encode(
        self, nodes: RowArray, counts: FloatArray, most: int, visible: FloatArray, random: np.random.Generator, hidden=None
    ) -> tuple[Tensor, list[_Used]]:
        """Encodings of `nodes` [m, width + 1] by samples of neighbours; arguments as for `_Relation.tell`."""
        rows = torch.from_numpy(nodes)
        used = [self.free.use(rows, torch.from_numpy(counts))]
        encoded = used[0].values
        if self._x is not None and self.project is not None:
            encoded = encoded + self._x[rows] @ self.project
        for relation in self.relations:
            mine = None
            if hidden is not None and relation.target and relation is self.relations[0]:
                place, columns, residual = hidden
                mine = place, columns, residual * relation._root[nodes][place]
            told, more = relation.tell(nodes, counts, most, visible, random, mine)
            encoded = encoded + told
            used += more
        return encoded, used

    def parts(self) -> tuple[Tensor, Tensor | None]:
        """Of all nodes, from all neighbours: what the target's edges teach, and what features and others tell."""
        learnt = self.free.values
        told = None if self._x is None or self.project is None else self._x @ self.project
        for relation in self.relations:
            found = relation.tell_all()
            if relation.target:
                learnt = learnt + found
            else:
                told = found if told is None else told + found
        return learnt, told

    def state(self, parts: tuple[Tensor, Tensor | None]) -> EndState:
        """See `encoder.Encoder.state`."""
        learnt, told = parts
        trained = torch.from_numpy(self.degree > 0)
        nobody = torch.zeros(self.width + 1)
        own, both = (x[trained].mean(0) if bool(trained.any()) else nobody for x in (self.free.values, learnt))
        from_features = nobody
        if self._x is not None and self.project is not None and len(self._x):
            from_features = self._x.mean(0) @ self.project
        learnt = learnt + (~trained).float()[:, None] * both
        whole = learnt if told is None else learnt + told
        mean = whole[trained].mean(0) if bool(trained.any()) else nobody
        return EndState(
            torch.cat([whole, mean[None]]),
            torch.stack([own, both, from_features]),
            None if self.project is None else self.project.clone(),
            tuple(message for relation in self.relations for message in relation.messages()),
        )


class _Edges:
    """The training edges of one member on disk: ends, labels of unit variance, what biases leave of them."""

    def __init__(self, problem: EdgeProblem, train: RowArray, folder: Path) -> None:
        self.problem = problem
        count = len(train)
        self.ends = (mapped(folder / "source", np.int32, count), mapped(folder / "dest", np.int32, count))
        self.unit: FloatArray = mapped(folder / "unit", np.float32, count)
        self.residual: FloatArray = mapped(folder / "residual", np.float32, count)
        degrees = [np.zeros(n, np.float32) for n in problem.counts]
        total = squares = 0.0
        for part in chunks(count):
            rows = train[part]
            for end, (given, kept) in enumerate(zip((problem.source, problem.dest), self.ends, strict=True)):
                kept[part] = given[rows]
                degrees[end] += np.bincount(kept[part], minlength=problem.counts[end])
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
            left = self.unit[part]
            for bias, nodes in zip(self.biases, self.ends, strict=True):
                left = left - bias[nodes[part]]
            self.residual[part] = left

    def _fit_biases(self) -> tuple[FloatArray, FloatArray]:
        """Ridge regression on the two ends in turn, as if each node had `SHRINKAGE` more labels of zero."""
        biases = [np.zeros(n, np.float32) for n in self.problem.counts]
        for _ in range(BIAS_ROUNDS):
            for end in (0, 1):
                sums = np.zeros(len(biases[end]))
                for part in chunks(len(self.unit)):
                    left = self.unit[part] - biases[1 - end][self.ends[1 - end][part]]
                    sums += np.bincount(self.ends[end][part], left, len(sums))
                biases[end] = (sums / (self.degrees[end] + SHRINKAGE)).astype(np.float32)
        return biases[0], biases[1]


def fit_sampled(
    problem: EdgeProblem,
    recipe: Recipe,
    fanout: int,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    folder: Path | None = None,
) -> Member:
    """As `fitting.fit_member`, for numbers, on samples of `fanout` neighbours; files go below `folder` (default: the
    system's temporary folder) and are removed. Raises `BadData` TRAINING_DIVERGED."""
    with tempfile.TemporaryDirectory(prefix="ekiden-minibatch-", dir=folder) as scratch:
        return _fit(problem, recipe, fanout, seed, report, stop_requested, Path(scratch))


def _fit(
    problem: EdgeProblem,
    recipe: Recipe,
    fanout: int,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    folder: Path,
) -> Member:
    started = time.perf_counter()
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    train, valid = problem.set_aside(seed, CARVED)
    edges = _Edges(problem, train, folder)
    ends = [_End(edges, end, recipe.width, generator, folder) for end in (0, 1)]
    dense = Adam([p for end in ends for p in end.dense()], recipe.lr)
    distinct = [_Distinct(count) for count in problem.counts]
    visible = np.ones(len(train), np.float32)
    points: list[CurvePoint] = []
    best, best_epoch, kept, steps = math.inf, 0, None, 0

    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        order = random.permutation(np.arange(len(train), dtype=np.int32))
        refresh = -(-len(order) // recipe.batch_size // REFRESH)
        for number, start in enumerate(range(0, len(order), recipe.batch_size)):
            if number % refresh == 0 and (number or epoch == 1):
                with torch.no_grad():
                    for end in ends:
                        for r in end.relations: r.tell_all()
            batch = np.sort(order[start : start + recipe.batch_size])
            steps += 1
            lr = dense.lr = recipe.lr * 0.5 ** (HALVINGS * (epoch - 1 + start / len(order)) / recipe.epochs)
            visible[batch] = 0
            used: list[_Used] = []
            sides = []
            for i, (end, nodes, among) in enumerate(zip(ends, edges.ends, distinct, strict=True)):
                rows, place = among(nodes[batch])
                counts = np.bincount(place, minlength=len(rows)).astype(np.float32)
                encoded, more = end.encode(rows, counts, fanout, visible, random, (place, edges.ends[1 - i][batch], edges.residual[batch]))
                sides.append(gather(encoded, torch.from_numpy(place).long()))
                used += more
            loss = functional.mse_loss(_dot(*sides), torch.from_numpy(edges.unit[batch]))
            loss.backward()  # type: ignore[no-untyped-call]
            visible[batch] = 1
            total += float(loss.detach()) * len(batch)
            with torch.no_grad():
                for one in used:
                    one.penalty.mul_(recipe.regularization / len(batch))
                    one.table.step(one, lr, steps)
            dense.step()
        with torch.no_grad():
            parts = [end.parts() for end in ends]
            rmse = _rmse(edges, valid, [a if b is None else a + b for a, b in parts])
            if not np.isfinite(rmse):
                break  # diverged; an earlier epoch may be good
            seconds = round(time.perf_counter() - started, 3)
            shown = float(np.sqrt(total / len(train))) * edges.scale
            points.append(CurvePoint(epoch, shown, rmse * edges.scale, seconds))
            if rmse < best - TOLERANCE:
                best, best_epoch = rmse, epoch
                states = [end.state(part) for end, part in zip(ends, parts, strict=True)]
                kept = in_label_units(states[0], states[1], recipe.width, edges.mean, edges.scale)
        report("rmse", points[-1])
        if epoch - best_epoch >= recipe.patience or stop_requested():
            break

    if kept is None:
        raise BadData("TRAINING_DIVERGED", f"no epoch gave a finite validation error: lower lr (it is {recipe.lr:g})")
    settings = {STRENGTH: recipe.regularization}
    return Member(kept, best, Curve(seed, "rmse", False, best_epoch, True, tuple(points), settings))


def _rmse(edges: _Edges, valid: RowArray, encoded: Sequence[Tensor]) -> float:
    """Of the validation edges, in standard deviations."""
    problem, squares = edges.problem, 0.0
    for part in chunks(len(valid)):
        rows = valid[part]
        ends = zip(encoded, (problem.source[rows], problem.dest[rows]), strict=True)
        said = _dot(*(table[torch.from_numpy(nodes).long()] for table, nodes in ends)).clamp(*edges.bounds)
        wanted = torch.from_numpy((problem.label[rows] - edges.mean) / edges.scale)
        squares += float((said - wanted).square().sum())
    return math.sqrt(squares / max(len(valid), 1))


def _dot(s: Tensor, t: Tensor) -> Tensor:
    return (s[:, :-1] * t[:, :-1]).sum(1) + s[:, -1] + t[:, -1]


def in_label_units(source: EndState, dest: EndState, width: int, mean: float, scale: float) -> Trained:
    ends = []
    for state, level in ((source, mean), (dest, 0.0)):
        size = torch.full((width + 1,), scale**0.5)
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
