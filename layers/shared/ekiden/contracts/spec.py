"""The pipeline spec: the YAML document a user writes.

``targets`` and ``features`` use Neptune ML's own field names (``additionalParams.neptune_ml`` of
Neptune-Export), so that a notebook's configuration can be pasted. The rules that Neptune ML enforces late,
after money was spent, are enforced here.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from ekiden.contracts.base import DocumentError, Fault, Label, Name, Strict, faults_of, kind_of, shorten
from ekiden.contracts.hyperparameters import hyperparameter_faults
from ekiden.contracts.s3uri import S3Uri
from ekiden.contracts.split_rates import DEFAULT_SPLIT_RATE, advice_on_sum, exact_sum

SpecError = DocumentError
"""A spec that cannot run; ``faults`` names every place and what to do."""


def _are_three(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != 3:
            found = f"{len(value)}" if isinstance(value, list | tuple) else kind_of(value)
            raise ValueError(f"give {what}; found {found}")
        return value

    return BeforeValidator(check)


EdgeType = Annotated[
    tuple[Label, Label, Label],
    _are_three("three names: source node label, edge label, destination node label, such as [user, rated, movie]"),
]
"""Source node label, edge label, destination node label."""

Rates = Annotated[
    tuple[float, float, float], _are_three("three rates: training, validation, test, such as [0.8, 0.1, 0.1]")
]

ALLOW_LOCAL_SOURCE = "allow_local_source"


class Graph(Strict):
    """Where the graph lies: Gremlin CSV files (Neptune's bulk-load format) under one prefix."""

    source: Annotated[str, Field(description="s3://bucket/prefix/ of Gremlin CSV files, or a local folder")]

    @field_validator("source")
    @classmethod
    def _is_reachable(cls, source: str, info: ValidationInfo) -> str:
        if source.startswith("s3://") or not (info.context or {}).get(ALLOW_LOCAL_SOURCE):
            uri = str(S3Uri.parse(source))
            # S3 prefixes are text: without the slash, "graph" would also bring in "graph-old/".
            return uri if uri.endswith(("/", ".csv", ".csv.gz")) else f"{uri}/"
        return source


class CustomSplit(Strict):
    """Files that say which labelled edges are for training, validation and test (``~from``, ``~to`` columns)."""

    train: Label
    valid: Label | None = None
    test: Label | None = None

    @field_validator("train", "valid", "test")
    @classmethod
    def _stays_below_the_source(cls, name: str | None) -> str | None:
        if name is not None and (name.startswith("/") or ".." in name.split("/")):
            raise ValueError(f"{shorten(name)} must be a path below graph.source")
        return name


class Target(Strict):
    """What to predict: a numeric property of one edge type."""

    edge: Annotated[EdgeType, Field(description="source label, edge label, destination label")]
    property: Label
    type: Literal["regression"]
    split_rate: Rates | None = None
    custom_split_filenames: CustomSplit | None = None

    @field_validator("split_rate")
    @classmethod
    def _sums_to_one(cls, rates: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if rates is None:
            return None
        if any(not 0.0 <= rate <= 1.0 for rate in rates):
            raise ValueError("each of the three rates must lie between 0 and 1")
        if rates[0] == 0.0:
            raise ValueError("the first rate is the share of training edges and cannot be 0")
        if exact_sum(rates) != 1.0:
            raise ValueError(advice_on_sum(rates))
        return rates

    @model_validator(mode="after")
    def _has_one_split(self) -> Self:
        if self.split_rate is not None and self.custom_split_filenames is not None:
            raise ValueError("give either split_rate or custom_split_filenames, not both")
        return self

    @builtins.property
    def split(self) -> tuple[float, float, float]:
        """The rates to split by: train, validation, test."""
        return self.split_rate or DEFAULT_SPLIT_RATE


class _Feature(Strict):
    node: Annotated[Label | None, Field(description="the node label; required")] = None
    # Specs that earlier versions took may have it, so it can be read; `parse_spec` takes it no more.
    edge: SkipJsonSchema[EdgeType | None] = None
    property: Label

    @model_validator(mode="after")
    def _belongs_to_one_thing(self) -> Self:
        if (self.node is None) == (self.edge is None):
            raise ValueError("give node: the label of the nodes that have the property")
        return self


Imputer = Literal["mean", "median", "most_frequent", "most-frequent"]


class NumericalFeature(_Feature):
    """A number. ``norm: standard`` divides by the sum of the values, as Neptune ML does; it is not a z-score."""

    type: Literal["numerical"]
    norm: Literal["none", "min-max", "standard"] = "min-max"
    imputer: Imputer | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None


class CategoryFeature(_Feature):
    """One of at most 100 values (the 99 most frequent and OTHER), or several with ``separator``."""

    type: Literal["category"]
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None


class BucketNumericalFeature(_Feature):
    """A number as the buckets it falls into; ``slide_window_size`` lets it fall into neighbouring ones too."""

    type: Literal["bucket_numerical"]
    range: tuple[float, float]
    bucket_cnt: Annotated[int, Field(ge=2, le=1000)]
    slide_window_size: Annotated[float, Field(ge=0)] = 0.0
    imputer: Imputer | None = None

    @field_validator("range")
    @classmethod
    def _rises(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not bounds[0] < bounds[1]:
            raise ValueError("the first bound must be below the second")
        return bounds


class DatetimeFeature(_Feature):
    """A date as one-hot parts."""

    type: Literal["datetime"]
    datetime_parts: Annotated[list[Literal["year", "month", "weekday", "hour"]], Field(min_length=1)] = [
        "year",
        "month",
        "weekday",
        "hour",
    ]


Feature = Annotated[
    NumericalFeature | CategoryFeature | BucketNumericalFeature | DatetimeFeature, Field(discriminator="type")
]


def _is_plain(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"a hyper-parameter is a number, a text, true or false; found {kind_of(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(value, int | str) and len(str(value)) > MAX_HYPERPARAMETER:
        raise ValueError(f"SageMaker takes at most {MAX_HYPERPARAMETER:,} characters")
    return value


MAX_HYPERPARAMETER = 2500
HyperparameterValue = Annotated[bool | int | float | str, BeforeValidator(_is_plain)]

InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]


class Model(Strict):
    """Which model to train and how; hyper-parameters carry Neptune ML's names where it has them."""

    name: Literal["rgcn"] = "rgcn"
    hyperparameters: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=256)], HyperparameterValue],
        Field(max_length=90, description="docs/hyperparameters.md lists them"),
    ] = {}
    instance_type: InstanceType = "ml.m5.xlarge"


