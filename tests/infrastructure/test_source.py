"""S-10: nothing in the source can load code from an artefact."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.infrastructure.stack import PROJECT

SHIPPED = ("layers/shared", "functions", "engine", "local", "cli")
BANNED_MODULES = frozenset({"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"})
FILES = [path for folder in SHIPPED for path in sorted((PROJECT / folder).rglob("*.py"))]


def offences(source: str) -> list[str]:
    """What in a module could run code that a file holds."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("allow_pickle")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_module_unpickles(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(f)", "np.load(f, allow_pickle=True)", "import dill as d"],
)
def test_the_check_finds_what_it_bans(source: str) -> None:
    assert offences(source)
