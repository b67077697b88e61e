"""AddTags, DeleteTags and ListTags, for every kind of resource."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .errors import validation
from .records import Record
from .table import Table

Request = dict[str, Any]


def to_tags(pairs: list[dict[str, str]]) -> dict[str, str]:
    """``[{"Key", "Value"}]`` as a dict."""
    return {pair["Key"]: pair["Value"] for pair in pairs}


class TagApi:
    """Tags of whatever has an ARN here. ARNs are compared without regard to case."""

    def __init__(self, tables: Sequence[Table[Any]]) -> None:
        self._tables = tables

    def operations(self) -> dict[str, Callable[[Request], Request]]:
        """What this part of the API serves."""
        return {"AddTags": self.add, "DeleteTags": self.delete, "ListTags": self.list}

    def add(self, request: Request) -> Request:
        """AddTags: new keys are added, known ones overwritten."""
        new = to_tags(request["Tags"])
        return self._change(request["ResourceArn"], lambda tags: {**tags, **new})

    def delete(self, request: Request) -> Request:
        """DeleteTags."""
        gone = set(request["TagKeys"])
        self._change(request["ResourceArn"], lambda tags: {k: v for k, v in tags.items() if k not in gone})
        return {}

    def list(self, request: Request) -> Request:
        """ListTags, all at once: a resource has 50 at most."""
        _, record = self._find(request["ResourceArn"])
        return {"Tags": _pairs(record.tags)}

    def _change(self, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> Request:
        table, record = self._find(arn)

        def apply(old: Record) -> Record:
            tags = change(old.tags)
            if len(tags) > 50:
                raise validation(f"A resource has at most 50 tags, not {len(tags)}")
            return replace(old, tags=tags)

        return {"Tags": _pairs(table.update(record.name, apply).tags)}

    def _find(self, arn: str) -> tuple[Table[Any], Record]:
        for table in self._tables:
            for record in table.all():
                if record.arn.lower() == arn.lower():
                    return table, record
        raise validation(f"Could not find resource {arn[:200]}")


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
