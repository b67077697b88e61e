"""YAML as a data format and nothing more: no tags, anchors, aliases or duplicate keys, bounded in size and depth.

``yaml.safe_load`` alone expands alias bombs and silently keeps the last of two equal keys.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from ekiden.contracts.base import DocumentError, Fault, shorten

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NUMBER = 64
"""Characters of a number: YAML's base-60 and hexadecimal integers would cost quadratic time, and crash on print."""
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not allowed"
        elif getattr(event, "anchor", None):
            problem = "anchors (&name) are not allowed"
        elif getattr(event, "tag", None):
            problem = "tags (!name) are not allowed"
        elif self.depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
        else:
            node = super().compose_node(parent, index)
            self.depth -= 1
            if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MAX_NUMBER:
                raise yaml.MarkedYAMLError(
                    problem=f"a number has at most {MAX_NUMBER} characters", problem_mark=node.start_mark
                )
            return node
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.tag == "tag:yaml.org,2002:merge":
                    raise yaml.MarkedYAMLError(problem="merge keys (<<) are not allowed", problem_mark=key.start_mark)
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {shorten(key.value)} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The plain data (dict, list, str, number, bool, date, None) that ``text`` holds.

    Raises:
        DocumentError: not YAML, too large or deep, or it uses an anchor, alias, tag or duplicate key; the
            fault's path is ``line L, column C``.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise DocumentError([Fault("", f"the document is larger than {MAX_BYTES // 1024} KiB")])
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader, restricted further
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DocumentError([Fault(where, error.problem or "is not YAML")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError([Fault("", f"is not YAML: {shorten(str(error))}")]) from None
