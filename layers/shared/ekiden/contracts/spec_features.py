"""The features of a pipeline spec: how properties become numbers, in Neptune ML's own words.

An option that Neptune-Export refuses for a type is refused here with the reason. Options that Neptune ML does not have
(``vectors``, ``model``, ``dimensions``, ``language`` of ``text_tfidf``, Japanese) are marked in docs/features.md.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from ekiden.contracts.base import Label, Strict, shorten
from ekiden.contracts.feature_config import Language, language_code
from ekiden.contracts.spec_targets import EdgeType, NodeType

ON_EDGES: Final = ("numerical", "category", "bucket_numerical", "datetime", "none")
"""Types that features of edges may have: text would take gigabytes on many edges."""
Separator = Annotated[str, Field(min_length=1, max_length=1)]
Imputer = Literal["mean", "median", "most_frequent", "most-frequent"]


_Written = Language | Literal["en_core_web_lg"]
_LanguageAsWritten = _Written | Annotated[list[_Written], Field(min_length=1, max_length=1)]
"""Neptune's guide names English by a spaCy model, and its exporter writes that as a list."""


def _never(reason: str) -> BeforeValidator:
    """For an option that people know from other types: a reason says more than "unknown field"."""

    def refuse(_: object) -> object:
        raise ValueError(reason)

    return BeforeValidator(refuse)


NoImputer = Annotated[SkipJsonSchema[None], _never("a missing text or category is no column set; remove imputer")]
NoSeparator = Annotated[SkipJsonSchema[None], _never("this type takes one value per cell; remove separator")]


class _Feature(Strict):
    node: Annotated[NodeType | None, Field(description="the label of the nodes that have the property; or edge")] = None
    edge: Annotated[
        EdgeType | None, Field(description="the edge type; rgcn uses it for node targets, custom models as they like")
    ] = None
    property: Label

    YOUNGER: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _belongs_to_one_thing(self) -> Self:
        if (self.node is None) == (self.edge is None):
            raise ValueError("give node, the label of the nodes that have the property, or edge, the edge type")
        return self

    @model_serializer(mode="wrap")
    def _as_old_as_can_be(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Options younger than their type stay out of the ledger while they say nothing: it refuses them."""
        fields: dict[str, Any] = dump(self)
        return {name: value for name, value in fields.items() if name not in self.YOUNGER or value is not None}


class AutoFeature(_Feature):
    """A type chosen by the values: numbers, a category or text, by Neptune ML's rules."""

    type: Literal["auto"]
    imputer: Imputer | None = None
    separator: Separator | None = None


class NumericalFeature(_Feature):
    """A number. ``norm: standard`` divides by the sum of the values, as Neptune ML does; it is not a z-score."""

    type: Literal["numerical"]
    norm: Literal["none", "min-max", "standard"] = "min-max"
    imputer: Imputer | None = None
    separator: Separator | None = None


class CategoryFeature(_Feature):
    """One of at most 100 values (the 99 most frequent and OTHER), or several with ``separator``."""

    type: Literal["category"]
    separator: Separator | None = None
    imputer: Annotated[NoImputer, Field(exclude=True)] = None


class BucketNumericalFeature(_Feature):
    """A number as the buckets it falls into; ``slide_window_size`` lets it fall into neighbouring ones too."""

    type: Literal["bucket_numerical"]
    range: tuple[float, float]
    bucket_cnt: Annotated[int, Field(ge=2, le=1000, validation_alias=AliasChoices("bucket_cnt", "num_buckets"))]
    slide_window_size: Annotated[float, Field(ge=0)] = 0.0
    imputer: Imputer | None = None
    separator: Annotated[NoSeparator, Field(exclude=True)] = None

    @field_validator("range")
    @classmethod
    def _rises(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not bounds[0] < bounds[1]:
            raise ValueError("the first bound must be below the second")
        return bounds


class DatetimeFeature(_Feature):
    """A date as one-hot parts."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"imputer"})

    type: Literal["datetime"]
    datetime_parts: Annotated[list[Literal["year", "month", "weekday", "hour"]], Field(min_length=1)] = [
        "year",
        "month",
        "weekday",
        "hour",
    ]
    imputer: Imputer | None = None
    separator: Annotated[NoSeparator, Field(exclude=True)] = None


class NoneFeature(_Feature):
    """Not encoded: numbers are kept as they are, text stays out of the features. For models of your own."""

    type: Literal["none"]
    imputer: Annotated[
        SkipJsonSchema[None], _never("type none keeps raw values; remove imputer"), Field(exclude=True)
    ] = None


class _TextFeature(_Feature):
    imputer: Annotated[NoImputer, Field(exclude=True)] = None
    separator: Annotated[NoSeparator, Field(exclude=True)] = None


class TfidfFeature(_TextFeature):
    """Text as weights of its words, projected to at most 100 columns."""

    type: Literal["text_tfidf"]
    ngram_range: tuple[Annotated[int, Field(ge=1, le=5)], Annotated[int, Field(ge=1, le=5)]] = (1, 1)
    min_df: Annotated[int, Field(ge=1)] = 2
    max_features: Annotated[int, Field(ge=1, le=100_000)] = 5000
    language: Language = "en"

    @field_validator("ngram_range")
    @classmethod
    def _rises(cls, lengths: tuple[int, int]) -> tuple[int, int]:
        if lengths[0] > lengths[1]:
            raise ValueError("the first number of words must not be above the second")
        return lengths


class _VectorsFeature(_TextFeature):
    dimensions: Annotated[
        int | None, Field(ge=2, le=512, description="width of vectors learnt from the graph's own text; 100")
    ] = None
    vectors: Annotated[
        Label | None, Field(description="a file of word vectors below graph.source, in word2vec's text format")
    ] = None

    @field_validator("vectors")
    @classmethod
    def _stays_below_the_source(cls, name: str | None) -> str | None:
        if name is not None and (name.startswith("/") or ".." in name.split("/")):
            raise ValueError(f"{shorten(name)} must be a path below graph.source")
        return name

    @model_validator(mode="after")
    def _has_one_width(self) -> Self:
        if self.vectors is not None and self.dimensions is not None:
            raise ValueError("the vectors file says how wide its vectors are; remove dimensions")
        return self


class Word2vecFeature(_VectorsFeature):
    """Text as the mean of word2vec vectors of its words."""

    type: Literal["text_word2vec", "word2vec"]
    language: Annotated[Language, BeforeValidator(language_code, json_schema_input_type=_LanguageAsWritten)] = "en"


class FasttextFeature(_VectorsFeature):
    """Text as the mean of fastText vectors of its words; unseen words get one from their parts."""

    type: Literal["text_fasttext"]
    language: Language
    max_length: Annotated[int, Field(ge=1, le=100_000)] | None = None


class SbertFeature(_TextFeature):
    """Text as the sentence embedding of a transformer; 128 tokens at most, or 512."""

    type: Literal["text_sbert", "text_sbert128", "text_sbert512"]
    model: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="name of a model folder in the engine's image"),
    ] = None


Feature = Annotated[
    AutoFeature
    | NumericalFeature
    | CategoryFeature
    | BucketNumericalFeature
    | DatetimeFeature
    | NoneFeature
    | TfidfFeature
    | Word2vecFeature
    | FasttextFeature
    | SbertFeature,
    Field(discriminator="type"),
]
"""One feature, by its ``type``."""
