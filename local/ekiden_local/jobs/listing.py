"""Filters, order and pages of the List operations."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from botocore.utils import parse_timestamp

from .errors import validation
from .records import Record

R = TypeVar("R", bound=Record)

_DEFAULT_PAGE = 10  # SageMaker's default for MaxResults


def page(
    records: Iterable[R],
    request: dict[str, Any],
    *,
    status: Callable[[R], str] = lambda _: "",
    order: str = "Ascending",
    measure: Callable[[R], float] = lambda _: 0.0,
) -> tuple[list[R], dict[str, str]]:
    """The records that a List request asks for, and ``{"NextToken": …}`` where there are more.

    A token names the last record of its page, so records that come or go between two calls repeat or hide none of the
    others. `order` is the operation's default SortOrder, `measure` a training job's objective.
    Raises ApiError for a token of another origin.
    """

    def key(record: R) -> list[Any]:
        by = request.get("SortBy", "CreationTime")
        by_name = {"Name": record.name, "Status": status(record), "FinalObjectiveMetricValue": measure(record)}
        first = by_name.get(by, record.created_at)
        return [first, record.name]

    wanted = [record for record in records if _matches(record, request, status)]
    descending = request.get("SortOrder", order) == "Descending"
    ordered = sorted(wanted, key=key, reverse=descending)
    if token := request.get("NextToken"):
        last = _decode(token, like=key(ordered[0]) if ordered else [])
        ordered = [r for r in ordered if (key(r) < last if descending else key(r) > last)]
    size = request.get("MaxResults", _DEFAULT_PAGE)
    shown = ordered[:size]
    if len(ordered) <= size:
        return shown, {}
    return shown, {"NextToken": base64.urlsafe_b64encode(json.dumps(key(shown[-1])).encode()).decode()}


def _matches(record: Record, request: dict[str, Any], status: Callable[[Any], str]) -> bool:
    if (part := request.get("NameContains")) and part.lower() not in record.name.lower():
        return False
    if (wanted := request.get("StatusEquals")) and status(record) != wanted:
        return False
    for name, at in (("CreationTime", record.created_at), ("LastModifiedTime", record.modified_at)):
        if (after := request.get(f"{name}After")) is not None and at <= _seconds(after):
            return False
        if (before := request.get(f"{name}Before")) is not None and at >= _seconds(before):
            return False
    return True


def _seconds(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(parse_timestamp(value).timestamp())
    except (ValueError, OverflowError) as error:
        raise validation(f"Invalid timestamp '{value[:40]}'") from error


def _decode(token: str, like: list[Any]) -> list[Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError):
        value = None
    if not isinstance(value, list) or (like and [type(item) for item in value] != [type(item) for item in like]):
        raise validation("Invalid NextToken: pass on the NextToken of the answer before, with the same SortBy")
    return value
