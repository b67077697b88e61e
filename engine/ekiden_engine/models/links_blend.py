"""Several models of the links of one edge type as one: a weighted sum of scores, weights chosen on validation links.

Beside the trained encoder there are two candidates in closed form, EASE (projected to `RANK` dimensions) and iALS: on
MovieLens 1M and the like no neural model was better by any measure of accuracy (Anelli et al. 2022), and each sees
something that the others miss. All are inner products, so the sum is one too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ekiden_engine.metrics_ranking import Ranks
from ekiden_engine.models.base import Direction, FloatArray
from ekiden_engine.models.ease import STRENGTHS as EASE_STRENGTHS
from ekiden_engine.models.ease import Ease
from ekiden_engine.models.ials import STRENGTHS as IALS_STRENGTHS
from ekiden_engine.models.ials import Ials
from ekiden_engine.models.links_data import LinkProblem, Validation, relation_of
from ekiden_engine.models.links_questions import LongArray

RANK = 128
"""Dimensions of EASE: on ML-1M ratings 128 validate as well as all 3,630."""
EASE_NODES = 10_000
"""Nodes at the smaller end up to which EASE is a candidate: two matrices of 0.8 GB in double precision."""
IALS_LINKS, IALS_NODES = 3_000_000, 50_000
"""Links, and nodes of both ends, up to which iALS is one: a minute and a half on one core."""
STEPS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
"""Weights that a further candidate is tried with, relative to the spread of the scores so far."""
SCORES = 20_000_000
"""Scores per candidate model that choosing may hold: 80 MB."""
METRIC = "ndcg@20"

Scorer = Callable[[LongArray], FloatArray]
"""Scores float32 [m, candidates] of nodes, int64 [m], in the numbering of their type."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A fitted candidate: vectors of sources [n, d] and destinations [m, d]; `note` says how it validated."""

    name: str
    source: FloatArray
    dest: FloatArray
    note: str

    def scorer(self, direction: Direction) -> Scorer:
        """Scores of destinations (`tail`) or of sources (`head`)."""
        given, asked = (self.source, self.dest) if direction == "tail" else (self.dest, self.source)
        return lambda nodes: given[nodes] @ asked.T


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Validation questions of one relation: positions `rows` in `validation`, and their nodes within their type."""

    validation: Validation
    rows: LongArray
    nodes: LongArray

    @classmethod
    def of(cls, problem: LinkProblem, validation: Validation, edge_type: int, direction: Direction) -> Asked:
        """As many of the relation's questions as `SCORES` allows."""
        relation, back = relation_of(edge_type, direction), relation_of(edge_type, _other(direction))
        candidates = int(np.diff(problem.ranges[relation])[0])
        rows = np.flatnonzero(validation.questions.relation == relation)[: max(SCORES // max(candidates, 1), 1)]
        return cls(validation, rows, validation.questions.given[rows] - problem.ranges[back, 0])

    def quality(self, scores: FloatArray) -> float:
        """Mean NDCG@20 of the questions by `scores` [rows, candidates]; 0 without questions."""
        if not len(self.rows):
            return 0.0
        raw, filtered = self.validation.ranks(self.rows, scores.copy())
        offsets = np.concatenate(([0], np.cumsum(self.validation.questions.counts[self.rows])))
        return float(Ranks(offsets, raw, filtered).lists()[1].mean())


def adjacency(problem: LinkProblem, edge_type: int) -> sparse.csr_array:
    """The training links of an edge type, CSR float32 [sources, destinations] of ones."""
    source, kind, dest = (column[problem.links[1] == edge_type] for column in problem.links)
    (dest_low, dest_high), (low, high) = problem.ranges[2 * edge_type : 2 * edge_type + 2].tolist()
    ones = np.ones(len(kind), np.float32)
    return sparse.csr_array((ones, (source - low, dest - dest_low)), shape=(high - low, dest_high - dest_low))


def closed_forms(problem: LinkProblem, edge_type: int, validation: Validation, seed: int) -> Iterator[Block]:
    """EASE and iALS on the training links of one edge type, each with the strength that validates best, where the graph
    is small enough for them."""
    links, asked = adjacency(problem, edge_type), Asked.of(problem, validation, edge_type, "tail")
    if min(links.shape) <= EASE_NODES:
        yield _best(asked, "EASE", EASE_STRENGTHS, lambda strength: _ease(links, strength, seed))
    if links.nnz <= IALS_LINKS and sum(links.shape) <= IALS_NODES:
        yield _best(asked, "iALS", IALS_STRENGTHS, lambda strength: _ials(links, strength, seed))


def _ease(links: sparse.csr_array, strength: float, seed: int) -> tuple[FloatArray, FloatArray]:
    if links.shape[1] <= EASE_NODES:
        return Ease.fit(links, strength).factors(RANK, seed)
    dest, source = Ease.fit(sparse.csr_array(links.T), strength).factors(RANK, seed)
    return source, dest


def _ials(links: sparse.csr_array, strength: float, seed: int) -> tuple[FloatArray, FloatArray]:
    fitted = Ials.fit(links, strength, seed=seed)
    return fitted.users, fitted.items


def _best(
    asked: Asked,
    name: str,
    strengths: tuple[float, ...],
    fit: Callable[[float], tuple[FloatArray, FloatArray]],
) -> Block:
    """The strengths in turn, from the middle one on in the direction that validates better."""
    tried: dict[int, tuple[float, Block]] = {}

    def attempt(at: int) -> float:
        if at not in tried:
            source, dest = fit(strengths[at])
            value = asked.quality(source[asked.nodes] @ dest.T)
            tried[at] = value, Block(name, source, dest, f"{name}, strength {strengths[at]:g}: {METRIC} {value:.4f}")
        return tried[at][0]

    at = len(strengths) // 2
    attempt(at)
    for step in (1, -1):
        while 0 <= at + step < len(strengths) and attempt(at + step) > attempt(at):
            at += step
    return tried[at][1]


def choose_weights(asked: Asked, scorers: Mapping[str, Scorer]) -> tuple[dict[str, float], float]:
    """Weights of the candidates by name, and the quality that they reach: greedy, the best one first.

    A candidate's weight is relative to the spread of its scores; the first keeps its own scale. Without validation
    questions the first of `scorers` has weight 1, the others 0.
    """
    if not len(asked.rows):
        return {name: float(at == 0) for at, name in enumerate(scorers)}, 0.0
    scores = {name: scorer(asked.nodes) for name, scorer in scorers.items()}
    alone = {name: asked.quality(matrix) for name, matrix in scores.items()}
    order = sorted(alone, key=lambda name: -alone[name])
    weights, best, total = dict.fromkeys(scorers, 0.0), alone[order[0]], scores[order[0]]
    weights[order[0]] = 1.0
    for name in order[1:]:
        spread = float(scores[name].std())
        if not spread > 0:
            continue
        unit = float(total.std()) / spread
        trials = {step: asked.quality(total + np.float32(step * unit) * scores[name]) for step in STEPS if step}
        step = max(trials, key=lambda s: trials[s])
        if trials[step] > best:
            best, weights[name] = trials[step], step * unit
            total = total + np.float32(step * unit) * scores[name]
    return weights, best


def _other(direction: Direction) -> Direction:
    return "head" if direction == "tail" else "tail"
