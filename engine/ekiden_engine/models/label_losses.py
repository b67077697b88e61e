"""What is minimised for numbers and for classes, and what a learning curve shows of them; for nodes and edges alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from ekiden_engine.models.nodes_structure import Kind

MAX_CLASS_WEIGHT: Final = 100.0

Loss = Callable[[Tensor, Tensor], Tensor]
"""Raw outputs [m, k] and what they should be [m, k] to a number."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What the learning curve shows."""

    name: str
    higher_is_better: bool
    measure: Callable[[Tensor, Tensor], float]


def metric_of(kind: Kind, *, class_weights: bool) -> Metric:
    """RMSE (in standard deviations); F1 over all classes of several-label rows; F1 per class, averaged, where classes
    are weighted; else accuracy."""
    if kind == "number":
        return Metric("rmse", False, lambda said, wanted: float((said - wanted).square().mean().sqrt()))
    if kind == "labels":
        return Metric("f1", True, lambda said, wanted: float(_f1((said > 0).float(), wanted, 1)))
    if class_weights:
        return Metric("f1", True, lambda said, wanted: float(_f1(_hot(said), wanted, 0)))
    return Metric("accuracy", True, lambda said, wanted: float((_hot(said) * wanted).sum() / len(wanted)))


def make_loss(kind: Kind, share: Tensor, *, class_weights: bool) -> Loss:
    """Mean squared error, cross-entropy, or with several labels a row binary cross-entropy.

    `share` float32 [k]: how frequent each class is in training. With `class_weights` every class weighs the same
    however rare it is, at most `MAX_CLASS_WEIGHT`.
    """
    if kind == "number":
        return functional.mse_loss
    if kind == "labels":
        weight = ((1 - share) / share.clamp(min=1e-9)).clamp(1 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT)
        given = weight if class_weights else None
        return lambda said, wanted: functional.binary_cross_entropy_with_logits(said, wanted, pos_weight=given)
    weight = (1 / (len(share) * share.clamp(min=1e-9))).clamp(max=MAX_CLASS_WEIGHT)

    def cross_entropy(said: Tensor, wanted: Tensor) -> Tensor:
        each = -(wanted * said.log_softmax(1))
        return (each * weight).sum() / (wanted * weight).sum() if class_weights else each.sum() / len(wanted)

    return cross_entropy


def _hot(said: Tensor) -> Tensor:
    return functional.one_hot(said.argmax(1), said.shape[1]).float()


def _f1(found: Tensor, wanted: Tensor, over: int) -> Tensor:
    """F1 of 0/1 matrices [m, k]: per class and averaged over those that occur (`over` 0), or of all cells (1)."""
    hit, both = found * wanted, found + wanted
    if over:
        return 2 * hit.sum() / both.sum().clamp(min=1)
    occurs = both.sum(0) > 0
    return torch.as_tensor((2 * hit.sum(0) / both.sum(0).clamp(min=1))[occurs].mean())
