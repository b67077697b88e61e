"""Training of knowledge-graph embeddings: batches of questions, shared candidates, Adagrad in place.

What makes it quick on a CPU:

- The triples of a question (given node and relation) are answered together: FB15k-237 has 544,230 triples with both
  directions, and 149,689 questions. See `kge_losses.cross_entropy`.
- Where a relation has at most `FULL` candidates, all of them are negatives: three matrix products per batch, in
  bfloat16 where the processor multiplies that natively (AMX) or on a GPU. Weights and their updates stay float32.
- Elsewhere the candidates are the answers of the batch and `negatives` uniform draws, whose scores get log(1 / share
  drawn) on top, so that the sum in the softmax estimates the full one (Bengio and Senécal 2008). Only the rows that
  were touched are updated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import array_of, half_of, on
from ekiden_engine.models.kge_losses import Answers, bpr, contrastive, cross_entropy
from ekiden_engine.models.kge_scores import Kge, question_vectors
from ekiden_engine.models.links_data import Candidates, LinkProblem, Validation, draw
from ekiden_engine.models.links_questions import LongArray

FULL = 20_000
"""Candidates up to which cross-entropy takes all of them."""
DENSE = 60_000
"""Nodes up to which updating all of them is quicker than gathering those that were touched."""
SPREAD = {Kge.TRANSE: 0.05, Kge.ROTATE: 0.05, Kge.DISTMULT: 0.01, Kge.COMPLEX: 0.01}
"""Standard deviation of the vectors' entries at the start."""
VALIDATION_BLOCK = 512
EPSILON = 1e-10
ARRAYS = ("nodes", "relations", "node_squares", "relation_squares")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training does: see the hyperparameters of the same names."""

    kind: Kge
    width: int
    batch: int
    loss: str
    gamma: float
    negatives: int
    regularization: float


class Embedding:
    """The parameters while they are trained; `given`, `relation` and candidates as in `links_data`."""

    def __init__(self, problem: LinkProblem, recipe: Recipe, seed: int, device: torch.device) -> None:
        """Random vectors; `seed` decides them and everything that is drawn later."""
        self.recipe = recipe
        self.device = device
        self._problem = problem
        self._random = np.random.default_rng(seed)
        self._ranges = problem.ranges
        self._half = half_of(device)
        kind, spread = recipe.kind, SPREAD[recipe.kind]
        width = 2 * recipe.width if kind.is_complex else recipe.width
        relations = len(problem.ranges)
        self.nodes = self._normal((problem.nodes, width), spread)
        # Of rotate: angles, anywhere on the circle.
        self.relations = self._normal((relations, recipe.width if kind is Kge.ROTATE else width), spread)
        if kind is Kge.ROTATE:
            self.relations = self._tensor(self._random.uniform(-np.pi, np.pi, self.relations.shape)).float()
        self._node_squares = torch.zeros_like(self.nodes)
        self._relation_squares = torch.zeros_like(self.relations)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        of_range = np.unique(self._ranges[self._problem.train.relation, 0], return_counts=True)[1]
        return int((-(-of_range // self.recipe.batch)).sum())

    def batches(self) -> Iterator[LongArray]:
        """One epoch: positions of training questions, those of a batch with the same candidates."""
        questions, size = self._problem.train, self.recipe.batch
        keys = self._ranges[questions.relation, 0]
        found = []
        for start in np.unique(keys):
            rows = self._random.permutation(np.flatnonzero(keys == start))
            found += [rows[at : at + size] for at in range(0, len(rows), size)]
        for index in self._random.permutation(len(found)):
            yield found[index]

    def step(self, batch: LongArray, lr: float) -> float:
        """One update from the questions `batch`; returns the loss per answer, without the penalty."""
        recipe, questions = self.recipe, self._problem.train
        rows, answers = questions.flat(batch)
        low, high = (int(x) for x in self._ranges[questions.relation[batch[0]]])
        drawn = self._candidates(answers, low, high)
        columns = None if drawn is None else drawn.columns
        counts = self._tensor(questions.counts[batch]).float()
        place = answers - low if columns is None else np.searchsorted(columns, answers)
        truth = Answers(self._tensor(rows), self._tensor(place), counts)
        given, relation = self._tensor(questions.given[batch]), self._tensor(questions.relation[batch])
        table = self.nodes[low:high] if columns is None else self.nodes[self._tensor(columns)]

        own = self.nodes[given].requires_grad_()
        rotation = self.relations[relation].requires_grad_()
        asked = self._questions(own, rotation)
        half, half_table = asked.detach().to(self._half), table.to(self._half)
        bias = self._bias(table, drawn)
        turned = half_table.t().contiguous()  # twice as quick to multiply with
        scores = half @ turned if bias is None else torch.addmm(bias.to(self._half), half, turned)
        loss, slope = self._loss(scores, truth, own.detach(), rotation.detach(), drawn)
        asked.backward((slope @ half_table).float())  # type: ignore[no-untyped-call]
        by_table = (slope.t() @ half).float()
        if recipe.kind.is_distance:
            by_table.addcmul_(table, slope.float().sum(0)[:, None], value=-2)
        by_own, by_rotation = own.grad, rotation.grad
        if by_own is None or by_rotation is None:
            raise RuntimeError("the question vectors depend on both")
        if recipe.loss == "contrastive" and recipe.kind.is_distance:
            # the question's own part of the distance, a constant of the other losses
            self._own_part(slope, own, rotation, by_own, by_rotation)
        if recipe.regularization:
            share = recipe.regularization / float(counts.sum())
            weight = (counts * share)[:, None]
            by_own += weight * self._penalty(own.detach())
            if recipe.kind is not Kge.ROTATE:
                by_rotation += weight * self._penalty(rotation.detach())
            often = torch.bincount(truth.columns, minlength=len(table)).float() * share
            by_table += often[:, None] * self._penalty(table)
        self._update_nodes(by_table, low, high, columns, given, by_own, lr)
        by_relation = torch.zeros_like(self.relations).index_add_(0, relation, by_rotation)
        _adagrad(self.relations, self._relation_squares, by_relation, lr)
        return float(loss)

    def ranks(self, validation: Validation) -> tuple[FloatArray, float]:
        """Filtered ranks of all validation answers, and their mean reciprocal."""
        found = []
        asked = validation.questions
        for rows in validation.blocks(VALIDATION_BLOCK):
            low, high = (int(x) for x in self._ranges[asked.relation[rows[0]]])
            given, relation = self._tensor(asked.given[rows]), self._tensor(asked.relation[rows])
            table = self.nodes[low:high]
            vectors = self._questions(self.nodes[given], self.relations[relation])
            bias = self._bias(table, None)
            scores = vectors @ table.t() if bias is None else torch.addmm(bias, vectors, table.t())
            found.append(validation.ranks(rows, array_of(scores))[1])
        ranks = np.concatenate([*found, np.empty(0)]).astype(np.float32)
        return ranks, float((1 / ranks).mean()) if len(ranks) else float("nan")

    def state(self) -> tuple[Tensor, Tensor]:
        """Copies of the vectors of nodes and relations."""
        return self.nodes.clone(), self.relations.clone()

    def arrays(self) -> dict[str, FloatArray]:
        """All that is trained, for a checkpoint."""
        found = (self.nodes, self.relations, self._node_squares, self._relation_squares)
        return {name: array_of(tensor) for name, tensor in zip(ARRAYS, found, strict=True)}

    def restore(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take back what `arrays` gave."""
        self.nodes, self.relations, self._node_squares, self._relation_squares = (
            self._tensor(arrays[name]) for name in ARRAYS
        )

    def tensors(self, nodes: FloatArray, relations: FloatArray) -> tuple[Tensor, Tensor]:
        """A `state` from arrays."""
        return self._tensor(nodes), self._tensor(relations)

    @property
    def random(self) -> Any:
        """The state of the random numbers, JSON; it may be set to an earlier one."""
        return self._random.bit_generator.state

    @random.setter
    def random(self, state: Any) -> None:
        self._random.bit_generator.state = state

    def _normal(self, shape: tuple[int, int], spread: float) -> Tensor:
        return self._tensor(self._random.standard_normal(shape, np.float32) * np.float32(spread))

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return on(self.device, values)

    def _questions(self, own: Tensor, relation: Tensor) -> Tensor:
        kind = self.recipe.kind
        if kind is Kge.ROTATE:
            relation = torch.cat((relation.cos(), relation.sin()), 1)
        found: Tensor = question_vectors(kind, own, relation, lambda parts: torch.cat(tuple(parts), 1))
        return found

    def _candidates(self, answers: LongArray, low: int, high: int) -> Candidates | None:
        """What a batch is held against; None: all nodes that can be answers."""
        recipe = self.recipe
        estimate = recipe.loss == "cross-entropy"
        if estimate and high - low <= (recipe.negatives or FULL):
            return None
        count = recipe.negatives or DEFAULT_NEGATIVES[recipe.loss]
        return draw(self._random, answers, low, high, count, estimate=estimate)

    def _bias(self, table: Tensor, drawn: Candidates | None) -> Tensor | None:
        """What is added to the score of every candidate, [c]."""
        bias = -(table * table).sum(1) if self.recipe.kind.is_distance else None
        if drawn is None or not drawn.shift:
            return bias
        shift = self._tensor(drawn.drawn) * drawn.shift
        return shift if bias is None else bias + shift

    def _loss(
        self, scores: Tensor, truth: Answers, own: Tensor, rotation: Tensor, drawn: Candidates | None
    ) -> tuple[Tensor, Tensor]:
        if drawn is None or self.recipe.loss == "cross-entropy":
            return cross_entropy(scores, truth)
        negative = self._tensor(drawn.drawn).repeat(len(scores), 1)
        negative[truth.rows, truth.columns] = False
        if self.recipe.loss == "bpr":
            return bpr(scores, truth, negative)
        if self.recipe.kind.is_distance:
            scores = scores.float() - self._own_square(own, rotation)
        loss, slope = contrastive(scores, truth, negative, self.recipe.gamma)
        return loss, slope.to(self._half)

    def _own_square(self, own: Tensor, rotation: Tensor) -> Tensor:
        """|h + r|² of transe, |h|² of rotate, [b, 1]."""
        moved = own + rotation if self.recipe.kind is Kge.TRANSE else own
        return (moved * moved).sum(1, keepdim=True)

    def _own_part(self, slope: Tensor, own: Tensor, rotation: Tensor, by_own: Tensor, by_rotation: Tensor) -> None:
        moved = (own + rotation if self.recipe.kind is Kge.TRANSE else own).detach()
        part = -2 * slope.float().sum(1, keepdim=True) * moved
        by_own += part
        if self.recipe.kind is Kge.TRANSE:
            by_rotation += part

    def _penalty(self, x: Tensor) -> Tensor:
        """Derivative of a third of the sum of |x|³ ("nuclear 3-norm", Lacroix, Usunier and Obozinski 2018); |x| is the
        modulus where entries are complex."""
        if not self.recipe.kind.is_complex:
            return x * x.abs()
        half = x.shape[1] // 2
        modulus = torch.hypot(x[:, :half], x[:, half:])
        return x * torch.cat((modulus, modulus), 1)

    def _update_nodes(
        self, by_table: Tensor, low: int, high: int, columns: LongArray | None, given: Tensor, by_own: Tensor, lr: float
    ) -> None:
        if len(self.nodes) <= DENSE:
            gradient = torch.zeros_like(self.nodes)
            if columns is None:
                gradient[low:high] = by_table
            else:
                gradient[self._tensor(columns)] = by_table
            _adagrad(self.nodes, self._node_squares, gradient.index_add_(0, given, by_own), lr)
            return
        there = torch.arange(low, high, device=self.device) if columns is None else self._tensor(columns)
        touched, place = torch.unique(torch.cat((there, given)), return_inverse=True)
        gradient = self.nodes.new_zeros((len(touched), self.nodes.shape[1]))
        gradient.index_add_(0, place, torch.cat((by_table, by_own)))
        squares = self._node_squares[touched].addcmul_(gradient, gradient)
        self._node_squares[touched] = squares
        self.nodes[touched] -= lr * gradient / squares.sqrt_().add_(EPSILON)


DEFAULT_NEGATIVES = {"cross-entropy": 4096, "bpr": 256, "contrastive": 256}
"""Draws per batch where `num-negs` is auto and not all candidates are taken."""


def _adagrad(table: Tensor, squares: Tensor, gradient: Tensor, lr: float) -> None:
    """Duchi, Hazan and Singer 2011, diagonal form; in place."""
    squares.addcmul_(gradient, gradient)
    table.addcdiv_(gradient, squares.sqrt().add_(EPSILON), value=-lr)
