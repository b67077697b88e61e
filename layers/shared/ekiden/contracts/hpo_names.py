"""Whether model-hpo-configuration.json keeps to what its model has: names, kinds, ranges, tasks.

It looks at the document itself, not at what was read of it, so that these faults are told together with those of form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ekiden.contracts.base import Fault, shorten
from ekiden.contracts.hyperparameters import HYPERPARAMETERS, Hyperparameter, as_text, unknown_name
from ekiden.contracts.tasks import MODEL_TASKS, Task

_WHOLE: Final = ("int", "bool", "str", "string")
"""Types whose values are never fractions."""


def name_faults(document: Any, groups: Iterable[str]) -> Iterator[Fault]:
    """What the model of the configuration does not have, or does not take; nothing about a custom model's own.

    ``groups`` are the names of its lists of hyper-parameters. What is of wrong form is passed over.
    """
    entry = document["models"][0]
    table = HYPERPARAMETERS.get(entry["model"]) if isinstance(entry.get("model"), str) else None
    if table is None:
        return
    for group in groups:
        for index, param in enumerate(_listed(entry.get(group))):
            if not isinstance(param, dict) or not isinstance(param.get("param"), str) or not param["param"]:
                continue
            path = f"models[0].{group}[{index}]"
            known = table.get(param["param"])
            if known is None:
                yield Fault(f"{path}.param", unknown_name(param["param"], entry["model"]))
            else:
                yield from _value_faults(param, known, path)


def model_faults(model: str, tasks: Iterable[Task]) -> Iterator[Fault]:
    """What keeps a search from training the ``model`` that a configuration names for ``tasks``."""
    path = "models[0].model"
    if model not in MODEL_TASKS:
        yield Fault(path, f"{shorten(model)} is none of {', '.join(MODEL_TASKS)}")
        return
    for task in dict.fromkeys(tasks):
        if task not in MODEL_TASKS[model]:
            able = ", ".join(name for name, known in MODEL_TASKS.items() if task in known)
            yield Fault(path, f"{model} cannot do {task}; use one of {able}")


def _value_faults(param: Mapping[str, Any], known: Hyperparameter, path: str) -> Iterator[Fault]:
    if known.kind is int and param.get("range") is not None and param.get("type") not in _WHOLE:
        yield Fault(f"{path}.type", f"{known.name} takes whole numbers: write int")
    values = {"default": param.get("default")}
    for name in ("range", "options"):
        values |= {f"{name}[{index}]": value for index, value in enumerate(_listed(param.get(name)))}
    for where, value in values.items():
        if not isinstance(value, bool | int | float | str | list):
            continue
        try:
            known.parse(as_text(str(value) if isinstance(value, list) else value))
        except ValueError as error:
            yield Fault(f"{path}.{where}", str(error))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