class Deploy(Strict):
    """Where the model answers. An existing endpoint of that name is updated without an outage."""

    endpoint: Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")] | None = None
    instance_type: InstanceType = "ml.m5.large"
    instance_count: Annotated[int, Field(ge=1, le=10)] = 1


Hours = Annotated[float, Field(gt=0, le=120)]
Attempts = Annotated[int, Field(ge=1, le=10)]
DEFAULT_ATTEMPTS = 3


class StageLimits(Strict):
    """Limits of one stage where they differ from those of all."""

    hours: Hours | None = None
    attempts: Attempts | None = None


class Limits(Strict):
    """How long stages and the run may take before they are stopped, and how often a stage is tried.

    Only passing failures (capacity, throttling, exit code 75) are tried again; bad data never is.
    """

    stage_hours: Hours = 24.0
    attempts: Attempts = DEFAULT_ATTEMPTS
    run_hours: Annotated[float, Field(gt=0, le=480)] | None = None
    stages: dict[Literal["export", "process", "train", "deploy"], StageLimits] = {}

    @model_serializer(mode="wrap")
    def _as_old_as_can_be(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields younger than the first version stay out of the ledger while they say nothing: it refuses them."""
        fields: dict[str, Any] = dump(self)
        silent: dict[str, Any] = {"attempts": DEFAULT_ATTEMPTS, "run_hours": None, "stages": {}}
        return {name: value for name, value in fields.items() if name not in silent or value != silent[name]}


class PipelineSpec(Strict):
    """One pipeline, from the graph to the endpoint."""

    version: Literal[1]
    name: Name
    engine: Literal["sagemaker"] = "sagemaker"
    graph: Graph
    targets: Annotated[list[Target], Field(min_length=1, max_length=1)]
    features: list[Feature] = []
    processing_instance_type: InstanceType = "ml.m5.xlarge"
    model: Model = Model()
    deploy: Deploy = Deploy()
    limits: Limits = Limits()

    @field_validator("targets", mode="before")
    @classmethod
    def _is_one(cls, targets: object) -> object:
        if isinstance(targets, list | tuple) and len(targets) != 1:
            raise ValueError(f"give one target: a run predicts one property; found {len(targets)}")
        return targets

    @model_validator(mode="after")
    def _does_not_repeat(self) -> Self:
        seen: dict[tuple[object, str], int] = {}
        faults: list[Fault] = []
        for index, feature in enumerate(self.features):
            path = f"features[{index}]"
            key = (feature.node or feature.edge, feature.property)
            if key in seen:
                faults.append(Fault(path, f"describes the same property as features[{seen[key]}]; remove one of them"))
            seen.setdefault(key, index)
        if faults:
            raise DocumentError(faults)
        return self

    @property
    def endpoint_name(self) -> str:
        """The endpoint the run deploys to."""
        return self.deploy.endpoint or self.name


def parse_spec(document: Any, *, allow_local_source: bool = False, accepted: bool = False) -> PipelineSpec:
    """``document`` (plain data) as a spec.

    ``accepted``: it lies in the ledger, perhaps taken by an earlier version: rules younger than that do not apply, so
    that its run can be shown and moved on. (The engine's jobs apply them.)

    Raises:
        SpecError: every fault with its path.
    """
    if not isinstance(document, dict):
        raise SpecError([Fault("", f"a pipeline spec is a mapping, found {kind_of(document)}")])
    younger = () if accepted else (*_edge_features(document), *_hyperparameters(document))
    try:
        spec = PipelineSpec.model_validate(document, context={ALLOW_LOCAL_SOURCE: allow_local_source})
    except ValidationError as error:
        said = {fault.path for fault in younger}
        raise SpecError([*(f for f in faults_of(error, PipelineSpec) if f.path not in said), *younger]) from None
    if younger:
        raise SpecError(younger)
    return spec


def _edge_features(document: dict[Any, Any]) -> Iterator[Fault]:
    """Properties of edges, the target's type included: the engine would ignore them without a word."""
    targets = [t for t in _listed(document.get("targets")) if isinstance(t, dict)]
    for index, feature in enumerate(_listed(document.get("features"))):
        if not isinstance(feature, dict) or feature.get("edge") is None:
            continue
        message = "the engine does not use edge features yet; remove it"
        if any(all(feature.get(key) == t.get(key) for key in ("edge", "property")) for t in targets):
            message = "is the target's own property: the model would be told the answer; remove it"
        yield Fault(f"features[{index}].edge", message)


def _hyperparameters(document: dict[Any, Any]) -> tuple[Fault, ...]:
    model = document.get("model")
    given = model.get("hyperparameters") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(given, dict):
        return ()
    plain = {k: v for k, v in given.items() if isinstance(k, str) and isinstance(v, bool | int | float | str)}
    name = model.get("name", "rgcn")
    return hyperparameter_faults(name, plain) if isinstance(name, str) else ()


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def load_spec(text: str, *, allow_local_source: bool = False) -> PipelineSpec:
    """A spec from YAML (or JSON) text.

    Raises:
        SpecError: the text is no YAML within bounds, or every fault of the spec with its path.
    """
    from ekiden.contracts.yaml_text import load_yaml

    return parse_spec(load_yaml(text), allow_local_source=allow_local_source)


def spec_json_schema() -> dict[str, Any]:
    """The JSON Schema of the spec, for editors."""
    schema = PipelineSpec.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ekiden pipeline spec",
    } | schema
