"""Columns of text to words, whole columns at a time."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from ekiden.contracts.feature_config import Language
from ekiden_engine.features.japanese import split_words
from ekiden_engine.features.stop_words import CHINESE_PARTICLES, STOP_WORDS

BLOCK: Final = 65_536
"""Rows that are taken apart at a time: words as Python objects take much memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The words of a column of `count` texts: `words` are the distinct ones, `codes` int32 [t] says which word stands
    at each place, `rows` int64 [t] in which row (ascending; in a row, in the order of the text)."""

    words: pa.StringArray
    codes: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    count: int

    def counts(self) -> sp.csr_array:
        """How often each word stands in each row: float32 [count, len(words)]."""
        shape = (self.count, len(self.words))
        ones = np.ones(len(self.codes), dtype=np.float32)
        return sp.coo_array((ones, (self.rows, self.codes)), shape=shape).tocsr()

    def lists(self) -> list[list[str]]:
        """The words of each row that has any."""
        texts = np.asarray(self.words.to_pylist(), dtype=object)[self.codes].tolist()
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1)).tolist()
        return [texts[start:end] for start, end in zip(starts, [*starts[1:], len(texts)], strict=True)]

    def every(self, step: int) -> Tokens:
        """The words of every `step`-th row."""
        keep = self.rows % step == 0
        return Tokens(self.words, self.codes[keep], self.rows[keep], self.count)

    def ngrams(self, least: int, most: int) -> Tokens:
        """Runs of `least` to `most` neighbouring words, joined by a space, as tokens."""
        placed = self.words.take(pa.array(self.codes))
        run, parts, rows = placed, [], []
        for length in range(1, most + 1):
            if length > 1:
                # Run i of this length is run i of the last length and the word after it, if that is in the same row.
                run = pc.binary_join_element_wise(
                    run.slice(0, max(len(run) - 1, 0)), placed.slice(min(length - 1, len(placed))), " "
                )
            whole = self.rows[: len(run)] == self.rows[length - 1 :][: len(run)]
            if length >= least:
                parts.append(run.filter(pa.array(whole)))
                rows.append(self.rows[: len(run)][whole])
        return _sorted_tokens(pa.concat_arrays(parts), np.concatenate(rows), self.count)


def tokenize(values: pa.ChunkedArray | pa.Array, language: Language | None, max_length: int | None = None) -> Tokens:
    """The words of a string column (null: no words), without stop words; None: a language without a list of those.

    Text is normalised (NFKC) and put in lower case. `en`, `es`, `fr`, `hi` and None: words are runs of letters, marks
    and digits. `zh`: pairs of neighbouring characters, as search engines index Chinese. `ja`: see `japanese`.
    `max_length` keeps the first so many words of each text. Raises `BadData` MISSING_PACKAGE (only `ja`).
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    placed, rows = [pa.array([], pa.string())], [np.empty(0, np.int64)]
    for start in range(0, len(column), BLOCK):
        words, where = _split(column.slice(start, BLOCK), language)
        placed.append(words)
        rows.append(where + start)
    tokens = _sorted_tokens(pa.concat_arrays(placed), np.concatenate(rows), len(column))
    return _sifted(tokens, STOP_WORDS[language] if language is not None else frozenset(), max_length)


def _split(column: pa.Array, language: Language | None) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Every word of some rows, in order, and the row that it stands in."""
    encoded = column.dictionary_encode()  # equal texts are taken apart once
    texts = [unicodedata.normalize("NFKC", text).lower() for text in encoded.dictionary.to_pylist()]
    expanded = split_words(texts) if language == "ja" else [_SPLITTERS.get(language, _words)(text) for text in texts]
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).astype(np.int64)
    at = encoded.indices.drop_null().to_numpy(zero_copy_only=False)
    lengths = np.asarray([len(words) for words in expanded], dtype=np.int64)
    placed = pa.array(chain.from_iterable(expanded[code] for code in at.tolist()), pa.string())
    return placed, np.repeat(present, lengths[at])


def _words(text: str) -> list[str]:
    return _word_pattern().findall(text.replace("_", " "))


def _english_words(text: str) -> list[str]:
    """ "it's" is "it", "don't" is "dont"; in French and Spanish an apostrophe parts two words."""
    if "'" in text or "\u2019" in text:
        text = _CONTRACTION.sub("", _POSSESSIVE.sub(" ", text))
    return _words(text)


def _chinese_words(text: str) -> list[str]:
    """Runs of Chinese characters as pairs of neighbours ("北京市" is "北京", "京市"); other words stay."""
    pairs: list[str] = []
    for word in _words(text):
        for index, piece in enumerate(_HAN.split(word)):
            if index % 2 == 0:
                pairs += [piece] if piece else []
                continue
            for run in _PARTICLE.split(piece):
                pairs += [run[i : i + 2] for i in range(len(run) - 1)] if len(run) > 1 else [run] if run else []
    return pairs


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """Runs of letters, digits and marks: what Python calls a word character leaves marks out, and Hindi vowels are
    marks."""
    planes = chain(range(0x20000), range(0xE0100, 0xE01F0))
    marks = "".join(re.escape(chr(code)) for code in planes if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(f"[\\w{marks}]+")


_POSSESSIVE: Final = re.compile(r"['\u2019]s\b")
_CONTRACTION: Final = re.compile(r"(?<=\w)['\u2019](?=\w)")
_HAN: Final = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")
_PARTICLE: Final = re.compile(f"[{CHINESE_PARTICLES}]")
_SPLITTERS: Final[Mapping[Language | None, Callable[[str], list[str]]]] = {"en": _english_words, "zh": _chinese_words}


def _sorted_tokens(placed: pa.Array, rows: npt.NDArray[np.int64], count: int) -> Tokens:
    encoded = placed.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    if len(rows) and (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        codes, rows = codes[order], rows[order]
    return Tokens(encoded.dictionary, codes, rows, count)


def _sifted(tokens: Tokens, stop: frozenset[str], max_length: int | None) -> Tokens:
    keep = np.ones(len(tokens.codes), dtype=np.bool_)
    if stop:
        is_stop = pc.is_in(tokens.words, value_set=pa.array(sorted(stop), pa.string()))
        keep = ~is_stop.to_numpy(zero_copy_only=False)[tokens.codes]
    codes, rows = tokens.codes[keep], tokens.rows[keep]
    if max_length is not None and len(rows):
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
        codes, rows = codes[place < max_length], rows[place < max_length]
    # Words that no place has are dropped, so that `words` is what the texts hold.
    used, places = np.unique(codes, return_inverse=True)
    return Tokens(tokens.words.take(pa.array(used)), places.astype(np.int32), rows, tokens.count)
