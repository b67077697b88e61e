"""Hyperparameters: SageMaker delivers strings, models want typed, checked values.

What there is, and what it accepts, stands in `ekiden.contracts.hyperparameters`. A model declares a frozen
dataclass whose fields are made by `setting`; `read_settings` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Any, TypeVar

from ekiden.contracts.hyperparameters import AUTO, HYPERPARAMETERS, hyperparameter_faults
from ekiden_engine.errors import BadData

SettingsT = TypeVar("SettingsT")


def setting(model: str, name: str) -> Any:
    """Declare a dataclass field for hyperparameter `name` of `model`; the field is None where it is `auto`."""
    entry = HYPERPARAMETERS[model][name]
    return field(default=entry.default, metadata={"hyperparameter": entry})


def read_settings(cls: type[SettingsT], model: str, given: Mapping[str, str]) -> SettingsT:
    """Make `cls` from hyperparameters as strings.

    Raises `BadData` BAD_HYPERPARAMETERS, naming each that is unknown, not a number, or out of range.
    """
    faults = hyperparameter_faults(model, given)
    if faults:
        raise BadData("BAD_HYPERPARAMETERS", "; ".join(map(str, faults)))
    entries = {f.metadata["hyperparameter"].name: f for f in fields(cls)}  # type: ignore[arg-type]
    known = {name: text for name, text in given.items() if name in entries}
    values = {entries[name].name: entries[name].metadata["hyperparameter"].parse(text) for name, text in known.items()}
    return cls(**values)


def decided(settings: SettingsT, **defaults: bool | int | float | str) -> SettingsT:
    """The settings, with what `auto` means in this task in place of each field that is None."""
    chosen: Any = {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    return replace(settings, **chosen)  # type: ignore[type-var]


def as_hyperparameters(settings: object) -> dict[str, str]:
    """The settings as SageMaker would deliver them: public name to string."""
    found = {}
    for f in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, f.name)
        text = AUTO if value is None else str(value).lower() if isinstance(value, bool | str) else f"{value:g}"
        found[f.metadata["hyperparameter"].name] = str(value) if isinstance(value, int) and value > 9999 else text
    return found
