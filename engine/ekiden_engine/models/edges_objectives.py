"""What a member of an edge model is trained for on all neighbours: encoders that hold every edge in memory, and the
decoder (`edges_decoders`) that judges what they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import CPU, on
from ekiden_engine.models.edges_decoders import ClassCounts, ClassDecoder, Decoder, NumberDecoder
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray
from ekiden_engine.models.encoder import Encoder
from ekiden_engine.models.warm_start import End, solve

MakeObjective = Callable[[EdgeProblem, tuple[RowArray, RowArray], int, torch.Generator, torch.device], "Objective"]
"""From the problem, training and validation rows, the width of a vector, the source of its starting values, and the
device."""


class Objective:
    """See the module. Positions are those in the member's training rows."""

    def __init__(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        encoders: tuple[Encoder, Encoder],
        decoder: Decoder,
        device: torch.device,
    ) -> None:
        """`rows`: to train on, to validate on."""
        train, valid = rows
        self.encoders = encoders
        self.decoder = decoder
        self._label = on(device, problem.label[train])
        self._valid = on(device, problem.source[valid]).long(), on(device, problem.dest[valid]).long()
        self._wanted = decoder.wanted(on(device, problem.label[valid]))

    def loss(self, source: Tensor, dest: Tensor, ends: tuple[Tensor, Tensor], batch: Tensor) -> Tensor:
        """Of the edges at positions `batch` [m], whose ends are the rows `ends` [m] of `source` and of `dest`
        [n, width + outputs]."""
        wanted = self.decoder.wanted(self._label[batch])
        return self.decoder.loss(self.decoder.decode(source, dest, *ends), wanted)

    def judge(self, source: Tensor, dest: Tensor) -> tuple[float, float]:
        """Given all nodes' encodings: what validation edges decide by (lower is better), and the metric shown."""
        return self.decoder.measure(self.decoder.decode(source, dest, *self._valid), self._wanted)


class NumberObjective(Objective):
    """Numbers; biases start from the linear part of the model."""

    def __init__(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        width: int,
        generator: torch.Generator,
        device: torch.device = CPU,
    ) -> None:
        """`rows`: to train on, to validate on."""
        train = rows[0]
        labels = problem.label[train].astype(np.float64)
        mean, scale = float(labels.mean()), float(labels.std()) or 1.0
        unit = ((labels - mean) / scale).astype(np.float32)
        given = (
            End(problem.source[train], problem.source_features, problem.source_extra),
            End(problem.dest[train], problem.dest_features, problem.dest_extra),
        )
        first, second, residual = solve(*given, unit)
        made = []
        for i, part in enumerate((first, second)):
            encoder = _encoder(problem, train, i, residual, width, generator, device)
            keys = [relation.key for relation in given[i].neighbours]
            encoder.start_biases(part.own[:, None], part.features, dict(zip(keys, part.neighbours, strict=True)))
            made.append(encoder)
        decoder = NumberDecoder(mean, scale, float(labels.min()), float(labels.max()))
        super().__init__(problem, rows, (made[0], made[1]), decoder, device)


class ClassObjective(Objective):
    """Classes, one or several an edge; biases start from their frequencies at either end."""

    def __init__(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        width: int,
        generator: torch.Generator,
        device: torch.device = CPU,
        *,
        class_weights: bool,
    ) -> None:
        """`rows`: to train on, to validate on."""
        train = rows[0]
        counts = ClassCounts(problem, train)
        made = []
        for i, degree in enumerate(problem.degrees(train)):
            encoder = _encoder(problem, train, i, None, width, generator, device)
            encoder.start_biases(counts.starts(i, degree))
            made.append(encoder)
        decoder = ClassDecoder(counts, width, generator, device, class_weights=class_weights)
        super().__init__(problem, rows, (made[0], made[1]), decoder, device)


def _encoder(
    problem: EdgeProblem,
    train: RowArray,
    end: int,
    residual: FloatArray | None,
    width: int,
    generator: torch.Generator,
    device: torch.device,
) -> Encoder:
    """The encoder of an end (0: sources). The target's training edges bring messages, and once more weighted by
    `residual` float32 [E], what is left of their labels."""
    ends = problem.source[train], problem.dest[train]
    features, extra = problem.known(end)
    own = problem.own(end, ends)
    if residual is not None:
        own += problem.own(end, ends, residual)
    neighbours = [*own, *extra]
    return Encoder(problem.degrees(train)[end], features, neighbours, width, generator, problem.outputs, device)
