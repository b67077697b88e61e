"""`text_word2vec` and `text_fasttext`: a text as the mean of the vectors of its words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pydantic import Field

from ekiden.contracts.feature_config import FeatureConfig, Language
from ekiden_engine.errors import BadData
from ekiden_engine.features.base import FloatMatrix
from ekiden_engine.features.stored import Array, Store, StoredEncoder, wants
from ekiden_engine.features.subwords import buckets_of
from ekiden_engine.features.tokens import Tokens, tokenize
from ekiden_engine.features.training import DIMENSIONS, train
from ekiden_engine.features.vectors_file import read_vectors


class WordVectorEncoder(StoredEncoder):
    """The mean vector of the words that have one; stop words have none. A missing text, or one without any known word,
    is a row of zeros.

    Vectors are learnt from the training texts (`training`) or come from a file (`vectors_file`). An unknown word has a
    vector only with `text_fasttext` on own text: the mean over those of its parts that training reached.
    """

    kind: Literal["text_word2vec", "text_fasttext"]
    language: Language
    dimensions: Annotated[int, Field(ge=1, le=2_000)]
    max_length: Annotated[int, Field(ge=1)] | None = None
    lengths: tuple[Annotated[int, Field(ge=0, le=10)], Annotated[int, Field(ge=0, le=10)]] = (0, 0)
    bucket_count: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray, folder: Path | None = None) -> WordVectorEncoder:
        """Learn vectors from `values`, or take them from `config.vectors`, which lies in `folder`.

        Raises `UnusableColumn` NO_TERMS; `BadData` NO_VECTORS_FILE, BAD_VECTORS, MISSING_PACKAGE.
        """
        kind: Literal["text_word2vec", "text_fasttext"] = (
            "text_fasttext" if config.kind == "text_fasttext" else "text_word2vec"
        )
        language: Language = config.language or "en"
        tokens = tokenize(values, language, config.max_length)
        if config.vectors is not None:
            if folder is None:
                raise BadData("NO_VECTORS_FILE", f"{config.column[:100]}: no folder to find the vectors file in")
            words, vectors = read_vectors(folder, config.vectors, tokens.words.to_pylist())
            arrays: dict[str, Array] = {"vectors": vectors}
            lengths, bucket_count = (0, 0), 0
        else:
            trained = train(tokens, config.dimensions or DIMENSIONS, language, subwords=kind == "text_fasttext")
            words, arrays = trained.words, {"vectors": trained.vectors}
            lengths, bucket_count = trained.lengths, trained.bucket_count
            if trained.buckets is not None and trained.bucket_vectors is not None:
                arrays |= {"buckets": trained.buckets, "bucket_vectors": trained.bucket_vectors}
        encoder = cls(
            kind=kind,
            column=config.column,
            language=language,
            dimensions=arrays["vectors"].shape[1],
            max_length=config.max_length,
            lengths=lengths,
            bucket_count=bucket_count,
        )
        encoder.attach(Store(words, arrays))
        return encoder

    @property
    def names(self) -> tuple[str, ...]:
        """`property[i]` per dimension."""
        return tuple(f"{self.column}[{i}]" for i in range(self.dimensions))

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`; never raises `BadValue`."""
        tokens = tokenize(values, self.language, self.max_length)
        vectors, known = self._vectors(tokens)
        kept = known[tokens.codes]
        shape = (tokens.count, len(tokens.words))
        ones = np.ones(int(kept.sum()), dtype=np.float32)
        counts = sp.coo_array((ones, (tokens.rows[kept], tokens.codes[kept])), shape=shape).tocsr()
        total = np.bincount(tokens.rows[kept], minlength=tokens.count).astype(np.float32)
        sums: FloatMatrix = np.asarray(counts @ vectors, dtype=np.float32)
        return np.divide(sums, np.maximum(total, np.float32(1.0))[:, None], out=sums)

    def _vectors(self, tokens: Tokens) -> tuple[FloatMatrix, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """A vector per distinct word, and whether it has one."""
        arrays = self.store.arrays
        positions = self.store.positions(tokens.words)
        known = positions >= 0
        vectors = np.zeros((len(positions), self.dimensions), dtype=np.float32)
        vectors[known] = arrays["vectors"][positions[known]]
        if "buckets" in arrays:
            reached, bucket_vectors = arrays["buckets"], arrays["bucket_vectors"]
            for at in np.flatnonzero(~known).tolist():
                parts = np.asarray(buckets_of(tokens.words[at].as_py(), *self.lengths, self.bucket_count), np.int32)
                places = np.minimum(np.searchsorted(reached, parts), len(reached) - 1)
                places = places[reached[places] == parts]
                if len(places):
                    vectors[at] = bucket_vectors[places].mean(axis=0)
                    known[at] = True
        return vectors, known

    def check(self, store: Store) -> None:
        """See `StoredEncoder.check`."""
        wants(store, "vectors", np.float32, (len(store.words), self.dimensions))
        if self.bucket_count:
            buckets = wants(store, "buckets", np.int32, (None,))
            wants(store, "bucket_vectors", np.float32, (len(buckets), self.dimensions))
            if not len(buckets) or (np.diff(buckets) <= 0).any() or not 0 < self.lengths[0] <= self.lengths[1]:
                raise ValueError("buckets must rise, and lengths must be [least, most]")
