"""From trained members to an `EdgeTables` predictor: every node's vector, and the tables that new nodes will need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from ekiden_engine.models.base import BoolArray, FloatArray
from ekiden_engine.models.baselines import class_frequencies
from ekiden_engine.models.edges_decoders import Trained
from ekiden_engine.models.edges_predictor import EdgeTables
from ekiden_engine.models.edges_problem import EdgeProblem
from ekiden_engine.models.edges_structure import END_NAMES, EdgeStructure, NewRelation
from ekiden_engine.models.encoder import EndState
from ekiden_engine.models.nodes_result import cooled
from ekiden_engine.models.nodes_structure import Scale

NEW_BYTES: Final = 512 * 2**20
"""What the tables that only new nodes need may take; as many members as fit answer for those, one at least."""
NUMBER_SHRINK: Final = (9.0, 2.5)
"""How strongly a new node's own vector (labels of unit variance) and bias are held near the usual (`edges_inductive`
says how they were chosen)."""
CLASS_SHRINK: Final = (10.0, 2.5)
"""Likewise for classes."""


def make_predictor(problem: EdgeProblem, members: Sequence[Trained]) -> EdgeTables:
    """The mean of the members' raw outputs as one predictor; classes get the temperature that is best on the
    validation rows, if any."""
    width = int(members[0].source.encoded.shape[1]) - problem.outputs
    sides = ([m.source for m in members], [m.dest for m in members])
    kept = _members_to_keep(sides)
    tensors: dict[str, npt.NDArray[Any]] = {"prior": np.zeros(problem.outputs, np.float32)}
    degrees = problem.degrees(problem.train)
    for end, (name, states) in enumerate(zip(END_NAMES, sides, strict=True)):
        tensors |= {f"{name}.{what}": table for what, table in _new(states, width, kept).items()}
        seen = _seen(problem, end, degrees[end])
        encoded = [state.encoded.numpy() for state in states]
        vectors = np.concatenate([e[:, :width] for e in encoded], axis=1) * np.float32(len(members) ** -0.5)
        bias = np.mean([e[:, width:] for e in encoded], axis=0)
        unseen = np.flatnonzero(~seen)
        vectors[unseen], bias[unseen] = vectors[-1], bias[-1]
        tensors[f"{name}.vectors"], tensors[f"{name}.bias"] = vectors.astype(np.float32), bias.astype(np.float32)
        tensors[f"{name}.seen"] = seen
    known = problem.label[problem.train]
    relations = [m.relation for m in members if m.relation is not None]
    priors = [m.prior for m in members if m.prior is not None]
    if problem.kind == "number":
        low, high = float(known.min()), float(known.max())
        scale = Scale(kind="number", low=low, high=high)
        shrink_vector, shrink_bias = NUMBER_SHRINK
        shrink_vector *= float(known.std(dtype=np.float64)) or 1.0
        tensors["prior"][:] = known.mean(dtype=np.float64)
    else:
        scale = Scale(kind=problem.kind)
        shrink_vector, shrink_bias = CLASS_SHRINK
        tensors["relation"] = torch.cat(relations, 1).numpy()
        tensors["prior"] = torch.stack(priors).mean(0).numpy()
        tensors["frequencies"] = class_frequencies(known, problem.outputs).astype(np.float32)
    structure = EdgeStructure(
        edge=problem.edge,
        scale=scale,
        outputs=problem.outputs,
        width=width,
        members=len(members),
        kept=kept,
        relations=(_relations(sides[0][0]), _relations(sides[1][0])),
        shrink_vector=shrink_vector,
        shrink_bias=shrink_bias,
    )
    predictor = EdgeTables(structure, tensors)
    if problem.kind != "number" and len(problem.valid):
        said = predictor.scores(problem.source[problem.valid], problem.dest[problem.valid])
        cool = cooled(scale, said[None], problem.wanted(problem.valid))
        predictor = EdgeTables(structure.model_copy(update={"scale": cool}), tensors)
    return predictor


def _relations(state: EndState) -> tuple[NewRelation, ...]:
    return tuple(NewRelation(key=key, count=len(m), labelled=labelled) for key, labelled, m in state.messages)


def _members_to_keep(sides: tuple[list[EndState], list[EndState]]) -> int:
    each = sum(2 * m.numel() for states in sides for _, _, m in states[0].messages)
    return int(np.clip(NEW_BYTES // max(each, 1), 1, len(sides[0])))


def _new(states: Sequence[EndState], width: int, kept: int) -> dict[str, npt.NDArray[Any]]:
    """The tables of new nodes at one end: their score with the wide vectors of others is the kept members' mean."""
    grow = np.float32(len(states) ** 0.5 / kept)

    def wide(tables: Sequence[torch.Tensor]) -> FloatArray:
        given = [table.numpy() for table in tables]
        bias = np.mean([g[:, width:] for g in given], axis=0)
        return np.concatenate([*(g[:, :width] * grow for g in given), bias], axis=1).astype(np.float32)

    chosen = states[:kept]
    found: dict[str, npt.NDArray[Any]] = {"usual": wide([state.usual for state in chosen])}
    projects = [state.project for state in chosen if state.project is not None]
    if projects:
        found["project"] = wide(projects)
    largest = float(np.finfo(np.float16).max)
    for at in range(len(chosen[0].messages)):
        table = wide([state.messages[at][2] for state in chosen])
        found[f"messages.{at}"] = np.clip(table, -largest, largest).astype(np.float16)
    return found


def _seen(problem: EdgeProblem, end: int, degree: FloatArray) -> BoolArray:
    """Nodes of which training knows a labelled edge, a feature or a neighbour."""
    x, extra = (problem.dest_features, problem.dest_extra) if end else (problem.source_features, problem.source_extra)
    seen = (degree > 0) | x.any(1)
    for relation in extra:
        seen |= np.bincount(relation.rows, minlength=len(seen)) > 0
    return np.asarray(seen, np.bool_)
