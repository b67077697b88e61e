"""``model-hpo-configuration.json``: which hyper-parameters a search may vary, and within which bounds.

Format: "Structure of the model-HPO-configuration.json file" in the Amazon Neptune user guide. Data processing writes
it, people edit it in place, a search reads it: in the training job, or as ranges of a SageMaker tuning job. Real files
hold numbers as texts (``"3"``), so texts are taken where a number is meant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ekiden.contracts.base import DocumentError, Fault, kind_of, shorten
from ekiden.contracts.hpo_metric import EvalMetric, read_metric
from ekiden.contracts.hpo_names import name_faults

HPO_FILE: Final = "model-hpo-configuration.json"
"""The name we write; Neptune ML's own files and tools have it in lower case, its user guide has not."""
HPO_NAMES: Final = (HPO_FILE, "model-HPO-configuration.json")
"""The names we read, the first that is there."""
TEMPLATES: Final = "hpo-configuration-templates"
"""Folder beside the file: ``<model>.json`` for every model that fits the targets."""
TIERS: Final = ("1-tier-param", "2-tier-param", "3-tier-param")
FIXED: Final = "fixed-param"
FEW_JOBS, MANY_JOBS = 10, 50
"""Below ten jobs tier 1 is searched, up to fifty tiers 1 and 2, above all three. (Neptune ML does not say what it does
at exactly ten and fifty.)"""
AUTO: Final = "auto"
MAX_BYTES: Final = 1 << 20
MAX_OPTIONS: Final = 30
"""SageMaker takes as many values of a categorical hyper-parameter."""

Plain = bool | int | float | str
_KINDS: Final[Mapping[str, type]] = {"bool": bool, "int": int, "float": float, "str": str, "string": str}
_STRATEGIES: Final = ("linear", "log", "power2")
_SCALES: Final = ("perM", "per10M", "per100M")


@dataclass(frozen=True, slots=True)
class HpoParam:
    """One hyper-parameter: its default, and what a search may choose: ``bounds`` (inclusive) or ``options``.

    ``strategy`` is how values between the bounds are spaced: ``linear`` (in steps of ``step``, if there is one),
    ``log``, ``power2``. ``scale`` is Neptune ML's node_strategy or edge_strategy: kept, but not applied, because how it
    changes a range is not public.
    """

    name: str
    kind: type
    default: str
    bounds: tuple[float, float] | None = None
    options: tuple[str, ...] = ()
    strategy: str = "linear"
    step: float | None = None
    scale: str | None = None

    @property
    def is_searchable(self) -> bool:
        """Whether there is anything to choose from."""
        return len(self.choices) > 1 if self.bounds is None or self.choices else self.bounds[0] < self.bounds[1]

    @property
    def choices(self) -> tuple[str, ...]:
        """The values one by one, where they can be counted: options, true and false, powers of two."""
        if self.options:
            return self.options
        if self.kind is bool:
            return ("true", "false")
        if self.bounds is not None and self.strategy == "power2":
            low, high = self.bounds
            powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
            return tuple(self.text(float(2**power)) for power in powers) or tuple(map(self.text, self.bounds))
        return ()

    def text(self, value: float) -> str:
        """A number as SageMaker delivers it."""
        return str(round(value)) if self.kind is int else repr(float(value))


@dataclass(frozen=True, slots=True)
class HpoModel:
    """The one model of a configuration: three tiers of hyper-parameters and the fixed ones."""

    model: str
    task_type: str
    metric: EvalMetric
    frequency: tuple[str, float]
    tiers: tuple[tuple[HpoParam, ...], ...]
    fixed: tuple[HpoParam, ...] = ()
    source: str = field(default=HPO_FILE, compare=False)

    def tuned(self, jobs: int) -> tuple[HpoParam, ...]:
        """What a search of so many training jobs varies."""
        count = 1 if jobs < FEW_JOBS else 2 if jobs <= MANY_JOBS else 3
        return tuple(param for tier in self.tiers[:count] for param in tier if param.is_searchable)

    def untuned(self, jobs: int) -> dict[str, str]:
        """The defaults of everything else, as SageMaker delivers them."""
        tuned = {param.name for param in self.tuned(jobs)}
        return {p.name: p.default for group in (*self.tiers, self.fixed) for p in group if p.name not in tuned}


