"""Link prediction where the graph does not fit into memory: the model of `links_encoder`, trained on samples of
neighbours.

A step needs the vectors of its questions' nodes and of the candidates only, and for those of a node with many
neighbours a sample of them (`links_sampled_messages`). Half of the links that are asked for are hidden from both ends,
as in the full batch. A question with very many answers is asked in portions, each of which hides half of its own, and
a step has a bounded number of answers. Candidates are drawn where there are more than a few thousand.

Lists of neighbours, remembered sums, the best parameters so far and the vectors of all nodes lie in memory-mapped
files, as should the problem (`LinkProblem.on_disk`). In memory are the parameters with two moments each, if that leaves
room for others (else they are mapped, too), and some thirty bytes per node and way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.graph import EncodedGraph
from ekiden_engine.kernels import gather
from ekiden_engine.memory import available_bytes
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.device import CPU
from ekiden_engine.models.fanout import COMFORTABLE
from ekiden_engine.models.links_data import LinkProblem
from ekiden_engine.models.links_losses import Batch, LinkRecipe, descend
from ekiden_engine.models.links_questions import LongArray
from ekiden_engine.models.links_relations import normal, ways_of
from ekiden_engine.models.links_sampled_messages import SampledMessages, Storage
from ekiden_engine.models.links_training import Limits, LinkTraining
from ekiden_engine.models.optimizer import Adam, Parameter
from ekiden_engine.models.sampled_tables import Distinct, Table, Used, blocks

SAMPLED_BATCH: Final = 2048
"""Questions per step, at most, unless a batch size is given."""
LIMITS: Final = Limits(candidates=4096, portion=1024, answers=16_384)
SCORES: Final = 5_000_000
"""At once."""
IN_MEMORY: Final = 3
"""Copies of the parameters that lie in memory, with two moments, if they take up no more of it than `COMFORTABLE`."""
REFRESHES: Final = 4
"""How often in an epoch the sums over all neighbours are computed anew."""


class SampledLinkEncoder(LinkTraining):
    """The parameters while they are trained, on the CPU."""

    def __init__(
        self, graph: EncodedGraph, problem: LinkProblem, recipe: LinkRecipe, fanout: int, seed: int, folder: Path
    ) -> None:
        """Random vectors; `seed` decides them and everything that is drawn later. `fanout` neighbours of a node are
        sampled per way; files go into `folder`, which must outlive this."""
        super().__init__(graph, problem, recipe, seed, CPU, LIMITS)
        self._fanout = fanout
        width, types, ways = recipe.width, len(problem.edge_types) + len(problem.context), ways_of(problem)
        rows = problem.nodes + sum(way.columns[1] - way.columns[0] for way in ways)
        available = available_bytes()
        storage = Storage(folder, available is not None and IN_MEMORY * rows * width * 4 > COMFORTABLE * available)
        self._distinct = Distinct(problem.nodes)
        self._visible = np.ones(len(problem.links[0]), np.bool_)
        degree = np.bincount(problem.train.given, problem.train.counts, problem.nodes)
        self._own = storage.table("own", np.maximum(degree, 1).astype(np.float32), width)
        self.relations = [
            SampledMessages(way, width, self._random, storage.within(f"way-{number}"), self._distinct)
            for number, way in enumerate(ways)
        ]
        self._features = []
        for label, low in zip(problem.labels, problem.bounds[:-1].tolist(), strict=True):
            x = graph.node(label).features
            if x.shape[1]:
                self._features.append((low, torch.from_numpy(x), normal(self._random, (x.shape[1], width), CPU)))
        self._factor = torch.ones((types, width))
        self._biases = [self._new_bias(index) for index in range(int(self._bias_of.max()) + 1)]
        self._penalty = recipe.regularization / max(len(problem.links[0]), 1)
        weights = [weight for _, _, weight in self._features]
        dense = [Parameter(self._factor, 0.0), *(Parameter(weight, self._penalty) for weight in weights)]
        self._dense_values = [p.value.requires_grad_() for p in dense]
        self._dense = Adam(dense, recipe.lr)
        self._vectors = storage.mapped("vectors", (problem.nodes, width))
        self._kept = [
            storage.mapped(f"kept-{number}", (len(value), value.shape[1]))
            for number, value in enumerate(self._values())
        ]
        self._remembered: int | None = None
        self._refresh = 1

    def encode(self) -> Tensor:
        """See `LinkTraining`: from all neighbours, block by block."""
        self._remember()
        with torch.no_grad():
            for part in blocks(len(self._vectors)):
                block, start = self._vectors[part], part.start
                block.copy_(self._own.values[part])
                for relation in self.relations:
                    low, high = max(start, relation.way.rows[0]), min(part.stop, relation.way.rows[1])
                    if low < high:
                        block[low - start : high - start] += relation.told(low, high)
                for first, x, weight in self._features:
                    low, high = max(start, first), min(part.stop, first + len(x))
                    if low < high:
                        block[low - start : high - start] += x[low - first : high - first] @ weight
        return self._vectors

    def encode_some(self, nodes: LongArray, hidden: IndexArray) -> tuple[Tensor, list[Used]]:
        """Vectors [m, d] of distinct nodes, ascending, by samples of their neighbours, as the next step would need
        them; and what was used for it. Both ends of the links `hidden` must be among them."""
        self._remember(at_least=False)
        step = self.steps_done + 1
        self._visible[hidden] = False
        used = [self._own.use_at(torch.from_numpy(nodes), step)]
        vectors = used[0].values.clone()
        for relation in self.relations:
            first, last = np.searchsorted(nodes, relation.way.rows).tolist()
            if first < last:
                mine = nodes[first:last]
                told, more = relation.tell(mine, hidden, self._visible, self._fanout, step, self._random)
                vectors[first:last] += told
                used.append(more)
        for low, x, weight in self._features:
            first, last = np.searchsorted(nodes, (low, low + len(x))).tolist()
            if first < last:
                vectors[first:last] += x[torch.from_numpy(nodes[first:last] - low)] @ weight
        self._visible[hidden] = True
        return vectors, used

    def tables(self) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
        """See `LinkTraining`; in memory, since files of the training go."""
        vectors, factors, biases = super().tables()
        return vectors.copy(), factors, biases

    @property
    def steps_done(self) -> int:
        """See `LinkTraining`."""
        return self._dense.steps

    def _values(self) -> list[Tensor]:
        tables = (self._own, *(r.messages for r in self.relations), *(table for table, _ in self._biases))
        return [*self._dense_values, *(table.values for table in tables)]

    def _optimizer(self) -> dict[str, list[Tensor]]:
        lazy = [self._own, *(r.messages for r in self.relations)]
        moments = [table.moments() for table in (*lazy, *(table for table, _ in self._biases))]
        dense = self._dense.moments()
        return {
            "first": [*dense["first"], *(first for first, _ in moments)],
            "second": [*dense["second"], *(second for _, second in moments)],
            "last": [one.last for one in lazy],
        }

    def _go_on(self, steps: int) -> None:
        self._dense.steps = steps
        self._remembered = None

    def _held(self, values: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            for kept, value in zip(self._kept, values, strict=True):
                kept.copy_(value)
        return self._kept

    def _bias(self, relation: int) -> Tensor:
        (low, high), (table, first) = self._problem.ranges[relation].tolist(), self._biases[self._bias_of[relation]]
        bias: Tensor = table.values[low - first : high - first, 0]
        return bias

    def _batches(self) -> list[IndexArray]:
        found = super()._batches()
        self._refresh = -(-len(found) // REFRESHES)
        return found

    def _step(self, batch: Batch, lr: float) -> float:
        nodes, place = self._distinct(np.concatenate((batch.given, batch.columns)).astype(np.int32))
        vectors, used = self.encode_some(nodes, batch.hidden)
        where = torch.from_numpy(place).long()
        given, table = gather(vectors, where[: len(batch.given)]), gather(vectors, where[len(batch.given) :])
        asked = given * self._factor[torch.from_numpy(batch.kinds)]
        biases, first = self._biases[self._bias_of[batch.relation]]
        bias = biases.use(torch.from_numpy(batch.columns - first), torch.zeros(len(batch.columns)))
        loss = descend(batch, self.recipe, asked, table, bias.values[:, 0], torch.float32, SCORES)
        with torch.no_grad():
            for one in (*used, bias):
                one.table.step(one, self._penalty, lr, self.steps_done + 1)
        self._dense.lr = lr
        self._dense.step()
        return loss

    def _remember(self, *, at_least: bool = True) -> None:
        """Compute all sums anew, unless nothing has changed; with `at_least` false, unless it was done lately."""
        if self._remembered is not None:
            since = self.steps_done - self._remembered
            if since == 0 or (not at_least and since < self._refresh):
                return
        for relation in self.relations:
            relation.remember()
        self._remembered = self.steps_done

    def _new_bias(self, index: int) -> tuple[Table, int]:
        """Of the candidates that have this one, and the first of them."""
        ranges = self._problem.ranges[self._bias_of == index]
        low, high = int(ranges[:, 0].min()), int(ranges[:, 1].max())
        return Table(torch.from_numpy(self._start_bias(index)[low:high, None].copy()), torch.zeros(1)), low
