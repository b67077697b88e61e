"""What the tensors of a node model mean, as it stands in `nodes.json`, and a check that they fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ekiden_engine.graph import EdgeType
from ekiden_engine.models.base import FloatArray

RelationKey = tuple[EdgeType, bool]
"""An edge type, and whether the node in question is its source."""
Tensors = Mapping[str, npt.NDArray[Any]]
Kind = Literal["number", "classes", "labels"]
"""What is predicted: a number, one of several classes, or each of several classes for itself."""
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """How the columns of a node type are made: `features` own columns, the logarithm of 1 plus the degree under each of
    `relations`, then means of edge features; from each, `centre` is taken, and the rest multiplied by `factor`."""

    features: int
    relations: tuple[RelationKey, ...]
    centre: FloatArray
    factor: FloatArray

    def normalise(self, raw: FloatArray) -> FloatArray:
        """`raw` float32 [m, columns] as the network takes it."""
        found: FloatArray = (raw - self.centre) * self.factor
        return found


class Scale(BaseModel):
    """From raw outputs to answers.

    `kind`: `classes` (one a row), `labels` (several a row) or `number`. Numbers are multiplied by `scale`, moved by
    `mean`, held within `low` and `high`; others are divided by `temperature` before they become probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind
    temperature: Annotated[float, Field(gt=0)] = 1.0
    mean: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def answers(self, said: FloatArray) -> FloatArray:
        """The mean over members of what they say, float32: [members, m, k] to [m, k], or to [m] for numbers."""
        if self.kind == "number":
            numbers = said[..., 0].mean(0, dtype=np.float64) * self.scale + self.mean
            held: FloatArray = np.clip(numbers, self.low, self.high).astype(np.float32)
            return held
        cooled = said / np.float32(self.temperature)
        if self.kind == "labels":
            shares = 0.5 * (1 + np.tanh(0.5 * cooled))  # the logistic function, without overflow
        else:
            powers = np.exp(cooled - cooled.max(-1, keepdims=True))
            shares = powers / powers.sum(-1, keepdims=True)
        found: FloatArray = shares.mean(0).astype(np.float32)
        return found


class Structure(BaseModel):
    """`nodes.json`. `counts`: nodes per type, in the order of their positions; `target`: position of the target's type;
    `features`: columns of its own; `relations`: those of the target's type, each with the position of the type at the
    other end; `label_share`: how much of an answer is label propagation's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal["ekiden.nodes.v1"] = "ekiden.nodes.v1"
    counts: dict[str, Count]
    target: Count
    features: Count
    relations: tuple[tuple[RelationKey, Count], ...]
    layers: Annotated[int, Field(ge=0, le=16)]
    steps: Count
    teleport: Annotated[float, Field(gt=0, le=1)]
    label_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    scale: Scale

    @model_validator(mode="after")
    def _positions_are_of_types(self) -> Self:
        if max(self.target, *(there for _, there in self.relations), 0) >= len(self.counts):
            raise ValueError("the position of a node type lies beyond their number")
        return self


def check_tensors(structure: Structure, tensors: Tensors) -> None:
    """Hold names, types and shapes of the tensors against the structure. Raises `ValueError`."""
    counts = list(structure.counts.values())
    nodes = counts[structure.target]
    members, columns, width = _shape(tensors, "project", 3)
    outputs = _shape(tensors, "out", 3)[2]
    number = structure.scale.kind == "number"
    relations = len(structure.relations)
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
        "answers": (np.float32, (nodes,) if number else (nodes, outputs)),
        "seen": (np.bool_, (nodes,)),
        "prior": (np.float32, (1,) if number else (1, outputs)),
        "centre": (np.float32, (columns,)),
        "factor": (np.float32, (columns,)),
        "project": (np.float32, (members, columns, width)),
        "shift": (np.float32, (members, width)),
        "out": (np.float32, (members, width, outputs)),
        "out_shift": (np.float32, (members, outputs)),
    }
    for layer in range(structure.layers):
        if f"layer.{layer}.self" in tensors:
            wanted[f"layer.{layer}.self"] = (np.float32, (members, width, width))
        wanted[f"layer.{layer}.shift"] = (np.float32, (members, width))
        wanted[f"layer.{layer}.relations"] = (np.float32, (members, relations, width, width))
    for there in {there for _, there in structure.relations}:
        for layer in range(structure.layers):
            wanted[f"state.{layer}.{there}"] = (np.float16, (members, counts[there], width))
        if structure.label_share:
            wanted[f"told.{there}"] = (np.float32, (counts[there], outputs + 1))
        if structure.steps:
            wanted[f"said.{there}"] = (np.float16, (members, counts[there], outputs))
    for label, count in structure.counts.items():
        if (name := f"embeddings.{label}") in tensors:
            wanted[name] = (np.float32, (count, _shape(tensors, name, 2)[1]))
    if columns < structure.features + relations:
        raise ValueError(f"project has {columns} columns, which is too few")
    for name, (dtype, shape) in wanted.items():
        found = tensors.get(name)
        if found is None or found.dtype != dtype or found.shape != shape:
            have = "missing" if found is None else f"{found.dtype}{found.shape}"
            raise ValueError(f"{name} is {have}, not {np.dtype(dtype).name}{shape}")


def _shape(tensors: Tensors, name: str, dimensions: int) -> tuple[int, ...]:
    found = tensors.get(name)
    if found is None or found.ndim != dimensions:
        raise ValueError(f"{name} is missing or has not {dimensions} dimensions")
    return tuple(found.shape)
