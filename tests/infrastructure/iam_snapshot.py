"""Everything that every role may do, as text that a person reviews.

`python -m tests.infrastructure.iam_snapshot` writes iam_snapshot.txt anew; the change then shows up in the diff.
"""

from __future__ import annotations

from pathlib import Path

from tests.infrastructure.stack import Resource, as_list, roles, statements, text, transformed

SNAPSHOT = Path(__file__).with_name("iam_snapshot.txt")


def render() -> str:
    """The snapshot of the template as it is now."""
    return "\n".join(_role(role) for role in roles(transformed()))


def _role(role: Resource) -> str:
    lines = [role.id]
    for trust in role.properties["AssumeRolePolicyDocument"]["Statement"]:
        when = f" when {text(trust['Condition'])}" if "Condition" in trust else ""
        lines.append(f"  assumed by {trust['Principal']['Service']}{when}")
    for arn in as_list(role.properties.get("ManagedPolicyArns", [])):
        lines.append(f"  managed policy {text(arn)}")
    for statement in statements(role):
        lines.append(f"  {statement.effect} {statement.sid}")
        lines += [f"    {action}" for action in statement.actions]
        lines += [f"    on {resource}" for resource in statement.resources]
        if statement.condition:
            lines.append(f"    when {statement.condition}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(render(), encoding="utf-8")