def load_hpo(text: str | bytes, source: str = HPO_FILE) -> HpoModel:
    """The configuration from JSON text, held against what its model has.

    Raises:
        DocumentError: every fault with its path, such as ``models[0].1-tier-param[2].range[1]``.
    """
    if len(text) > MAX_BYTES:
        raise DocumentError([Fault("", f"{source} has more than {MAX_BYTES:,} bytes")])
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError([Fault("", f"{source} is not JSON: {str(error)[:100]}")]) from None
    faults: tuple[Fault, ...] = ()
    try:
        model = parse_hpo(document, source)
    except DocumentError as error:
        faults = error.faults
        if any(fault.path in {"models", "models[0]"} for fault in faults):
            raise
    said = {fault.path for fault in faults}
    if faults := (*faults, *(f for f in name_faults(document, (*TIERS, FIXED)) if f.path not in said)):
        raise DocumentError(faults)
    return model


def parse_hpo(document: Any, source: str = HPO_FILE) -> HpoModel:
    """The configuration from plain data, its form alone. Raises as ``load_hpo``."""
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, list):
        raise DocumentError([Fault("models", f"must be a list of one model; found {kind_of(models)}")])
    if len(models) != 1:
        raise DocumentError([Fault("models", f"must hold exactly one model; found {len(models)}")])
    entry, faults, path = models[0], list[Fault](), "models[0]"
    if not isinstance(entry, dict):
        raise DocumentError([Fault(path, f"must be a mapping; found {kind_of(entry)}")])
    texts = {name: _text(entry, name, path, faults) for name in ("model", "task_type")}
    metric = read_metric(entry.get("eval_metric"), f"{path}.eval_metric", faults)
    frequency = _frequency(entry.get("eval_frequency"), f"{path}.eval_frequency", faults)
    groups = [_group(entry, name, path, faults) for name in (*TIERS, FIXED)]
    seen: dict[str, str] = {}
    for name, group in zip((*TIERS, FIXED), groups, strict=True):
        for index, param in enumerate(group):
            where = f"{path}.{name}[{index}]"
            if param.name in seen:
                faults.append(Fault(f"{where}.param", f"{shorten(param.name)} stands in {seen[param.name]} already"))
            seen.setdefault(param.name, where)
    if faults:
        raise DocumentError(faults)
    return HpoModel(texts["model"], texts["task_type"], metric, frequency, tuple(groups[:3]), groups[3], source)


def _text(entry: Mapping[str, Any], name: str, path: str, faults: list[Fault]) -> str:
    value = entry.get(name)
    if isinstance(value, str) and 0 < len(value) <= 64:
        return value
    faults.append(Fault(f"{path}.{name}", f"must be a text; found {kind_of(value)}"))
    return ""


def _frequency(value: Any, path: str, faults: list[Fault]) -> tuple[str, float]:
    kinds = ("evaluate_every_epoch", "evaluate_every_pct", "evaluate_every_batch")
    if value is None:
        return kinds[0], 1.0
    if not isinstance(value, dict) or value.get("type") not in kinds:
        faults.append(Fault(path, f"must be a mapping with type: one of {', '.join(kinds)}"))
        return kinds[0], 1.0
    number = _number(value.get("value", 1), f"{path}.value", faults)
    if number is not None and number <= 0:
        faults.append(Fault(f"{path}.value", "must be above 0"))
    return str(value["type"]), number or 1.0


def _group(entry: Mapping[str, Any], name: str, path: str, faults: list[Fault]) -> tuple[HpoParam, ...]:
    params = entry.get(name)
    if not isinstance(params, list):
        found = "nothing" if params is None else kind_of(params)
        faults.append(Fault(f"{path}.{name}", f"must be a list of hyper-parameters, [] for none; found {found}"))
        return ()
    read = (_param(param, f"{path}.{name}[{index}]", faults, name == FIXED) for index, param in enumerate(params))
    return tuple(param for param in read if param is not None)


