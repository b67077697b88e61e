"""`features.json` with the files beside it, and nodes that a request describes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.errors import BadData
from ekiden_engine.features import EdgeEncoders, FeatureBook, FittedEncoder, encode_many, encode_rows, fit_encoder
from ekiden_engine.numbers import BadValue
from tests.engine.feature_factories import REVIEWS, column, fit

EDGE = ("user", "rated", "movie")
TEXTS = column(*REVIEWS)
LONG = column(*[f"w{i} w{i + 1} w{i + 2}" for i in range(130)])


def named(name: str, kind: str, values: pa.ChunkedArray, **options: Any) -> FittedEncoder:
    return fit_encoder(FeatureConfig.model_validate({"feature": (name, name, kind), **options}), values)


def make_book() -> FeatureBook:
    return FeatureBook(
        nodes={
            "movie": (
                named("title", "text_tfidf", TEXTS),
                named("year", "numerical", column("1990", "2000", None), norm="min-max", imputer="mean"),
                named("plot", "text_fasttext", TEXTS, language="en", dimensions=8),
                named("genres", "category", column("Drama;War", "War"), separator=";"),
            ),
            "user": (
                named("age", "numerical", column("20", "30"), norm="none"),
                named("bio", "text_tfidf", LONG, min_df=1),
                named("since", "datetime", column("2025-01-01", "2026-01-01"), datetime_parts=["year"]),
            ),
        },
        edges=(EdgeEncoders(edge=EDGE, encoders=(named("review", "text_word2vec", TEXTS, dimensions=4),)),),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "features.json"
    make_book().save(path)
    return path


def test_a_book_that_was_saved_encodes_the_same(saved: Path) -> None:
    book, loaded = make_book(), FeatureBook.load(saved)
    texts = column("the sea and seaside", "w3 w4", None, "2026-05-05")
    for kind in ("movie", "user", EDGE):
        for before, after in zip(book.encoders(kind), loaded.encoders(kind), strict=True):
            assert before.names == after.names
            if before.kind in ("text_tfidf", "text_word2vec", "text_fasttext"):
                np.testing.assert_array_equal(before.transform(texts), after.transform(texts))


def test_text_encoders_have_files_of_words_and_arrays_without_code(saved: Path) -> None:
    book = FeatureBook.load(saved)
    assert book.files() == tuple(f"features/{n}.{end}" for n in range(4) for end in ("parquet", "safetensors"))
    files = {path.relative_to(saved.parent).as_posix() for path in saved.parent.rglob("*") if path.is_file()}
    assert files == {"features.json", *book.files()}
    # AND features.json refers to them and holds no array
    document = json.loads(saved.read_text())
    assert document["nodes"]["movie"][0] == {
        "column": "title",
        "file": "features/0",
        "kind": "text_tfidf",
        "language": "en",
        "ngrams": [1, 1],
        "columns": document["nodes"]["movie"][0]["columns"],
    }
    assert document["nodes"]["user"][1]["columns"] == []


def test_a_loaded_book_can_be_saved_elsewhere(saved: Path, tmp_path: Path) -> None:
    FeatureBook.load(saved).save(tmp_path / "features.json")
    for path in saved.parent.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(saved.parent)).read_bytes() == path.read_bytes()


def _arrays(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        arrays = load_file(folder / "features/2.safetensors")
        change(arrays)
        save_file(arrays, folder / "features/2.safetensors")

    return tamper


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder: (folder / "features/0.parquet").unlink(),
        lambda folder: (folder / "features/0.safetensors").write_bytes(b"\x80\x04garbage"),
        lambda folder: (folder / "features.json").write_text("{}"),
        lambda folder: pq.write_table(pa.table({"word": ["a", "a"]}), folder / "features/2.parquet"),
        lambda folder: (folder / "features.json").write_text(
            (folder / "features.json").read_text().replace("features/0", "../features/0")
        ),
        lambda folder: (folder / "features.json").write_text(
            (folder / "features.json").read_text().replace('"features/0"', '""')
        ),
        # features/2 is the projected one: 130 and more terms
        _arrays(lambda arrays: arrays.pop("idf")),
        _arrays(lambda arrays: arrays.update(idf=arrays["idf"].astype(np.float64))),
        _arrays(lambda arrays: arrays.update(idf=np.full_like(arrays["idf"], np.nan))),
        _arrays(lambda arrays: arrays.update(indices=arrays["indices"] + np.int32(99))),
        _arrays(lambda arrays: arrays.update(indptr=arrays["indptr"][::-1].copy())),
        _arrays(lambda arrays: arrays.update(signs=arrays["signs"] * np.int8(3))),
    ],
)
def test_a_tampered_book_is_refused(saved: Path, tmp_path: Path, tamper: Callable[[Path], object]) -> None:
    FeatureBook.load(saved).save(tmp_path / "features.json")
    tamper(tmp_path)
    with pytest.raises(BadData) as caught:
        FeatureBook.load(tmp_path / "features.json")
    assert caught.value.code == "CORRUPT_ARTIFACT"


def test_an_encoder_without_its_files_says_so() -> None:
    encoder = fit("text_tfidf", TEXTS)
    with pytest.raises(RuntimeError, match=r"use FeatureBook\.load"):
        type(encoder).model_validate_json(encoder.model_dump_json()).transform(TEXTS)


def test_encoding_needs_no_library_of_training() -> None:
    """Serving reads encoders of text: it must not load what only fitting needs, nor wait for it."""
    program = """
