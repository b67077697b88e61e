"""Checks requests against botocore's own model of SageMaker, with SageMaker's texts.

botocore's ParamValidator checks types, required members and lower bounds only; the service also enforces upper
bounds, patterns and enums, and names members in its own way. Unknown members are ignored, as the service does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from .errors import ApiError, clip, validation

_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, str),
}
# Smithy patterns are Java's; these are the classes that Python's re lacks.
_CLASSES = {
    r"\p{L}": "a-zA-Z\u00aa-\uffff",
    r"\p{Z}": r"\s",
    r"\p{N}": "0-9",
    r"\p{ASCII}": r"\x00-\x7f",
    r"\p{Print}": r"\x20-\x7e",
}


@lru_cache(maxsize=1)
def service_model() -> ServiceModel:
    """botocore's description of the SageMaker API."""
    return botocore.session.get_session().get_service_model("sagemaker")


def operation(name: str) -> OperationModel | None:
    """The operation's model, None where SageMaker has no such operation."""
    model = service_model()
    return model.operation_model(name) if name in model.operation_names else None


def check(name: str, request: dict[str, Any]) -> None:
    """Raise ApiError for a request that SageMaker would refuse by its shape alone."""
    model = operation(name)
    shape = model.input_shape if model is not None else None
    if shape is None:
        return
    faults = list(_faults(shape, request, ""))
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected: "
        raise validation(count + "; ".join(faults[:10]))


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        _expect(isinstance(value, dict), "a structure", path)
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _faults(member, value[name], _join(path, name))
    elif isinstance(shape, ListShape):
        _expect(isinstance(value, list), "a list", path)
        yield from _length(shape, value, path)
        for number, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        _expect(isinstance(value, dict), "a map", path)
        yield from _length(shape, value, path)
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{path}.key")
            yield from _faults(shape.value, item, f"{path}.{clip(key, 64)}.value")
    else:
        yield from _scalar(shape, value, path)


def _scalar(shape: Shape, value: Any, path: str) -> Iterator[str]:
    expected = _SCALARS.get(shape.type_name)
    if expected is None:
        return
    _expect(
        isinstance(value, expected) and (bool in expected or not isinstance(value, bool)),
        shape.type_name,
        path,
    )
    if shape.type_name == "string":
        too_long = list(_length(shape, value, path))
        yield from too_long
        enum = getattr(shape, "enum", None)
        pattern = _pattern(shape.metadata.get("pattern", ""))
        if enum and value not in enum:
            yield _fault(value, path, f"satisfy enum value set: [{', '.join(enum)}]")
        elif pattern and not too_long and not pattern.fullmatch(value):
            yield _fault(value, path, f"satisfy regular expression pattern: {shape.metadata['pattern']}")
    elif shape.type_name != "timestamp":
        yield from _bounds(shape, value, value, path, "value")


def _length(shape: Shape, value: Any, path: str) -> Iterator[str]:
    yield from _bounds(shape, len(value), value, path, "length")


def _bounds(shape: Shape, size: float, value: Any, path: str, what: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _fault(value, path, f"have {what} greater than or equal to {low}")
    if high is not None and size > high:
        yield _fault(value, path, f"have {what} less than or equal to {high}")


def _fault(value: Any, path: str, rule: str) -> str:
    return f"Value '{clip(str(value))}' at '{path}' failed to satisfy constraint: Member must {rule}"


def _expect(ok: bool, what: str, path: str) -> None:
    if not ok:
        raise ApiError("SerializationException", f"The value at '{path or '/'}' must be {what}.")


def _join(path: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str] | None:
    for java, python in _CLASSES.items():
        bracketed = re.search(rf"\[[^\]]*{re.escape(java)}", text)
        text = text.replace(java, python if bracketed else f"[{python}]")
    try:
        return re.compile(text.replace(r"\z", r"\Z")) if text else None
    except re.error:
        return None  # a pattern that only Java understands is left to the real service
