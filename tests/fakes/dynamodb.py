"""As much of DynamoDB as the ledger speaks, in memory: a client for the real adapters that costs microseconds.

It knows the expressions that the adapters send and refuses all others. The ledger's contract holds it to moto and
MiniStack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes.template import table_definition

Wire = dict[str, Any]
"""An item as DynamoDB's attribute values."""
Key = tuple[str, str]

_CLAUSE = re.compile(
    r"^(?:(?P<function>attribute_exists|attribute_not_exists|begins_with)\((?P<name>#\w+)(?:, (?P<prefix>:\w+))?\)"
    r"|(?P<left>#\w+) (?P<operator>=|<=) (?P<right>:\w+))$"
)


class InMemoryDynamoDB:
    """A client of one table."""

    def __init__(self) -> None:
        definition = table_definition()
        self.written: set[str] = set()
        """Partitions that were written since somebody emptied this."""
        self._items: dict[Key, Wire] = {}
        self._partitions: dict[str, set[Key]] = {}
        self._indexes = {
            index["IndexName"]: _keys_of(index["KeySchema"]) for index in definition["GlobalSecondaryIndexes"]
        }
        self._entries: dict[tuple[str, str], set[Key]] = {}

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> dict[str, Any]:
        """All writes or none; on a failed condition the items that were there."""
        actions = [(kind, action) for item in TransactItems for kind, action in item.items()]
        keys = [_key(action.get("Item") or action["Key"]) for _, action in actions]
        if len(set(keys)) != len(keys):
            raise _refusal("ValidationException", "Transaction request cannot include multiple operations on one item")
        if len(actions) > 100:
            raise _refusal("ValidationException", "Member must have length less than or equal to 100")
        reasons = [self._reason(key, action) for key, (_, action) in zip(keys, actions, strict=True)]
        if any(reason["Code"] != "None" for reason in reasons):
            raise _refusal("TransactionCanceledException", "Transaction cancelled", CancellationReasons=reasons)
        for key, (kind, action) in zip(keys, actions, strict=True):
            self._write(key, action["Item"] if kind == "Put" else self._updated(key, action))
        return {}

    def update_item(self, **action: Any) -> dict[str, Any]:
        """One update with its condition."""
        key = _key(action["Key"])
        if self._reason(key, action)["Code"] != "None":
            raise _refusal("ConditionalCheckFailedException", "The conditional request failed")
        self._write(key, self._updated(key, action))
        return {}

    def get_item(self, *, TableName: str, Key: Wire, ConsistentRead: bool) -> dict[str, Any]:
        """One item."""
        found = self._items.get(_key(Key))
        return {"Item": dict(found)} if found else {}

    def query(self, **request: Any) -> dict[str, Any]:
        """Items of a partition or an index, in order."""
        index = request.get("IndexName")
        clauses = list(_clauses(request))
        (hash_value,) = [value["S"] for _, operator, value in clauses if operator == "="]
        if index is None:
            keys, order = self._partitions.get(hash_value, set()), "sk"
        else:
            if request.get("ConsistentRead"):
                raise _refusal("ValidationException", "Consistent reads are not supported on global secondary indexes")
            keys, order = self._entries.get((index, hash_value), set()), self._indexes[index][-1]
        found = [self._items[key] for key in keys]
        found = [item for item in found if all(_holds(item, clause) for clause in clauses)]
        found.sort(key=lambda item: str(item[order]["S"]), reverse=not request.get("ScanIndexForward", True))
        return {"Items": [dict(item) for item in found[: request.get("Limit")]]}

    def _reason(self, key: Key, action: Mapping[str, Any]) -> dict[str, Any]:
        found = self._items.get(key)
        if all(_holds(found or {}, clause) for clause in _clauses(action)):
            return {"Code": "None"}
        return {"Code": "ConditionalCheckFailed"} | ({"Item": dict(found)} if found else {})

    def _updated(self, key: Key, action: Mapping[str, Any]) -> Wire:
        expression = action["UpdateExpression"]
        if not re.fullmatch(r"SET #\w+ = :\w+(, #\w+ = :\w+)*", expression):
            raise NotImplementedError(expression)
        names, values = action["ExpressionAttributeNames"], action["ExpressionAttributeValues"]
        changes = re.findall(r"(#\w+) = (:\w+)", expression)
        found = self._items.get(key) or dict(action["Key"])
        return found | {names[name]: values[value] for name, value in changes}

    def _write(self, key: Key, item: Wire) -> None:
        for entry in self._entries_of(self._items.get(key, {})):
            self._entries[entry].discard(key)
        self._items[key] = dict(item)
        self.written.add(key[0])
        self._partitions.setdefault(key[0], set()).add(key)
        for entry in self._entries_of(item):
            self._entries.setdefault(entry, set()).add(key)

    def _entries_of(self, item: Wire) -> Iterator[tuple[str, str]]:
        for name, attributes in self._indexes.items():
            if all(attribute in item for attribute in attributes):
                yield name, item[attributes[0]]["S"]


Clause = tuple[str, str, Any]
"""Attribute, operator and value."""


def _clauses(request: Mapping[str, Any]) -> Iterator[Clause]:
    text = request.get("KeyConditionExpression") or request.get("ConditionExpression")
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    for part in text.split(" AND ") if text else ():
        clause = _CLAUSE.match(part)
        if clause is None:
            raise NotImplementedError(f"no clause that is known here: {part}")
        if clause["function"]:
            yield names[clause["name"]], clause["function"], values.get(clause["prefix"])
        else:
            yield names[clause["left"]], clause["operator"], values[clause["right"]]


def _holds(item: Wire, clause: Clause) -> bool:
    name, operator, wanted = clause
    found = item.get(name)
    match operator:
        case "attribute_exists":
            return found is not None
        case "attribute_not_exists":
            return found is None
        case "begins_with":
            return found is not None and str(found["S"]).startswith(wanted["S"])
        case "<=":
            return found is not None and found["S"] <= wanted["S"]
        case _:
            return bool(found == wanted)


def _key(item: Wire) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _keys_of(schema: list[dict[str, str]]) -> list[str]:
    """Hash key first."""
    return [key["AttributeName"] for key in sorted(schema, key=lambda key: key["KeyType"])]


def _refusal(code: str, message: str, **more: Any) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, **more}
    return ClientError(answer, "DynamoDB")
