"""What a trained edge model consists of, as JSON and tensors by name: for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ekiden_engine.models.edges_decoders import Trained
from ekiden_engine.models.encoder import EndState


def described(trained: Trained) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A document and tensors, from which `trained_of` makes the same."""
    document: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for end, state in (("source", trained.source), ("dest", trained.dest)):
        tensors |= {f"{end}.encoded": state.encoded, f"{end}.usual": state.usual}
        tensors |= {f"{end}.messages.{at}": table for at, (_, _, table) in enumerate(state.messages)}
        tensors |= {} if state.project is None else {f"{end}.project": state.project}
        document[end] = [[key, labelled] for key, labelled, _ in state.messages]
    if trained.relation is not None and trained.prior is not None:
        tensors |= {"relation": trained.relation, "prior": trained.prior}
    return document, tensors


def trained_of(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Trained:
    """What `described` was given."""
    ends = [_end(end, document[end], tensors) for end in ("source", "dest")]
    return Trained(ends[0], ends[1], tensors.get("relation"), tensors.get("prior"))


def _end(end: str, messages: list[Any], tensors: Mapping[str, Tensor]) -> EndState:
    return EndState(
        tensors[f"{end}.encoded"],
        tensors[f"{end}.usual"],
        tensors.get(f"{end}.project"),
        tuple(
            (((key[0][0], key[0][1], key[0][2]), key[1]), labelled, tensors[f"{end}.messages.{at}"])
            for at, (key, labelled) in enumerate(messages)
        ),
    )
