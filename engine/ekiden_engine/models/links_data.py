"""Links as questions: given one end of a link and its relation, which nodes are at the other end.

Nodes of all types share one numbering, type after type. A relation is an edge type in one direction: edge type e asks
for destinations as relation 2e and for sources as relation 2e + 1 ("reciprocal relations": Lacroix, Usunier and
Obozinski 2018), so that training and answering only ever ask for the end that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType, EncodedGraph, Split, Target
from ekiden_engine.metrics_ranking import rank_truths
from ekiden_engine.models.base import Direction, FloatArray
from ekiden_engine.models.links_questions import Columns, LongArray, Questions, distinct, written


@dataclass(frozen=True, slots=True, eq=False)
class LinkProblem:
    """The links of one target: training and validation questions; test links are not in here.

    `labels` are the node types, `bounds` int64 [types + 1] where each begins in the common numbering. `edge_types`
    are those that can be asked for; relations from 2 * len(edge_types) on are context: edge types that the target is
    not about. `ranges` int64 [relations, 2]: first and last node (exclusive) that can be the answer. `links`: the
    distinct training links, context included, as `Questions.links` counts them.
    """

    labels: tuple[str, ...]
    bounds: LongArray
    edge_types: tuple[EdgeType, ...]
    context: tuple[EdgeType, ...]
    ranges: LongArray
    train: Questions
    valid: Questions
    links: Columns

    @property
    def nodes(self) -> int:
        """Number of nodes of all types."""
        return int(self.bounds[-1])

    @property
    def counts(self) -> dict[str, int]:
        """Nodes per type."""
        return dict(zip(self.labels, np.diff(self.bounds).tolist(), strict=True))

    def seen(self) -> npt.NDArray[np.bool_]:
        """Nodes with a training link, bool [nodes]."""
        found = np.zeros(self.nodes, np.bool_)
        found[self.train.given] = True
        return found

    def on_disk(self, folder: Path) -> LinkProblem:
        """The same, with the training links and their questions in memory-mapped files."""
        source, edge_type, dest = (
            written(column, folder / name) for column, name in zip(self.links, ("source", "type", "dest"), strict=True)
        )
        return replace(self, train=self.train.on_disk(folder), links=(source, edge_type, dest))


CARVED = 0.05
"""Share of the training links that validates where the split has no validation links."""
BLOCK_SCORES = 20_000_000
"""Scores of validation questions held at once: 80 MB."""
CARVABLE = 100
"""With fewer training links than this they validate themselves instead."""


def make_problem(graph: EncodedGraph, target: Target, *, context: bool, seed: int) -> LinkProblem:
    """The problem of a link-prediction target; `context`: edge types beside the target are trained on too.

    `seed` draws validation links where the split has none. Raises `BadData` EMPTY_TRAINING_SET.
    """
    concerned = graph.link_labels(target)
    labels = tuple(n.label for n in graph.nodes)
    bounds = np.concatenate(([0], np.cumsum([len(n) for n in graph.nodes]))).astype(np.int64)
    begin = dict(zip(labels, bounds[:-1].tolist(), strict=True))
    size = {n.label: len(n) for n in graph.nodes}
    edge_types = tuple(edges.edge_type for edges, _ in concerned)
    others = tuple(e for e in graph.edges if e.edge_type not in edge_types and len(e)) if context else ()
    parts: dict[Split, list[Columns]] = {Split.TRAIN: [], Split.VALID: []}
    for index, (edges, split_of) in enumerate(concerned):
        for split, found in parts.items():
            rows = split_of.rows(split)
            source, dest = edges.source[rows] + begin[edges.source_label], edges.dest[rows] + begin[edges.dest_label]
            found.append((source, np.full(len(rows), index, np.int32), dest))
    if not sum(len(source) for source, _, _ in parts[Split.TRAIN]):
        raise BadData(
            "EMPTY_TRAINING_SET",
            f"no link of {target.subject[:200]} belongs to the training split: check split_rate, or the file "
            "custom_split_filenames.train names",
        )
    if not sum(len(source) for source, _, _ in parts[Split.VALID]):
        parts = _carved(parts[Split.TRAIN], seed)
    for index, edges in enumerate(others, len(edge_types)):
        source, dest = edges.source + begin[edges.source_label], edges.dest + begin[edges.dest_label]
        parts[Split.TRAIN].append((source, np.full(len(edges), index, np.int32), dest))
    ranges = []
    for source_label, _, dest_label in (*edge_types, *(e.edge_type for e in others)):
        ranges += [(begin[label], begin[label] + size[label]) for label in (dest_label, source_label)]
    nodes = int(bounds[-1])
    valid = Questions.of(_joined(parts[Split.VALID]), nodes)
    links = distinct(_joined(parts.pop(Split.TRAIN)))
    train = Questions.of_distinct(links, nodes)
    context_types = tuple(e.edge_type for e in others)
    return LinkProblem(labels, bounds, edge_types, context_types, np.array(ranges, np.int64), train, valid, links)


def _joined(parts: list[Columns]) -> Columns:
    source, edge_type, dest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return source, edge_type, dest


def _carved(train: list[Columns], seed: int) -> dict[Split, list[Columns]]:
    columns = _joined(train)
    count = len(columns[0])
    if count < CARVABLE:
        return {Split.TRAIN: list(train), Split.VALID: list(train)}
    held = np.zeros(count, np.bool_)
    held[np.random.default_rng(seed).choice(count, round(CARVED * count), replace=False)] = True
    kept, taken = ((columns[0][rows], columns[1][rows], columns[2][rows]) for rows in (~held, held))
    return {Split.TRAIN: [kept], Split.VALID: [taken]}


def sampled(questions: Questions, at_most: int, seed: int) -> Questions:
    """At most so many of the questions, drawn at random."""
    if len(questions) <= at_most:
        return questions
    chosen = np.random.default_rng(seed).choice(len(questions), at_most, replace=False)
    return questions.take(np.sort(chosen))


def relation_of(edge_type: int, direction: Direction) -> int:
    """The relation that asks for this end of the links of edge type `edge_type`."""
    return 2 * edge_type + (direction == "head")


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What the questions of a batch are held against: nodes `columns` int64 [c], ascending, and which were `drawn`,
    bool [c]; for cross-entropy the scores of those get `shift` on top (see `draw`)."""

    columns: LongArray
    drawn: npt.NDArray[np.bool_]
    shift: float


