"""`text_tfidf`: weights of words and runs of words, projected to at most 100 columns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pydantic import Field

from ekiden.contracts.feature_config import FeatureConfig, Language
from ekiden_engine.features.base import FloatMatrix, UnusableColumn
from ekiden_engine.features.stored import Store, StoredEncoder, wants
from ekiden_engine.features.tokens import Tokens, tokenize

MAX_COLUMNS = 100
"""Neptune ML projects the weights of all terms to at most so many columns."""

DEFAULT_NGRAMS = (1, 1)
DEFAULT_MIN_DF = 2
DEFAULT_MAX_FEATURES = 5000


class TfidfEncoder(StoredEncoder):
    """Weight of term t in text x: tf(t, x) * idf(t), each text's weights scaled to length 1.

    tf counts occurrences; idf(t) = ln((1 + n) / (1 + df(t))) + 1 over the n training texts that have words, df of which
    hold the term: the smoothed form of scikit-learn's `TfidfVectorizer`. Terms are runs of `ngrams` words that at least
    `min_df` training texts hold; of more than `max_features`, the most frequent (equally frequent: in order of text).

    More than 100 terms are projected to 100 columns by a sparse random matrix (Li, Hastie and Church, "Very Sparse
    Random Projections", KDD 2006: density 1/sqrt(terms), entries ±sqrt(sqrt(terms)/100)), drawn once from a fixed seed.
    A missing text is a row of zeros.
    """

    kind: Literal["text_tfidf"] = "text_tfidf"
    language: Language | None
    ngrams: tuple[Annotated[int, Field(ge=1, le=10)], Annotated[int, Field(ge=1, le=10)]]
    columns: tuple[str, ...]

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> TfidfEncoder:
        """Learn terms and their weights. Raises `UnusableColumn` if no term is frequent enough."""
        language: Language = config.language or "en"
        ngrams = config.ngram_range or DEFAULT_NGRAMS
        found = tokenize(values, language).ngrams(*ngrams)
        matrix = found.counts()
        frequency = np.bincount(matrix.indices, minlength=len(found.words))
        frequent = np.flatnonzero(frequency >= (config.min_df or DEFAULT_MIN_DF))
        if not len(frequent):
            raise UnusableColumn(
                f"no word stands in {config.min_df or DEFAULT_MIN_DF} of its training texts; give a lower min_df, "
                "or leave the property out with type none",
                "NO_TERMS",
            )
        total = np.asarray(matrix.sum(axis=0)).reshape(-1)
        texts = pc.take(found.words, pa.array(frequent))
        ranked = pa.table({"at": frequent, "text": texts, "total": total[frequent]}).sort_by(
            [("total", "descending"), ("text", "ascending")]
        )
        kept = ranked.slice(0, config.max_features or DEFAULT_MAX_FEATURES).sort_by([("text", "ascending")])
        terms = kept["text"].combine_chunks()
        with_words = len(np.unique(found.rows))
        document_frequency = frequency[kept["at"].to_numpy()]
        idf = (np.log((1.0 + with_words) / (1.0 + document_frequency)) + 1.0).astype(np.float32)
        if len(terms) <= MAX_COLUMNS:
            columns, arrays = tuple(terms.to_pylist()), {}
        else:
            columns, arrays = (), _projection(len(terms), MAX_COLUMNS)
        encoder = cls(column=config.column, language=language, ngrams=ngrams, columns=columns)
        encoder.attach(Store(terms, {"idf": idf, **arrays}))
        return encoder

    @property
    def names(self) -> tuple[str, ...]:
        """`property~term` per column, or `property[i]` where terms were projected."""
        if self.columns:
            return tuple(f"{self.column}~{term}" for term in self.columns)
        return tuple(f"{self.column}[{i}]" for i in range(MAX_COLUMNS))

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`; never raises `BadValue`."""
        found = tokenize(values, self.language).ngrams(*self.ngrams)
        weights = self._weights(found)
        arrays = self.store.arrays
        if "indptr" not in arrays:
            return np.asarray(weights.toarray(), dtype=np.float32)
        shape = (len(self.store.words), MAX_COLUMNS)
        projection = sp.csr_array(
            (arrays["signs"].astype(np.float32), arrays["indices"], arrays["indptr"]), shape=shape
        )
        scale = np.float32(np.sqrt(np.sqrt(shape[0]) / MAX_COLUMNS))
        result: FloatMatrix = np.asarray((weights @ projection).toarray(), dtype=np.float32) * scale
        return result

    def _weights(self, found: Tokens) -> Any:
        terms = self.store.positions(found.words)[found.codes]
        known = terms >= 0
        shape = (found.count, len(self.store.words))
        ones = np.ones(int(known.sum()), dtype=np.float32)
        weights = sp.coo_array((ones, (found.rows[known], terms[known])), shape=shape).tocsr()
        weights.data *= self.store.arrays["idf"][weights.indices]
        rows = np.repeat(np.arange(found.count), np.diff(weights.indptr))
        length = np.sqrt(np.bincount(rows, weights=np.square(weights.data, dtype=np.float64), minlength=found.count))
        weights.data /= length[rows].astype(np.float32)
        return weights

    def check(self, store: Store) -> None:
        """See `StoredEncoder.check`."""
        count = len(store.words)
        wants(store, "idf", np.float32, (count,))
        if self.columns:
            if len(self.columns) != count or count > MAX_COLUMNS:
                raise ValueError("there must be a column per term")
            return
        indptr = wants(store, "indptr", np.int32, (count + 1,))
        indices = wants(store, "indices", np.int32, (None,))
        signs = wants(store, "signs", np.int8, (len(indices),))
        if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
            raise ValueError("indptr does not partition indices")
        if len(indices) and (indices.min() < 0 or indices.max() >= MAX_COLUMNS or not np.isin(signs, (-1, 1)).all()):
            raise ValueError("the projection points outside its columns")


def _projection(terms: int, columns: int) -> dict[str, npt.NDArray[Any]]:
    """A random sign, in CSR form, at each of about terms * columns / sqrt(terms) places."""
    rng = np.random.Generator(np.random.PCG64(20_060_820))
    counts = rng.binomial(columns, 1.0 / np.sqrt(terms), size=terms)
    # Per term, the first `count` of a random order of the columns: a draw without repeats.
    order = np.argsort(rng.random((terms, columns)), axis=1, kind="stable")
    chosen = np.arange(columns)[None, :] < counts[:, None]
    indices = order[chosen].astype(np.int32)
    signs = rng.integers(0, 2, size=len(indices), dtype=np.int8) * np.int8(2) - np.int8(1)
    return {"indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), "indices": indices, "signs": signs}
