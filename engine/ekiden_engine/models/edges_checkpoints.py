"""Members of an edge model among the checkpoints: one that is trained need not be trained again."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ekiden_engine.checkpoints import Array, Checkpoints, checkpoints_of
from ekiden_engine.models.base import Progress, Step, curve_of
from ekiden_engine.models.edges_objectives import Trained
from ekiden_engine.models.encoder import EndState
from ekiden_engine.models.fitting import Member


def save_member(checkpoints: Checkpoints, name: str, member: Member) -> None:
    """Keep a member under `name`."""
    trained = member.trained
    arrays: dict[str, Tensor] = {}
    document: dict[str, Any] = {"loss": member.loss, "curve": asdict(member.curve)}
    for end, state in (("source", trained.source), ("dest", trained.dest)):
        arrays |= {f"{end}.encoded": state.encoded, f"{end}.usual": state.usual}
        arrays |= {f"{end}.messages.{at}": table for at, (_, _, table) in enumerate(state.messages)}
        arrays |= {} if state.project is None else {f"{end}.project": state.project}
        document[end] = [[key, labelled] for key, labelled, _ in state.messages]
    if trained.relation is not None and trained.prior is not None:
        arrays |= {"relation": trained.relation, "prior": trained.prior}
    checkpoints.save(name, document, {key: tensor.numpy() for key, tensor in arrays.items()})


def restored_member(progress: Progress, name: str, step: Step, epochs: int) -> Member | None:
    """The member that an earlier start of the job kept under `name`, its epochs told again; None if there is none."""
    state = checkpoints_of(progress).load(name)
    if state is None:
        return None
    curve = curve_of(state.document["curve"])
    told = replace(step, resumed=len(curve.points))
    for point in curve.points:
        progress.epoch(told, epochs, curve.metric, point)
    progress.note(f"resumed: {step.words} was trained before")
    ends = [_end(end, state.document[end], state.arrays) for end in ("source", "dest")]
    relation, prior = (_tensor(state.arrays, key) for key in ("relation", "prior"))
    return Member(Trained(ends[0], ends[1], relation, prior), state.document["loss"], curve)


def _end(end: str, messages: list[Any], arrays: dict[str, Array]) -> EndState:
    return EndState(
        torch.from_numpy(arrays[f"{end}.encoded"]),
        torch.from_numpy(arrays[f"{end}.usual"]),
        _tensor(arrays, f"{end}.project"),
        tuple(
            (((key[0][0], key[0][1], key[0][2]), key[1]), labelled, torch.from_numpy(arrays[f"{end}.messages.{at}"]))
            for at, (key, labelled) in enumerate(messages)
        ),
    )


def _tensor(arrays: dict[str, Array], name: str) -> Tensor | None:
    return torch.from_numpy(arrays[name]) if name in arrays else None