def draw(
    random: np.random.Generator, answers: LongArray, low: int, high: int, count: int, *, estimate: bool
) -> Candidates:
    """The answers of a batch, and `count` uniform draws (repetitions dropped) from nodes [low, high).

    `estimate`: answers are not among the drawn, and `shift` is the log of how many nodes each drawn one stands for, so
    that a sum of exponentials over the candidates estimates the one over all nodes (Bengio and Senécal 2008).
    """
    positive = np.unique(answers)
    drawn = np.unique(random.integers(low, high, count))
    if estimate:
        drawn = np.setdiff1d(drawn, positive, assume_unique=True)
    columns = np.union1d(positive, drawn)
    shift = float(np.log((high - low - len(positive)) / len(drawn))) if estimate and len(drawn) else 0.0
    return Candidates(columns, np.isin(columns, drawn, assume_unique=True), shift)


class Validation:
    """Validation links, ranked among all candidates without those that are known from training.

    What the ranks say is about questions, so that the links of one node that is asked often do not decide alone.
    """

    def __init__(self, problem: LinkProblem, at_most: int, seed: int) -> None:
        """`at_most` questions are asked; `seed` draws them."""
        self.questions = sampled(problem.valid, at_most, seed)
        self._ranges = problem.ranges
        known = problem.train.find(self.questions, problem.nodes)
        self._known_rows, self._known = problem.train.flat(known[known >= 0])
        self._known_rows = np.flatnonzero(known >= 0)[self._known_rows]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.questions)

    def blocks(self, size: int) -> list[LongArray]:
        """Positions of questions with the same candidates, at most `size` and `BLOCK_SCORES` scores at a time."""
        found = []
        starts = self._ranges[self.questions.relation, 0] if len(self) else np.empty(0, np.int64)
        ends = self._ranges[self.questions.relation, 1] if len(self) else np.empty(0, np.int64)
        for start, end in sorted(set(zip(starts.tolist(), ends.tolist(), strict=True))):
            rows = np.flatnonzero((starts == start) & (ends == end))
            step = max(min(size, BLOCK_SCORES // max(end - start, 1)), 1)
            found += [rows[at : at + step] for at in range(0, len(rows), step)]
        return found

    def ranks(self, rows: LongArray, scores: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Raw and filtered ranks (see `metrics_ranking`) of all answers to the questions `rows` of a block, from the
        scores float32 [rows, candidates] of their relation's candidates, which are changed."""
        first = int(self._ranges[self.questions.relation[rows[0]], 0])
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        known = place[self._known_rows]
        known_rows, known_columns = known[known >= 0], self._known[known >= 0] - first
        truth_rows, truths = self.questions.flat(rows)
        return rank_truths(scores, (known_rows, known_columns), (truth_rows, truths - first))
