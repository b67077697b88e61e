"""Word vectors learnt from the graph's own text by gensim. Only fitting imports gensim; encoding works from arrays.

Mikolov and others, "Distributed Representations of Words and Phrases and their Compositionality" (skip-gram with
negative samples), NeurIPS 2013; for fastText see `subwords`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ekiden.contracts.feature_config import Language
from ekiden_engine.errors import BadData
from ekiden_engine.features.base import FloatMatrix, UnusableColumn
from ekiden_engine.features.tokens import Tokens

SEED: Final = 20_131_205
MIN_COUNT: Final = 2
WINDOW: Final = 5
NEGATIVES: Final = 5
DIMENSIONS: Final = 100
WORDS_TO_SEE: Final = 1_500_000
"""Little text is passed over up to 30 times, much text twice: training stays within seconds."""

MOST_WORDS: Final = 1_000_000
"""Of more text than that, every second, third, … row is learnt from."""

MAX_BUCKETS: Final = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """`words` with `vectors` float32 [n, d]; for fastText also the n-gram `buckets` int32 [b], ascending, that training
    reached, with `bucket_vectors` float32 [b, d], and how n-grams are cut."""

    words: pa.StringArray
    vectors: FloatMatrix
    buckets: npt.NDArray[np.int32] | None = None
    bucket_vectors: FloatMatrix | None = None
    lengths: tuple[int, int] = (0, 0)
    bucket_count: int = 0


def train(tokens: Tokens, dimensions: int, language: Language, *, subwords: bool) -> Trained:
    """Word vectors of `dimensions` columns; the same text gives the same vectors in any process.

    Vectors are shifted and scaled so that the words of the text have mean 0 and mean squared length 1: how far training
    got from its tiny random start would otherwise show in the size of the features.

    Raises `UnusableColumn` if there is no word, `BadData` MISSING_PACKAGE without gensim.
    """
    if not len(tokens.codes):
        raise UnusableColumn("its training texts hold no word to learn from; leave it out with type none", "NO_TERMS")
    try:
        from gensim.models import FastText, Word2Vec
    except ImportError as error:
        raise BadData("MISSING_PACKAGE", "learning word vectors needs the package gensim") from error
    tokens = tokens.every(-(-len(tokens.codes) // MOST_WORDS))
    counts = np.bincount(tokens.codes, minlength=len(tokens.words))
    # A word seen once has no neighbourhood to learn; where all are, something is better than nothing.
    min_count = MIN_COUNT if int((counts >= MIN_COUNT).sum()) >= 2 else 1
    options: dict[str, Any] = {
        "sentences": tokens.lists(),
        "vector_size": dimensions,
        "window": WINDOW,
        "min_count": min_count,
        "sg": 1,
        "negative": NEGATIVES,
        "epochs": int(np.clip(WORDS_TO_SEE // len(tokens.codes), 2, 30)),
        "seed": SEED,
        "workers": 1,  # several threads race for the weights: no two runs would be equal
        "hashfxn": _stable_hash,
    }
    if not subwords:
        vectors = Word2Vec(**options).wv
        return _scaled(_words(vectors), vectors.vectors, counts_of(vectors))
    lengths = (1, 4) if language in ("ja", "zh") else (3, 6)
    kept = int((counts >= min_count).sum())
    bucket_count = int(np.clip(8 * kept, 2_000, MAX_BUCKETS))
    vectors = FastText(**options, bucket=bucket_count, min_n=lengths[0], max_n=lengths[1]).wv
    reached = np.unique(np.concatenate([np.asarray(b, np.int32) for b in vectors.buckets_word]))
    plain = _scaled(_words(vectors), vectors.vectors, counts_of(vectors), vectors.vectors_ngrams[reached])
    return Trained(plain.words, plain.vectors, reached.astype(np.int32), plain.bucket_vectors, lengths, bucket_count)


def counts_of(vectors: Any) -> npt.NDArray[np.float64]:
    """How often each word stood in the text."""
    return np.asarray([vectors.get_vecattr(word, "count") for word in vectors.index_to_key], dtype=np.float64)


def _words(vectors: Any) -> pa.StringArray:
    return pa.array(vectors.index_to_key, pa.string())


def _scaled(
    words: pa.StringArray, vectors: FloatMatrix, counts: npt.NDArray[np.float64], more: FloatMatrix | None = None
) -> Trained:
    share = counts / counts.sum()
    center = share @ vectors.astype(np.float64)
    centered = vectors - center
    size = float(np.sqrt(share @ np.square(centered).sum(axis=1))) or 1.0
    extra = None if more is None else ((more - center) / size).astype(np.float32)
    return Trained(words, (centered / size).astype(np.float32), bucket_vectors=extra)


def _stable_hash(text: str) -> int:
    """Python's own hash of a text differs from process to process."""
    return zlib.crc32(text.encode())
