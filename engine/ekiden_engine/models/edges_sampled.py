"""Edge models where the graph does not fit into memory: the model of `encoder`, trained on sampled neighbours.

A batch of training edges needs the encodings of its end points only, and for those of a node with many neighbours a
sample of them (`edges_sampled_encoder`). Tables move where the batch touched them, with penalties in proportion: both
have the expectation of the full batch. Decoder, loss, dropout and the loop over epochs are the full batch's
(`edges_decoders`, `fitting`). Lists of neighbours, residuals, the nodes' tables and the sums over all neighbours lie in
memory-mapped files, which a resumed job writes anew; in memory are some bytes per edge, what is said of validation
edges, and the encodings that are kept. These are of all neighbours, block by block.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.models.base import CurvePoint, IndexArray
from ekiden_engine.models.edges_decoders import Trained
from ekiden_engine.models.edges_problem import EdgeProblem
from ekiden_engine.models.edges_sampled_data import ClassEdges, NumberEdges, TrainingEdges
from ekiden_engine.models.edges_sampled_encoder import Asked, SampledEncoder
from ekiden_engine.models.fitting import CARVED, Member, Recipe, dropped, train
from ekiden_engine.models.optimizer import Adam
from ekiden_engine.models.passes import Pass
from ekiden_engine.models.sampled_tables import Distinct, Used, blocks

HALF_LIFE, HALF_LIFE_STEPS = 4, 250
"""Epochs in which the learning rate halves, and the fewest steps: many small steps need a decay that few large ones do
not."""
REFRESHES: Final = 4
"""How often in an epoch the sums over all neighbours are computed anew."""
SAMPLED_BATCH: Final = 8192


def fit_sampled(
    problem: EdgeProblem,
    recipe: Recipe,
    fanout: int,
    seed: int,
    report: Callable[[str, CurvePoint], None],
    stop_requested: Callable[[], bool],
    folder: Path | None = None,
    run: Pass | None = None,
    *,
    class_weights: bool = False,
) -> Member:
    """As `fitting.fit_member`, by samples of `fanout` neighbours. Files go below `folder` (default: the system's
    temporary folder), and are removed. Raises `BadData` TRAINING_DIVERGED."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ekiden-sampled-", dir=folder) as scratch:
        learner = _Sampled(problem, recipe, fanout, seed, Path(scratch), class_weights=class_weights)
        return train(learner, recipe, seed, report, stop_requested, run, started)


