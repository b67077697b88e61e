"""From trained networks to a `NodeTablePredictor`: every node's answer, and the states that new nodes will need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.graph import Target
from ekiden_engine.models.base import FloatArray
from ekiden_engine.models.device import array_of
from ekiden_engine.models.nodes_labels import as_answers, best_share, label_answers, mixed, propagate_labels
from ekiden_engine.models.nodes_network import Design, Network
from ekiden_engine.models.nodes_predictor import NodeTablePredictor
from ekiden_engine.models.nodes_problem import NodeProblem, RowArray
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.nodes_structure import Scale, Structure
from ekiden_engine.models.sampler import chunks

STATE_BYTES: Final = 512 * 2**20
"""What the states that only new nodes need may take; as many members as fit answer for those, one at least."""
TEMPERATURES: Final = tuple(float(t) for t in np.geomspace(0.2, 5, 33))
SMALLEST: Final = 1e-7


def make_predictor(
    problem: NodeProblem, design: Design, networks: Sequence[Network], target: Target
) -> NodeTablePredictor:
    """The ensemble of `networks` as one predictor; its temperature is the best on the validation rows, if any.

    What is as long as there are nodes is computed and put together some nodes at a time.
    """
    keep = members_to_keep(problem, design, len(networks))
    parts = [_Outputs.of(network, states=at < keep, vectors=not at) for at, network in enumerate(networks)]
    said = [array_of(part.said[problem.target]) for part in parts]

    def told_by_members(rows: slice | RowArray) -> FloatArray:
        return np.stack([each[rows] for each in said])

    scale = _scale(problem, target, told_by_members(problem.valid))
    count = problem.counts[problem.target]
    answers = np.concatenate([scale.answers(told_by_members(rows)) for rows in chunks(count)])
    prior = _prior(problem, scale)
    view = networks[0].view
    told = propagate_labels(problem, view.around if isinstance(view, Lists) else None)
    by_labels = as_answers(problem, scale, label_answers(told[problem.target], _mean(problem)))
    share = best_share(problem, scale, answers, by_labels)
    tensors: dict[str, npt.NDArray[Any]] = {
        "answers": mixed(answers, by_labels, share) if share else answers,
        "seen": _seen(problem),
        "prior": prior,
        "centre": problem.inputs[problem.target].centre,
        "factor": problem.inputs[problem.target].factor,
    }
    for t, vectors in parts[0].embeddings.items():
        tensors[f"embeddings.{problem.labels[t]}"] = array_of(vectors)
    tensors |= _weights(problem, networks[:keep])
    tensors |= _states(problem, design, parts[:keep])
    if share:
        tensors |= {f"told.{t}": told[t].astype(np.float32) for t in _around(problem)}
    structure = Structure(
        counts=dict(zip(problem.labels, problem.counts, strict=True)),
        target=problem.target,
        features=problem.inputs[problem.target].features,
        relations=tuple((r.key, r.there) for r in problem.relations if r.here == problem.target),
        layers=design.layers,
        steps=design.steps,
        teleport=design.teleport,
        label_share=share,
        scale=scale,
    )
    return NodeTablePredictor(structure, tensors)


@dataclass(frozen=True, slots=True, eq=False)
class _Outputs:
    """Per node type: `hidden` states of each layer, `said` (raw outputs), `embeddings`; of one member. Without `states`
    nothing is hidden, without `vectors` there are no embeddings."""

    hidden: list[dict[int, Tensor]]
    said: dict[int, Tensor]
    embeddings: dict[int, Tensor]

    @classmethod
    def of(cls, network: Network, *, states: bool, vectors: bool) -> _Outputs:
        with torch.no_grad():
            hidden = network.hidden()
            embeddings = dict(network.propagate(hidden[-1]))
            # The propagation is a mean, so it may come before the output matrix as well as after.
            said = network.said(embeddings)
        for level in reversed(hidden[:-1]):  # of types that the last layer leaves out
            for t, state in level.items():
                embeddings.setdefault(t, state)
        return cls(hidden if states else [], said, embeddings if vectors else {})


def _scale(problem: NodeProblem, target: Target, said: FloatArray) -> Scale:
    """How raw outputs become answers, given those of the validation rows [members, m, k]."""
    if problem.regression:
        low, high = target.label_min, target.label_max
        known = problem.values[problem.train, 0].astype(np.float64) * problem.scale + problem.mean
        return Scale(
            kind="number",
            mean=problem.mean,
            scale=problem.scale,
            low=float(known.min()) if low is None else low,
            high=float(known.max()) if high is None else high,
        )
    scale = Scale(kind=problem.kind)
    return cooled(scale, said, problem.values[problem.valid]) if len(problem.valid) else scale


def cooled(scale: Scale, said: FloatArray, wanted: FloatArray) -> Scale:
    """`scale` with the temperature that makes `said` [members, m, k] most likely, given what is so: 0/1 [m, k]."""
    losses = []
    for temperature in TEMPERATURES:
        found = scale.model_copy(update={"temperature": temperature}).answers(said)
        losses.append(_log_loss(found, wanted, several=scale.kind == "labels"))
    return scale.model_copy(update={"temperature": TEMPERATURES[int(np.argmin(losses))]})


def _log_loss(found: FloatArray, wanted: FloatArray, *, several: bool) -> float:
    likely = np.clip(found, SMALLEST, 1 - SMALLEST)
    each = wanted * np.log(likely)
    return -float((each + (1 - wanted) * np.log(1 - likely) if several else each).mean())


def _seen(problem: NodeProblem) -> npt.NDArray[np.bool_]:
    """Nodes of the target's type of which there is something to know: a feature, a neighbour or a training label."""
    t = problem.target
    own = problem.inputs[t].features
    offset = problem.inputs[t].centre[:own] * problem.inputs[t].factor[:own]
    seen = np.zeros(problem.counts[t], np.bool_)
    for rows in chunks(len(seen)):
        seen[rows] = (np.abs(problem.x[t][rows, :own] + offset) > SMALLEST).any(1)
    seen[problem.train] = True
    for relation in problem.relations:
        if relation.here == t:
            for part in chunks(len(relation.rows)):
                seen[relation.rows[part]] = True
    return seen


