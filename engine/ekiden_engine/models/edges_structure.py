"""What the tensors of an edge model mean, as it stands in `edges.json`, and a check that they fit it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ekiden_engine.graph import EdgeType
from ekiden_engine.models.nodes_structure import Count, RelationKey, Scale, Tensors

END_NAMES = ("source", "dest")


class NewRelation(BaseModel):
    """A relation under which a new node may have neighbours: edge type, whether it is the source, how many `count`
    nodes there are at the other end; `labelled`: what neighbours say is weighted by what biases leave over of the
    edge's label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: RelationKey
    count: Count
    labelled: bool = False


class EdgeStructure(BaseModel):
    """`edges.json`. `edge`: the target's type; `members` of the ensemble, whose vectors of `width` stand side by side.

    The first `kept` of them answer for new nodes, which may have `relations` (per end); such a node's own vector and
    biases are held near the usual by `shrink_vector` and `shrink_bias` (see `edges_inductive`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal["ekiden.edges.v1"] = "ekiden.edges.v1"
    edge: EdgeType
    scale: Scale
    outputs: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    members: Annotated[int, Field(ge=1)]
    kept: Annotated[int, Field(ge=1)]
    relations: tuple[tuple[NewRelation, ...], tuple[NewRelation, ...]]
    shrink_vector: Annotated[float, Field(gt=0)]
    shrink_bias: Annotated[float, Field(gt=0)]

    @property
    def ends(self) -> tuple[str, str]:
        """Node types of source and destination."""
        return self.edge[0], self.edge[2]

    @property
    def columns(self) -> int:
        """Of the tables for new nodes: the vector, and the biases."""
        return self.kept * self.width + self.outputs


def check_tensors(structure: EdgeStructure, tensors: Tensors) -> None:
    """Hold names, types and shapes of the tensors against the structure. Raises `ValueError`."""
    wide, outputs, columns = structure.members * structure.width, structure.outputs, structure.columns
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {"prior": (np.float32, (outputs,))}
    if structure.scale.kind != "number":
        wanted |= {"relation": (np.float32, (outputs, wide)), "frequencies": (np.float32, (outputs,))}
    for name, relations in zip(END_NAMES, structure.relations, strict=True):
        nodes = len(tensors[f"{name}.seen"]) if f"{name}.seen" in tensors else 0
        wanted |= {
            f"{name}.vectors": (np.float32, (nodes + 1, wide)),
            f"{name}.bias": (np.float32, (nodes + 1, outputs)),
            f"{name}.seen": (np.bool_, (nodes,)),
            f"{name}.usual": (np.float32, (3, columns)),
        }
        if (project := f"{name}.project") in tensors:
            wanted[project] = (np.float32, (len(tensors[project]), columns))
        for at, relation in enumerate(relations):
            wanted[f"{name}.messages.{at}"] = (np.float16, (relation.count, columns))
    for name, (dtype, shape) in wanted.items():
        found = tensors.get(name)
        if found is None or found.dtype != dtype or found.shape != shape:
            have = "missing" if found is None else f"{found.dtype}{found.shape}"
            raise ValueError(f"{name} is {have}, not {np.dtype(dtype).name}{shape}")
