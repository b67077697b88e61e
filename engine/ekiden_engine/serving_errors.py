"""What a caller is told when a request cannot be answered."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from ekiden_engine.errors import MAX_UNTRUSTED, quoted


class BadRequest(Exception):
    """The caller's fault: `code` is UPPER_SNAKE, the message says where and what to do."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        """`status`: of the HTTP answer."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def invalid(path: str, message: str) -> BadRequest:
    """INVALID_PAYLOAD at `path` of the JSON document."""
    return BadRequest("INVALID_PAYLOAD", f"{path}: {message}")


def expected(path: str, what: str, value: Any) -> BadRequest:
    """INVALID_PAYLOAD: something else than `what` stands at `path`."""
    return invalid(path, f"expected {what}; found {named(value)}")


def named(value: Any) -> str:
    """A value of a JSON document as an error may name it, so that 3 and "3" are told apart."""
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, list | tuple | dict):
        return "an object" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else _cut(json.dumps(value))


def known_members(given: Iterable[str], known: tuple[str, ...], at: str) -> None:
    """Refuse an object's members that are none of `known`: a misspelt one would not count, and nobody would notice.

    `at`: the object's path with a dot behind it. Raises `BadRequest` INVALID_PAYLOAD with the member that is meant.
    """
    for name in given:
        if name not in known:
            raise invalid(f"{at}{member(name)}", f"unknown member; {_meant(name, known)}")


def member(name: str) -> str:
    """A member's name as it may stand in a path."""
    return name if len(name) <= MAX_UNTRUSTED and name.isprintable() else quoted(name)


def _meant(name: str, known: tuple[str, ...]) -> str:
    plain = {_plain(one): one for one in reversed(known)}
    near = difflib.get_close_matches(_plain(name[:MAX_UNTRUSTED]), plain, n=1)
    return f"did you mean {plain[near[0]]}?" if near else f"there are {', '.join(known)}"


def _plain(name: str) -> str:
    """Without what spellings differ in: `topK`, `node_type`."""
    return name.casefold().replace("_", "").replace("-", "")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_UNTRUSTED else f"{text[:MAX_UNTRUSTED]}…"
