"""``training-data-configuration.json`` v2.0: what Neptune-Export writes beside the CSV files it exports.

The reader is tolerant: Neptune's user guide and its exporter disagree on several shapes, and both are
accepted. The writer (``TrainingDataConfiguration.to_json``) has one form, the exporter's.

Sources: "Structure of the training-data-configuration.json file" in the Amazon Neptune user guide, and
``PropertyGraphTrainingDataConfigWriterV2`` in github.com/aws/neptune-export.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from ekiden.contracts.base import DocumentError, Fault, Tolerant, faults_of, shorten
from ekiden.contracts.feature_config import DATETIME_PARTS as DATETIME_PARTS
from ekiden.contracts.feature_config import FeatureConfig as FeatureConfig
from ekiden.contracts.feature_config import Separator

CONFIGURATION_FILE = "training-data-configuration.json"

ColumnAndType = tuple[str, str]
"""A CSV column and the node type (or relation) that it stands for."""


class CustomSplitFiles(Tolerant):
    """Files (relative to the configuration) that assign labelled nodes or edges to parts."""

    train: str
    valid: str | None = Field(default=None, validation_alias=AliasChoices("valid", "validation"))
    test: str | None = None


class LabelConfig(Tolerant):
    """One thing to predict: ``[property, task]``; ``split_rate`` or ``custom_split_filenames``, not both."""

    label: tuple[str, Literal["classification", "regression", "link_prediction"]]
    split_rate: tuple[float, float, float] | None = None
    custom_split_filenames: CustomSplitFiles | None = None
    separator: Separator | None = None

    @field_validator("split_rate")
    @classmethod
    def _adds_up_to_one(cls, rates: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        # Neptune-Export adds IEEE doubles from left to right and compares with exactly 1.0.
        if rates is not None and (min(rates) < 0.0 or rates[0] + rates[1] + rates[2] != 1.0):
            raise ValueError(
                f"{list(rates)} must be three rates whose floating-point sum is exactly 1.0, such as [0.8, 0.1, 0.1]"
            )
        return rates

    @model_validator(mode="after")
    def _has_at_most_one_split(self) -> Self:
        if self.split_rate is not None and self.custom_split_filenames is not None:
            raise ValueError("give either split_rate or custom_split_filenames, not both")
        return self

    @property
    def column(self) -> str:
        """The CSV column (a property's name) to predict."""
        return self.label[0]

    @property
    def task(self) -> Literal["classification", "regression", "link_prediction"]:
        """The kind of prediction."""
        return self.label[1]


class NodeFileConfig(Tolerant):
    """One CSV file of nodes."""

    file_name: str
    separator: Separator = ","
    node: ColumnAndType
    features: tuple[FeatureConfig, ...] = ()
    labels: tuple[LabelConfig, ...] = ()


class EdgeFileConfig(Tolerant):
    """One CSV file of edges. ``relation`` is ``["", type]`` in every property-graph export."""

    file_name: str
    separator: Separator = ","
    source: ColumnAndType
    relation: ColumnAndType
    dest: ColumnAndType
    features: tuple[FeatureConfig, ...] = ()
    labels: tuple[LabelConfig, ...] = ()

    @property
    def edge_type(self) -> tuple[str, str, str]:
        """(source node type, relation, destination node type)."""
        return (self.source[1], self.relation[1], self.dest[1])


class GraphConfig(Tolerant):
    """The files of the graph."""

    nodes: tuple[NodeFileConfig, ...] = ()
    edges: tuple[EdgeFileConfig, ...] = ()


class TrainingDataConfiguration(Tolerant):
    """The whole document."""

    version: Literal["v2.0"] = "v2.0"
    query_engine: Literal["gremlin", "sparql"] = "gremlin"
    graph: GraphConfig
    warnings: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _graph_may_be_a_list(cls, document: Any) -> Any:
        """The guide writes ``graph`` as a list of objects with ``warnings`` inside, the exporter as one
        object."""
        if not isinstance(document, dict) or not isinstance(document.get("graph"), list):
            return document
        parts = [part for part in document["graph"] if isinstance(part, dict)]
        merged = {key: [item for part in parts for item in part.get(key, ())] for key in ("nodes", "edges")}
        warnings = [*document.get("warnings", ()), *(w for part in parts for w in part.get("warnings", ()))]
        return {**document, "graph": merged, "warnings": warnings}

    def to_json(self) -> str:
        """The exporter's form: ``graph`` is an object, options that do not apply are absent."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False) + "\n"


def parse_training_data(text: str | bytes) -> TrainingDataConfiguration:
    """Read ``training-data-configuration.json``.

    Raises:
        DocumentError: every fault with its path in the document.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DocumentError([Fault("", f"not JSON: {shorten(str(error))}")]) from None
    try:
        return TrainingDataConfiguration.model_validate(document)
    except ValidationError as error:
        raise DocumentError(faults_of(error)) from None
