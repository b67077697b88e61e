"""Training steps per second of model `rgcn`, and of the same model in PyTorch Geometric, on one graph in one process.

    python -m benchmarks.engine_throughput PROCESSED [--rounds N]

A step is forward, backward and update: all nodes are encoded from all of their edges, and a batch of edges is
predicted, a sixteenth of them as by default, or all of them at once. Both have the same parameters, starting values,
relations, hidden labels, loss and L2 penalty; theirs passes messages as `torch_geometric.nn.MessagePassing` does out of
the box: gather the senders, weight, add up at the receivers. Their losses in the first steps must agree. Steps
alternate; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.main_job import Silent
from ekiden.contracts.tasks import Task
from ekiden_engine.graph import EncodedGraph
from ekiden_engine.models import make_trainer
from ekiden_engine.models.edges_objectives import NumberObjective
from ekiden_engine.models.edges_problem import EdgeProblem, make_edge_problem
from ekiden_engine.models.encoder import Encoder
from ekiden_engine.models.optimizer import Adam, Parameter
from ekiden_engine.models.rgcn import threads_for

WIDTH, LR, SEED, BATCHES = 64, 0.002, 0, 16
AGREE = 1e-4
"""Relative difference of the losses that rounding may make."""


class Ours:
    """The step of `ekiden_engine.models.fitting`."""

    def __init__(self, problem: EdgeProblem) -> None:
        self.objective = NumberObjective(
            problem, (problem.train, problem.valid), WIDTH, torch.Generator().manual_seed(SEED)
        )
        self.source = torch.from_numpy(problem.source[problem.train]).long()
        self.dest = torch.from_numpy(problem.dest[problem.train]).long()
        label = problem.label[problem.train].astype("float64")
        self.labels = torch.from_numpy((label - label.mean()) / label.std()).float()
        encoders = self.objective.encoders
        self.parameters = [p for encoder in encoders for p in encoder.parameters(1 / len(problem.train))]
        self.optimizer = Adam(self.parameters, LR)

    def step(self, batch: Tensor) -> float:
        """One step for the edges at positions `batch`; the loss before it."""
        one, other = self.objective.encoders
        with one.hiding(batch), other.hiding(batch):
            loss = self.objective.loss(one.encode(), other.encode(), (self.source[batch], self.dest[batch]), batch)
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())


def make_theirs(ours: Ours) -> Callable[[Tensor], float]:
    """The same step with PyTorch Geometric, from the same starting values."""
    from torch_geometric.nn import MessagePassing

    class Convolution(MessagePassing):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(aggr="add")

        def forward(self, x: Tensor, edges: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
            found: Tensor = self.propagate(edges, x=(x, None), weight=weight, size=size)
            return found

        def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
            return weight[:, None] * x_j

    convolution = Convolution()
    copies = {id(p.value): torch.nn.Parameter(p.value.detach().clone()) for p in ours.parameters}
    ends = [_Copy(encoder, copies) for encoder in ours.objective.encoders]
    penalties = [(copies[id(p.value)], p) for p in ours.parameters]
    optimizer = torch.optim.Adam(copies.values(), lr=LR)

    def encode(end: _Copy) -> Tensor:
        found: Tensor = end.free
        if end.project is not None and end.x is not None:
            found = found + end.x @ end.project
        for edges, weight, message in end.relations:
            found = found + convolution(message, edges, weight, (len(message), len(found)))
        return found

    def step(batch: Tensor) -> float:
        optimizer.zero_grad()
        one, other = ours.objective.encoders
        with one.hiding(batch), other.hiding(batch):  # their weights are the entries of our matrices
            s, t = encode(ends[0])[ours.source[batch]], encode(ends[1])[ours.dest[batch]]
            said = (s[:, :-1] * t[:, :-1]).sum(1) + s[:, -1] + t[:, -1]
            loss = functional.mse_loss(said, ours.labels[batch])
            (loss + sum((_weight(p) * value**2).sum() for value, p in penalties)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


class _Copy:
    """One end's parameters and relations."""

    def __init__(self, encoder: Encoder, copies: dict[int, torch.nn.Parameter]) -> None:
        self.free = copies[id(encoder.free)]
        self.x = encoder._x
        self.project = None if encoder.project is None else copies[id(encoder.project)]
        self.relations = []
        for relation, table in zip(encoder.relations, encoder.messages, strict=True):
            if relation.features is not None:
                raise ValueError("features of neighbours are not part of the comparison")
            matrix = relation.edges.matrix
            rows = torch.repeat_interleave(torch.arange(matrix.shape[0]), matrix.crow_indices().diff())
            edges = torch.stack([matrix.col_indices().long(), rows])
            self.relations.append((edges, matrix.values(), copies[id(table)]))


def _weight(parameter: Parameter) -> Tensor:
    return torch.as_tensor(parameter.weight)


def alternate(
    ours: Ours, theirs: Callable[[Tensor], float], batches: Sequence[Tensor], rounds: int
) -> dict[str, float]:
    """Median seconds of a step of either, and median of their ratio; five of ours, one of theirs, and again.

    Raises `ValueError` if the two are not the same model.
    """
    for batch in batches[:2]:  # warm-up, and the check
        mine, other = ours.step(batch), theirs(batch)
        if abs(mine - other) > AGREE * mine:
            raise ValueError(f"the losses differ: {mine:.6f} and {other:.6f}")
    pairs = []
    for number in range(rounds):
        some = [batches[(5 * number + i) % len(batches)] for i in range(5)]
        pairs.append((statistics.median(seconds_of(ours.step, b) for b in some), seconds_of(theirs, some[0])))
        mine = ours.step(some[0])
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "loss": mine,
    }


def seconds_of(step: Callable[[Tensor], float], batch: Tensor) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    step(batch)
    return time.perf_counter() - started


def epoch_seconds(graph: EncodedGraph, epochs: int) -> float:
    """Median wall seconds of an epoch of the real training job in batches, validation included."""
    given = {"num-hidden": str(WIDTH), "num-epochs": str(epochs), "seeds": "1", "regularization-coef": "1"}
    fit = make_trainer("rgcn", Task.EDGE_REGRESSION, given).fit(graph, graph.targets[0], Silent())
    seconds = [point.seconds for point in fit.curves[0].points]
    return statistics.median(b - a for a, b in itertools.pairwise(seconds))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processed", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    graph = EncodedGraph.load(given.processed)
    problem = make_edge_problem(graph, graph.targets[0])
    torch.set_num_threads(threads_for(len(problem.train)))
    everything = torch.arange(len(problem.train))
    shuffled = torch.randperm(len(everything), generator=torch.Generator().manual_seed(SEED))
    forms = {"batches": [b.sort().values for b in shuffled.chunk(BATCHES)], "at_once": [everything]}
    document: dict[str, Any] = {"directed_edges": 2 * len(everything), "threads": torch.get_num_threads()}
    for name, batches in forms.items():
        ours = Ours(problem)
        document[name] = alternate(ours, make_theirs(ours), batches, given.rounds)
    document["epoch"] = epoch_seconds(graph, given.rounds + 1)
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
