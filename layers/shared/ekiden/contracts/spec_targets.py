"""The targets of a pipeline spec: what to predict, in Neptune ML's own words (``additionalParams.neptune_ml``)."""

from __future__ import annotations

import builtins
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from pydantic import model_validator as checked

from ekiden.contracts.base import Label, Strict, kind_of, shorten
from ekiden.contracts.split_rates import DEFAULT_LINK_SPLIT_RATE, DEFAULT_SPLIT_RATE, advice_on_sum, exact_sum
from ekiden.contracts.tasks import Task, task_of


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


def _labels_of_one_type(value: object) -> object:
    """Neptune names a node type that has several labels by a list; exports name it by the sorted labels."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return ";".join(sorted(value))
    return value


NodeType = Annotated[Label, BeforeValidator(_labels_of_one_type)]
"""A node label; a list of labels is the type of the nodes that have them all."""


class CustomSplit(Strict):
    """Files that say which labelled rows are for training, validation and test (``~from``, ``~to`` or ``~id``)."""

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
    """What to predict: a property of nodes or of edges, or which edges are missing."""

    node: Annotated[NodeType | None, Field(description="the node label, for a property of nodes")] = None
    edge: Annotated[EdgeType | None, Field(description="source label, edge label, destination label")] = None
    property: Label | None = None
    type: Literal["classification", "regression", "link_prediction"]
    split_rate: Rates | None = None
    custom_split_filenames: CustomSplit | None = None
    separator: Annotated[
        str | None, Field(min_length=1, max_length=1, description="between the classes of a row that has several")
    ] = None

    @field_validator("split_rate")
    @classmethod
    def _sums_to_one(cls, rates: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if rates is None:
            return None
        if any(not 0.0 <= rate <= 1.0 for rate in rates):
            raise ValueError("each of the three rates must lie between 0 and 1")
        if rates[0] == 0.0:
            raise ValueError("the first rate is the share of training rows and cannot be 0")
        if exact_sum(rates) != 1.0:
            raise ValueError(advice_on_sum(rates))
        return rates

    @checked(mode="after")
    def _is_one_thing(self) -> Self:
        if self.split_rate is not None and self.custom_split_filenames is not None:
            raise ValueError("give either split_rate or custom_split_filenames, not both")
        if self.node is not None and self.edge is not None:
            raise ValueError("give either node or edge, not both")
        if self.type == "link_prediction":
            if self.node is not None:
                raise ValueError("links are edges: give edge, or neither for the links of every edge type")
            if self.property is not None:
                raise ValueError("a link has no property to predict; remove property, or use another type")
        else:
            if self.node is None and self.edge is None:
                raise ValueError("give node: the label of the nodes, or edge: three names, that have the property")
            if self.property is None:
                raise ValueError(f"give property: what the {self.type} is to predict")
        if self.separator is not None and self.type != "classification":
            raise ValueError("separator is for classification, where a row may have several classes")
        return self

    @builtins.property
    def task(self) -> Task:
        """The kind of prediction."""
        return task_of(self.type, on_node=self.node is not None)

    @builtins.property
    def subject(self) -> str:
        """The node or edge type, in words."""
        if self.edge is None:
            return self.node or "all edge types"
        return f"({self.edge[0]})-{self.edge[1]}-({self.edge[2]})"

    @builtins.property
    def split(self) -> tuple[float, float, float]:
        """The rates to split by: train, validation, test."""
        return self.split_rate or (DEFAULT_LINK_SPLIT_RATE if self.type == "link_prediction" else DEFAULT_SPLIT_RATE)

    @model_serializer(mode="wrap")
    def _as_old_as_can_be(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields younger than the first version stay out of the ledger while they say nothing: it refuses them."""
        fields: dict[str, Any] = dump(self)
        silent = ("node", "separator")
        return {name: value for name, value in fields.items() if name not in silent or value is not None}


EVERY_LINK = Target(type="link_prediction")
"""What a spec without targets asks for: as in Neptune ML, no label at all means link prediction."""
