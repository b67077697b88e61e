"""What the encoders of links have in common while they are trained: batches of questions, the loss and its gradient,
scores of validation questions, the tables that a fitted model consists of.

The score of a link is <vector(s) * factor(e), vector(t)> plus a bias of the candidate; where vectors come from is the
encoders' own (`links_encoder`, and `links_sampled` where a graph does not fit into memory).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.graph import EncodedGraph
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.device import array_of, on
from ekiden_engine.models.links_data import Candidates, LinkProblem, Validation, draw
from ekiden_engine.models.links_losses import ROWS, Batch, LinkRecipe, cuts
from ekiden_engine.models.links_questions import LongArray, Portions
from ekiden_engine.models.links_relations import SEPARATE
from ekiden_engine.models.passes import breaks_off
from ekiden_engine.models.sampler import chunks

HIDDEN: Final = 0.5
NEGATIVES: Final = 1024
"""Draws per batch where not all candidates are taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a step may become: `candidates` up to which cross-entropy takes all of them; answers of one question,
    and of all in a step. None: no limit."""

    candidates: int
    portion: int | None = None
    answers: int | None = None


class LinkTraining(ABC):
    """The parameters while they are trained."""

    _factor: Tensor

    def __init__(
        self,
        graph: EncodedGraph,
        problem: LinkProblem,
        recipe: LinkRecipe,
        seed: int,
        device: torch.device,
        limits: Limits,
    ) -> None:
        """`seed` decides all that is drawn."""
        self.recipe = recipe
        self.device = device
        self._problem = problem
        self._limits = limits
        self._random = np.random.default_rng(seed)
        relations = len(problem.ranges)
        separate = relations // 2 <= SEPARATE
        self._bias_of = np.arange(relations) if separate else np.arange(relations) % 2
        # Questions with the same candidates and the same bias are scored together.
        self._group_of = problem.ranges[:, 0] * (int(self._bias_of.max()) + 1) + self._bias_of
        self._firsts = np.searchsorted(problem.train.relation, np.arange(relations + 1)).tolist()
        self._portions = Portions.of(problem.train, limits.portion)
        self._features_seen = [
            (low, np.any(graph.node(label).features, axis=1))
            for label, low in zip(problem.labels, problem.bounds[:-1].tolist(), strict=True)
            if graph.node(label).features.shape[1]
        ]

    def epoch(self, lr: tuple[float, float], stop_requested: Callable[[], bool] = lambda: False) -> tuple[float, bool]:
        """One pass over the target's questions, the learning rate going from lr[0] to lr[1]; mean loss per answer, and
        whether it was not broken off (see `passes.breaks_off`)."""
        batches = self._batches()
        total, answers, began = 0.0, 0, time.perf_counter()
        for place, index in enumerate(self._random.permutation(len(batches))):
            batch = self._ask(batches[index])
            rate = lr[0] + (lr[1] - lr[0]) * place / len(batches)
            total += self._step(batch, rate) * len(batch.rows)
            answers += len(batch.rows)
            if place + 1 < len(batches) and breaks_off(began, stop_requested):
                return total / max(answers, 1), False
        return total / max(answers, 1), True

    @abstractmethod
    def encode(self) -> Tensor:
        """Vectors of all nodes [nodes, d], valid until the next call."""

    @property
    @abstractmethod
    def steps_done(self) -> int:
        """Updates so far."""

    @abstractmethod
    def _step(self, batch: Batch, lr: float) -> float:
        """One update; the mean loss per answer."""

    @abstractmethod
    def _bias(self, relation: int) -> Tensor:
        """Of the relation's candidates, [candidates]."""

    @abstractmethod
    def _values(self) -> list[Tensor]:
        """All that is trained."""

    @abstractmethod
    def _optimizer(self) -> dict[str, list[Tensor]]:
        """What moves it, as named lists; written to in place by `resume`."""

    @abstractmethod
    def _go_on(self, steps: int) -> None:
        """After so many steps, with other values than so far."""

    def _held(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Copies, valid until the next call at least."""
        return [value.detach().clone() for value in values]

    def mrr(self, validation: Validation) -> float:
        """Mean reciprocal filtered rank of the validation answers."""
        found, asked = [], validation.questions
        with torch.no_grad():
            vectors = self.encode()
            for rows in validation.blocks(ROWS):
                groups = self._group_of[asked.relation[rows]]
                for group in np.unique(groups):
                    own = rows[groups == group]
                    scores = self._scores(vectors, asked.relation[own], asked.given[own])
                    found.append(validation.ranks(own, array_of(scores))[1])
        ranks = np.concatenate([*found, np.empty(0)])
        return float((1 / ranks).mean()) if len(ranks) else float("nan")

    def tables(self) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
        """Vectors [nodes, d], factors [edge types, d], and per relation the bias of its candidates."""
        with torch.no_grad():
            vectors: FloatArray = array_of(self.encode())
        bias = [array_of(self._bias(relation)) for relation in range(len(self._problem.ranges))]
        return vectors, array_of(self._factor), bias

    def seen(self) -> npt.NDArray[np.bool_]:
        """Nodes of which anything is known: a link, another neighbour, a feature that is not zero."""
        found = self._problem.seen()
        for low, there in self._features_seen:
            found[low : low + len(there)] |= there
        return found

    def state(self) -> list[Tensor]:
        """Copies of all parameters, valid until the next call at least."""
        return self._held(self._values())

    def restore(self, state: Sequence[Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            for parameter, value in zip(self._values(), state, strict=True):
                parameter.copy_(value)
        self._go_on(self.steps_done)

    def arrays(self, kept: Sequence[Tensor]) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
        """For a checkpoint: the state of the random numbers, and all that is trained, `kept` (see `state`) too."""
        parts = {"own": self._values(), "kept": kept, **self._optimizer()}
        arrays = {f"{name}.{i}": array_of(tensor) for name, part in parts.items() for i, tensor in enumerate(part)}
        return self._random.bit_generator.state, arrays

    def resume(self, random: Any, steps: int, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Tensor]:
        """Take back what `arrays` gave, after `steps` steps; returns what was kept."""
        self._random.bit_generator.state = random
        with torch.no_grad():
            for name, part in {"own": self._values(), **self._optimizer()}.items():
                for i, tensor in enumerate(part):
                    tensor.copy_(self._tensor(arrays[f"{name}.{i}"]))
        self._go_on(steps)
        return self._held([self._tensor(arrays[f"kept.{i}"]) for i in range(len(self._values()))])

    def _scores(self, vectors: Tensor, relation: LongArray, given: LongArray) -> Tensor:
        """Scores [m, candidates] for nodes `given` and relations of one group, int64 [m]."""
        low, high = (int(x) for x in self._problem.ranges[relation[0]])
        asked = vectors[self._tensor(given)] * self._factor[self._tensor(relation // 2)]
        return torch.addmm(self._bias(int(relation[0])), asked, vectors[low:high].t())

    def _batches(self) -> list[IndexArray]:
        """Portions of the target's questions, drawn anew. Links of other edge types bring messages, but are not asked
        for."""
        found = []
        groups = self._group_of[: 2 * len(self._problem.edge_types)]
        for group in np.unique(groups):
            of_group = np.flatnonzero(groups == group).tolist()
            parts = [self._portions.between(self._firsts[r], self._firsts[r + 1]) for r in of_group]
            rows = self._random.permutation(np.concatenate(parts))
            sizes = None if self._limits.answers is None else self._portions.sizes(rows)
            found += [rows[part] for part in cuts(len(rows), self.recipe.batch, sizes, self._limits.answers)]
        return found

    def _ask(self, portions: IndexArray) -> Batch:
        questions = self._problem.train
        which = self._portions.question(portions)
        relation = int(questions.relation[which[0]])
        low, high = (int(x) for x in self._problem.ranges[relation])
        rows, places = self._portions.places(portions)
        answers, links = questions.answers[places].astype(np.int64), questions.links[places]
        hidden = np.unique(links[self._random.random(len(links)) < HIDDEN])
        drawn = self._candidates(answers, low, high)
        columns = np.arange(low, high) if drawn is None else drawn.columns
        return Batch(
            relation=relation,
            given=questions.given[which],
            kinds=questions.relation[which] // 2,
            counts=np.bincount(rows, minlength=len(portions)),
            rows=rows,
            place=answers - low if drawn is None else np.searchsorted(columns, answers),
            known=self._known(which, columns),
            columns=columns,
            drawn=drawn,
            hidden=hidden,
        )

    def _known(self, which: LongArray, columns: LongArray) -> tuple[LongArray, LongArray]:
        """Of questions in portions: which candidates are answers."""
        rows, places, questions = [np.empty(0, np.int64)], [np.empty(0, np.int64)], self._problem.train
        if self.recipe.loss != "cross-entropy":
            for row in np.flatnonzero(self._portions.is_cut(which)).tolist():
                first, last = questions.offsets[which[row] : which[row] + 2].tolist()
                answers = questions.answers[first:last]
                at = np.minimum(np.searchsorted(answers, columns.astype(np.int32)), len(answers) - 1)
                found = np.flatnonzero(answers[at] == columns)
                rows.append(np.full(len(found), row))
                places.append(found)
        return np.concatenate(rows), np.concatenate(places)

    def _candidates(self, answers: LongArray, low: int, high: int) -> Candidates | None:
        """What a batch is held against; None: all nodes that can be answers."""
        estimate = self.recipe.loss == "cross-entropy"
        if estimate and high - low <= (self.recipe.negatives or self._limits.candidates):
            return None
        return draw(self._random, answers, low, high, self.recipe.negatives or NEGATIVES, estimate=estimate)

    def _start_bias(self, index: int) -> FloatArray:
        """Log of one plus the links of each candidate [nodes], of mean zero."""
        train = self._problem.train
        links = np.zeros(self._problem.nodes, np.int64)
        for relation in np.flatnonzero(self._bias_of == index).tolist():
            first, last = train.offsets[self._firsts[relation : relation + 2]].tolist()
            for part in chunks(last - first):
                links += np.bincount(train.answers[first + part.start : first + part.stop], minlength=len(links))
        start: FloatArray = np.log1p(links).astype(np.float32)
        start -= start.mean()
        return start

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return on(self.device, values)
