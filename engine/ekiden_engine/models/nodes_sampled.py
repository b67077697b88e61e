"""Training a node model where the graph does not fit into memory: steps on batches, and samples of their neighbours.

The network and its parameters are those of the full batch, and so is what its answers are judged by, which all
neighbours give, read from disk (`nodes_sampled_lists`). Only the steps differ: each is on some training nodes and
what is drawn around them (`nodes_sampled_batch`), and moves those free vectors that were drawn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.models.nodes_fitting import Lessons
from ekiden_engine.models.nodes_network import Design, free_types, reach
from ekiden_engine.models.nodes_problem import NodeProblem
from ekiden_engine.models.nodes_result import members_to_keep
from ekiden_engine.models.nodes_sampled_batch import Batch, Sampler, batch_size
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.optimizer import Adam
from ekiden_engine.models.passes import breaks_off
from ekiden_engine.models.sampled_tables import LazyTable, Used

STEADY: Final = 300
"""Steps at the full learning rate; from then on it falls with the root of their number, as the noise of samples
asks for."""
SURE: Final = 3
"""Steps of samples that one of the full batch is worth."""
LEAST_EPOCHS, LEAST_PATIENCE = 30, 5

BYTES_PER_ENTRY: Final = 44
"""Of a sparse matrix, its transpose and the places in both: two indices of 4 bytes, three numbers, two places of 8, and
what is left of making them; measured."""
BYTES_PER_EDGE: Final = 32
"""And of the propagation of labels in the end; measured."""
COPIES: Final = 5
"""Of a free vector: the value, its gradient, two moments, the best so far."""


class SampledBatches:
    """A `Training` by samples of `fanout` neighbours; `size` training nodes a step, None for as many as fit."""

    def __init__(self, lessons: Lessons, lists: Lists, fanout: int, size: int | None) -> None:
        """Nothing is trained yet."""
        network, recipe = lessons.network, lessons.recipe
        self.parameters = network.parameters(recipe.decay, tables=False)
        self.optimizer = Adam(self.parameters, recipe.lr)
        self._lessons = lessons
        self._size = size or batch_size(network.problem, network.design, fanout)
        self._sampler = Sampler(network, lists, fanout)
        self._tables = FreeVectors(network.free, recipe.decay)
        self._random = np.random.default_rng(lessons.seed)

    def epoch(self, number: int, stop_requested: Callable[[], bool]) -> tuple[float, bool]:
        """See `Training`: every training node once, in random order."""
        train = self._random.permutation(self._lessons.train)
        parts = np.array_split(train, -(-len(train) // self._size))
        total, seen, began = 0.0, 0, time.perf_counter()
        for part in parts:
            total += self._step(part, number) * len(part)
            seen += len(part)
            if seen < len(train) and breaks_off(began, stop_requested):
                return total / seen, False
        return total / seen, True

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `Training`: free vectors are among the member's parameters, and here with their moments."""
        return {"sampling": self._random.bit_generator.state}, dict(self._tables.state())

    def resume(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """See `Training`."""
        self._random.bit_generator.state = document["sampling"]
        for name, value in self._tables.state().items():
            value.copy_(tensors[name])

    def _step(self, part: np.ndarray[Any, np.dtype[np.int64]], epoch: int) -> float:
        """One batch; the mean loss before it."""
        lessons, network = self._lessons, self._lessons.network
        room = max(self._size - len(part), self._size // 2)
        others, consistency = lessons.consistency.some(room, self._random)
        self._tables.begin()
        batch = Batch(self._sampler, np.concatenate([part, others]), self._tables, self._random)
        said = network.forward(lessons.recipe.dropout, batch)
        loss = lessons.loss_of(said[: len(part)], torch.from_numpy(network.problem.values[part]))
        (loss + consistency(said[len(part) :], epoch)).backward()  # type: ignore[no-untyped-call]
        lr = lessons.recipe.lr * min(1.0, math.sqrt(STEADY / (self.optimizer.steps + 1)))
        self.optimizer.lr = lr
        self.optimizer.step()
        self._tables.step(lr, self.optimizer.steps)
        return float(loss.detach())


class FreeVectors:
    """The tables of free vectors, of which a batch moves the rows that it has drawn."""

    def __init__(self, tables: Mapping[int, Tensor], decay: float) -> None:
        """`tables`: per type, float32 [n, width]; moved in place."""
        self._tables = {t: LazyTable(values, torch.full(values.shape[:1], decay)) for t, values in tables.items()}
        self._used: list[Used] = []
        self._steps = torch.zeros(1, dtype=torch.int64)

    def begin(self) -> None:
        """A batch is to be drawn."""
        self._used = []
        self._steps += 1

    def use(self, t: int, rows: Tensor) -> Tensor:
        """See `Vectors`."""
        with torch.no_grad():
            used = self._tables[t].use_at(rows, int(self._steps))
        self._used.append(used)
        return used.values

    def step(self, lr: float, steps: int) -> None:
        """Move what was used along its gradient; see `Table.step`."""
        with torch.no_grad():
            for used in self._used:
                used.table.step(used, 1.0, lr, steps)

    def state(self) -> dict[str, Tensor]:
        """All there is, by name; to be overwritten when a training is resumed."""
        found = {"steps": self._steps}
        for t, table in self._tables.items():
            first, second = table.moments()
            found |= {f"last.{t}": table.last, f"rows.{t}": table.values.detach()}
            found |= {f"first.{t}": first, f"second.{t}": second}
        return found


def epochs_for(
    problem: NodeProblem, design: Design, fanout: int, size: int | None, usual: tuple[int, int]
) -> tuple[int, int]:
    """Epochs and patience where full batches have the `usual` ones: an epoch of many steps is worth many."""
    steps = -(-len(problem.train) // (size or batch_size(problem, design, fanout)))
    epochs, patience = usual
    return (
        int(np.clip(SURE * epochs // steps, min(LEAST_EPOCHS, epochs), epochs)),
        int(np.clip(SURE * patience // steps, min(LEAST_PATIENCE, patience), patience)),
    )


def full_batch_bytes(problem: NodeProblem, designs: Sequence[Design], members: int) -> int:
    """An estimate of what full-batch training of the hungriest of the designs would hold in memory; the matrices that
    the designs need are all kept. Measured: 0.9 to 1.2 times what it takes from 500 MB on."""
    edges, nodes = problem.edge_count, sum(problem.counts)
    matrices = edges * any(d.layers for d in designs) + (edges + nodes) * any(d.steps for d in designs)
    numbers = max(max(_for_gradients(problem, d), _for_result(problem, d, members)) for d in designs)
    return matrices * BYTES_PER_ENTRY + edges * BYTES_PER_EDGE + 4 * numbers


def _for_gradients(problem: NodeProblem, design: Design) -> int:
    """Numbers that a step of the full batch keeps for its gradient, that gradient, and free vectors."""
    needed, counts, width = reach(problem, design), problem.counts, design.width
    total = 3 * width * max(counts)
    for t in needed[0]:
        total += counts[t] * (2 * problem.x[t].shape[1] + width)  # columns after dropout, and its mask; relu
        if t in free_types(problem, everywhere=design.free):
            total += COPIES * counts[t] * width
    for level in range(1, design.layers + 1):
        total += sum(2 * counts[t] * width for t in needed[level - 1])  # after dropout, and its mask
        for t in needed[level]:
            total += counts[t] * width * (sum(r.here == t for r in problem.relations) + 1)  # means; relu
    return total + sum(counts[t] for t in needed[-1]) * (2 * width + 4 * problem.outputs)


def _for_result(problem: NodeProblem, design: Design, members: int) -> int:
    """Numbers that are held while answers and states are collected (see `nodes_result`)."""
    needed, counts, width = reach(problem, design), problem.counts, design.width
    states = sum(counts[t] * width for level in needed for t in level)
    last = sum(counts[t] for t in needed[-1])
    spread = 5 * width * last if design.steps else 0
    return members_to_keep(problem, design, members) * states * 3 // 2 + spread + members * last * problem.outputs
