"""Japanese text in words: MeCab's analysis with UniDic (fugashi, unidic-lite), sifted by part of speech."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from ekiden_engine.errors import BadData

KEPT: Final = frozenset({"名詞", "動詞", "形容詞", "形状詞", "副詞", "接頭辞", "接尾辞", "感動詞"})
"""Parts of speech that carry a text's meaning. Particles (助詞), auxiliaries (助動詞), pronouns, conjunctions,
adnominals and every kind of punctuation are left out."""

_WORD: Final = re.compile(r"\w")
_lock = Lock()


def split_words(texts: Iterable[str]) -> list[list[str]]:
    """The words of each text (already NFKC-normalised and in lower case), inflected ones in dictionary form.

    Raises `BadData` MISSING_PACKAGE without fugashi or unidic-lite.
    """
    tagger = _tagger()
    with _lock:  # a tagger holds one lattice
        return [[word for node in tagger(text) if (word := _word(node)) is not None] for text in texts]


def _word(node: Any) -> str | None:
    feature = node.feature
    if feature.pos1 not in KEPT or feature.pos2 == "助動詞語幹":
        return None
    surface: str = node.surface
    if not _WORD.search(surface):  # symbols that the dictionary calls nouns, emoji among them
        return None
    # The dictionary form in the text's own writing: 撮り gives 撮る, サーバー stays, unknown words stay as they are.
    base: str | None = feature.orthBase
    return base.lower() if base and base != "*" else surface


@lru_cache(maxsize=1)
def _tagger() -> Any:
    try:
        import fugashi
        import unidic_lite
    except ImportError as error:
        raise BadData(
            "MISSING_PACKAGE", f"Japanese text needs the packages fugashi and unidic-lite ({error.name} is missing)"
        ) from error
    # Named outright: fugashi would prefer a full UniDic if one is installed, and split the same text differently.
    folder = unidic_lite.DICDIR
    return fugashi.Tagger(f'-r "{folder}/mecabrc" -d "{folder}"')
