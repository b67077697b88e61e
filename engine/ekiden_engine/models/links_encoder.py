"""The relational encoder of link prediction, all of it in memory.

    vector(v) = own(v) + x_v W + sum over relations r of A_r message_r

as in edge regression: A_r is the adjacency of one edge type and direction, every row divided by the square root of its
number of visible neighbours; `own` and `message_r` are free. How vectors become scores and losses: `links_training`.

In a step, half of the links of the questioned nodes, drawn anew, are hidden from the aggregation: without that a node
would be asked for neighbours that its vector is made of (a denoising autoencoder: Liang et al. 2018). All answers are
asked for, the visible ones too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.graph import EncodedGraph
from ekiden_engine.kernels import aggregate
from ekiden_engine.models.base import IndexArray
from ekiden_engine.models.device import CPU, half_of
from ekiden_engine.models.links_data import LinkProblem
from ekiden_engine.models.links_losses import ROWS, SCORES, Batch, LinkRecipe, descend
from ekiden_engine.models.links_relations import make_relations, normal, ways_of
from ekiden_engine.models.links_training import Limits, LinkTraining
from ekiden_engine.models.optimizer import Adam, Parameter

FULL: Final = 20_000
"""Candidates up to which cross-entropy takes all of them."""


BYTES_PER_LINK: Final = 44
"""And way: a matrix, its transpose, where each link is in both, and its receiver."""
BUILDING: Final = 60
"""Bytes per link while such a matrix is made."""
COPIES: Final = 6
"""Of each parameter: the value, its gradient, two moments, the best so far, and what a step of Adam computes."""
VECTORS: Final = 4
"""Of each node: its vector, the gradient of that, and sums on the way."""

MATRICES: Final = 3
"""Of scores: themselves, and on the way to their gradient."""


def full_batch_bytes(problem: LinkProblem, graph: EncodedGraph, recipe: LinkRecipe) -> int:
    """An estimate of what training a `LinkEncoder` would take in memory, beside the problem itself; peaks that were
    measured, of 0.24 to 1.6 GB, were between a third less and a fifth more."""
    ways = ways_of(problem)
    links = [len(way.to) for way in ways]
    columns = sum(graph.node(label).features.shape[1] for label in problem.labels)
    rows = problem.nodes + sum(way.columns[1] - way.columns[0] for way in ways) + columns
    biases = problem.nodes * (len(problem.ranges) if len(ways) > 2 else 2)
    candidates = int(np.diff(problem.ranges, axis=1).max(initial=1))
    scores = min(min(recipe.batch, ROWS) * candidates, SCORES)
    floats = COPIES * (rows * recipe.width + biases) + VECTORS * problem.nodes * recipe.width + MATRICES * scores
    return int(BYTES_PER_LINK * sum(links) + BUILDING * max(links, default=0) + 4 * floats)


class LinkEncoder(LinkTraining):
    """The parameters while they are trained."""

    def __init__(
        self, graph: EncodedGraph, problem: LinkProblem, recipe: LinkRecipe, seed: int, device: torch.device = CPU
    ) -> None:
        """Random vectors; `seed` decides them and everything that is drawn later."""
        super().__init__(graph, problem, recipe, seed, device, Limits(FULL))
        self._half = half_of(device) if device.type == "cuda" else torch.float32
        count, width, types = problem.nodes, recipe.width, len(problem.edge_types) + len(problem.context)
        self._own = torch.zeros((count, width), device=device)
        self.relations = make_relations(problem, width, self._random, device)
        self._features = []
        for label, low in zip(problem.labels, problem.bounds[:-1].tolist(), strict=True):
            x = graph.node(label).features
            if x.shape[1]:
                self._features.append((low, self._tensor(x), normal(self._random, (x.shape[1], width), device)))
        self._factor = torch.ones((types, width), device=device)
        self._biases = [self._tensor(self._start_bias(b)) for b in range(int(self._bias_of.max()) + 1)]
        tables = [r.table for r in self.relations]
        weights = [w for _, _, w in self._features]
        penalty = recipe.regularization / max(len(problem.links[0]), 1)
        parameters = [self._own, self._factor, *self._biases, *tables, *weights]
        if not tables:
            self._own.copy_(normal(self._random, (count, width), device))
        degree = np.bincount(problem.train.given, problem.train.counts, count)
        by_degree = penalty * self._tensor(degree.astype(np.float32))[:, None].clamp_min(1)
        regular: list[Tensor | float] = [by_degree, 0.0, *(0.0 for _ in self._biases)]
        regular += [penalty * r.sent()[:, None].clamp_min(1) for r in self.relations]
        regular += [penalty for _ in weights]
        for tensor in parameters:
            tensor.requires_grad_()
        self._adam = Adam([Parameter(t, w) for t, w in zip(parameters, regular, strict=True)], recipe.lr)
        self._parameters = parameters

    def encode(self) -> Tensor:
        """See `LinkTraining`."""
        return self._encode({})

    @property
    def steps_done(self) -> int:
        """See `LinkTraining`."""
        return self._adam.steps

    def _values(self) -> list[Tensor]:
        return self._parameters

    def _optimizer(self) -> dict[str, list[Tensor]]:
        return self._adam.moments()

    def _go_on(self, steps: int) -> None:
        self._adam.steps = steps

    def _bias(self, relation: int) -> Tensor:
        low, high = self._problem.ranges[relation].tolist()
        bias: Tensor = self._biases[self._bias_of[relation]][low:high]
        return bias

    def _step(self, batch: Batch, lr: float) -> float:
        hides = self._hide(batch.hidden)
        vectors = self._encode(hides)
        low, high = self._problem.ranges[batch.relation].tolist()
        there = slice(low, high) if batch.drawn is None else self._tensor(batch.columns)
        bias = self._biases[self._bias_of[batch.relation]][there]
        asked = vectors[self._tensor(batch.given)] * self._factor[self._tensor(batch.kinds)]
        loss = descend(batch, self.recipe, asked, vectors[there], bias, self._half, SCORES)
        for group, edges in hides.items():
            self.relations[group].matrix.show(edges)
        self._adam.lr = lr
        self._adam.step()
        return loss

    def _encode(self, hidden: dict[int, Tensor]) -> Tensor:
        vectors = self._own.clone()
        for group, relation in enumerate(self.relations):
            visible = relation.degree
            if group in hidden:
                gone = torch.bincount(relation.receivers[hidden[group]], minlength=len(visible))
                visible = visible - gone
            sums = aggregate(relation.matrix, relation.table)
            rows = slice(relation.way.rows[0], relation.way.rows[1])
            vectors[rows] = vectors[rows] + sums * visible.clamp_min(1).rsqrt()[:, None]
        for low, x, weight in self._features:
            vectors[low : low + len(x)] = vectors[low : low + len(x)] + x @ weight
        return vectors

    def _hide(self, links: IndexArray) -> dict[int, Tensor]:
        """Hide links from the messages along them; per relation which of its edges, for `show`."""
        found = {}
        for place, relation in enumerate(self.relations):
            edges = relation.way.edges_of(links)
            if len(edges):
                found[place] = self._tensor(edges)
                relation.matrix.hide(found[place])
        return found
