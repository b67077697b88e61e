"""Adam with L2 terms given as plain gradients.

Not `torch.optim`: its first step imports the compiler stack (over a second), and L2 through autograd costs
eight small operations per table where one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A tensor to train, and its L2 weights: the penalty is `sum(weight * value²)`.

    `weight` is a float32 tensor that broadcasts to the value's shape, or a number.
    """

    value: Tensor
    weight: Tensor | float


class Adam:
    """Kingma and Ba 2015, algorithm 1. The penalty counts as part of the loss, not as decoupled decay."""

    def __init__(self, parameters: Sequence[Parameter], lr: float) -> None:
        """`lr` may be changed between steps."""
        self.lr = lr
        self._parameters = parameters
        self._first = [torch.zeros_like(p.value) for p in parameters]
        self._second = [torch.zeros_like(p.value) for p in parameters]
        self.steps = 0

    def moments(self) -> dict[str, list[Tensor]]:
        """The running means, per parameter."""
        return {"first": self._first, "second": self._second}

    def resume(self, steps: int, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Go on after so many steps, with what `moments` gave then."""
        self.steps, self._first, self._second = steps, list(first), list(second)

    def step(self) -> None:
        """Move every parameter along its gradient, and forget the gradient."""
        self.steps += 1
        correct_first = 1 - BETAS[0] ** self.steps
        correct_second = 1 - BETAS[1] ** self.steps
        with torch.no_grad():
            for parameter, first, second in zip(self._parameters, self._first, self._second, strict=True):
                value = parameter.value
                if value.grad is None:
                    continue
                gradient = value.grad.addcmul_(value, torch.as_tensor(parameter.weight, device=value.device), value=2)
                first.lerp_(gradient, 1 - BETAS[0])
                second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                scale = second.sqrt().mul_(correct_second**-0.5).add_(EPSILON)
                value.addcdiv_(first, scale, value=-self.lr / correct_first)
                value.grad = None
