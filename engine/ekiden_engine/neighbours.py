"""The items with the highest inner products: top-N of links and nearest neighbours behind one interface.

Exact, by matrix product in blocks, for fewer than `EXACT_BELOW` items. From there on an inverted-file index of faiss is
built in the background and takes over once it is ready; until then, and whenever it cannot be trusted, the answer is
exact.

The index looks for nearest points, not largest products: an item gets one more coordinate, sqrt(M - |item|^2) with M
the largest square, so that all have the same length and the order by distance is that by product (Bachrach et al.,
"Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014).
Without it the recall on items of uneven length, such as popularities, is poor.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

import numpy as np

from ekiden_engine.errors import EngineError
from ekiden_engine.log import log
from ekiden_engine.models.base import FloatArray, IndexArray

EXACT_BELOW: Final = 200_000
"""Items; at this number one core answers some hundred queries a second exactly."""
BLOCK: Final = 4_000_000
"""Scores that an exact search holds at a time (16 MB)."""
RECALL: Final = 0.98
"""Share of the exact answer that the index must find on sample queries; it looks as far as that takes."""
CALIBRATED: Final = 100
"""How many items of each sample query the recall is about: Neptune's largest limit."""
MOST_FETCHED: Final = 500
"""Items, excluded ones included, up to which the index is asked; for more the answer is exact."""
SAMPLE: Final = 64
"""Sample queries to calibrate with."""
TRAINED_ON: Final = 64
"""Items per list that k-means sees."""
CACHE_BYTES: Final = 2 << 30

