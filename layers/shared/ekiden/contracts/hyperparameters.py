"""The hyperparameters of each model: names, types, ranges, defaults and meanings, in one place.

``ekiden validate``, ``POST /runs`` and the training job all check against this table; docs/hyperparameters.md lists it.
Names are Neptune ML's where it has them. Values are checked as text, because SageMaker delivers text.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ekiden.contracts.base import Fault, path_of, shorten

Value = bool | int | float | None
"""A hyperparameter as the engine uses it; None is ``auto``."""

AUTO: Final = "auto"
PLATFORM_PREFIX: Final = "sagemaker_"
"""Keys that the SageMaker SDK adds by itself; they are none of the model's."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One entry: its kind is ``bool``, ``int`` or ``float``, its bounds are inclusive, ``auto`` is a value or not."""

    name: str
    default: Value
    meaning: str
    minimum: float = 0
    maximum: float = 0
    kind: type[bool] | type[int] | type[float] = float
    auto: bool = False

    @property
    def accepted(self) -> str:
        """What it takes, in words: ``a whole number from 1 to 1024``."""
        if self.kind is bool:
            return "true or false"
        kind = "a whole number" if self.kind is int else "a number"
        return f"{kind} from {self.minimum:.10g} to {self.maximum:.10g}" + (f", or {AUTO}" if self.auto else "")

    def parse(self, text: str) -> Value:
        """The value that ``text`` stands for; it may be quoted, as the SageMaker SDK does.

        Raises:
            ValueError: it is not ``accepted``.
        """
        plain = text.strip().strip('"').lower()
        if self.kind is bool:
            if plain not in {"true", "false", "1", "0"}:
                raise self._refused(text)
            return plain in {"true", "1"}
        if self.auto and plain == AUTO:
            return None
        try:
            number = float(plain)
        except ValueError:
            raise self._refused(text) from None
        if not math.isfinite(number) or not self.minimum <= number <= self.maximum:
            raise self._refused(text)
        if self.kind is int and not number.is_integer():
            raise self._refused(text)
        return int(number) if self.kind is int else number

    def _refused(self, text: str) -> ValueError:
        return ValueError(f"must be {self.accepted}, not {shorten(text.strip())}")


RGCN: Final = (
    Hyperparameter(
        "num-hidden", 32, "Width of a node's vector; wider learns finer taste and takes longer", 1, 1024, int
    ),
    Hyperparameter(
        "num-epochs", 60, "Most passes over the training edges; early stopping usually ends it", 1, 10_000, int
    ),
    Hyperparameter("lr", 0.002, "Learning rate of Adam; halved every 20 epochs", 1e-6, 1),
    Hyperparameter("dropout", 0.0, "Share of a vector's entries that are hidden in each step", 0, 0.9),
    Hyperparameter(
        "batch-size",
        None,
        "Training edges per step; auto takes a sixteenth of them, 64 at least",
        1,
        100_000_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "regularization-coef",
        None,
        "Strength of the L2 penalty; auto tries 1, 3 and 9 on the validation edges",
        0,
        10_000,
        auto=True,
    ),
    Hyperparameter("enable-early-stop", True, "Stop once the validation edges get no better", kind=bool),
    Hyperparameter("window-for-early-stop", 6, "Epochs without improvement before that", 1, 10_000, int),
    Hyperparameter(
        "seed", 0, "Seed of the split and of the first member; the same seed, the same model", 0, 2**31 - 1, int
    ),
    Hyperparameter("seeds", 6, "Members of the ensemble, trained with consecutive seeds and averaged", 1, 64, int),
)

HYPERPARAMETERS: Final[Mapping[str, Mapping[str, Hyperparameter]]] = {
    model: {entry.name: entry for entry in entries} for model, entries in {"rgcn": RGCN, "mf": RGCN}.items()
}
"""Model to name to entry."""


def as_text(value: bool | int | float | str) -> str:
    """A value of a spec as SageMaker delivers it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def hyperparameter_faults(model: str, given: Mapping[str, bool | int | float | str]) -> tuple[Fault, ...]:
    """Everything wrong with ``given``, each with its path in the spec; nothing about a model that is unknown."""
    table = HYPERPARAMETERS.get(model)
    if table is None:
        return ()
    faults = []
    for name, value in given.items():
        if name.startswith(PLATFORM_PREFIX):
            continue
        path = path_of(("model", "hyperparameters", name))
        if name not in table:
            faults.append(Fault(path, _unknown(name, model, table)))
            continue
        try:
            table[name].parse(as_text(value))
        except ValueError as error:
            faults.append(Fault(path, str(error)))
    return tuple(faults)


def _unknown(name: str, model: str, table: Mapping[str, Hyperparameter]) -> str:
    wanted = name.lower().replace("_", "-")
    near = difflib.get_close_matches(wanted, table, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(table))}"
    return f"{model} has no such hyperparameter; {hint}"
