"""Hyperparameters: SageMaker delivers strings, models want typed, checked values.

A model declares a frozen dataclass whose fields are made by `setting`; `read_settings` fills it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ekiden_engine.errors import BadData, quoted

AUTO = "auto"
PLATFORM_PREFIX = "sagemaker_"
"""Keys that the SageMaker SDK adds by itself; they are none of the model's."""

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a hyperparameter accepts: its public `name`, inclusive bounds, and whether `auto` is a value."""

    name: str
    minimum: float
    maximum: float
    auto: bool


def setting(name: str, default: Any, minimum: float = 0, maximum: float = 0, *, auto: bool = False) -> Any:
    """Declare a dataclass field for hyperparameter `name`; its kind is that of `default` (bool, int or
    float).

    With `auto`, the field is None where the user wrote `auto` or nothing, and is a float otherwise.
    """
    return field(default=default, metadata={"rule": Rule(name, minimum, maximum, auto)})


def read_settings(cls: type[SettingsT], given: Mapping[str, str]) -> SettingsT:
    """Make `cls` from hyperparameters as strings.

    Raises `BadData` BAD_HYPERPARAMETERS, naming the hyperparameter: unknown, not a number, out of range.
    """
    rules = {f.metadata["rule"].name: f for f in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name.startswith(PLATFORM_PREFIX):
            continue
        known = rules.get(name)
        if known is None:
            raise _bad(f"{quoted(name)} is unknown; known are {', '.join(sorted(rules))}")
        values[known.name] = _value(known.metadata["rule"], text.strip().strip('"'), known.default)
    return cls(**values)


def as_hyperparameters(settings: object) -> dict[str, str]:
    """The settings as SageMaker would deliver them: public name to string."""
    found = {}
    for f in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, f.name)
        text = AUTO if value is None else str(value).lower() if isinstance(value, bool) else f"{value:g}"
        found[f.metadata["rule"].name] = str(value) if isinstance(value, int) and value > 9999 else text
    return found


def _value(rule: Rule, text: str, default: Any) -> bool | int | float | None:
    if isinstance(default, bool):
        if text.lower() not in {"true", "false", "1", "0"}:
            raise _bad(f"{rule.name} must be true or false, not {quoted(text)}")
        return text.lower() in {"true", "1"}
    if rule.auto and text.lower() == AUTO:
        return None
    whole = isinstance(default, int)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if whole and not number.is_integer():
        number = math.nan
    if not rule.minimum <= number <= rule.maximum:
        kind = "a whole number" if whole else "a number"
        also = f", or {AUTO}" if rule.auto else ""
        bounds = f"{rule.minimum:.10g} to {rule.maximum:.10g}"
        raise _bad(f"{rule.name} must be {kind} from {bounds}{also}, not {quoted(text)}")
    return int(number) if whole else number


def _bad(detail: str) -> BadData:
    return BadData("BAD_HYPERPARAMETERS", f"model.hyperparameters: {detail}")
