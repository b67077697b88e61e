"""The pipeline spec: the YAML document a user writes.

``targets`` and ``features`` use Neptune ML's own field names (``additionalParams.neptune_ml`` of
Neptune-Export), so that a notebook's configuration can be pasted. The rules that Neptune ML enforces late,
after money was spent, are enforced here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from ekiden.contracts.base import ENDPOINT, DocumentError, Fault, Name, Strict, faults_of, kind_of
from ekiden.contracts.hyperparameters import hyperparameter_faults
from ekiden.contracts.s3uri import S3Uri
from ekiden.contracts.spec_features import ON_EDGES
from ekiden.contracts.spec_features import Feature as Feature
from ekiden.contracts.spec_model import ALLOW_LOCAL_SOURCE as ALLOW_LOCAL_SOURCE
from ekiden.contracts.spec_model import InstanceType, Model
from ekiden.contracts.spec_parts import ITS_OWN_ANSWER, SpecParts, parts_of, rule_faults
from ekiden.contracts.spec_targets import EVERY_LINK, Target
from ekiden.contracts.spec_targets import EdgeType as EdgeType

SpecError = DocumentError
"""A spec that cannot run; ``faults`` names every place and what to do."""


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


class Deploy(Strict):
    """Where the model answers. An existing endpoint of that name is updated without an outage."""

    endpoint: Annotated[str, Field(pattern=ENDPOINT)] | None = None
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

    Only passing failures (capacity, throttling, exit code 75, a killed container) are tried again; bad data never is.
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


MAX_TARGETS = 8
"""Targets of one spec: each is a model of its own in the training job."""


class PipelineSpec(Strict):
    """One pipeline, from the graph to the endpoint."""

    version: Literal[1]
    name: Name
    engine: Literal["sagemaker"] = "sagemaker"
    graph: Graph
    targets: Annotated[
        list[Target], Field(max_length=MAX_TARGETS, description="none: the links of every edge type")
    ] = []
    features: list[Feature] = []
    processing_instance_type: InstanceType = "ml.m5.xlarge"
    model: Model = Model()
    deploy: Deploy = Deploy()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _does_not_repeat(self) -> Self:
        faults = rule_faults(self.parts)
        if faults:
            raise DocumentError(faults)
        return self

    @property
    def parts(self) -> SpecParts:
        """Its targets, features and model, as rules and graphs are held against them."""
        targets, features = dict(enumerate(self.targets)), dict(enumerate(self.features))
        return SpecParts(self.graph.source, targets, features, self.model.name, self.model, bool(self.targets))

    @property
    def predicts(self) -> list[Target]:
        """The targets; without any, the links of every edge type."""
        return self.targets or [EVERY_LINK]

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
        form = [fault for fault in faults_of(error, PipelineSpec) if fault.path not in said]
        # Pydantic looks at rules across fields only where every field is right: the right ones are held against them.
        rules = rule_faults(parts_of(document, allow_local_source=allow_local_source))
        raise SpecError(dict.fromkeys([*form, *rules, *younger])) from None
    if younger:
        raise SpecError(younger)
    return spec


def _edge_features(document: dict[Any, Any]) -> Iterator[Fault]:
    """Features of edges that are a target's answer, of a type that edges cannot have, or that nothing would use: the
    engine would ignore them without a word."""
    targets = [t for t in _listed(document.get("targets")) if isinstance(t, dict)]
    model = document.get("model")
    name = model.get("name", "rgcn") if isinstance(model, dict) else "rgcn"
    used = edge_features_used(name, (t.get("node") is not None for t in targets))
    for index, feature in enumerate(_listed(document.get("features"))):
        if not isinstance(feature, dict) or feature.get("edge") is None:
            continue
        path = f"features[{index}]"
        if any(all(feature.get(key) == t.get(key) for key in ("edge", "property")) for t in targets):
            yield Fault(f"{path}.edge", ITS_OWN_ANSWER)
        elif not used:
            yield Fault(f"{path}.edge", "only rgcn with a target on nodes, and custom models, use it; remove it")
        elif feature.get("type") not in ON_EDGES:
            yield Fault(f"{path}.type", f"on edges use one of {', '.join(ON_EDGES)}")


def edge_features_used(model: object, on_nodes: Iterable[bool]) -> bool:
    """Whether a model looks at features of edges, given of each target whether it is one of nodes."""
    return model == "custom" or (model == "rgcn" and any(on_nodes))


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
