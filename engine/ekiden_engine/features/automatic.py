"""`auto`: the type of a feature from the values of its column, by Neptune ML's rules.

Source: "Auto feature encoding in Neptune ML" in the Amazon Neptune user guide:
numbers with fewer than 10 % distinct values and fewer than 100 of them are a category, other numbers are numerical;
texts of which more than 10 % are distinct and which have 3 words or more on average are `text_fasttext`, or
`text_sbert` in a language that fastText does not cover; anything else is a category.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiden.contracts.feature_config import FeatureConfig, FeatureKind, Language
from ekiden_engine.features import sbert
from ekiden_engine.features.base import split_cells
from ekiden_engine.features.numerical import number_matrix
from ekiden_engine.features.stop_words import STOP_WORDS
from ekiden_engine.features.tokens import tokenize
from ekiden_engine.numbers import BadValue, to_float64

DISTINCT_SHARE = 0.1
MOST_NUMBERS = 100
FEWEST_WORDS = 3.0
SAMPLE = 2_000
"""Texts that decide about the language and the mean number of words."""

STOP_WORD_SHARE = 0.1
"""Running text has three to five stop words in ten; foreign text hits on a few by chance."""


def resolve(config: FeatureConfig, values: pa.ChunkedArray) -> FeatureConfig:
    """The configuration that `auto` stands for, given the training values."""
    tokens = split_cells(values, config.separator)[0] if config.separator else pc.drop_null(values)
    if not len(tokens):
        return _as(config, "none")
    distinct = pc.count_distinct(tokens).as_py()
    if _are_numbers(tokens):
        if distinct < DISTINCT_SHARE * len(tokens) and distinct < MOST_NUMBERS:
            return _as(config, "category")
        if config.separator is not None and not _have_one_width(values, config.separator):
            return _as(config, "category")
        # Nobody chose `numerical`, so nobody was told to name an imputer; the exporter infers the median too.
        return _as(config, "numerical", norm="min-max", imputer=config.imputer or "median")
    if distinct > DISTINCT_SHARE * len(tokens):
        texts = pc.unique(tokens).slice(0, SAMPLE)
        language = detect(texts)
        if len(tokenize_all(texts, language)) >= FEWEST_WORDS * len(texts):
            if language is None and sbert.is_available():
                return _as(config, "text_sbert", separator=None)
            return _as(config, "text_fasttext", separator=None, language=language or "en")
    return _as(config, "category")


def detect(texts: pa.Array) -> Language | None:
    """The language of `texts`, None if it is none of ours: by script, and for Latin letters by stop words."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    letters = {
        script: int(pc.sum(pc.count_substring_regex(texts, pattern)).as_py() or 0)
        for script, pattern in (
            ("kana", r"[\p{Hiragana}\p{Katakana}]"),
            ("han", r"\p{Han}"),
            ("devanagari", r"\p{Devanagari}"),
            ("latin", r"\p{Latin}"),
            ("all", r"\p{L}"),
        )
    }
    total = max(letters["all"], 1)
    if letters["kana"] > 0.1 * total:
        return "ja"
    if letters["han"] > 0.5 * total:
        return "zh"
    if letters["devanagari"] > 0.5 * total:
        return "hi"
    if letters["latin"] <= 0.5 * total:
        return None
    words = tokenize(texts, None)
    counts = np.bincount(words.codes, minlength=len(words.words))
    shares: dict[Language, float] = {}
    latin: tuple[Language, ...] = ("en", "es", "fr")
    for language in latin:
        hits = pc.is_in(words.words, value_set=pa.array(sorted(STOP_WORDS[language]))).to_numpy(zero_copy_only=False)
        shares[language] = float(counts[hits].sum() / max(counts.sum(), 1))
    best = max(shares, key=lambda language: shares[language])
    return best if shares[best] >= STOP_WORD_SHARE else None


def tokenize_all(texts: pa.Array, language: Language | None) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """A code per word of `texts`; stop words count where words are parted by spaces."""
    return tokenize(texts, language if language in ("ja", "zh") else None).codes


def as_category(config: FeatureConfig) -> FeatureConfig:
    """What is left where nothing else can be learnt from the values."""
    return _as(config, "category")


def _as(config: FeatureConfig, kind: FeatureKind, **changes: object) -> FeatureConfig:
    feature = (config.feature[0], config.feature[1], kind)
    imputer = {} if kind in ("numerical", "auto") else {"imputer": None}
    return config.model_copy(update={"feature": feature, **imputer, **changes})


def _are_numbers(tokens: pa.Array | pa.ChunkedArray) -> bool:
    try:
        to_float64(tokens)
    except BadValue:
        return False
    return True


def _have_one_width(values: pa.ChunkedArray, separator: str) -> bool:
    try:
        number_matrix(values, separator, None)
    except BadValue:
        return False
    return True
