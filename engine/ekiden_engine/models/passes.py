"""One pass through a training loop of torch models among the checkpoints, so that a long one need not begin anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any, Final

import torch
from torch import Tensor

from ekiden_engine.checkpoints import Array, Checkpoints
from ekiden_engine.models.base import CurvePoint, Step
from ekiden_engine.models.device import array_of, on
from ekiden_engine.models.optimizer import Adam, Parameter

LONG_EPOCH: Final = 20.0
"""Seconds after which an epoch is broken off by a request to stop: the rest of the 120 is for saving."""


def breaks_off(began: float, stop_requested: Callable[[], bool]) -> bool:
    """Whether an epoch that `began` then (`time.perf_counter`) should not be finished. A resumed job does it again."""
    return time.perf_counter() - began > LONG_EPOCH and stop_requested()


class Pass:
    """The pass `name`: where an earlier start of the job left it, and its state from now on.

    Of the loop's own: `document` (JSON) and `tensors` by name, as they were given to `keep`.
    """

    def __init__(self, checkpoints: Checkpoints, name: str) -> None:
        """Looks for a state of an earlier start."""
        self._checkpoints = checkpoints
        self._name = f"{name}-pass"
        state = checkpoints.load(self._name)
        self.resumed = state is not None
        found: dict[str, Any] = state.document if state is not None else {}
        self.points = tuple(CurvePoint(*point) for point in found.get("points", ()))
        self.document: dict[str, Any] = found.get("own", {})
        self._steps: int = found.get("steps", 0)
        self._arrays: dict[str, Array] = state.arrays if state is not None else {}

    def step(self, step: Step) -> Step:
        """`step`, with the epochs that are told again."""
        return replace(step, resumed=len(self.points))

    def restore(
        self, parameters: Sequence[Parameter], optimizer: Adam, generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """Put parameters, optimizer and random numbers where they were; returns `tensors`, on the CPU."""
        count = range(len(parameters))
        with torch.no_grad():
            for place, parameter in enumerate(parameters):
                parameter.value.copy_(on(parameter.value.device, self._arrays[f"value.{place}"]))
        first, second = (
            [on(parameters[i].value.device, self._arrays[f"{name}.{i}"]) for i in count] for name in ("first", "second")
        )
        optimizer.resume(self._steps, first, second)
        for place, generator in enumerate(generators):
            generator.set_state(torch.from_numpy(self._arrays[f"random.{place}"]))
        own = {name.removeprefix("own."): array for name, array in self._arrays.items() if name.startswith("own.")}
        self._arrays = {}
        return {name: torch.from_numpy(array) for name, array in own.items()}

    def due(self) -> bool:
        """See `Checkpoints.due`."""
        return self._checkpoints.due()

    def keep(
        self,
        points: Sequence[CurvePoint],
        parameters: Sequence[Parameter],
        optimizer: Adam,
        generators: Sequence[torch.Generator],
        document: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> None:
        """Save the state at the end of an epoch."""
        arrays = {f"value.{i}": array_of(parameter.value) for i, parameter in enumerate(parameters)}
        for name, moments in optimizer.moments().items():
            arrays |= {f"{name}.{i}": array_of(moment) for i, moment in enumerate(moments)}
        arrays |= {f"random.{i}": array_of(generator.get_state()) for i, generator in enumerate(generators)}
        arrays |= {f"own.{name}": array_of(tensor) for name, tensor in tensors.items()}
        found = {"points": [astuple(point) for point in points], "steps": optimizer.steps, "own": dict(document)}
        self._checkpoints.save(self._name, found, arrays)

    def done(self) -> None:
        """Forget it: its outcome is kept elsewhere."""
        self._checkpoints.remove(self._name)
