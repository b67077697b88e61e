"""The template as tests see it: what SAM makes of it, which is what CloudFormation deploys."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
SAM_PYTHON = PROJECT / ".tools" / "sam" / "bin" / "python"

# SAM's own transform, offline: no account is asked, and SAM would have to look managed policies up if it added one.
_TRANSFORM = """
import json, sys
from samtranslator.translator.transform import transform
class NoManagedPolicies:
    def load(self): return {}
json.dump(transform(json.load(sys.stdin), {}, NoManagedPolicies()), sys.stdout)
"""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is {"Ref": "X"}, `!GetAtt A.B` is {"Fn::GetAtt": ["A", "B"]}."""


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource: its logical id, type and properties; `whole` also has DeletionPolicy, Condition and the like."""

    id: str
    type: str
    properties: Mapping[str, Any]
    whole: Mapping[str, Any]


class Stack:
    """Resources and parameters of a template, with intrinsic functions written out as text where that is clearer."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.resources = {
            name: Resource(name, body["Type"], body.get("Properties", {}), body)
            for name, body in document["Resources"].items()
        }

    def of_type(self, kind: str) -> list[Resource]:
        """Resources of a type, such as `AWS::SQS::Queue`, by logical id."""
        return sorted((r for r in self.resources.values() if r.type == kind), key=lambda r: r.id)

    def function(self, name: str) -> Resource:
        """The Lambda function of folder functions/`name`."""
        return self.resources["".join(part.title() for part in name.split("_"))]

    def mappings(self) -> Iterator[tuple[Resource, Resource, str]]:
        """Every event source mapping with its function and the logical id of its source."""
        for mapping in self.of_type("AWS::Lambda::EventSourceMapping"):
            function = self.resources[mapping.properties["FunctionName"]["Ref"]]
            yield mapping, function, mapping.properties["EventSourceArn"]["Fn::GetAtt"][0]


def text(value: Any) -> str:
    """A value with its intrinsic functions as `${...}`: {"Fn::GetAtt": ["A", "Arn"]} is "${A.Arn}"."""
    if isinstance(value, Mapping) and len(value) == 1:
        (key, inner), *_ = value.items()
        if key == "Ref":
            return f"${{{inner}}}"
        if key == "Fn::GetAtt":
            return f"${{{'.'.join(inner)}}}"
        if key == "Fn::Sub" and isinstance(inner, str):
            return inner
        if key == "Fn::If":
            return f"{inner[0]} ? {text(inner[1])} : {text(inner[2])}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {text(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(text(v) for v in value) + "]"
    return re.sub(r"\s+", " ", str(value))


def as_list(value: Any) -> list[Any]:
    """IAM lets a single value stand for a list of one."""
    return value if isinstance(value, list) else [value]


def read_template() -> dict[str, Any]:
    """template.yaml as it is written."""
    # A SafeLoader with constructors that only build dicts and lists.
    document = yaml.load((PROJECT / "template.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    assert isinstance(document, dict)
    return document


@cache
def written() -> Stack:
    """The template before SAM."""
    return Stack(read_template())


@cache
def transformed() -> Stack:
    """The template after SAM: plain CloudFormation."""
    document = read_template()
    for resource in document["Resources"].values():
        for code in ("CodeUri", "ContentUri"):
            if code in resource.get("Properties", {}):
                resource["Properties"][code] = f"s3://artifacts/{resource['Properties'][code]}"  # as `sam package` does
    answer = subprocess.run(
        [SAM_PYTHON, "-c", _TRANSFORM],
        input=json.dumps(document),
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, f"SAM refuses the template (is .tools/sam set up?):\n{answer.stderr[-2000:]}"
    return Stack(json.loads(answer.stdout))


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a role's policy."""

    role: str
    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: str


def roles(stack: Stack) -> list[Resource]:
    """All IAM roles."""
    return stack.of_type("AWS::IAM::Role")


def statements(role: Resource) -> list[Statement]:
    """The statements of all policies of a role; a conditional one is listed with its condition's name in its sid."""
    found = []
    for policy in role.properties.get("Policies", []):
        for raw in policy["PolicyDocument"]["Statement"]:
            name, body = "", raw
            if "Fn::If" in raw:
                name, body = f" if {raw['Fn::If'][0]}", raw["Fn::If"][1]
            found.append(
                Statement(
                    role.id,
                    body.get("Sid", "") + name,
                    body["Effect"],
                    tuple(as_list(body["Action"])),
                    tuple(text(r) for r in as_list(body["Resource"])),
                    text(body["Condition"]) if "Condition" in body else "",
                )
            )
    return found
