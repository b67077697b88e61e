"""What every contract model has in common, and how faults in a document are described."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

MAX_ECHO = 80
"""Characters of untrusted input that an error message may repeat."""

_NAME: Final = r"^[a-z0-9](-?[a-z0-9])*$"
_REQUEST_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
_LABEL: Final = r"^[^\x00-\x1f\x7f]+$"
ENDPOINT: Final = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
INSTANCE: Final = r"^ml\.[a-z0-9-]+\.[a-z0-9]+$"

Name = Annotated[str, StringConstraints(pattern=_NAME, max_length=32)]
RequestId = Annotated[str, StringConstraints(pattern=_REQUEST_ID)]
"""It stands in object keys: it begins with a letter or digit, so that it is never ``.`` or ``..``."""
Label = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_LABEL)]

_HYPHENATED: Final = "letters, digits and single hyphens"
_PATTERNS: Final[Mapping[str, str]] = {
    _NAME: f"use lower-case {_HYPHENATED}, such as {{example}}",
    ENDPOINT: f"use {_HYPHENATED}, 63 characters at most, such as {{example}}",
    _REQUEST_ID: "use letters, digits and _ . : - after a letter or digit, 128 characters at most",
    _LABEL: "use no tabs, line breaks or other control characters",
    INSTANCE: "use the name of a SageMaker instance type, such as ml.m5.xlarge",
}
"""What a text that does not match should be like; ``{example}`` is made of the text that was found."""


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


def kind_of(value: object) -> str:
    """What ``value`` is, in words of YAML and JSON: ``nothing``, ``a list``, ``a text``."""
    if value is None:
        return "nothing"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", dict: "a mapping"}
    return kinds.get(type(value)) or ("a list" if isinstance(value, list | tuple | set) else type(value).__name__)


def faults_of(error: ValidationError, model: type[BaseModel] | None = None) -> tuple[Fault, ...]:
    """Every fault pydantic found, in words that do not repeat more than ``MAX_ECHO`` of the input.

    With the ``model`` that was validated, an unknown field comes with the known one that is meant.
    """
    return tuple(
        fault
        for detail in error.errors(include_url=False, include_context=True)
        for fault in _faults(dict(detail), model)
    )


def _faults(detail: dict[str, Any], model: type[BaseModel] | None) -> tuple[Fault, ...]:
    reason = detail.get("ctx", {}).get("error")
    if isinstance(reason, DocumentError):  # a rule across fields, which knows the paths it is about
        return reason.faults
    location = tuple(step for i, step in enumerate(detail["loc"]) if not _is_union_tag(detail["loc"], i))
    if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        location += (str(detail["ctx"]["discriminator"]).strip("'"),)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1]) if model else []
        return (Fault(path_of(location), _unknown_field(str(detail["loc"][-1]), known)),)
    return (Fault(path_of(location), _message(detail)),)


_WANTED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping (key: value)",
    "model": "a mapping (key: value)",
}
"""What a field wants, by the first word of pydantic's error type (``int_parsing``, ``list_type``, …)."""


def _message(detail: dict[str, Any]) -> str:
    context, kind, found = detail.get("ctx", {}), detail["type"], detail["input"]
    wanted, _, what = kind.partition("_")
    if kind in {"missing", "union_tag_not_found"}:
        return "required field is missing"
    if kind == "string_pattern_mismatch":
        return _mismatch(str(found), str(context.get("pattern", "the pattern")))
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    if kind in {"union_tag_invalid", "literal_error", "enum"}:
        return _not_supported(context.get("tag", found), str(context.get("expected_tags") or context.get("expected")))
    if wanted in _WANTED and what in {"type", "parsing", "from_float", "attributes_type"}:
        detailed = shorten(found) if isinstance(found, str | int | float) else kind_of(found)
        return f"must be {_WANTED[wanted]}; found {detailed}"
    if kind in {"too_short", "too_long"}:
        bound = "at least" if kind == "too_short" else "at most"
        limit = context.get("min_length", context.get("max_length"))
        return f"takes {bound} {limit} of them; found {context.get('actual_length')}"
    plain = str(detail["msg"]).replace("Input should be", "must be").replace("String should have", "must have")
    return f"{plain} (found {shorten(found)})"


def _mismatch(found: str, pattern: str) -> str:
    if pattern not in _PATTERNS:
        return f"{shorten(found)} does not match {pattern}"
    example = re.sub(r"[^a-z0-9]+", "-", found[:MAX_ECHO].lower()).strip("-")[:32].rstrip("-") or "my-graph"
    return f"{_PATTERNS[pattern].format(example=example)}; found {shorten(found)}"


def _not_supported(found: object, expected: str) -> str:
    several = "," in expected or " or " in expected
    if isinstance(found, str) and found == expected:
        return f"write {expected} without quotes: it is a number"
    what = kind_of(found) if found is None or isinstance(found, list | dict) else shorten(found)
    return f"{what} is not supported; use {'one of ' if several else ''}{expected}"


def _unknown_field(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name[:MAX_ECHO].lower().replace("-", "_"), known, n=1)
    if near:
        return f"unknown field; did you mean {near[0]}?"
    hint = f" (it may have {', '.join(known)})" if known else ""
    return f"unknown field; remove it or correct its spelling{hint}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the mapping at ``location`` may have; steps through lists and keys change nothing."""
    models = [model]
    for step in location:
        if step in _UNION_TAGS:
            models = [m for m in models if step in _tags(m)] or models
        elif inside := [m.model_fields[step] for m in models if isinstance(step, str) and step in m.model_fields]:
            models = [found for field in inside for found in _models(field.annotation)]
    return list(dict.fromkeys(name for found in models for name in found.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models(part)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


_UNION_TAGS = frozenset(
    {
        "auto",
        "bucket_numerical",
        "category",
        "datetime",
        "none",
        "numerical",
        "text_fasttext",
        "text_sbert",
        "text_sbert128",
        "text_sbert512",
        "text_tfidf",
        "text_word2vec",
        "word2vec",
    }
)
"""Tags of discriminated unions (types of features): pydantic adds them to the location, the document does not."""


def _is_union_tag(location: tuple[int | str, ...], index: int) -> bool:
    # The unions are elements of lists: elsewhere the same word is a key of the document.
    return index > 0 and isinstance(location[index - 1], int) and location[index] in _UNION_TAGS
