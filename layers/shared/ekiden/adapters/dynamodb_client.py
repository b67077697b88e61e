"""DynamoDB's client with plain Python values in and out.

The client itself rather than an object mapper: a transition's conditions are the heart of the ledger and stand
in its own words (see ADR 0012).
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from ekiden.adapters.aws_errors import THROTTLED_OR_DOWN, code_of, translated
from ekiden.errors import DependencyUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

_SERIALIZER = TypeSerializer()
_DESERIALIZER = TypeDeserializer()

_PASSING = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Cancellation reasons that say nothing about our conditions."""


CONFLICT_TRIES = 6
CONFLICT_PAUSE = 0.01
"""Seconds; the pauses are drawn up to this, doubled each time: 0.6 s together at most."""


class _Conflict(DependencyUnavailable):
    """Another transaction held one of the items."""


class ConditionFailed(Exception):
    """A condition of a write did not hold. ``found`` has, per action, the item that was there."""

    def __init__(self, found: list[Item | None], failed: list[bool]) -> None:
        super().__init__("a condition did not hold")
        self.found = found
        self.failed = failed


def encode(item: Item) -> dict[str, Any]:
    """Plain values as DynamoDB attribute values."""
    return {name: _SERIALIZER.serialize(value) for name, value in item.items()}


def decode(item: Mapping[str, Any]) -> Item:
    """DynamoDB attribute values as plain values."""
    return {name: _DESERIALIZER.deserialize(value) for name, value in item.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: names and values are given as ``#name`` and ``:name`` by their own names."""

    expression: str
    names: dict[str, str]
    values: Item


NOT_THERE = Condition("attribute_not_exists(#pk)", {"#pk": "pk"}, {})


@dataclass(frozen=True, slots=True)
class Table:
    """One table, spoken to in plain values."""

    client: DynamoDBClient
    name: str

    def put(self, item: Item, condition: Condition | None = None) -> dict[str, Any]:
        """A ``Put`` action of a transaction."""
        action: dict[str, Any] = {"TableName": self.name, "Item": encode(item)}
        return {"Put": action | _condition(condition)}

    def update(self, key: Item, expression: str, condition: Condition) -> dict[str, Any]:
        """An ``Update`` action of a transaction; the condition carries all names and values."""
        action = {"TableName": self.name, "Key": encode(key), "UpdateExpression": expression}
        return {"Update": action | _condition(condition)}

    def change(self, key: Item, expression: str, condition: Condition) -> None:
        """Update one item by itself; the condition carries all names and values.

        Raises:
            ConditionFailed: the condition did not hold.
            DependencyUnavailable: throttled, or in conflict with a transaction.
        """
        with translated():
            try:
                self.client.update_item(**self.update(key, expression, condition)["Update"])
            except ClientError as error:
                if code_of(error) == "ConditionalCheckFailedException":
                    raise ConditionFailed([None], [True]) from None
                raise

    def transact(self, actions: list[dict[str, Any]]) -> None:
        """Write all actions or none. Conflicts with other transactions pass in milliseconds: they are waited out.

        Raises:
            ConditionFailed: with the items found.
            DependencyUnavailable: throttled, or still in conflict after ``CONFLICT_TRIES``.
        """
        for number in range(1, CONFLICT_TRIES):
            try:
                return self._transact(actions)
            except _Conflict:
                time.sleep(random.random() * CONFLICT_PAUSE * 2**number)  # noqa: S311  spreads, guards nothing
        return self._transact(actions)

    def _transact(self, actions: list[dict[str, Any]]) -> None:
        with translated():
            try:
                self.client.transact_write_items(TransactItems=actions)  # type: ignore[arg-type]
            except ClientError as error:
                if code_of(error) != "TransactionCanceledException":
                    raise
                reasons = error.response.get("CancellationReasons", [])
                codes = [reason.get("Code", "None") for reason in reasons]
                if "ConditionalCheckFailed" in codes:
                    raise ConditionFailed(
                        [decode(reason["Item"]) if reason.get("Item") else None for reason in reasons],
                        [code == "ConditionalCheckFailed" for code in codes],
                    ) from None
                if any(code in _PASSING or code in THROTTLED_OR_DOWN for code in codes):
                    raise _Conflict(f"transaction cancelled: {sorted(set(codes))}") from None
                raise

    def partition(self, key: str, prefix: str = "", *, limit: int | None = None) -> list[Item]:
        """The items of a partition, strongly consistent, in the order of their sort keys."""
        request: dict[str, Any] = {
            "TableName": self.name,
            "ConsistentRead": True,
            "KeyConditionExpression": "#pk = :pk" + (" AND begins_with(#sk, :sk)" if prefix else ""),
            "ExpressionAttributeNames": {"#pk": "pk"} | ({"#sk": "sk"} if prefix else {}),
            "ExpressionAttributeValues": encode({":pk": key} | ({":sk": prefix} if prefix else {})),
        }
        return self._query(request, limit)

    def index(self, index: str, condition: Condition, *, limit: int, newest_first: bool = False) -> list[Item]:
        """Items of an index (eventually consistent) that meet a key condition."""
        request: dict[str, Any] = {
            "TableName": self.name,
            "IndexName": index,
            "KeyConditionExpression": condition.expression,
            "ExpressionAttributeNames": condition.names,
            "ExpressionAttributeValues": encode(condition.values),
            "ScanIndexForward": not newest_first,
        }
        return self._query(request, limit)

    def get(self, pk: str, sk: str) -> Item | None:
        """One item, strongly consistent."""
        with translated():
            answer = self.client.get_item(TableName=self.name, Key=encode({"pk": pk, "sk": sk}), ConsistentRead=True)
        return decode(answer["Item"]) if "Item" in answer else None

    def _query(self, request: dict[str, Any], limit: int | None) -> list[Item]:
        items: list[Item] = []
        with translated():
            while True:
                if limit is not None:
                    request["Limit"] = limit - len(items)
                answer = self.client.query(**request)
                items += [decode(item) for item in answer["Items"]]
                if "LastEvaluatedKey" not in answer or (limit is not None and len(items) >= limit):
                    return items
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _condition(condition: Condition | None) -> dict[str, Any]:
    if condition is None:
        return {}
    values = {"ExpressionAttributeValues": encode(condition.values)} if condition.values else {}
    names = {"ExpressionAttributeNames": condition.names} if condition.names else {}
    return (
        {
            "ConditionExpression": condition.expression,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        | names
        | values
    )
