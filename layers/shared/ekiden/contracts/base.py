"""What every contract model has in common, and how faults in a document are described."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

MAX_ECHO = 80
"""Characters of untrusted input that an error message may repeat."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=32)]
RequestId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
"""It stands in object keys: it begins with a letter or digit, so that it is never ``.`` or ``..``."""
Label = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Strict(BaseModel):
    """A document a user or producer writes: unknown fields are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tolerant(BaseModel):
    """A document a consumer reads: unknown fields are ignored, so that producers may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: where (``targets[0].split_rate``), and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class DocumentError(ValueError):
    """A document does not keep its contract; ``faults`` names every place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


def shorten(value: object) -> str:
    """``value`` as it may stand in an error message: escaped and at most ``MAX_ECHO`` characters long."""
    text = repr(value)
    return text if len(text) <= MAX_ECHO else f"{text[: MAX_ECHO - 1]}…"


def path_of(location: tuple[int | str, ...]) -> str:
    """Pydantic's error location as a path in the document: ``("a", 0, "b")`` is ``a[0].b``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{_key(step)}" if path else _key(step)
    return path


def _key(step: str) -> str:
    """A key as it may stand in a path: an unknown field's name is untrusted input too."""
    return step if len(step) <= MAX_ECHO and step.isprintable() else shorten(step)


def faults_of(error: ValidationError) -> tuple[Fault, ...]:
    """Every fault pydantic found, in words that do not repeat more than ``MAX_ECHO`` of the input."""
    return tuple(
        fault for detail in error.errors(include_url=False, include_context=True) for fault in _faults(dict(detail))
    )


def _faults(detail: dict[str, Any]) -> tuple[Fault, ...]:
    reason = detail.get("ctx", {}).get("error")
    if isinstance(reason, DocumentError):  # a rule across fields, which knows the paths it is about
        return reason.faults
    return (_fault(detail),)


def _fault(detail: dict[str, Any]) -> Fault:
    location = tuple(step for i, step in enumerate(detail["loc"]) if not _is_union_tag(detail["loc"], i))
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "extra_forbidden":
        message = "unknown field; remove it or correct its spelling"
    elif kind == "missing":
        message = "required field is missing"
    elif kind == "union_tag_not_found":
        message = f"required field {context.get('discriminator', 'type')} is missing"
    elif kind == "string_pattern_mismatch":
        message = f"{shorten(detail['input'])} does not match {context.get('pattern', 'the pattern')}"
    elif kind == "value_error":
        message = str(context.get("error", detail["msg"]))
    elif kind in {"union_tag_invalid", "literal_error", "enum"}:
        expected = context.get("expected_tags") or context.get("expected")
        found = context.get("tag", detail["input"])
        message = f"{shorten(found)} is not supported; use one of {expected}"
    else:
        message = f"{detail['msg']} (found {shorten(detail['input'])})"
    return Fault(path_of(location), message)


_UNION_TAGS = frozenset({"numerical", "category", "bucket_numerical", "datetime"})
"""Tags of discriminated unions: pydantic adds them to the location, the document does not have them."""


def _is_union_tag(location: tuple[int | str, ...], index: int) -> bool:
    # The unions are elements of lists: elsewhere the same word is a key of the document.
    return index > 0 and isinstance(location[index - 1], int) and location[index] in _UNION_TAGS
