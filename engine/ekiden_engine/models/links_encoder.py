"""The relational encoder of link prediction, and its training loss.

    vector(v) = own(v) + x_v W + sum over relations r of A_r message_r

as in edge regression: A_r is the adjacency of one edge type and direction, every row divided by the square root of its
number of visible neighbours; `own` and `message_r` are free. The score of a link is <vector(s) * factor(e), vector(t)>
plus a bias of the candidate.

In a step, half of the links of the questioned nodes, drawn anew, are hidden from the aggregation: without that a node
would be asked for neighbours that its vector is made of (a denoising autoencoder: Liang et al. 2018). All answers are
asked for, the visible ones too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.graph import EncodedGraph
from ekiden_engine.kernels import aggregate
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import CPU, array_of, half_of, on
from ekiden_engine.models.kge_losses import Answers, bpr, contrastive, cross_entropy
from ekiden_engine.models.links_data import Candidates, LinkProblem, LongArray, Validation, draw
from ekiden_engine.models.links_relations import SEPARATE, make_relations, normal
from ekiden_engine.models.optimizer import Adam, Parameter
from ekiden_engine.models.passes import breaks_off

HIDDEN = 0.5
FULL = 20_000
"""Candidates up to which cross-entropy takes all of them."""
NEGATIVES = 1024
"""Draws per batch elsewhere."""
ROWS = 1024
"""Questions scored at a time."""


@dataclass(frozen=True, slots=True)
class LinkRecipe:
    """What a training does: see the hyperparameters of the same names."""

    width: int
    lr: float
    batch: int
    loss: str
    gamma: float
    negatives: int
    regularization: float


class LinkEncoder:
    """The parameters while they are trained."""

    def __init__(
        self, graph: EncodedGraph, problem: LinkProblem, recipe: LinkRecipe, seed: int, device: torch.device = CPU
    ) -> None:
        """Random vectors; `seed` decides them and everything that is drawn later."""
        self.recipe = recipe
        self.device = device
        self._half = half_of(device) if device.type == "cuda" else torch.float32
        self._problem = problem
        self._random = np.random.default_rng(seed)
        count, width, types = problem.nodes, recipe.width, len(problem.edge_types) + len(problem.context)
        self._own = torch.zeros((count, width), device=device)
        self.relations = make_relations(problem, width, self._random, device)
        self._features = []
        for label, low in zip(problem.labels, problem.bounds[:-1].tolist(), strict=True):
            x = graph.node(label).features
            if x.shape[1]:
                self._features.append((low, self._tensor(x), normal(self._random, (x.shape[1], width), device)))
        self._factor = torch.ones((types, width), device=device)
        separate = types <= SEPARATE
        self._bias_of = np.arange(len(problem.ranges)) if separate else np.arange(len(problem.ranges)) % 2
        # Links of other edge types than the target's bring messages, but are not asked for.
        self._asked = int(np.searchsorted(problem.train.relation, 2 * len(problem.edge_types)))
        # Questions with the same candidates and the same bias are scored together.
        self._group_of = problem.ranges[:, 0] * (int(self._bias_of.max()) + 1) + self._bias_of
        self._bias = [self._start_bias(b) for b in range(int(self._bias_of.max()) + 1)]
        tables = [r.table for r in self.relations]
        weights = [w for _, _, w in self._features]
        penalty = recipe.regularization / max(len(problem.links[0]), 1)
        parameters = [self._own, self._factor, *self._bias, *tables, *weights]
        if not tables:
            self._own.copy_(normal(self._random, (count, width), device))
        degree = np.bincount(problem.train.given, problem.train.counts, count)
        by_degree = penalty * self._tensor(degree.astype(np.float32))[:, None].clamp_min(1)
        regular: list[Tensor | float] = [by_degree, 0.0, *(0.0 for _ in self._bias)]
        regular += [penalty * r.sent()[:, None].clamp_min(1) for r in self.relations]
        regular += [penalty for _ in weights]
        for tensor in parameters:
            tensor.requires_grad_()
        self._adam = Adam([Parameter(t, w) for t, w in zip(parameters, regular, strict=True)], recipe.lr)
        self._parameters = parameters

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        of_group = np.unique(self._group_of[self._problem.train.relation[: self._asked]], return_counts=True)[1]
        return int((-(-of_group // self.recipe.batch)).sum())

    def epoch(self, lr: tuple[float, float], stop_requested: Callable[[], bool] = lambda: False) -> tuple[float, bool]:
        """One pass over the target's questions, the learning rate going from lr[0] to lr[1]; mean loss per answer, and
        whether it was not broken off (see `passes.breaks_off`)."""
        questions, size = self._problem.train, self.recipe.batch
        batches = []
        groups = self._group_of[questions.relation[: self._asked]]
        for group in np.unique(groups):
            rows = self._random.permutation(np.flatnonzero(groups == group))
            batches += [rows[at : at + size] for at in range(0, len(rows), size)]
        total, answers, began = 0.0, 0, time.perf_counter()
        for place, index in enumerate(self._random.permutation(len(batches))):
            self._adam.lr = lr[0] + (lr[1] - lr[0]) * place / len(batches)
            count = int(questions.counts[batches[index]].sum())
            total += self._step(batches[index]) * count
            answers += count
            if place + 1 < len(batches) and breaks_off(began, stop_requested):
                return total / max(answers, 1), False
        return total / max(answers, 1), True

    def encode(self) -> Tensor:
        """Vectors of all nodes [nodes, d]."""
        return self._encode({})

    def scores(self, vectors: Tensor, relation: LongArray, given: LongArray) -> Tensor:
        """Scores [m, candidates] for nodes `given` and relations of one group, int64 [m]."""
        low, high = (int(x) for x in self._problem.ranges[relation[0]])
        asked = vectors[self._tensor(given)] * self._factor[self._tensor(relation // 2)]
        return torch.addmm(self._bias[self._bias_of[relation[0]]][low:high], asked, vectors[low:high].t())

    def mrr(self, validation: Validation) -> float:
        """Mean reciprocal filtered rank of the validation answers."""
        found = []
        with torch.no_grad():
            vectors = self.encode()
            for rows in validation.blocks(ROWS):
                groups = self._group_of[validation.questions.relation[rows]]
                for group in np.unique(groups):
                    own = rows[groups == group]
                    asked = validation.questions
                    scores = self.scores(vectors, asked.relation[own], asked.given[own])
                    found.append(validation.ranks(own, array_of(scores))[1])
        ranks = np.concatenate([*found, np.empty(0)])
        return float((1 / ranks).mean()) if len(ranks) else float("nan")

    def state(self) -> list[Tensor]:
        """Copies of all parameters."""
        return [p.detach().clone() for p in self._parameters]

    def restore(self, state: list[Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state, strict=True):
                parameter.copy_(value)

    def arrays(self, kept: Sequence[Tensor]) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
        """For a checkpoint: the state of the random numbers, and all that is trained, `kept` (see `state`) too."""
        parts = {"own": self._parameters, "kept": kept, **self._adam.moments()}
        arrays = {f"{name}.{i}": array_of(tensor) for name, part in parts.items() for i, tensor in enumerate(part)}
        return self._random.bit_generator.state, arrays

    def resume(self, random: Any, steps: int, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Tensor]:
        """Take back what `arrays` gave, after `steps` steps; returns what was kept."""
        self._random.bit_generator.state = random
        count = range(len(self._parameters))
        parts = {
            name: [self._tensor(arrays[f"{name}.{i}"]) for i in count] for name in ("own", "kept", "first", "second")
        }
        self.restore(parts["own"])
        self._adam.resume(steps, parts["first"], parts["second"])
        return parts["kept"]

    @property
    def steps_done(self) -> int:
        """Updates so far."""
        return self._adam.steps

    def tables(self) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
        """Vectors [nodes, d], factors [edge types, d], and per relation the bias of its candidates."""
        with torch.no_grad():
            vectors: FloatArray = array_of(self.encode())
        bias = [
            array_of(self._bias[self._bias_of[relation]])[low:high]
            for relation, (low, high) in enumerate(self._problem.ranges.tolist())
        ]
        return vectors, array_of(self._factor), bias

    def seen(self) -> npt.NDArray[np.bool_]:
        """Nodes of which anything is known: a link, another neighbour, a feature that is not zero."""
        found = self._problem.seen()
        for relation in self.relations:
            rows = np.unique(relation.to) + relation.to_low
            found[rows] = True
        for low, x, _ in self._features:
            found[low : low + len(x)] |= array_of(x).any(1)
        return found

    def _step(self, batch: LongArray) -> float:
        questions = self._problem.train
        relation = int(questions.relation[batch[0]])
        low, high = (int(x) for x in self._problem.ranges[relation])
        rows, places = questions.places(batch)
        answers, links = questions.answers[places], questions.links[places]
        hidden = np.unique(links[self._random.random(len(links)) < HIDDEN])
        hides = self._hide(hidden)
        vectors = self._encode(hides)
        drawn = self._candidates(answers, low, high)
        place = answers - low if drawn is None else np.searchsorted(drawn.columns, answers)
        there = slice(low, high) if drawn is None else self._tensor(drawn.columns)
        bias_table = self._bias[self._bias_of[relation]]
        table, bias = vectors[there], bias_table[there]
        kinds = self._tensor(questions.relation[batch] // 2)
        asked = vectors[self._tensor(questions.given[batch])] * self._factor[kinds]
        if drawn is not None and drawn.shift:
            bias = bias + self._tensor(drawn.drawn) * drawn.shift
        loss, half = 0.0, self._half
        half_table = table.detach().to(half)
        slopes = []
        counts = self._tensor(questions.counts[batch]).float()
        for start in range(0, len(batch), ROWS):
            part = slice(start, min(start + ROWS, len(batch)))
            mine = (rows >= part.start) & (rows < part.stop)
            truth = Answers(self._tensor(rows[mine] - start), self._tensor(place[mine]), counts[part])
            with torch.no_grad():
                scores = torch.addmm(bias.to(half), asked[part].to(half), half_table.t())
                value, slope = self._loss(scores, truth, drawn)
                share = float(truth.counts.sum() / counts.sum())
                loss += float(value) * share
                slopes.append(slope.mul_(share))
        slope = torch.cat(slopes) if len(slopes) > 1 else slopes[0]
        by_asked, by_table = slope @ half_table, slope.t() @ asked.detach().to(half)
        torch.autograd.backward([asked, table, bias], [by_asked.float(), by_table.float(), slope.float().sum(0)])
        for group, edges in hides.items():
            self.relations[group].matrix.show(edges)
        self._adam.step()
        return loss

    def _loss(self, scores: Tensor, truth: Answers, drawn: Candidates | None) -> tuple[Tensor, Tensor]:
        if drawn is None or self.recipe.loss == "cross-entropy":
            return cross_entropy(scores, truth)
        negative = self._tensor(drawn.drawn).repeat(len(scores), 1)
        negative[truth.rows, truth.columns] = False
        if self.recipe.loss == "bpr":
            return bpr(scores, truth, negative)
        return contrastive(scores, truth, negative, self.recipe.gamma)

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return on(self.device, values)

    def _candidates(self, answers: LongArray, low: int, high: int) -> Candidates | None:
        """What a batch is held against; None: all nodes that can be answers."""
        estimate = self.recipe.loss == "cross-entropy"
        if estimate and high - low <= (self.recipe.negatives or FULL):
            return None
        return draw(self._random, answers, low, high, self.recipe.negatives or NEGATIVES, estimate=estimate)

    def _encode(self, hidden: dict[int, Tensor]) -> Tensor:
        vectors = self._own.clone()
        for group, relation in enumerate(self.relations):
            visible = relation.degree
            if group in hidden:
                gone = torch.bincount(relation.receivers[hidden[group]], minlength=len(visible))
                visible = visible - gone
            sums = aggregate(relation.matrix, relation.table)
            rows = slice(relation.to_low, relation.to_low + len(visible))
            vectors[rows] = vectors[rows] + sums * visible.clamp_min(1).rsqrt()[:, None]
        for low, x, weight in self._features:
            vectors[low : low + len(x)] = vectors[low : low + len(x)] + x @ weight
        return vectors

    def _hide(self, links: LongArray) -> dict[int, Tensor]:
        """Hide links from the messages along them; per relation which of its edges, for `show`."""
        found = {}
        for place, relation in enumerate(self.relations):
            edges = relation.edges_of(links)
            if len(edges):
                found[place] = self._tensor(edges)
                relation.matrix.hide(found[place])
        return found

    def _start_bias(self, index: int) -> Tensor:
        """Log of one plus the links of each candidate, of mean zero."""
        train = self._problem.train
        mine = np.isin(train.relation, np.flatnonzero(self._bias_of == index))
        _, answers = train.flat(np.flatnonzero(mine))
        start = np.log1p(np.bincount(answers, minlength=self._problem.nodes)).astype(np.float32)
        return self._tensor(start - start.mean())