def _prior(problem: NodeProblem, scale: Scale) -> FloatArray:
    """What is said of a node that nothing is known of: the frequencies of the classes, or the mean."""
    if problem.regression:
        return np.array([min(max(problem.mean, scale.low), scale.high)], np.float32)
    return _mean(problem).astype(np.float32)


def _mean(problem: NodeProblem) -> npt.NDArray[np.float64]:
    """Of the training rows' values, [1, k]."""
    return np.asarray(problem.values[problem.train].mean(0, keepdims=True, dtype=np.float64))


def members_to_keep(problem: NodeProblem, design: Design, members: int) -> int:
    """Of so many members, how many keep states for new nodes."""
    numbers = design.layers * design.width + (problem.outputs if design.steps else 0)
    each = 2 * numbers * sum(problem.counts[t] for t in _around(problem))
    return members if not each else int(np.clip(STATE_BYTES // each, 1, members))


def _around(problem: NodeProblem) -> list[int]:
    """Types that neighbours of the target's nodes have."""
    return sorted({relation.there for relation in problem.relations if relation.here == problem.target})


def _weights(problem: NodeProblem, networks: Sequence[Network]) -> dict[str, npt.NDArray[Any]]:
    """The matrices that a new node of the target's type meets, of all members."""
    t = problem.target

    def stacked(tensors: list[Tensor]) -> npt.NDArray[Any]:
        return array_of(torch.stack(tensors))

    found = {
        "project": stacked([n.project[t] for n in networks]),
        "shift": stacked([n.shift[t] for n in networks]),
        "out": stacked([n.out for n in networks]),
        "out_shift": stacked([n.out_shift for n in networks]),
    }
    for level in range(len(networks[0].layers)):
        layers = [n.layers[level] for n in networks]
        mine = [at for at, relation in enumerate(layers[0].relations) if relation.here == t]
        found[f"layer.{level}.shift"] = stacked([layer.shift for layer in layers])
        found[f"layer.{level}.relations"] = np.ascontiguousarray(
            stacked([layer.matrices() for layer in layers])[:, mine]
        )
        loops = [layer.self_loop for layer in layers if layer.self_loop is not None]
        if loops:
            found[f"layer.{level}.self"] = stacked(loops)
    return found


def _states(problem: NodeProblem, design: Design, parts: Sequence[_Outputs]) -> dict[str, npt.NDArray[Any]]:
    """What neighbours tell a new node, float16 [members, n, width or k]."""

    def halved(tensors: list[Tensor]) -> npt.NDArray[Any]:
        largest = np.finfo(np.float16).max
        found = np.empty((len(tensors), *tensors[0].shape), np.float16)
        for member, tensor in zip(found, tensors, strict=True):
            values = array_of(tensor)
            for rows in chunks(len(values)):
                member[rows] = np.clip(values[rows], -largest, largest)
        return found

    found = {}
    for t in _around(problem):
        for level in range(design.layers):
            found[f"state.{level}.{t}"] = halved([part.hidden[level][t] for part in parts])
        if design.steps:
            found[f"said.{t}"] = halved([part.said[t] for part in parts])
    return found
