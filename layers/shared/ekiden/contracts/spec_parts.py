"""The parts of a spec that are right by themselves, and the rules across them.

A spec with a fault in one part is still held against the rules, and against a local graph, with all others: its author
learns of everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ekiden.contracts.base import Fault
from ekiden.contracts.spec_features import Feature
from ekiden.contracts.spec_model import ALLOW_LOCAL_SOURCE, Model
from ekiden.contracts.spec_targets import EVERY_LINK, Target
from ekiden.contracts.tasks import MODEL_TASKS

ITS_OWN_ANSWER = "is the target's own property: the model would be told the answer; remove it"

PartT = TypeVar("PartT")
_TARGET: TypeAdapter[Target] = TypeAdapter(Target)
_FEATURE: TypeAdapter[Feature] = TypeAdapter(Feature)
_MODEL: TypeAdapter[Model] = TypeAdapter(Model)


@dataclass(frozen=True, slots=True)
class SpecParts:
    """Targets and features by their number in the spec; ``model`` is ``None`` if there is a fault in it.

    ``names_targets``: the spec has targets, right or wrong; without any it asks for the links of every edge type.
    """

    source: str | None
    targets: Mapping[int, Target]
    features: Mapping[int, Feature]
    model_name: str
    model: Model | None
    names_targets: bool

    @property
    def asked(self) -> Mapping[int, Target]:
        """The targets; in a spec that names none, the links of every edge type."""
        return self.targets if self.names_targets else {0: EVERY_LINK}


def parts_of(document: Any, *, allow_local_source: bool = False) -> SpecParts:
    """What is right in ``document`` (plain data); never raises for what is wrong."""
    plain = document if isinstance(document, dict) else {}
    graph, model = plain.get("graph"), plain.get("model", {})
    source = graph.get("source") if isinstance(graph, dict) else None
    name = model.get("name", Model().name) if isinstance(model, dict) else None
    context = {ALLOW_LOCAL_SOURCE: allow_local_source}
    return SpecParts(
        source=source if isinstance(source, str) else None,
        targets=_right(_TARGET, plain.get("targets"), context),
        features=_right(_FEATURE, plain.get("features"), context),
        model_name=name if isinstance(name, str) else "",
        model=_right(_MODEL, [model], context).get(0),
        names_targets=plain.get("targets") not in (None, []),
    )


def rule_faults(parts: SpecParts) -> list[Fault]:
    """What is wrong across parts: repeated ones, answers among the features, targets that the model cannot do."""
    faults = [*_repeated_targets(parts.targets), *_impossible_targets(parts)]
    seen: dict[tuple[object, str], int] = {}
    for index, feature in parts.features.items():
        path = f"features[{index}]"
        key = (feature.node or feature.edge, feature.property)
        if key in seen:
            faults.append(Fault(path, f"describes the same property as features[{seen[key]}]; remove one of them"))
        if any(feature.node and key == (target.node, target.property) for target in parts.targets.values()):
            faults.append(Fault(path, ITS_OWN_ANSWER))
        seen.setdefault(key, index)
    return faults


def _right(adapter: TypeAdapter[PartT], values: object, context: dict[str, bool]) -> dict[int, PartT]:
    found: dict[int, PartT] = {}
    for index, value in enumerate(values if isinstance(values, list) else []):
        try:
            found[index] = adapter.validate_python(value, context=context)
        except ValidationError:
            continue
    return found


def _repeated_targets(targets: Mapping[int, Target]) -> Iterator[Fault]:
    seen: dict[tuple[object, ...], int] = {}
    for index, target in targets.items():
        key = (target.node or target.edge, target.property)
        if key in seen:
            yield Fault(f"targets[{index}]", f"predicts the same as targets[{seen[key]}]; remove one of them")
        seen.setdefault(key, index)


def _impossible_targets(parts: SpecParts) -> Iterator[Fault]:
    """Targets that the named model cannot be trained for."""
    able = MODEL_TASKS.get(parts.model_name)
    if able is None:
        return
    for index, target in parts.asked.items():
        if target.task not in able:
            others = ", ".join(name for name, tasks in MODEL_TASKS.items() if target.task in tasks)
            where = f"targets[{index}]" if parts.names_targets else "a spec without targets"
            yield Fault("model.name", f"{parts.model_name} cannot do {target.task} ({where}); use one of {others}")
