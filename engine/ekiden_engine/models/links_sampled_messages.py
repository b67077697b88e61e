"""Messages of the link encoder along one way, where lists of neighbours lie on disk and steps see samples of them.

As in edge regression, the sums over all neighbours are remembered from the last time that they were computed, and a
sample tells only how they have changed since: the control variates of Chen, Zhu and Song 2018 (VR-GCN). What the
remembered sums hold of a step's hidden links is taken out again, and hidden neighbours in the sample count nothing, so
no vector knows of a hidden link, at neither of its ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.kernels import counting_sort, csr, product
from ekiden_engine.models.base import FloatArray, IndexArray
from ekiden_engine.models.device import CPU
from ekiden_engine.models.links_questions import LongArray, written
from ekiden_engine.models.links_relations import Way, normal
from ekiden_engine.models.sampled_tables import Distinct, LazyTable, Used, blocks, matrix_on_disk
from ekiden_engine.models.sampler import Adjacency, chunks


@dataclass(frozen=True, slots=True)
class Storage:
    """Where large arrays lie: parameters in memory or, `on_disk`, in memory-mapped files of `folder` as all else."""

    folder: Path
    on_disk: bool

    def within(self, name: str) -> Storage:
        """The same, in a new folder below."""
        (self.folder / name).mkdir()
        return Storage(self.folder / name, self.on_disk)

    def table(self, name: str, pull: FloatArray, width: int) -> LazyTable:
        """A new parameter of zeros with its moments; `pull` float32 [rows]."""
        shape, parts = (len(pull), width), ("", "-first", "-second")
        values, first, second = (
            self.mapped(name + part, shape) if self.on_disk else torch.zeros(shape) for part in parts
        )
        return LazyTable(values, torch.from_numpy(pull), (first, second))

    def mapped(self, name: str, shape: tuple[int, int]) -> Tensor:
        """A new float32 matrix of zeros in a memory-mapped file."""
        return matrix_on_disk(self.folder / name, shape)


class SampledMessages:
    """The messages along one way, and what they tell."""

    def __init__(self, way: Way, width: int, random: np.random.Generator, storage: Storage, distinct: Distinct) -> None:
        """Random messages; lists of neighbours and what is remembered are written into files. `distinct`, of as many
        numbers as there are senders at least, may be shared with others."""
        self.way = way
        receivers, senders = way.rows[1] - way.rows[0], way.columns[1] - way.columns[0]
        folder = storage.folder
        to = written(way.to, folder / "to", way.rows[0])
        sent = written(way.sent, folder / "sent", way.columns[0])
        self.lists = Adjacency(to, sent, receivers, folder, "neighbours")
        often = np.zeros(senders, np.int64)
        for part in chunks(len(sent)):
            often += np.bincount(sent[part], minlength=senders)
        for name in ("to", "sent"):
            (folder / name).unlink()
        self.messages = storage.table("messages", np.maximum(often, 1).astype(np.float32), width)
        for part in blocks(senders):
            block = self.messages.values[part]
            block.copy_(normal(random, (len(block), width), CPU))
        self._then = storage.mapped("then", (senders, width))
        self._sums = storage.mapped("sums", (receivers, width))
        self._distinct = distinct

    def remember(self) -> None:
        """The sums over all neighbours of all nodes, as the messages are now."""
        values = self.messages.values
        self._then.copy_(values)
        for part in blocks(len(self.lists)):
            for block, sample in self.lists.blocks(part):
                ones = np.ones(len(sample.columns), np.float32)
                shape = (len(sample.share), len(values))
                self._sums[block] = csr(sample.pointers, np.ascontiguousarray(sample.columns), ones, shape) @ values

    def told(self, low: int, high: int) -> Tensor:
        """What was remembered of the nodes `low` to `high` (exclusive) of `way.rows`: what all their neighbours say."""
        part = slice(low - self.way.rows[0], high - self.way.rows[0])
        return self._sums[part] * _root(self.lists.degree[part])

    def tell(
        self,
        nodes: LongArray,
        hidden: IndexArray,
        visible: npt.NDArray[np.bool_],
        most: int,
        step: int,
        random: np.random.Generator,
    ) -> tuple[Tensor, Used]:
        """What their visible neighbours say to the nodes [m, d], by what `most` of them say; and what was used for it.

        `nodes` ascending, of `way.rows`, all ends of `hidden` there among them; `visible` is false for the hidden links
        alone.
        """
        way = self.way
        mine = nodes - way.rows[0]
        told, degree = self._sums.index_select(0, torch.from_numpy(mine)), self.lists.degree[mine]
        edges = way.edges_of(hidden)
        if len(edges):
            order, begins = counting_sort(np.searchsorted(nodes, way.to[edges]), len(nodes))
            sent = way.sent[edges][order] - np.int32(way.columns[0])
            gone = csr(begins, sent, np.ones(len(sent), np.float32), (len(nodes), len(self._then)))
            told -= gone @ self._then
            degree = degree - np.diff(begins)
        sample = self.lists.sample(mine, most, random)
        columns, place = self._distinct(sample.columns)
        owners = sample.owners
        values = sample.share[owners] * visible[sample.edges + way.first]
        order, begins = counting_sort(place, len(columns))
        matrix = csr(sample.pointers, place, values, (len(nodes), len(columns)))
        transpose = csr(begins, owners[order], values[order], (len(columns), len(nodes)))
        rows = torch.from_numpy(columns)
        used = self.messages.use_at(rows, step)
        change = product(matrix, transpose, used.values - self._then.index_select(0, rows))
        return (told + change) * _root(degree), used


def _root(degree: LongArray) -> Tensor:
    return torch.from_numpy((1 / np.sqrt(np.maximum(degree, 1))).astype(np.float32))[:, None]
