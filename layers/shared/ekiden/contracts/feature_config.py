"""One feature of ``training-data-configuration.json``: a column, the type of its encoding, and the options of that.

The reader is tolerant where Neptune's user guide and Neptune-Export disagree; the writer has the exporter's form.
Options that Neptune ML does not have: ``vectors``, ``model`` and ``dimensions``; ``language`` of ``text_tfidf``.

Sources: "Feature encoding in Neptune ML" in the Amazon Neptune user guide, and
``PropertyGraphTrainingDataConfigWriterV2`` in github.com/aws/neptune-export.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, SerializationInfo, field_serializer, model_validator

from ekiden.contracts.base import Tolerant

Separator = Annotated[str, Field(min_length=1, max_length=1)]

FeatureKind = Literal[
    "auto",
    "bucket_numerical",
    "category",
    "datetime",
    "none",
    "numerical",
    "text_fasttext",
    "text_sbert",
    "text_sbert128",
    "text_sbert512",
    "text_tfidf",
    "text_word2vec",
    "word2vec",
]
"""Every feature type of the v2.0 format; ``word2vec`` is ``text_word2vec``, ``text_sbert`` is ``text_sbert128``."""

Language = Literal["en", "zh", "hi", "es", "fr", "ja"]
"""Languages of text: Neptune ML's five, and Japanese, which is ours."""

SPACY_ENGLISH = "en_core_web_lg"
"""How Neptune ML writes English for word2vec: the name of a spaCy model."""


def _as_underscored(value: object) -> object:
    return value.replace("-", "_") if isinstance(value, str) else value


Imputer = Annotated[Literal["mean", "median", "most_frequent"], BeforeValidator(_as_underscored)]
"""The exporter writes ``most-frequent``, the guide also ``most_frequent``."""


def language_code(value: object) -> object:
    """``en_core_web_lg``, and the list of one that the exporter writes, as the language that is meant: ``en``."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return "en" if value == SPACY_ENGLISH else value


DatetimePart = Literal["year", "month", "weekday", "hour"]
DATETIME_PARTS: tuple[DatetimePart, ...] = ("year", "month", "weekday", "hour")


class FeatureConfig(Tolerant):
    """One feature: ``[column, name, type]`` and the options of its type."""

    feature: tuple[str, str, FeatureKind]
    norm: Literal["none", "min-max", "standard"] | None = None
    imputer: Imputer | None = None
    separator: Separator | None = None
    range: tuple[float, float] | None = None
    bucket_cnt: Annotated[int, Field(ge=1)] | None = Field(
        default=None, validation_alias=AliasChoices("bucket_cnt", "num_buckets")
    )
    slide_window_size: Annotated[float, Field(ge=0)] | None = None
    datetime_parts: tuple[DatetimePart, ...] | None = None
    language: Annotated[Language | None, BeforeValidator(language_code)] = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    ngram_range: tuple[Annotated[int, Field(ge=1)], int] | None = None
    min_df: Annotated[int, Field(ge=1)] | None = None
    max_features: Annotated[int, Field(ge=1)] | None = None
    dimensions: Annotated[int, Field(ge=2)] | None = None
    vectors: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _has_the_options_of_its_type(self) -> Self:
        if self.kind == "bucket_numerical":
            if self.range is None or self.bucket_cnt is None:
                raise ValueError("bucket_numerical needs range and bucket_cnt")
            if not self.range[0] < self.range[1]:
                raise ValueError("range must be [low, high] with low below high")
        if self.ngram_range is not None and self.ngram_range[0] > self.ngram_range[1]:
            raise ValueError("ngram_range must be [least, most] words with least not above most")
        return self

    @field_serializer("imputer", when_used="json-unless-none")
    def _imputer_as_the_exporter_writes_it(self, imputer: str) -> str:
        return imputer.replace("_", "-")

    @field_serializer("language", when_used="json-unless-none")
    def _language_as_the_exporter_writes_it(self, language: str, _: SerializationInfo) -> Any:
        return [SPACY_ENGLISH] if language == "en" and "word2vec" in self.kind else language

    @property
    def column(self) -> str:
        """Name of the CSV column."""
        return self.feature[0]

    @property
    def name(self) -> str:
        """Name of the feature."""
        return self.feature[1]

    @property
    def kind(self) -> FeatureKind:
        """Type of the feature."""
        return self.feature[2]
