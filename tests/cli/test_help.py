"""Help comes at once and teaches."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

Ekiden = Callable[..., Result]


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = """import sys; import ekiden_cli.main
heavy = {"numpy", "pyarrow", "boto3", "botocore", "pydantic", "yaml", "torch", "rich.console"} & set(sys.modules)
assert not heavy, heavy"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "down",
        "doctor",
        "env",
        "report",
        "generate",
        "import movielens",
        "validate",
        "run",
        "runs",
        "show",
        "watch",
        "logs",
        "cancel",
        "retry",
        "redrive",
        "score",
        "scores",
        "demo",
    ],
)
def test_the_help_of_each_command_teaches_by_examples_and_offers_json(ekiden: Ekiden, command: str) -> None:
    done = ekiden(*command.split(), "--help")

    assert done.exit_code == 0
    assert f"ekiden {command}" in done.stdout.partition("Examples:")[2]
    assert "--json" in done.stdout


def test_the_demo_is_not_listed_and_an_unknown_command_is_wrong_usage(ekiden: Ekiden) -> None:
    listed = ekiden("--help")
    assert "demo" not in listed.stdout
    assert "Exit codes: 0 done, 1 the run or request failed, 2 wrong usage or input." in listed.stdout
    assert ekiden("rnus").exit_code == 2


def test_the_version_is_that_of_the_package(ekiden: Ekiden) -> None:
    assert ekiden("--version").stdout == f"ekiden {importlib.metadata.version('ekiden')}\n"


@pytest.mark.parametrize("wrong", [("runs", "--limit", "0"), ("run",), ("rnus",), ("import", "nothing")])
def test_wrong_usage_is_a_document_too_where_one_is_asked_for(ekiden: Ekiden, wrong: tuple[str, ...]) -> None:
    done = ekiden(*wrong, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == "USAGE"
    assert done.stderr
