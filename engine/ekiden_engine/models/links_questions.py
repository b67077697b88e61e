"""Questions that links are the answers of: given one end of a link and its relation, which nodes are at the other end.

Every link answers two of them, so these arrays are the largest of link prediction: what there is per link is int32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiden_engine.kernels import counting_sort
from ekiden_engine.models.base import IndexArray
from ekiden_engine.models.sampler import chunks, mapped

LongArray = npt.NDArray[np.int64]
Columns = tuple[IndexArray, IndexArray, IndexArray]
"""Sources, edge types and destinations of links, int32 [E] each."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Distinct questions, ascending by (relation, given): question i asks with node given[i] for relation[i] and has
    the answers `answers[offsets[i]:offsets[i + 1]]`, ascending; nodes in the common numbering. `given`, `relation` and
    `offsets` are int64, `answers` int32.

    `links` int32 tells of each answer which link it is, in ascending order of (edge type, source, destination).
    """

    given: LongArray
    relation: LongArray
    offsets: LongArray
    answers: IndexArray
    links: IndexArray

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.given)

    @classmethod
    def of(cls, links: Columns, nodes: int) -> Questions:
        """Both questions of every link; a link that is there twice counts once."""
        return cls.of_distinct(distinct(links), nodes)

    @classmethod
    def of_distinct(cls, links: Columns, nodes: int) -> Questions:
        """As `of`, for links as `distinct` gives them."""
        source, edge_type, dest = links
        types = int(edge_type[-1]) + 1 if len(edge_type) else 0
        bounds = np.searchsorted(edge_type, np.arange(types + 1, dtype=np.int32))
        answers, numbers = np.empty(2 * len(source), np.int32), np.empty(2 * len(source), np.int32)
        givens, relations, sizes = [], [], []
        # Of an edge type, first its links as they are, then by destination; the sort keeps the sources' order.
        for kind in range(types):
            first, last = int(bounds[kind]), int(bounds[kind + 1])
            order, _ = counting_sort(dest[first:last], nodes)
            asked = slice(2 * first, first + last), slice(first + last, 2 * last)
            numbers[asked[0]], numbers[asked[1]] = np.arange(first, last, dtype=np.int32), order + first
            answers[asked[0]], answers[asked[1]] = dest[first:last], source[first:last][order]
            for relation, given in ((2 * kind, source[first:last]), (2 * kind + 1, dest[first:last][order])):
                starts = np.flatnonzero(np.diff(given, prepend=-1))
                givens.append(given[starts].astype(np.int64))
                relations.append(np.full(len(starts), relation, np.int64))
                sizes.append(np.diff(starts, append=last - first))
        nothing = np.empty(0, np.int64)
        offsets = np.cumsum(np.concatenate(([0], *sizes)), dtype=np.int64)
        return cls(np.concatenate((nothing, *givens)), np.concatenate((nothing, *relations)), offsets, answers, numbers)

    @property
    def counts(self) -> LongArray:
        """Number of answers of each question."""
        return np.diff(self.offsets)

    def flat(self, which: LongArray) -> tuple[LongArray, LongArray]:
        """All answers of the questions `which` [b]: position in `which`, and answer; int64 [m] each."""
        rows, places = self.places(which)
        return rows, self.answers[places].astype(np.int64)

    def places(self, which: LongArray) -> tuple[LongArray, LongArray]:
        """As `flat`, with the answer's place in `answers` and `links`."""
        first, sizes = self.offsets[which], self.offsets[which + 1] - self.offsets[which]
        rows = np.repeat(np.arange(len(which)), sizes)
        shift = np.repeat(first - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
        return rows, np.arange(len(rows)) + shift

    def take(self, which: LongArray) -> Questions:
        """Some of the questions, in the order of `which`."""
        _, places = self.places(which)
        offsets = np.concatenate(([0], np.cumsum(self.counts[which])))
        return Questions(self.given[which], self.relation[which], offsets, self.answers[places], self.links[places])

    def find(self, other: Questions, nodes: int) -> LongArray:
        """Position of each question of `other` here, -1 where it is not asked."""
        mine, wanted = self.relation * nodes + self.given, other.relation * nodes + other.given
        if not len(mine):
            return np.full(len(wanted), -1)
        place = np.minimum(np.searchsorted(mine, wanted), len(mine) - 1)
        return np.where(mine[place] == wanted, place, -1)

    def on_disk(self, folder: Path) -> Questions:
        """The same, with what there is per link in memory-mapped files."""
        return replace(
            self,
            answers=written(self.answers, folder / "answers"),
            links=written(self.links, folder / "answers-links"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Portions:
    """Questions cut so that no part has more than some number of answers: a step can be bounded, yet all answers of a
    question that half a million links are at are asked for, with each portion's own share of them.

    The portions of question q are `begins[q]` to `begins[q + 1]`, int64 [questions + 1]; each takes every so-manieth of
    its answers.
    """

    questions: Questions
    begins: LongArray

    @classmethod
    def of(cls, questions: Questions, most: int | None) -> Portions:
        """Portions of `most` answers; None: every question is one."""
        counts = questions.counts
        parts = np.ones(len(counts), np.int64) if most is None else -(-counts // most)
        return cls(questions, np.concatenate(([0], np.cumsum(parts))))

    def between(self, low: int, high: int) -> IndexArray:
        """The portions of the questions `low` to `high` (exclusive)."""
        return np.arange(self.begins[low], self.begins[high], dtype=np.int32)

    def question(self, portions: npt.NDArray[Any]) -> LongArray:
        """The question that each is of, int64."""
        return np.searchsorted(self.begins, portions, side="right") - 1

    def sizes(self, portions: npt.NDArray[Any]) -> LongArray:
        """Number of answers of each."""
        question, number, parts = self._cut(portions)
        counts = self.questions.offsets[question + 1] - self.questions.offsets[question]
        return -(-(counts - number) // parts)

    def places(self, portions: npt.NDArray[Any]) -> tuple[LongArray, LongArray]:
        """All their answers: position in `portions`, and place in the questions' `answers`; int64 [m] each."""
        question, number, parts = self._cut(portions)
        sizes = self.sizes(portions)
        rows = np.repeat(np.arange(len(portions)), sizes)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return rows, (self.questions.offsets[question] + number)[rows] + within * parts[rows]

    def is_cut(self, questions: LongArray) -> npt.NDArray[np.bool_]:
        """Which of the questions have more than one portion."""
        return self.begins[questions + 1] - self.begins[questions] > 1

    def _cut(self, portions: npt.NDArray[Any]) -> tuple[LongArray, LongArray, LongArray]:
        question = self.question(portions)
        return question, portions - self.begins[question], self.begins[question + 1] - self.begins[question]


def distinct(links: Columns) -> Columns:
    """The links without repetitions, in ascending order of (edge type, source, destination)."""
    source, edge_type, dest = links
    # Stable sorts by the least important column first: linear, and smaller than a sort by all three.
    for key in (2, 0, 1):
        column = (source, edge_type, dest)[key]
        order, _ = counting_sort(column, int(column.max(initial=0)) + 1)
        source, edge_type, dest = source[order], edge_type[order], dest[order]
    again = np.zeros(len(source), np.bool_)
    again[1:] = (np.diff(source) == 0) & (np.diff(edge_type) == 0) & (np.diff(dest) == 0)
    if not again.any():
        return source, edge_type, dest
    return source[~again], edge_type[~again], dest[~again]


def written(values: IndexArray, path: Path, less: int = 0) -> IndexArray:
    """A copy in a memory-mapped file, of values that are lower by `less`."""
    found: IndexArray = mapped(path, np.int32, len(values))
    for part in chunks(len(values)):
        np.subtract(values[part], np.int32(less), out=found[part])
    return found
