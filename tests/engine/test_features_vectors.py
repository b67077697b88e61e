"""`text_word2vec` and `text_fasttext`: learnt from own text, or from a file."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.features import FittedEncoder, UnusableColumn, fit_encoder
from ekiden_engine.features.subwords import buckets_of
from ekiden_engine.features.word_vectors import WordVectorEncoder
from tests.engine.feature_factories import REVIEWS, column, fit, make_config

VECTORS = "4 3\nsea 1 0 0\nharbour 0.5 0.5 0\nWar 0 0 1\nWAR 9 9 9\n"
MANY = column(*REVIEWS * 6, None)


def from_file(folder: Path, text: str | bytes, kind: str = "text_word2vec", name: str = "words.vec") -> FittedEncoder:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    language = {"language": "en"} if kind == "text_fasttext" else {}
    return fit_encoder(make_config(kind, vectors=name, **language), column(*REVIEWS), folder=folder)


@pytest.mark.parametrize("kind", ["text_word2vec", "word2vec", "text_fasttext"])
def test_texts_about_one_thing_are_nearer_than_texts_about_two(kind: str) -> None:
    encoder = fit(kind, MANY, dimensions=16, language="en")
    sea, harbour, war = encoder.transform(column("quiet sea", "the quiet harbour", "loud soldiers"))
    assert sea.shape == (16,)
    assert sea @ harbour > sea @ war


def test_a_text_is_the_mean_of_its_known_words_and_nothing_is_zeros() -> None:
    encoder = fit("text_word2vec", MANY, dimensions=8)
    sea, war, both, strange = encoder.transform(column("sea", "war", "the war, the SEA and zebras", "zebras"))
    np.testing.assert_allclose(both, (sea + war) / 2, rtol=1e-5)
    assert not strange.any()
    assert not encoder.transform(column(None)).any()


def test_an_unseen_word_has_a_vector_from_its_parts_with_fasttext_only() -> None:
    encoder = fit("text_fasttext", MANY, dimensions=16, language="en")
    unseen, seen, other = encoder.transform(column("harbours", "harbour", "soldiers"))
    assert unseen.any()
    assert unseen @ seen > unseen @ other
    assert not encoder.transform(column("zzzzzz")).any()


def test_words_are_cut_and_numbered_as_gensim_does() -> None:
    inner = pytest.importorskip("gensim.models.fasttext_inner", reason="gensim is not installed")
    for word in ("harbour", "a", "naïve", "東京タワー", "हिन्दी", "😀x", ""):
        for least, most in ((3, 6), (1, 4), (2, 2)):
            parts = inner.compute_ngrams_bytes(word, least, most)
            expected = [inner.ft_hash_bytes(part) % 1000 for part in parts]
            assert buckets_of(word, least, most, 1000) == expected, word


def test_an_unseen_word_has_gensims_vector_where_training_reached_all_its_parts() -> None:
    # GIVEN "sea" and "seas": each part of "seaseas" was trained as a part of one of the others or shares its bucket
    encoder = fit("text_fasttext", MANY, dimensions=8, language="en")
    assert isinstance(encoder, WordVectorEncoder)
    arrays = encoder.store.arrays
    parts = buckets_of("harbou", 3, 6, encoder.bucket_count)
    reached = [bucket for bucket in parts if bucket in set(arrays["buckets"].tolist())]
    places = np.searchsorted(arrays["buckets"], reached)
    expected = arrays["bucket_vectors"][places].mean(axis=0)
    np.testing.assert_allclose(encoder.transform(column("harbou"))[0], expected, rtol=1e-5)


def test_max_length_encodes_the_first_words() -> None:
    encoder = fit("text_fasttext", MANY, dimensions=8, language="en", max_length=1)
    first, long = encoder.transform(column("sea", "the sea, the war and the soldiers"))
    np.testing.assert_array_equal(first, long)


PROGRAM = """
import hashlib
from tests.engine.feature_factories import REVIEWS, column, fit
for kind in ("text_word2vec", "text_fasttext"):
    values = column(*REVIEWS * 3)
    print(hashlib.sha256(fit(kind, values, language="en", dimensions=8).transform(values).tobytes()).hexdigest())
"""


def test_the_same_text_gives_the_same_vectors_in_any_process() -> None:
    outputs = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed}
        root = Path(__file__).resolve().parents[2]
        outputs.append(
            subprocess.run(
                [sys.executable, "-c", PROGRAM], env=environment, cwd=root, check=True, capture_output=True, text=True
            ).stdout
        )
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 2


@pytest.mark.parametrize("kind", ["text_word2vec", "text_fasttext"])
def test_vectors_come_from_a_file(tmp_path: Path, kind: str) -> None:
    encoder = from_file(tmp_path, VECTORS, kind)
    encoded = encoder.transform(column("The SEA, the harbour", "war", "unseen", None))
    # THEN words are compared in lower case, and of "War" and "WAR" the first counts
    np.testing.assert_allclose(encoded, [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert encoder.names == ("x[0]", "x[1]", "x[2]")


def test_a_packed_file_is_read_as_it_is(tmp_path: Path) -> None:
    packed = from_file(tmp_path, gzip.compress(VECTORS.encode()), name="words.vec.gz")
    plain = from_file(tmp_path, VECTORS)
    np.testing.assert_array_equal(packed.transform(column("sea")), plain.transform(column("sea")))


def test_of_a_large_file_the_frequent_words_and_those_of_the_graph_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ekiden_engine.features.vectors_file.MOST_FREQUENT", 2)
    encoder = from_file(tmp_path, "5 1\nalpha 1\nbeta 2\ngamma 3\nsea 4\nzeta 5\n")
    assert isinstance(encoder, WordVectorEncoder)
    assert encoder.store.words.to_pylist() == ["alpha", "beta", "sea"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sea 1 2\n", "words.vec:1: must be the number of words and of dimensions"),
        ("2 3\nsea 1 2 3\nwar 1 2\n", 'words.vec:3: "war" has 2 numbers; line 1 says 3'),
        ("1 2\nsea one two\n", 'words.vec:2: the vector of "sea" holds no number'),
        ("1 2\nsea nan 1\n", "words.vec:2"),
        ("0 2\n", "holds no vector"),
        ("", "words.vec:1"),
    ],
)
def test_a_file_in_another_format_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadData) as caught:
        from_file(tmp_path, text)
    assert caught.value.code == "BAD_VECTORS"
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["absent.vec", "../words.vec", "/etc/passwd"])
def test_a_file_that_is_not_in_the_export_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData) as caught:
        fit_encoder(make_config("text_word2vec", vectors=name), column("sea"), folder=tmp_path)
    assert caught.value.code == "NO_VECTORS_FILE"


def test_text_without_a_word_is_refused() -> None:
    with pytest.raises(UnusableColumn, match="no word to learn from"):
        fit("text_word2vec", column("of the", None))


def test_words_that_occur_once_are_learnt_where_there_are_no_others() -> None:
    assert fit("text_word2vec", column("sea war", "sun moon"), dimensions=4).transform(column("sea")).any()
