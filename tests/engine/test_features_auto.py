"""`auto`: which type the values of a column ask for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ekiden_engine.features import automatic, sbert
from tests.engine.feature_factories import column, fit, make_config

ENGLISH = [f"the story of a man who went to the town number {i}" for i in range(60)]
SPANISH = [f"la historia de un hombre que fue a la ciudad número {i}" for i in range(60)]
FRENCH = [f"l'histoire d'un homme qui est allé dans la ville numéro {i}" for i in range(60)]
HINDI = [f"यह एक आदमी की कहानी है जो शहर गया {i}" for i in range(60)]
CHINESE = [f"这是一个男人去城市的故事{i}" for i in range(60)]
JAPANESE = [f"これは{i}番目の街へ行った男の物語です" for i in range(60)]
GERMAN = [f"dieser Mann ging früh morgens zur alten Stadt Nummer {i}" for i in range(60)]


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        # fewer than 10 % distinct numbers, and fewer than 100
        ([str(i % 9) for i in range(100)], {}, "category"),
        ([str(i % 11) for i in range(100)], {}, "numerical"),
        ([str(i % 100) for i in range(2000)], {}, "numerical"),
        ([str(i % 99) for i in range(2000)], {}, "category"),
        (["1;2", "3;4.5"], {"separator": ";"}, "numerical"),
        (["1;2", "3", "5;6;7"], {"separator": ";"}, "category"),
        # more than 10 % distinct texts, of three words or more on average
        (ENGLISH, {}, "text_fasttext"),
        (["red car", "blue car", "green tree"] * 2, {}, "category"),
        (["the same long sentence again"] * 50, {}, "category"),
        (["Drama;War", "War", "Comedy;Drama"] * 20, {"separator": ";"}, "category"),
        (["true", "false"] * 20, {}, "category"),
    ],
)
def test_the_values_decide_by_the_rules_of_the_user_guide(values: list[str], options: Any, kind: str) -> None:
    encoder = fit("auto", column(*values, None), **options)
    assert encoder.kind == kind


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (ENGLISH, "en"),
        (SPANISH, "es"),
        (FRENCH, "fr"),
        (HINDI, "hi"),
        (CHINESE, "zh"),
        (JAPANESE, "ja"),
        (GERMAN, None),
        (["история человека, который ушёл в город"], None),
        (["12 34"], None),
    ],
)
def test_the_language_is_told_by_script_and_stop_words(texts: list[str], language: str | None) -> None:
    assert automatic.detect(pa.array(texts)) == language


def test_japanese_and_chinese_are_counted_in_words_though_they_have_no_spaces() -> None:
    assert automatic.resolve(make_config("auto"), column(*JAPANESE)).language == "ja"
    assert automatic.resolve(make_config("auto"), column(*CHINESE)).language == "zh"


def test_text_of_another_language_goes_to_sbert_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbert, "is_available", lambda: True)
    assert automatic.resolve(make_config("auto"), column(*GERMAN)).kind == "text_sbert"
    # AND without one it is still text: fastText's vectors are learnt from it
    monkeypatch.setattr(sbert, "is_available", lambda: False)
    assert automatic.resolve(make_config("auto"), column(*GERMAN)).kind == "text_fasttext"


def test_what_has_nothing_to_learn_from_does_not_stop_a_property_that_nobody_named() -> None:
    assert fit("auto", column(None, None)).width == 0
    # texts of three words and more, all of them stop words
    stops = column("to be or not to be", "it is as it was", "we are who we are")
    assert fit("auto", stops).kind == "category"


def test_numbers_get_the_exporters_norm_and_imputer() -> None:
    resolved = automatic.resolve(make_config("auto"), column("1", "2", None))
    assert (resolved.norm, resolved.imputer) == ("min-max", "median")
    assert automatic.resolve(make_config("auto", imputer="mean"), column("1", "2")).imputer == "mean"
