"""Members of an edge model among the checkpoints: one that is trained need not be trained again."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch

from ekiden_engine.checkpoints import Checkpoints, checkpoints_of
from ekiden_engine.models.base import Progress, Step, curve_of
from ekiden_engine.models.device import array_of
from ekiden_engine.models.edges_states import described, trained_of
from ekiden_engine.models.fitting import Member


def save_member(checkpoints: Checkpoints, name: str, member: Member) -> None:
    """Keep a member under `name`."""
    document, tensors = described(member.trained)
    about = {"loss": member.loss, "curve": asdict(member.curve), **document}
    checkpoints.save(name, about, {key: array_of(tensor) for key, tensor in tensors.items()})


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
    tensors = {key: torch.from_numpy(array) for key, array in state.arrays.items()}
    return Member(trained_of(state.document, tensors), state.document["loss"], curve)
