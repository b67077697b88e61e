"""Features of a spec: which options a type takes, and what becomes of them in training-data-configuration.json."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from ekiden.contracts.base import _UNION_TAGS, faults_of
from ekiden.contracts.feature_config import FeatureConfig, FeatureKind
from ekiden.contracts.spec import SpecError, parse_spec
from ekiden.contracts.spec_features import Feature


def make_spec(**feature: Any) -> Any:
    target = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
    return {
        "version": 1,
        "name": "small",
        "graph": {"source": "s3://bucket/graph/"},
        "targets": [target],
        "features": [{"node": "movie", "property": "plot", **feature}],
    }


def parsed(**feature: Any) -> Any:
    return parse_spec(make_spec(**feature)).features[0]


def faults(**feature: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(make_spec(**feature))
    return {fault.path: fault.message for fault in caught.value.faults}


def feature_models() -> tuple[type[BaseModel], ...]:
    return get_args(get_args(Feature)[0])


def test_every_type_of_the_format_can_be_asked_for() -> None:
    tags = {tag for model in feature_models() for tag in get_args(model.model_fields["type"].annotation)}
    assert tags == set(get_args(FeatureKind)) == _UNION_TAGS


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ({"type": "auto", "separator": ";", "imputer": "mean"}, {"separator": ";", "imputer": "mean"}),
        ({"type": "none"}, {}),
        ({"type": "text_tfidf"}, {"ngram_range": (1, 1), "min_df": 2, "max_features": 5000, "language": "en"}),
        ({"type": "text_tfidf", "ngram_range": [1, 3], "language": "ja"}, {"ngram_range": (1, 3), "language": "ja"}),
        ({"type": "text_word2vec", "language": "en_core_web_lg"}, {"language": "en"}),
        ({"type": "word2vec", "language": ["en_core_web_lg"]}, {"language": "en"}),
        ({"type": "text_fasttext", "language": "hi", "max_length": 20}, {"language": "hi", "max_length": 20}),
        ({"type": "text_fasttext", "language": "ja", "vectors": "v/ja.vec.gz"}, {"vectors": "v/ja.vec.gz"}),
        ({"type": "text_sbert512", "model": "minilm"}, {"model": "minilm"}),
        ({"type": "bucket_numerical", "range": [0, 9], "num_buckets": 3}, {"bucket_cnt": 3}),
        ({"type": "datetime", "imputer": "most-frequent"}, {"imputer": "most-frequent"}),
        ({"type": "category", "node": ["Person", "Admin"]}, {"node": "Admin;Person"}),
    ],
)
def test_each_type_takes_its_options(feature: dict[str, Any], expected: dict[str, Any]) -> None:
    found = parsed(**feature)
    assert {name: getattr(found, name) for name in expected} == expected
    # AND it survives the ledger
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("feature", "path", "message"),
    [
        # what Neptune-Export refuses
        ({"type": "bucket_numerical", "range": [0, 1], "bucket_cnt": 2, "separator": ";"}, "separator", "one value"),
        ({"type": "category", "imputer": "mean"}, "imputer", "remove imputer"),
        ({"type": "text_tfidf", "imputer": "mean"}, "imputer", "remove imputer"),
        ({"type": "text_sbert", "imputer": "mean"}, "imputer", "remove imputer"),
        ({"type": "text_fasttext", "language": "en", "separator": ";"}, "separator", "remove separator"),
        ({"type": "datetime", "separator": ";"}, "separator", "remove separator"),
        ({"type": "none", "imputer": "mean"}, "imputer", "remove imputer"),
        # what a type does not have
        ({"type": "text_sbert", "language": "en"}, "language", "unknown field"),
        ({"type": "text_fasttext"}, "language", "required field is missing"),
        ({"type": "text_fasttext", "language": "de"}, "language", "use one of 'en', 'zh', 'hi', 'es', 'fr' or 'ja'"),
        ({"type": "text_fasttext", "language": "en", "max_length": 0}, "max_length", "greater than or equal to 1"),
        ({"type": "text_tfidf", "ngram_range": [2, 1]}, "ngram_range", "must not be above"),
        ({"type": "text_tfidf", "ngram_range": [0, 1]}, "ngram_range[0]", "greater than or equal to 1"),
        ({"type": "text_tfidf", "min_df": 0.5}, "min_df", "must be a whole number"),
        ({"type": "text_tfidf", "max_feature": 5}, "max_feature", "did you mean max_features?"),
        ({"type": "text_word2vec", "vectors": "../v.vec"}, "vectors", "below graph.source"),
        ({"type": "text_word2vec", "vectors": "/v.vec"}, "vectors", "below graph.source"),
        ({"type": "text_word2vec", "vectors": "v.vec", "dimensions": 8}, "", "remove dimensions"),
        ({"type": "text_sbert", "model": "../etc"}, "model", "does not match"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_at_its_path(feature: dict[str, Any], path: str, message: str) -> None:
    found = faults(**feature)
    where = f"features[0].{path}".rstrip(".")
    assert where in found, found
    assert message in found[where]


def test_options_that_a_type_got_later_stay_out_of_the_ledger_while_unused() -> None:
    # an earlier version, which reads the ledger too, refuses fields that it does not know
    plain = parsed(type="datetime").model_dump(mode="json")
    assert set(plain) == {"node", "edge", "property", "type", "datetime_parts"}
    assert parsed(type="datetime", imputer="mean").model_dump(mode="json")["imputer"] == "mean"
    assert set(parsed(type="category").model_dump()) == {"node", "edge", "property", "type", "separator"}
    buckets = parsed(type="bucket_numerical", range=[0, 1], bucket_cnt=2).model_dump()
    assert set(buckets) == {"node", "edge", "property", "type", "range", "bucket_cnt", "slide_window_size", "imputer"}


class TestFeatureConfig:
    """`feature` in training-data-configuration.json."""

    @pytest.mark.parametrize(
        ("options", "written"),
        [
            ({"feature": ["a", "a", "numerical"], "imputer": "most_frequent"}, {"imputer": "most-frequent"}),
            ({"feature": ["a", "a", "text_word2vec"], "language": "en"}, {"language": ["en_core_web_lg"]}),
            ({"feature": ["a", "a", "text_fasttext"], "language": "en"}, {"language": "en"}),
            ({"feature": ["a", "a", "bucket_numerical"], "range": [0, 1], "num_buckets": 2}, {"bucket_cnt": 2}),
        ],
    )
    def test_it_is_written_as_the_exporter_writes_it(self, options: dict[str, Any], written: dict[str, Any]) -> None:
        config = FeatureConfig.model_validate(options)
        document = json.loads(config.model_dump_json(exclude_none=True))
        assert {name: document[name] for name in written} == written
        assert FeatureConfig.model_validate(document) == config

    def test_a_range_of_words_must_rise(self) -> None:
        with pytest.raises(ValidationError) as caught:
            FeatureConfig.model_validate({"feature": ["a", "a", "text_tfidf"], "ngram_range": [2, 1]})
        assert "least not above most" in str(faults_of(caught.value)[0])
