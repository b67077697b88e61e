"""Text in words, and `text_tfidf`."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden_engine.features import UnusableColumn
from ekiden_engine.features.stop_words import STOP_WORDS
from ekiden_engine.features.tfidf import TfidfEncoder
from ekiden_engine.features.tokens import tokenize
from tests.engine.feature_factories import REVIEWS, column, fit


def words(text: str, language: Any) -> list[str]:
    tokens = tokenize(column(text), language)
    return [tokens.words[code].as_py() for code in tokens.codes.tolist()]


class TestWords:
    """`tokenize`."""

    @pytest.mark.parametrize(
        ("language", "text", "expected"),
        [
            ("en", "Don't STOP: it's the café\u2019s naïve_plan, 2nd!", ["stop", "café", "naïve", "plan", "2nd"]),
            ("fr", "L'été n'est pas fini à l'école", ["été", "fini", "école"]),
            ("es", "¿Dónde está la biblioteca del niño?", ["biblioteca", "niño"]),
            ("hi", "यह हिन्दी में एक पाठ है।", ["हिन्दी", "पाठ"]),
            ("zh", "我爱北京的天安门\uff0c2024 test", ["我爱", "爱北", "北京", "天安", "安门", "2024", "test"]),
            (None, "The \uff26\uff35\uff2c\uff2c width", ["the", "full", "width"]),
            # particles, auxiliaries, pronouns and punctuation go; inflected words come back in dictionary form
            (
                "ja",
                "彼女は東京タワーへ行って、きれいな写真を撮りました。",
                ["東京", "タワー", "きれい", "写真", "撮る"],
            ),
            (
                "ja",
                "ﾃﾞｰﾀのサーバーを美しく走らせることができない\uff01😀",
                ["データ", "サーバー", "美しい", "走る"],
            ),
        ],
    )
    def test_each_language_has_its_words(self, language: str | None, text: str, expected: list[str]) -> None:
        assert words(text, language) == expected

    def test_stop_words_are_as_tokenize_gives_words(self) -> None:
        # GIVEN every stop word; a list entry that tokenize would split or change could never match
        for language, stop in STOP_WORDS.items():
            if language == "ja":
                continue  # dictionary forms: what the analyser makes of a word depends on its neighbours
            for word in stop:
                assert words(word, None) == [word], (language, word)

    def test_rows_are_kept_and_a_missing_text_has_no_words(self) -> None:
        tokens = tokenize(column("sea war", None, "", "of the", "war"), "en")
        assert (tokens.rows.tolist(), tokens.count) == ([0, 0, 4], 5)
        assert tokens.counts().toarray().tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [0, 1]]
        assert tokens.lists() == [["sea", "war"], ["war"]]

    def test_max_length_keeps_the_first_words(self) -> None:
        tokens = tokenize(column("the sea and the war and the sun", "sun", None), "en", 2)
        assert tokens.lists() == [["sea", "war"], ["sun"]]

    def test_runs_of_words_stay_within_a_row(self) -> None:
        runs = tokenize(column("a b c", "d", "a b"), None).ngrams(1, 3)
        placed = sorted((row, runs.words[code].as_py()) for row, code in zip(runs.rows, runs.codes, strict=True))
        assert [text for row, text in placed if row == 0] == ["a", "a b", "a b c", "b", "b c", "c"]
        assert [text for row, text in placed if row > 0] == ["d", "a", "a b", "b"]
        assert (np.diff(runs.rows) >= 0).all()

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=8),
        st.sampled_from(["en", "zh", "hi", "es", "fr", "ja", None]),
        st.integers(1, 9),
    )
    def test_any_text_has_words_of_its_own_row_only(self, texts: list[str | None], language: Any, block: int) -> None:
        """Property: whatever the text, and however many rows are taken at a time, a column's words are those of its
        rows taken one by one."""
        texts = [None if t is None else t.encode("utf-8", "ignore").decode() for t in texts]
        with mock.patch("ekiden_engine.features.tokens.BLOCK", block):
            whole = tokenize(pa.array(texts, pa.string()), language)
        placed = [(int(r), whole.words[int(c)].as_py()) for r, c in zip(whole.rows, whole.codes, strict=True)]
        alone = [(r, w) for r, text in enumerate(texts) if text is not None for w in words(text, language)]
        assert placed == alone


class TestTfidf:
    """`text_tfidf`."""

    def test_weights_follow_the_formula(self) -> None:
        # GIVEN three texts: "war" is in all of them, "sea" in two, twice in one; "sun" in one
        values = column("sea sea war", "war sea", "war sun", None)
        encoder = fit("text_tfidf", values)
        # THEN a term needs two texts, and a missing text is zeros
        assert encoder.names == ("x~sea", "x~war")
        sea, war = math.log(4 / 3) + 1, 1.0
        expected = [
            [2 * sea / math.hypot(2 * sea, war), war / math.hypot(2 * sea, war)],
            [sea / math.hypot(sea, war), war / math.hypot(sea, war)],
            [0.0, 1.0],
            [0.0, 0.0],
        ]
        np.testing.assert_allclose(encoder.transform(values), expected, rtol=1e-6)

    def test_the_weights_are_those_of_scikit_learn(self) -> None:
        text = pytest.importorskip("sklearn.feature_extraction.text", reason="scikit-learn is not installed")
        peer = text.TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=12, stop_words=list(STOP_WORDS["en"]))
        expected = peer.fit_transform(REVIEWS).toarray()
        encoder = fit("text_tfidf", column(*REVIEWS), ngram_range=[1, 2], min_df=2, max_features=12)
        assert encoder.names == tuple(f"x~{term}" for term in peer.get_feature_names_out())
        np.testing.assert_allclose(encoder.transform(column(*REVIEWS)), expected, rtol=1e-5)

    def test_the_most_frequent_terms_are_kept(self) -> None:
        values = column("sea war", "sea war sun", "sea sun sea", "sun")
        assert fit("text_tfidf", values, max_features=2).names == ("x~sea", "x~sun")
        assert fit("text_tfidf", values, min_df=1, max_features=9).names == ("x~sea", "x~sun", "x~war")
        assert fit("text_tfidf", values, ngram_range=[2, 2], min_df=1).names == (
            "x~sea sun", "x~sea war", "x~sun sea", "x~war sun",
        )  # fmt: skip

    def test_more_than_a_hundred_terms_are_projected_and_lengths_survive(self) -> None:
        # GIVEN 400 texts of 12 words each out of 900
        rng = np.random.default_rng(3)
        texts = [" ".join(f"w{i}" for i in rng.choice(900, 12, replace=False)) for _ in range(400)]
        encoder = fit("text_tfidf", column(*texts))
        encoded = encoder.transform(column(*texts))
        # THEN there are 100 columns, and by Johnson and Lindenstrauss inner products are about those of the weights
        assert encoded.shape == (400, 100)
        assert encoder.names[:2] == ("x[0]", "x[1]")
        squares = np.square(encoded).sum(axis=1)
        assert squares.mean() == pytest.approx(1.0, abs=0.1)
        distinct = encoded[:100] @ encoded[100:200].T
        assert abs(distinct.mean()) < 0.05

    def test_the_same_text_gives_the_same_encoder(self) -> None:
        values = column(*[f"w{i} w{i + 1} w{i + 2}" for i in range(300)])
        first, second = (fit("text_tfidf", values) for _ in range(2))
        np.testing.assert_array_equal(first.transform(values), second.transform(values))
        # AND a row alone is encoded as among others
        np.testing.assert_array_equal(first.transform(values[7:8]), first.transform(values)[7:8])

    def test_words_that_training_did_not_have_count_for_nothing(self) -> None:
        encoder = fit("text_tfidf", column("sea war", "sea war"))
        assert encoder.transform(column("moon", "sea moon")).tolist() == [[0, 0], [1, 0]]

    def test_japanese_is_weighed_by_words(self) -> None:
        values = column("東京の海へ行った", "海へ行きました", "東京で戦った", "戦いの海")
        assert fit("text_tfidf", values, language="ja").names == ("x~東京", "x~海")

    def test_too_rare_words_are_refused_with_the_remedy(self) -> None:
        with pytest.raises(UnusableColumn, match="give a lower min_df") as caught:
            fit("text_tfidf", column("sea", "war", None))
        assert caught.value.code == "NO_TERMS"
        assert isinstance(fit("text_tfidf", column("sea", "war"), min_df=1), TfidfEncoder)
