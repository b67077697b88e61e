"""Transactions: what a cancellation means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ekiden.adapters import dynamodb_client
from ekiden.adapters.dynamodb_client import CONFLICT_TRIES, NOT_THERE, ConditionFailed, Table, decode, encode
from ekiden.errors import DependencyUnavailable, NotFound, Permanent


@pytest.fixture
def client() -> Any:
    return boto3.client("dynamodb", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def stub(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.setattr(dynamodb_client, "CONFLICT_PAUSE", 0.0)
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def table(client: Any) -> Table:
    return Table(client, "ledger")


def write(table: Table) -> None:
    table.transact([table.put({"pk": "a", "sk": "b"}, NOT_THERE), table.put({"pk": "c", "sk": "d"})])


def cancelled(stub: Stubber, *codes: str, item: dict[str, Any] | None = None) -> None:
    reasons = [{"Code": code} | ({"Item": encode(item)} if item and code != "None" else {}) for code in codes]
    stub.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        "cancelled",
        modeled_fields={"CancellationReasons": reasons},
    )


def test_a_failed_condition_gives_what_was_found_there(table: Table, stub: Stubber) -> None:
    cancelled(stub, "ConditionalCheckFailed", "None", item={"pk": "a", "version": 3})
    with pytest.raises(ConditionFailed) as error:
        write(table)
    assert error.value.found == [{"pk": "a", "version": 3}, None]
    assert error.value.failed == [True, False]


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_conflict_is_waited_out(table: Table, stub: Stubber, code: str) -> None:
    for _ in range(CONFLICT_TRIES - 1):
        cancelled(stub, "None", code)
    stub.add_response("transact_write_items", {})
    write(table)


def test_a_conflict_that_stays_is_left_to_the_queue(table: Table, stub: Stubber) -> None:
    for _ in range(CONFLICT_TRIES):
        cancelled(stub, "TransactionConflict", "None")
    with pytest.raises(DependencyUnavailable, match="TransactionConflict"):
        write(table)


def test_a_failed_condition_beside_a_conflict_is_a_failed_condition(table: Table, stub: Stubber) -> None:
    cancelled(stub, "ConditionalCheckFailed", "TransactionConflict")
    with pytest.raises(ConditionFailed):
        write(table)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ValidationError", Permanent),
        ("ItemCollectionSizeLimitExceeded", Permanent),
    ],
)
def test_other_cancellations_are_permanent(table: Table, stub: Stubber, code: str, kind: type[Exception]) -> None:
    cancelled(stub, code, "None")
    with pytest.raises(kind):
        write(table)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("ThrottlingException", DependencyUnavailable), ("ResourceNotFoundException", NotFound)],
)
def test_errors_of_the_call_itself_are_translated(
    table: Table, stub: Stubber, code: str, kind: type[Exception]
) -> None:
    stub.add_client_error("transact_write_items", code, "no")
    with pytest.raises(kind):
        write(table)


def test_values_survive_the_way_there_and_back_and_numbers_compare_equal() -> None:
    item = {"s": "ü", "n": 7, "b": True, "l": ["a", 1], "m": {"x": None}, "empty": ""}
    assert decode(encode(item)) == item


def test_every_name_in_an_expression_is_a_placeholder(table: Table) -> None:
    """DynamoDB reserves 573 words, ``name``, ``status``, ``size`` and ``key`` among them."""
    action = table.update({"pk": "a", "sk": "b"}, "SET #x = :x", NOT_THERE)["Update"]
    assert action["ConditionExpression"] == "attribute_not_exists(#pk)"
    assert action["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert "ExpressionAttributeValues" not in action, "an empty map would be refused"