Excluded = Sequence[IndexArray]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best items per query, best first: `rows` int32 [m, k], -1 where there are no more; `scores` float32 [m, k],
    -inf there. Of equal scores the lower row comes first."""

    rows: IndexArray
    scores: FloatArray


class TopItems(Protocol):
    """A set of items to search."""

    def top(self, queries: FloatArray, k: int, excluded: Excluded | None = None) -> Found:
        """The `k` items with the highest inner product for each of `queries` float32 [m, d], without the rows in
        `excluded[i]`. Any thread may call."""


class ExactTop:
    """Every item is scored."""

    def __init__(self, items: FloatArray) -> None:
        """`items`: float32 [n, d], kept."""
        self.items = items

    def top(self, queries: FloatArray, k: int, excluded: Excluded | None = None) -> Found:
        """See `TopItems`; holds at most `BLOCK` scores, or those of one query."""
        found = _nothing(len(queries), k)
        step = max(1, BLOCK // max(1, len(self.items)))
        for start in range(0, len(queries), step):
            block = queries[start : start + step] @ self.items.T
            for position, scores in enumerate(block, start):
                if excluded is not None:
                    scores[excluded[position]] = -np.inf
                rows = _best(scores, k)
                found.rows[position, : len(rows)] = rows
                found.scores[position, : len(rows)] = scores[rows]
        return found


class ApproximateTop:
    """An inverted-file index over the items; answers that it cannot give come from `exact`."""

    def __init__(self, exact: ExactTop, sample: FloatArray) -> None:
        """Build, with one thread, and calibrate on the queries in `sample` float32 [s, d].

        Raises `EngineError` MISSING_PACKAGE without faiss, POOR_RECALL if a quarter of the lists is not enough.
        """
        self.exact = exact
        self._faiss = _import_faiss()
        self._faiss.omp_set_num_threads(1)
        items = exact.items
        square = np.vecdot(items, items)
        height = np.sqrt(np.maximum(square.max() - square, 0)).astype(np.float32)
        count = max(1, int(2 * np.sqrt(len(items))))
        self._index = self._faiss.IndexIVFFlat(self._faiss.IndexFlatL2(items.shape[1] + 1), items.shape[1] + 1, count)
        seen = np.random.default_rng(0).choice(len(items), min(len(items), TRAINED_ON * count), replace=False)
        self._index.train(_taller(items[seen], height[seen]))
        for start in range(0, len(items), 1 << 16):
            part = slice(start, start + (1 << 16))
            self._index.add(_taller(items[part], height[part]))
        self.probes, self.recall = self._calibrated(sample, count)

    def top(self, queries: FloatArray, k: int, excluded: Excluded | None = None) -> Found:
        """See `TopItems`. More are fetched than asked for, by as many as are excluded; a query that then lacks some is
        answered exactly."""
        wanted = min(k, len(self.exact.items))
        fetched = np.array([wanted + (0 if excluded is None else len(excluded[i])) for i in range(len(queries))])
        found = _nothing(len(queries), k)
        by_index = fetched <= MOST_FETCHED
        if by_index.any():
            which = np.flatnonzero(by_index)
            candidates = self._search(queries[which], int(fetched[which].max()), self.probes)
            for position, rows in zip(which.tolist(), candidates, strict=True):
                rows = rows[rows >= 0]
                if excluded is not None:
                    rows = rows[~np.isin(rows, excluded[position])]
                if len(rows) < wanted:
                    by_index[position] = False
                    continue
                scores = self.exact.items[rows] @ queries[position]
                order = np.lexsort((rows, -scores))[:wanted]
                found.rows[position, :wanted], found.scores[position, :wanted] = rows[order], scores[order]
        rest = np.flatnonzero(~by_index)
        if len(rest):
            left_out = None if excluded is None else [excluded[position] for position in rest.tolist()]
            again = self.exact.top(queries[rest], k, left_out)
            found.rows[rest], found.scores[rest] = again.rows, again.scores
        return found

    def _search(self, queries: FloatArray, k: int, probes: int) -> IndexArray:
        # per thread of ours: requests run beside each other, and on a busy machine OpenMP's barriers cost more than a
        # second core gains
        self._faiss.omp_set_num_threads(1)
        tall = _taller(queries, np.zeros(len(queries), np.float32))
        _, rows = self._index.search(tall, k, params=self._faiss.SearchParametersIVF(nprobe=probes))
        return np.asarray(rows, np.int32)

    def _calibrated(self, sample: FloatArray, lists: int) -> tuple[int, float]:
        """The fewest lists to look into that give `RECALL` on the sample, and the recall that they give."""
        wanted = self.exact.top(sample, min(CALIBRATED, len(self.exact.items))).rows
        probes, recall = 8, 0.0
        while probes <= max(8, lists // 4):
            got = self._search(sample, wanted.shape[1], probes)
            recall = recall_of(got, wanted)
            if recall >= RECALL:
                return probes, recall
            probes *= 2
        raise EngineError("POOR_RECALL", f"a quarter of the lists finds only {recall:.0%} of the exact answer")


class TopIndex:
    """`TopItems` of any size: exact at first, by an index as soon as there is one."""

    def __init__(
        self,
        items: FloatArray,
        sample: Callable[[int], FloatArray],
        name: str,
        *,
        exact_below: int = EXACT_BELOW,
    ) -> None:
        """`sample(s)` gives s typical queries; `name` is for the log."""
        self._exact = ExactTop(items)
        self._fast: ApproximateTop | None = None
        self._thread = (
            threading.Thread(target=self._build, args=(sample, name), daemon=True, name="build index")
            if len(items) >= exact_below
            else None
        )
        self._starting = threading.Lock()
        self._started = False

    @property
    def items(self) -> FloatArray:
        """What is searched, float32 [n, d]."""
        return self._exact.items

    @property
    def nbytes(self) -> int:
        """Memory that it takes, once its index is built."""
        return self._exact.items.nbytes * (1 if self._thread is None else 2)

    @property
    def is_exact(self) -> bool:
        """Whether answers are exact now."""
        return self._fast is None

    def wait(self, seconds: float) -> None:
        """Build the index now, if there is to be one, and wait for it."""
        self._start()
        if self._thread is not None:
            self._thread.join(seconds)

    def top(self, queries: FloatArray, k: int, excluded: Excluded | None = None) -> Found:
        """See `TopItems`; the first call has the index built."""
        self._start()
        return (self._fast or self._exact).top(queries, k, excluded)

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None and not self._started:
                self._started = True
                self._thread.start()

    def _build(self, sample: Callable[[int], FloatArray], name: str) -> None:
        started = time.perf_counter()
        count = f"{len(self._exact.items):,}"
        try:
            fast = ApproximateTop(self._exact, sample(SAMPLE))
        except EngineError as error:
            log(f"{name}: {count} candidates are searched one by one: {error.message}")
            return
        except Exception as error:  # noqa: BLE001  answers stay exact
            log(f"ERROR {name}: no index of {count} candidates: {type(error).__name__}: {str(error)[:200]}")
            return
        self._fast = fast
        seconds = time.perf_counter() - started
        log(f"{name}: index of {count} candidates after {seconds:.1f} s, recall {fast.recall:.1%} of the exact answer")


class Held(Protocol):
    """Something that takes memory."""

    @property
    def nbytes(self) -> int:
        """How much."""


T = TypeVar("T", bound=Held)


class TopCache:
    """The indexes in use, the least recently used given up first when they take more than `budget` bytes."""

    def __init__(self, budget: int = CACHE_BYTES) -> None:
        """The last one asked for stays, however large."""
        self._budget = budget
        self._kept: OrderedDict[Hashable, Held] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` made for `key`; it is called by one thread at a time."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(index.nbytes for index in self._kept.values()) > self._budget:
                self._kept.popitem(last=False)
            return cast(T, found)

    def __len__(self) -> int:
        return len(self._kept)


def recall_of(rows: IndexArray, wanted: IndexArray) -> float:
    """Mean share of each row of `wanted` [m, k] (-1: none) that is in the same row of `rows`; 1 if none is wanted."""
    shares = [np.isin(want[want >= 0], got).mean() for got, want in zip(rows, wanted, strict=True) if (want >= 0).any()]
    return float(np.mean(shares)) if shares else 1.0


def unit_length(vectors: FloatArray) -> FloatArray:
    """Rows of length 1, so that inner products are cosines; a row of zeros stays."""
    length = np.sqrt(np.vecdot(vectors, vectors))[:, None]
    return np.asarray(vectors / np.where(length > 0, length, np.float32(1)), np.float32)


def _best(scores: FloatArray, k: int) -> IndexArray:
    """Positions of the k highest scores, best first, -inf never; ties by position."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores > least)
        chosen = np.concatenate((above, np.flatnonzero(scores == least)[: k - len(above)]))
    else:
        chosen = np.arange(len(scores))
    chosen = chosen[scores[chosen] > -np.inf]
    return chosen[np.lexsort((chosen, -scores[chosen]))].astype(np.int32)


def _nothing(queries: int, k: int) -> Found:
    return Found(np.full((queries, k), -1, np.int32), np.full((queries, k), -np.inf, np.float32))


def _taller(vectors: FloatArray, last: FloatArray) -> FloatArray:
    return np.ascontiguousarray(np.concatenate((vectors, last[:, None]), axis=1), np.float32)


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise EngineError("MISSING_PACKAGE", "an index needs the package faiss-cpu (pip install faiss-cpu)") from error
    return faiss