import sys
from ekiden_engine.features import FeatureBook, encode_rows
heavy = {"torch", "gensim", "fugashi", "sentence_transformers", "transformers", "sklearn", "pandas"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


class TestNewNodes:
    """`encode_rows` and `encode_many`."""

    def test_a_new_node_is_encoded_like_one_of_training(self, saved: Path) -> None:
        book = FeatureBook.load(saved)
        given: dict[str, Any] = {"title": "quiet sea", "year": 1995, "plot": "sea", "genres": ["War", "Drama"]}
        row = encode_rows(book, "movie", given)
        texts = {"title": "quiet sea", "year": "1995", "plot": "sea", "genres": "War;Drama"}
        expected = [e.transform(column(texts[e.column]))[0] for e in book.encoders("movie")]
        np.testing.assert_array_equal(row, np.concatenate(expected))
        assert row.dtype == np.float32
        assert len(row) == sum(e.width for e in book.encoders("movie"))

    def test_what_is_missing_is_imputed_or_zero(self) -> None:
        book = make_book()
        title, year, plot, genres = (e.width for e in book.encoders("movie"))
        row = encode_rows(book, "movie", {"title": None, "plot": ""})
        assert row[title] == 0.5  # the mean of 1990 and 2000
        assert np.count_nonzero(row) == year
        assert len(row) == title + year + plot + genres

    @pytest.mark.parametrize(
        ("properties", "code", "message"),
        [
            ({}, "MISSING_VALUE", 'property "age": missing; fill it or name an imputer'),
            ({"age": None}, "MISSING_VALUE", 'property "age": missing'),
            ({"age": "old"}, "NOT_A_NUMBER", 'property "age": not a number'),
            ({"age": [1, 2]}, "UNEVEN_VALUES", 'property "age": a list, and this feature takes one value'),
            ({"age": 5, "since": "yesterday"}, "NOT_A_DATE", 'property "since": no ISO 8601 date'),
        ],
    )
    def test_what_cannot_be_encoded_names_the_property(
        self, properties: dict[str, Any], code: str, message: str
    ) -> None:
        with pytest.raises(BadValue) as caught:
            encode_many(make_book(), "user", [{"age": 1}, properties])
        assert (caught.value.row, caught.value.code) == (1, code)
        assert message in str(caught.value)

    def test_lists_of_one_and_numbers_of_any_kind_are_taken(self) -> None:
        book = FeatureBook(
            nodes={
                "n": (
                    named("a", "numerical", column("1", "2"), norm="none"),
                    named("b", "category", column("true", "false", "true")),
                    named("c", "category", column("x;y", "z\\;w"), separator=";"),
                )
            }
        )
        assert encode_rows(book, "n", {"a": [7], "b": True, "c": ["z;w", None]}).tolist() == [7, 1, 0, 0, 0, 1]
        assert encode_rows(book, "n", {"a": 2.5, "b": False, "c": []}).tolist() == [2.5, 0, 1, 0, 0, 0]

    def test_a_type_without_features_has_no_columns(self) -> None:
        assert encode_rows(make_book(), "studio", {"name": "x"}).shape == (0,)
        assert encode_many(make_book(), ("a", "b", "c"), [{}, {}]).shape == (2, 0)
        assert encode_rows(make_book(), EDGE, {"review": "sea"}).shape == (4,)