class _Sampled:
    """Encodes the ends of a batch from samples of their neighbours; see `fitting.Learner`."""

    def __init__(
        self, problem: EdgeProblem, recipe: Recipe, fanout: int, seed: int, folder: Path, *, class_weights: bool
    ) -> None:
        self._problem, self._recipe, self._fanout = problem, recipe, fanout
        self._random = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        rows, self._valid = problem.set_aside(seed, CARVED)
        self._data: TrainingEdges
        if problem.kind == "number":
            self._data = NumberEdges(problem, rows, folder)
        else:
            self._data = ClassEdges(problem, rows, folder, recipe.width, self._generator, class_weights=class_weights)
        self.edges, self.decoder = len(self._data), self._data.decoder
        self._encoders = [self._encoder(end, folder) for end in (0, 1)]
        self._tables = [table for encoder in self._encoders for table in encoder.tables()]
        self._dense = [p for encoder in self._encoders for p in encoder.dense()] + self.decoder.parameters()
        self._optimizer = Adam(self._dense, recipe.lr)
        self._distinct = [Distinct(count) for count in problem.counts]
        labelled = problem.relational and self._data.residual is not None
        self._visible = np.ones(self.edges, np.float32) if labelled else None
        self._remembers = False

    def epoch(self, number: int) -> Iterator[tuple[float, int]]:
        """See `Learner`."""
        size, count = self._recipe.batch_size, self.edges
        order = self._random.permutation(np.arange(count, dtype=np.int32))
        refresh = -(-count // (size * REFRESHES))
        half_life = max(HALF_LIFE, HALF_LIFE_STEPS * size / count)
        if not self._remembers:  # else from the last judgement
            self._remember()
        self._remembers = False
        for step, start in enumerate(range(0, count, size)):
            if step and step % refresh == 0:
                self._remember()
            self._optimizer.lr = self._recipe.lr * 0.5 ** ((number - 1 + start / count) / half_life)
            batch = np.sort(order[start : start + size])  # neighbours on disk
            yield self._step(batch), len(batch)

    def judge(self) -> tuple[float, float]:
        """See `Learner`."""
        problem, self._remembers = self._problem, True
        self._parts = [encoder.encode_all() for encoder in self._encoders]
        said, wanted = [], self.decoder.wanted(torch.from_numpy(problem.label[self._valid]))
        for part in blocks(len(self._valid)):
            rows = self._valid[part]
            nodes = [torch.from_numpy(given[rows]).long() for given in (problem.source, problem.dest)]
            s, t = (learnt[at] + told[at] for (learnt, told), at in zip(self._parts, nodes, strict=True))
            pairs = torch.arange(len(rows))
            said.append(self.decoder.decode(s, t, pairs, pairs))
        return self.decoder.measure(torch.cat(said), wanted)

    def trained(self) -> Trained:
        """See `Learner`."""
        source, dest = (encoder.state(part) for encoder, part in zip(self._encoders, self._parts, strict=True))
        return self.decoder.trained(source, dest)

    def keep(
        self, run: Pass, points: Sequence[CurvePoint], document: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """See `Learner`."""
        random = {"random": self._random.bit_generator.state}
        run.keep(
            points, self._dense, self._optimizer, [self._generator], {**document, **random}, {**tensors, **self._rows()}
        )

    def restore(self, run: Pass) -> Mapping[str, Tensor]:
        """See `Learner`."""
        tensors = run.restore(self._dense, self._optimizer, [self._generator])
        for name, rows in self._rows().items():
            rows.copy_(tensors.pop(name))
        self._random.bit_generator.state = run.document["random"]
        return tensors

    def _rows(self) -> dict[str, Tensor]:
        """Tables and their moments by name, themselves."""
        found: dict[str, Tensor] = {}
        for i, table in enumerate(self._tables):
            first, second = table.moments()
            found |= {f"table.{i}.value": table.values, f"table.{i}.first": first, f"table.{i}.second": second}
        return found

    def _step(self, batch: IndexArray) -> float:
        """One batch; the loss before it."""
        data, recipe = self._data, self._recipe
        if self._visible is not None:
            self._visible[batch] = 0
        tables, places, used = [], [], list[Used]()
        for end, encoder in enumerate(self._encoders):
            nodes, place = self._distinct[end](data.ends[end][batch])
            counts = np.bincount(place, minlength=len(nodes)).astype(np.float32)
            encoded, more = encoder.encode(Asked(nodes, counts, batch, self._visible), self._fanout, self._random)
            tables.append(encoded)
            places.append(torch.from_numpy(place).long())
            used += more
        s, t, ends = tables[0], tables[1], (places[0], places[1])
        if recipe.dropout:
            s, ends = dropped(s, ends, recipe.width, recipe.dropout, self._generator)
        loss = self.decoder.loss(self.decoder.decode(s, t, *ends), data.wanted(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        if self._visible is not None:
            self._visible[batch] = 1
        self._optimizer.step()
        with torch.no_grad():
            for one in used:
                share = recipe.regularization / len(batch)
                one.table.step(one, share, self._optimizer.lr, self._optimizer.steps)
        return float(loss.detach())

    def _remember(self) -> None:
        with torch.no_grad():
            for encoder in self._encoders:
                encoder.remember()

    def _encoder(self, end: int, folder: Path) -> SampledEncoder:
        problem, data = self._problem, self._data
        features, extra = problem.known(end)
        neighbours = [*problem.own(end, data.ends, data.residual), *extra]
        own, width = folder / str(end), self._recipe.width
        own.mkdir()
        return SampledEncoder(data.degrees[end], data.starts[end], features, neighbours, width, self._generator, own)