def _param(value: Any, path: str, faults: list[Fault], fixed: bool) -> HpoParam | None:
    before = len(faults)
    if not isinstance(value, dict):
        faults.append(Fault(path, f"must be a mapping; found {kind_of(value)}"))
        return None
    name, kind = value.get("param"), _KINDS.get(str(value.get("type", "str")))
    if not isinstance(name, str) or not 0 < len(name) <= 256:
        faults.append(Fault(f"{path}.param", f"must be the name of a hyper-parameter; found {kind_of(name)}"))
        name = ""
    if kind is None:
        faults.append(Fault(f"{path}.type", f"{shorten(value.get('type'))} is none of bool, int, float, str"))
        kind = str
    default = ""
    if "default" in value:
        default = _value(value["default"], kind, f"{path}.default", faults)
    else:
        faults.append(Fault(f"{path}.default", "required field is missing"))
    options = _options(value.get("options"), kind, f"{path}.options", faults)
    strategy = str(value.get("inc_strategy") or "linear")
    if strategy not in _STRATEGIES:
        faults.append(Fault(f"{path}.inc_strategy", f"{shorten(strategy)} is none of {', '.join(_STRATEGIES)}"))
    bounds = _bounds(value, kind, strategy, path, faults)
    if not fixed and bounds is None and not options and kind is not bool:
        if len(faults) == before:
            faults.append(Fault(path, "give range: [min, max] or options: [...]; what has neither is a fixed-param"))
    elif bounds is not None and options:
        faults.append(Fault(path, "give either range or options, not both"))
    step = None
    if value.get("inc_val") is not None:
        step = _number(value["inc_val"], f"{path}.inc_val", faults)
        if step is not None and step <= 0:
            faults.append(Fault(f"{path}.inc_val", "must be above 0"))
    scale = _scale(value, path, faults)
    if len(faults) > before:
        return None
    return HpoParam(name, kind, default, bounds, options, strategy, step if strategy == "linear" else None, scale)


def _scale(value: Mapping[str, Any], path: str, faults: list[Fault]) -> str | None:
    for what in ("node_strategy", "edge_strategy"):
        if value.get(what) is not None:
            if value[what] not in _SCALES:
                faults.append(Fault(f"{path}.{what}", f"{shorten(value[what])} is none of {', '.join(_SCALES)}"))
            return f"{what.partition('_')[0]}:{value[what]}"
    return None


def _bounds(
    value: Mapping[str, Any], kind: type, strategy: str, path: str, faults: list[Fault]
) -> tuple[float, float] | None:
    given, where = value.get("range"), f"{path}.range"
    if given is None or kind is bool:
        return None
    if kind is str:
        faults.append(Fault(where, "a text has options, no range"))
        return None
    if not isinstance(given, list) or len(given) != 2:
        faults.append(Fault(where, "must be two numbers: [min, max]"))
        return None
    low, high = (_number(end, f"{where}[{index}]", faults) for index, end in enumerate(given))
    if low is None or high is None:
        return None
    if low > high:
        faults.append(Fault(where, f"min {low:g} is above max {high:g}"))
    elif strategy != "linear" and low <= 0:
        faults.append(Fault(f"{where}[0]", f"must be above 0 for inc_strategy {strategy}"))
    elif kind is int and not (low.is_integer() and high.is_integer()):
        faults.append(Fault(where, "must be whole numbers for type int"))
    else:
        return low, high
    return None


def _options(value: Any, kind: type, path: str, faults: list[Fault]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 0 < len(value) <= MAX_OPTIONS:
        faults.append(Fault(path, f"must be a list of 1 to {MAX_OPTIONS} values"))
        return ()
    return tuple(dict.fromkeys(_value(item, kind, f"{path}[{index}]", faults) for index, item in enumerate(value)))


def _value(value: Any, kind: type, path: str, faults: list[Fault]) -> str:
    """A value as text: lists (``fanout``) as JSON, ``auto`` as it is."""
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    if kind is str or value == AUTO:
        if isinstance(value, str | bool | int | float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        faults.append(Fault(path, f"must be a text; found {kind_of(value)}"))
        return ""
    if kind is bool:
        if str(value).lower() not in {"true", "false", "1", "0"}:
            faults.append(Fault(path, f"must be true or false; found {_found(value)}"))
        return "true" if str(value).lower() in {"true", "1"} else "false"
    number = _number(value, path, faults)
    if number is None:
        return ""
    if kind is int and not number.is_integer():
        faults.append(Fault(path, f"must be a whole number; found {number:g}"))
    return str(round(number)) if kind is int else repr(number)


def _number(value: Any, path: str, faults: list[Fault]) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | str) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    faults.append(Fault(path, f"must be a number; found {_found(value)}"))
    return None


def _found(value: Any) -> str:
    return shorten(value) if isinstance(value, str | int | float) else kind_of(value)
