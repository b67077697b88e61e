"""Seeded rating graphs of any size as Gremlin CSV, written block by block: memory does not grow with the graph.

Per 100 ratings there are 5 users and 1 item. How many ratings a user gives is log-normal, how often an item is rated
falls with its rank as in Zipf's law, both about as in MovieLens 1M; a rating is the mean, the user's and the item's
bias, and noise, in whole stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

RATINGS_PER_USER, RATINGS_PER_ITEM = 20, 100
USER_SPREAD = 0.9
"""Standard deviation of the logarithm of a user's activity."""
ITEM_RANK = 0.7
"""Exponent of an item's popularity over its rank."""
MEAN, USER_BIAS, ITEM_BIAS, NOISE = 3.6, 0.42, 0.5, 0.9
FILE_ROWS, BLOCK_ROWS = 2_500_000, 500_000
FIRST_SECOND, SECONDS = 956_703_932, 90_000_000
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Romance", "Thriller", "War", "Western")

SPEC = {
    "version": 1,
    "name": "generated",
    "graph": {"source": "s3://bench-graph/generated/"},
    "targets": [
        {"edge": ["user", "rated", "item"], "property": "rating", "type": "regression", "split_rate": [0.9, 0.05, 0.05]}
    ],
    "features": [
        {"node": "user", "property": "age", "type": "numerical", "norm": "min-max"},
        {"node": "user", "property": "gender", "type": "category"},
        {"node": "item", "property": "year", "type": "numerical", "norm": "min-max"},
        {"node": "item", "property": "genres", "type": "category"},
    ],
    "model": {"name": "rgcn"},
}  # fmt: skip
"""The spec that the benchmark runs on these graphs, with the four node properties as features."""


@dataclass(frozen=True, slots=True)
class Size:
    """Ratings, users and items of a generated graph."""

    edges: int

    @property
    def users(self) -> int:
        """Number of user nodes."""
        return max(self.edges // RATINGS_PER_USER, 10)

    @property
    def items(self) -> int:
        """Number of item nodes."""
        return max(self.edges // RATINGS_PER_ITEM, 10)

    @property
    def rows(self) -> int:
        """Vertices and edges: what `rows/s` counts."""
        return self.edges + self.users + self.items


def generate(size: Size, folder: Path, seed: int = 0) -> None:
    """Write `users.csv`, `items.csv` and `ratings-<k>.csv` into `folder`; the same seed writes the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    _write_nodes(size, folder, random)
    source = _Ends(np.exp(random.normal(0, USER_SPREAD, size.users)), random)
    dest = _Ends(random.permutation(np.arange(1, size.items + 1) ** -ITEM_RANK), random)
    bias_u, bias_i = random.normal(0, USER_BIAS, size.users), random.normal(0, ITEM_BIAS, size.items)
    for number, first in enumerate(range(0, size.edges, FILE_ROWS)):
        last = min(first + FILE_ROWS, size.edges)
        with _Writer(
            folder / f"ratings-{number}.csv", ("~id", "~from", "~to", "~label", "rating:Int", "timestamp:Long")
        ) as out:
            for start in range(first, last, BLOCK_ROWS):
                count = min(BLOCK_ROWS, last - start)
                u, i = source.draw(count), dest.draw(count)
                stars = np.clip(np.rint(MEAN + bias_u[u] + bias_i[i] + random.normal(0, NOISE, count)), 1, 5)
                times = FIRST_SECOND + random.integers(0, SECONDS, count)
                out.write(
                    _ids("r", np.arange(start, start + count)), _ids("u", u), _ids("i", i), _same("rated", count),
                    pa.array(stars.astype(np.int8)), pa.array(times),
                )  # fmt: skip


def _write_nodes(size: Size, folder: Path, random: np.random.Generator) -> None:
    with _Writer(folder / "users.csv", ("~id", "~label", "age:Int", "gender:String")) as out:
        for start in range(0, size.users, BLOCK_ROWS):
            count = min(BLOCK_ROWS, size.users - start)
            gender = pa.array(["F", "M"]).take(pa.array(random.integers(0, 2, count)))
            age = pa.array(random.integers(15, 90, count))
            out.write(_ids("u", np.arange(start, start + count)), _same("user", count), age, gender)
    with _Writer(folder / "items.csv", ("~id", "~label", "year:Int", "genres:String(set)")) as out:
        for start in range(0, size.items, BLOCK_ROWS):
            count = min(BLOCK_ROWS, size.items - start)
            first, second = (pa.array(GENRES).take(pa.array(random.integers(0, len(GENRES), count))) for _ in range(2))
            genres = pc.if_else(pc.equal(first, second), first, pc.binary_join_element_wise(first, second, ";"))
            year = pa.array(random.integers(1920, 2025, count))
            out.write(_ids("i", np.arange(start, start + count)), _same("item", count), year, genres)


class _Ends:
    """Nodes drawn with a probability each, by inversion."""

    def __init__(self, weights: npt.NDArray[np.float64], random: np.random.Generator) -> None:
        self._cumulated = np.cumsum(weights)
        self._random = random

    def draw(self, count: int) -> npt.NDArray[np.int64]:
        found = np.searchsorted(self._cumulated, self._random.random(count) * self._cumulated[-1], side="right")
        drawn: npt.NDArray[np.int64] = np.minimum(found, len(self._cumulated) - 1)
        return drawn


class _Writer:
    """A CSV file that is written block by block."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._sink = path.open("wb")
        self._sink.write((",".join(columns) + "\n").encode())

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    def write(self, *arrays: pa.Array) -> None:
        table = pa.Table.from_arrays(arrays, names=self._columns)
        pacsv.write_csv(table, self._sink, pacsv.WriteOptions(include_header=False, quoting_style="none"))


def _ids(letter: str, numbers: npt.NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.cast(pa.array(numbers), pa.string()), "")


def _same(text: str, count: int) -> pa.Array:
    return pa.repeat(text, count)
