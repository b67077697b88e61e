"""The SAM template as data, for tests that hold the code to it."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.fakes.functions import ROOT


class _Loader(yaml.SafeLoader):
    pass


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


@cache
def template() -> dict[str, Any]:
    """``template.yaml`` with its intrinsic functions in their long form."""
    document = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    assert isinstance(document, dict)
    return document


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Properties of the resources of one type, by logical id."""
    return {
        name: resource["Properties"] for name, resource in template()["Resources"].items() if resource["Type"] == kind
    }


def table_definition() -> dict[str, Any]:
    """``CreateTable``'s arguments for the ledger: the very indexes and projections that are deployed."""
    properties = resources("AWS::DynamoDB::Table")["LedgerTable"]
    names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    stream = {"StreamEnabled": True, **properties["StreamSpecification"]}
    return {name: properties[name] for name in names} | {"StreamSpecification": stream}


def environment_of(function: str) -> set[str]:
    """Names of the environment variables that the template gives a function (logical id), beside the global ones."""
    properties = resources("AWS::Serverless::Function")[function]
    return set(properties.get("Environment", {}).get("Variables", {}))
